"""Show results: on a terminal and as Markdown."""
