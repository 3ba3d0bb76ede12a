"""A recipe and a metric for quant-explorer."""
