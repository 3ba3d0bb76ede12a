"""The built-in plugins of qx: a file each, loaded through the same entry points as any other plugin."""
