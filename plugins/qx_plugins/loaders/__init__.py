"""Built-in loaders, a file for each."""
