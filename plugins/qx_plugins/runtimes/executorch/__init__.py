"""Conversion to ExecuTorch, and the requirements of converting and serving."""

#: Packages that serving requires.
SERVING = ("executorch>=1.0",)
#: Packages that converting requires.
CONVERTING = SERVING
