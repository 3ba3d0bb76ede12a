"""How right qx is, and what it costs: each figure with the command that makes it anew."""
