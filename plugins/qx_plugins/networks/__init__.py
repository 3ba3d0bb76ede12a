"""Networks of the built-in workloads, and how they are made and trained."""
