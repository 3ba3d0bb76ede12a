"""What a run leaves: recorded samples, the results file and its schema, and the columns of its tables."""
