"""What is left beside an artifact for people without qx: ``serve.py``, examples and ``README.md``."""
