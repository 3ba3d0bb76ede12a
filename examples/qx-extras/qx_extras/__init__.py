"""Recipes and a metric for quant-explorer."""
