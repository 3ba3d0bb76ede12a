"""What the configs of torch's Inductor share."""
