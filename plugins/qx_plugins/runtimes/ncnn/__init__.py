"""Conversion to ncnn, and the requirements of converting and serving."""

#: Packages that serving requires.
SERVING = ("ncnn>=1.0.20250503",)
#: Packages that converting requires.
CONVERTING = (*SERVING, "pnnx>=20250530")
