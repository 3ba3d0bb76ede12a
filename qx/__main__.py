"""``python -m qx``: the same program as ``qx``."""

from qx.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
