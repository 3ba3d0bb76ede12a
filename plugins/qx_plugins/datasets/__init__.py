"""Data of the built-in workloads: reading, generating and caching."""
