"""The steps of a build: how long each takes, and how much memory, that of started processes included."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

import psutil

from qx.contract.records import BuildStep
from qx.worker.channel import Channel
from qx.worker.memory import MIB, MarkTaker

#: Least seconds between two looks at the memory of all processes; and how many times as long as a look takes.
INTERVAL, REST = 0.05, 20


class Steps:
    """Records the steps of a build, each from the naming of its stage to that of the next."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._marks = MarkTaker(time.monotonic_ns())
        self._family = FamilyMemory()
        self._name: str | None = None
        self._began = 0.0
        self._steps: list[BuildStep] = []

    def stage(self, name: str) -> None:
        """End the step before, and tell the host that this one begins."""
        self._end()
        self._name = name
        self._channel.stage(name)

    @property
    def progress(self) -> Callable[[float, str], None]:
        """The function that tells the host which share of a step is done."""
        return self._channel.progress

    def finish(self) -> tuple[BuildStep, ...]:
        """End the last step, and return all."""
        self._end()
        self._family.stop()
        return tuple(self._steps)

    def _end(self) -> None:
        mark, family = self._marks.mark(self._name or ""), self._family.restart()
        if self._name is not None:
            step = BuildStep(
                name=self._name,
                seconds=mark.seconds - self._began,
                peak=mark.peak,
                peak_of_all=max(mark.peak, family),
            )
            self._steps.append(step)
        self._began = mark.seconds


class FamilyMemory:
    """Looks again and again at the resident memory of this process and of all that it has started."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._peak = 0.0
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        threading.Thread(target=self._look_on, name="qx-memory", daemon=True).start()

    def restart(self) -> float:
        """Return the largest sum since the last call, in MiB: 0 where no other process was seen."""
        self._look()
        with self._lock:
            peak, self._peak = self._peak, 0.0
        return peak

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()

    def _look_on(self) -> None:
        rest = INTERVAL
        while not self._stopped.wait(rest):
            began = time.perf_counter()
            self._look()
            # A look goes through all processes of the machine, so it must be a small part of the time.
            rest = max(INTERVAL, REST * (time.perf_counter() - began))

    def _look(self) -> None:
        with suppress(psutil.Error, OSError):
            if children := self._process.children(recursive=True):
                total = self._process.memory_info().rss
                for child in children:
                    # It may have ended meanwhile.
                    with suppress(psutil.Error):
                        total += child.memory_info().rss
                with self._lock:
                    self._peak = max(self._peak, total / MIB)
