"""Conversion to OpenVINO, and the requirements of converting and serving."""

#: Packages that serving requires.
SERVING = ("openvino>=2024.6",)
#: Packages that converting requires.
CONVERTING = SERVING
