"""The code of worker processes: ``python -m qx.worker`` reads a job and does it.

There is a module for each kind of job. Only these modules call plugins that use tensors, and each imports no
more than its job needs, since the memory and the start-up time of a launch are measured.
"""
