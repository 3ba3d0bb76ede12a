"""Joules of the processor packages for one item, by the counters that the processor itself keeps (RAPL).

Linux shows the counters under ``/sys/class/powercap``, or wherever ``QX_POWERCAP`` says (in a container, the
folder of the host). They are those of whole packages: what else runs there, and what the package takes when
it is idle, is in them. Without counters there is no value; nothing is estimated from utilisation.

A counter is brought up to date about once in a millisecond, so a reading between two updates is up to a
millisecond old, 8 % of a block of 12 ms. So the power of a package is taken from one update to another
(Hähnel et al. 2012, 'Measuring energy consumption for short code paths using RAPL'): the first is waited
for before the calls, the second after them. Where the calls of a block take less than ``seconds``, they are
made again. The value is that power for as long as the calls took, so that the waits count only by how much
waiting differs from calling: a millisecond in 20. The steps of the counters (61 microjoules on most
processors, of some 0.1 to 1 joule in a block) are far below.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter

from attrs import frozen

from qx import Block, Context, Metric, Option, Samples, Unsupported, hookimpl
from qx.testing import Conformance

#: Variable that names the folder of counters, and the folder that Linux has.
VARIABLE, POWERCAP = "QX_POWERCAP", "/sys/class/powercap"
#: Pattern of the counters of packages and of their parts within a folder of counters.
COUNTERS = "intel-rapl:*/energy_uj"
#: Seconds within which a counter that works is brought up to date.
LONGEST_UPDATE = 0.1

conformance = Conformance(worse="qx.testing.worse:SLOW")


@hookimpl
def describe() -> Metric:
    return Metric(
        name="energy",
        summary="Joules of the processor packages for one item, by their own counters (RAPL).",
        unit="J",
        better="lower",
        samples="per_round",
        compare="ratio",
        phase="block",
        margin=0.05,
        per_point=True,
        on_request=True,
        pick="the least energy",
        devices=("cpu",),
        files=(f"${VARIABLE}/{COUNTERS}", f"{POWERCAP}/{COUNTERS}"),
        options=(
            Option(
                name="seconds",
                default=0.02,
                help="Least seconds of calls in a block: 20 updates of the counters.",
                minimum=0.002,
                maximum=60.0,
            ),
        ),
    )


@hookimpl
def measure(data: Block, context: Context) -> Samples:
    """Return the joules for one item. Raises ``Unsupported`` where the counters do not count."""
    with open_counters(packages()) as counters:
        first = next_updates(counters)
        began = perf_counter()
        calls = make_calls(data, context.options["seconds"])
        seconds = perf_counter() - began
        last = next_updates(counters)
    watts = sum(map(power, counters, first, last))
    return Samples(
        watts * seconds / (calls * data.point.batch_size),
        details={"watts": watts, "calls": calls, "seconds": seconds, "packages": len(counters)},
    )


def make_calls(data: Block, seconds: float) -> int:
    """Make the calls of the block until they have taken so long, and return their number."""
    call, native, reset = data.call, data.native, data.reset
    calls, end = 0, perf_counter() + seconds
    while not calls or perf_counter() < end:
        for _ in range(data.calls):
            if reset is not None:
                reset()
            call(native)
        calls += data.calls
    return calls


@frozen
class Update:
    """A counter at the moment in which it was seen to change."""

    microjoules: int
    #: Seconds of the performance counter.
    time: float


@frozen
class Counter:
    """The counter of a package."""

    path: Path
    #: Function that reads it, in microjoules.
    read: Callable[[], int]
    #: Highest value in microjoules, after which it begins at 0 again.
    highest: int


def packages() -> list[Path]:
    """Return the folders of the packages' counters. Raises ``Unsupported`` where there are none."""
    folders = [Path(folder) for folder in (os.environ.get(VARIABLE), POWERCAP) if folder]
    for folder in folders:
        parts = sorted(path.parent for path in folder.glob(COUNTERS))
        # The others are parts of packages, or the whole platform, which has the packages in it.
        if found := [part for part in parts if (part / "name").read_text().startswith("package")]:
            return found
    raise Unsupported(f"no counter of a package (intel-rapl:N) in {' or '.join(map(str, folders))}")


@contextmanager
def open_counters(folders: list[Path]) -> Iterator[list[Counter]]:
    """Open the counters of packages for as long as the context lasts."""
    with ExitStack() as stack:
        counters = []
        for folder in folders:
            path = folder / "energy_uj"
            descriptor = os.open(path, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            highest = int((folder / "max_energy_range_uj").read_text())
            counters.append(Counter(path, reader(descriptor), highest))
        yield counters


def reader(descriptor: int) -> Callable[[], int]:
    """Return a function that reads the number in an open file, in few microseconds."""
    return lambda: int(os.pread(descriptor, 32, 0))


def next_updates(counters: list[Counter]) -> list[Update]:
    """Wait until each counter has changed. Raises ``Unsupported`` where one does not."""
    before = {counter: counter.read() for counter in counters}
    updates: dict[Counter, Update] = {}
    limit = perf_counter() + LONGEST_UPDATE
    while waiting := [counter for counter in counters if counter not in updates]:
        for counter in waiting:
            if (value := counter.read()) != before[counter]:
                updates[counter] = Update(value, perf_counter())
        if perf_counter() > limit:
            path = waiting[0].path
            raise Unsupported(f"{path} stands still: the processor does not count its energy here")
    return [updates[counter] for counter in counters]


def power(counter: Counter, first: Update, last: Update) -> float:
    """Return the power of a package in watts between two updates."""
    # A counter that has passed its highest value is below what it was.
    microjoules = (last.microjoules - first.microjoules) % (counter.highest + 1)
    return microjoules / 1e6 / (last.time - first.time)
