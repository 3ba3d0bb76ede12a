"""Conversion and weight readers, a package for each runtime.

They import torch: import them inside functions.
"""
