"""Devices beside the processor: find them, open them, read them, and time calls on them."""
