"""Finding plugins, having them describe themselves, and calling their hooks."""
