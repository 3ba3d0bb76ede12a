"""What the configs of ncnn share."""

#: What serving takes.
SERVING = ("ncnn>=1.0.20250503",)
#: What converting takes.
CONVERTING = (*SERVING, "pnnx>=20250530")
