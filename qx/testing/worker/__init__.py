"""What does the jobs of the conformance kit, a module for each, in processes of their own."""
