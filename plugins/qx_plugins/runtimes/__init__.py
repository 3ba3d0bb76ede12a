"""Conversion and weight readers, a package for each runtime.

They import torch: import them inside functions.
"""

#: What configs that export a model or compile it import of torch: one tuple for all, so that builds of
#: several runtimes share one import.
EXPORTING = ("torch._inductor.compile_fx", "torch.export._trace", "torch.onnx")
