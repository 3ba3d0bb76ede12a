"""From recorded samples to results: figures, differences, the front and the picks."""
