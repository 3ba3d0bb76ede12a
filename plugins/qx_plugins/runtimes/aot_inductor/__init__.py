"""Export, quantization and compilation for torch's Inductor."""
