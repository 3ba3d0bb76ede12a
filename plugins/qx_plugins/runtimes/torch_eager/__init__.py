"""Conversion and kernels for torch's eager mode."""
