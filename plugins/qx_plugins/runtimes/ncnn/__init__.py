"""What the configs of ncnn share."""
