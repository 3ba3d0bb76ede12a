"""Built-in workloads, a file for each."""
