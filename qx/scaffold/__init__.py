"""A new plugin, written from templates: ``qx new``."""
