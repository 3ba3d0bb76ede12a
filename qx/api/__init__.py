"""qx from Python: runs as function calls, and results as objects to look at, tabulate and plot."""
