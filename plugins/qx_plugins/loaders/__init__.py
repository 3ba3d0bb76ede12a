"""Built-in loaders, one a file."""
