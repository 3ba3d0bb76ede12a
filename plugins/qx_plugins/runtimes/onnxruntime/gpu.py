"""Requirements of ONNX Runtime on CUDA devices, and what is said of its artifacts in their details."""

#: Packages that serving requires: a build of ONNX Runtime of its own, which has the CPU's kernels too.
SERVING = ("onnxruntime-gpu>=1.20",)
#: Packages that converting requires.
CONVERTING = (*SERVING, "onnx>=1.17", "onnxscript>=0.3")
#: Keys in an artifact's details: the provider that serves it, and whether TensorRT may compute in float16.
PROVIDER, FP16 = "provider", "fp16"
CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"
