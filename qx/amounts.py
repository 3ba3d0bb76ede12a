"""Durations and sizes, as people write them (``10m``, ``30d``, ``2G``) and as qx writes them."""

from __future__ import annotations

import math
import re

from qx.errors import UsageError

#: Seconds in each unit of a duration.
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
#: Bytes in each unit of a size: as disks are sold, and with an ``i`` as memory is.
BYTES = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def to_seconds(text: str | float, option: str) -> float:
    """Return a duration in seconds, from a number or a text such as ``600``, ``600s``, ``10m``, ``1.5h``.

    Raises ``UsageError``, which names the ``option``, for anything else.
    """
    amount = _amount(text, SECONDS, "s")
    if amount is None:
        expected = "a number of seconds, or of another unit: 600, 600s, 10m, 1.5h, 30d"
        raise UsageError(f"{option}: {_quoted(text)} is not a duration; expected {expected}")
    return amount


def to_bytes(text: str, option: str) -> float:
    """Return a size in bytes: a text such as ``500M``, ``2G`` (10**9 bytes) or ``2GiB`` (2**30 bytes).

    Raises ``UsageError``, which names the ``option``, for anything else.
    """
    bare = text.strip().lower().removesuffix("b") if isinstance(text, str) else text
    amount = _amount(bare, {**BYTES, "": 1}, "")
    if amount is None:
        raise UsageError(
            f"{option}: {_quoted(text)} is not a size; expected a number of bytes, or of another unit: "
            f"500M, 2G, 2GiB"
        )
    return amount


def size_in_words(size: float) -> str:
    """Return a size with three digits at least: ``812 B``, ``28.1 MB``, ``1,204 GB``."""
    if size < 1000:
        return f"{size:.0f} B"
    for unit in ("kB", "MB", "GB"):
        size /= 1000
        if size < 999.5 or unit == "GB":
            break
    return f"{size:,.{max(0, 2 - int(math.log10(max(size, 1))))}f} {unit}"


def duration_in_words(seconds: float) -> str:
    """Return a duration as it is written on the command line, in the largest unit that has no fraction."""
    for unit in ("w", "d", "h", "m"):
        if seconds >= SECONDS[unit] and seconds % SECONDS[unit] == 0:
            return f"{seconds / SECONDS[unit]:g}{unit}"
    return f"{seconds:g}s"


def _amount(text: str | float, units: dict[str, int], default: str) -> float | None:
    """Return an amount in the smallest unit; None where a text is none, or not finite."""
    if isinstance(text, bool):
        return None
    if isinstance(text, (int, float)):
        return float(text) if math.isfinite(text) else None
    match = re.fullmatch(
        r"(\d{1,15}(?:\.\d{0,15})?|\.\d{1,15})\s*([a-z]*)", str(text).strip().lower(), re.ASCII
    )
    if match is None or (unit := match[2] or default) not in units:
        return None
    return float(match[1]) * units[unit]


def _quoted(text: object) -> str:
    shown = ascii(str(text))
    return shown if len(shown) <= 60 else f"{shown[:57]}...'"
