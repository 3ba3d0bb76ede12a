"""Networks of the built-in workloads, and their construction and training."""
