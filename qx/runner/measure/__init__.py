"""The measure phase: waves of fresh processes, rounds of calls, and the CPUs that they are held to."""
