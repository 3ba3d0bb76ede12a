"""What the configs of ExecuTorch share."""

#: What serving takes.
SERVING = ("executorch>=1.0",)
#: What converting takes.
CONVERTING = SERVING
