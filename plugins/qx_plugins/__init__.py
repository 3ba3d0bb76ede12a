"""The built-in plugins of qx: a file each, found through the same entry points as everybody's."""
