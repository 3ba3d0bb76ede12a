"""Built-in metrics, a file for each."""
