"""Built-in configs, a file for each."""
