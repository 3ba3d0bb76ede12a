"""Conversion to ONNX Runtime, and the requirements of converting and serving."""

#: Packages that serving requires.
SERVING = ("onnxruntime>=1.20",)
#: Packages that converting requires.
CONVERTING = (*SERVING, "onnx>=1.17", "onnxscript>=0.3")
