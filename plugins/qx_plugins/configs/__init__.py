"""Built-in configs, one a file."""
