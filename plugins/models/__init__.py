"""What built-in workloads are made of: the network, its training, the reading of images.

The modules import numpy, torch or PIL: import them inside functions.
"""
