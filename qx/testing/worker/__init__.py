"""The jobs of the conformance kit, a module for each; they run in worker processes."""
