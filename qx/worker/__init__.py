"""What runs in processes of their own: ``python -m qx.worker`` reads a job and does it.

A module for each kind of job. Only they call plugins that touch tensors, and each imports no more than its
job needs: the memory and the start-up of a launch are among the things that are measured.
"""
