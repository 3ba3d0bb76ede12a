"""Data of the built-in workloads, and where they are kept."""
