"""Show results: on a terminal, as Markdown, as a picture and as a page."""
