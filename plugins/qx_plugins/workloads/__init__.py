"""Built-in workloads, one to a module."""
