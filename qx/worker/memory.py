"""Marks: the time since the start of this process, its memory, and its peak memory since the last mark."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import psutil

from qx.contract.records import Mark

MIB = 2**20


class MarkTaker:
    """Takes marks, each of which covers the stage since the mark before it."""

    def __init__(self, spawned_ns: int) -> None:
        self._spawned_ns = spawned_ns
        self._process = psutil.Process()

    def mark(self, stage: str) -> Mark:
        """Take a mark at the end of a stage, and reset the kernel's high-water mark of memory."""
        seconds = (time.monotonic_ns() - self._spawned_ns) / 1e9
        rss = self._process.memory_info().rss / MIB
        kernel = _kernel_figures()
        _restart_high_water_mark()
        return Mark(
            stage=stage,
            seconds=seconds,
            rss=rss,
            peak=max(rss, kernel.get("VmHWM", rss)),
            private=kernel.get("RssAnon"),
        )


def _kernel_figures() -> dict[str, float]:
    """Return ``VmHWM`` and ``RssAnon`` of this process in MiB, if the system has them (Linux, proc(5))."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    fields = (line.split() for line in lines if line.startswith(("VmHWM:", "RssAnon:")))
    return {name.rstrip(":"): int(kibibytes) / 1024 for name, kibibytes, _ in fields}


def _restart_high_water_mark() -> None:
    """Reset the kernel's high-water mark to the current resident size (5 in clear_refs, proc(5)).

    If that is not permitted, each mark covers all stages so far, and the peak over all stages stays right.
    """
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
