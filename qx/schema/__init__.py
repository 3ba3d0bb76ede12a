"""The JSON Schema of the results."""
