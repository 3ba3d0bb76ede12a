"""The commands of ``qx``, one file for each."""
