"""What the configs of torch's eager engine share."""
