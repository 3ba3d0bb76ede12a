"""The files that ``qx new`` writes, with ``$name``, ``$package`` and others filled in."""
