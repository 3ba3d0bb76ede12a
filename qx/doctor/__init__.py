"""Whether this machine can measure: ``qx doctor``."""
