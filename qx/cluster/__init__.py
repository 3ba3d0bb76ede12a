"""Runs on several machines: what is sent to them, what is done there, and which of them does it."""
