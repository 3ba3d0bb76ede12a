"""What memory this process holds, and the most it held since the last look."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import psutil

from qx.contract.records import Mark

MIB = 2**20


class MarkTaker:
    """Takes marks; each covers the stage since the one before it."""

    def __init__(self, spawned_ns: int) -> None:
        self._spawned_ns = spawned_ns
        self._process = psutil.Process()

    def mark(self, stage: str) -> Mark:
        """The present moment. Afterwards the kernel's high-water mark starts anew."""
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
    """``VmHWM`` and ``RssAnon`` of this process in MiB, where the system tells them (Linux, proc(5))."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    fields = (line.split() for line in lines if line.startswith(("VmHWM:", "RssAnon:")))
    return {name.rstrip(":"): int(kibibytes) / 1024 for name, kibibytes, _ in fields}


def _restart_high_water_mark() -> None:
    """Have the kernel begin anew from the present resident size (5 in clear_refs, proc(5)).

    Where it may not be done the mark covers all stages so far: still the same peak over all of them.
    """
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
