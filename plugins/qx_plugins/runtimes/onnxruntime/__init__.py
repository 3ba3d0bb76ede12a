"""What the configs of ONNX Runtime share."""

#: What serving takes.
SERVING = ("onnxruntime>=1.20",)
#: What converting takes.
CONVERTING = (*SERVING, "onnx>=1.17", "onnxscript>=0.3")
