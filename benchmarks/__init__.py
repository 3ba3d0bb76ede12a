"""How accurate qx is, and what it costs: a command for each figure in the documentation."""
