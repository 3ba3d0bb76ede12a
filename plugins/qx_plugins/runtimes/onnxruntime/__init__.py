"""What the configs of ONNX Runtime share."""
