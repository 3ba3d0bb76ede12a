"""What ``qx new`` makes: files in which ``$name``, ``$package`` and others are filled in."""
