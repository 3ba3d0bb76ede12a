"""What the configs of OpenVINO share."""

#: What serving takes.
SERVING = ("openvino>=2024.6",)
#: What converting takes.
CONVERTING = SERVING
