"""Files that qx keeps: the cache, digests, archives, manifests, and JSON that is checked when read."""
