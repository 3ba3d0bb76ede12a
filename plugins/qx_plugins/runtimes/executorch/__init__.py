"""What the configs of ExecuTorch share."""
