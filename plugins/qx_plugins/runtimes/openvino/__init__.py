"""What the configs of OpenVINO share."""
