"""Files that are damaged, or made to do damage: ``report``, ``compare`` and ``gate`` say so, or work.

The files are changed at random, from a seed (``tests/damage.py``). ``QX_SLOW=1`` tries thousands of them.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from attrs import evolve

from qx.analysis.recompute import check_whole
from qx.contract.figures import Figure
from qx.errors import UsageError
from qx.host.host import Host
from qx.results import results_file as results

Qx = Callable[..., Any]

SLOW = bool(os.environ.get("QX_SLOW"))
#: Number of files of each kind.
COUNT = int(os.environ.get("QX_FILES", 900 if SLOW else 25))
#: Bytes that a command may use beyond those that the tests use already.
ROOM = 2 << 30

RULES = """
false_alarms = 0.02

[[rule]]
metric = "hits"
largest_drop = 0.5
against = "base"

[[rule]]
metric = "delay"
config = "quick"
workload = ["toy"]
batch_size = [1, 2]
smallest_speedup = 1.5

[[rule]]
metric = "heap"
largest_increase = 0.5
against = "base"
directly = true

[[rule]]
metric = "weight"
largest = 2_000_000
smallest = 1.5e3
against = "runtime_baseline"
"""


@contextmanager
def bounded_memory() -> Iterator[None]:
    """Allow no more memory than is used already, and ``ROOM``."""
    former = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM, former[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, former)


def flaw(done: Any) -> str | None:
    """Return what is wrong with how a command ended, or None."""
    if done.code == 2:
        lines = done.err.splitlines()
        if len(lines) != 1 or not lines[0].startswith("qx: error: "):
            return f"not one line: {done.err[-3000:]}"
        if not lines[0].isprintable() or len(lines[0]) > 1500:
            return f"a line that is not for people: {lines[0][:1500]!r}"
        if "not enough memory" in lines[0]:
            return f"out of memory: {lines[0]}"
        return f"printed something: {done.out[:300]}" if done.out else None
    if done.code not in (0, 1):
        return f"exit {done.code}: {done.err[-3000:]}"
    return None if all(map(str.isprintable, (done.out + done.err).splitlines())) else "not printable"


@pytest.fixture(scope="module")
def runs(builders: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the results of a small run, and of one in which no field is empty, each with rules."""
    home = tmp_path_factory.mktemp("runs")
    small = builders.small(items=40, rounds=2, batch_sizes=(1, 2))
    results.write(home / "small", small.results(), "", small.recording())
    whole, recording = builders.everything(items=40)
    results.write(home / "everything", whole, "", recording)
    for folder in ("small", "everything"):
        (home / folder / "rules.toml").write_text(RULES.strip())
    return home


@pytest.fixture
def without_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for no plugins: files need none, and they would take a third of the time."""
    monkeypatch.setattr(Host, "discover", classmethod(lambda cls, plugins=(): cls([])))


@pytest.mark.usefixtures("without_plugins")
@pytest.mark.parametrize("kind", ["results", "samples", "rules"])
def test_whatever_is_in_a_file_it_is_read_or_refused(
    kind: str, runs: Path, qx: Qx, damage: ModuleType
) -> None:
    """A damaged file ends a command with one line and exit code 2, or is read, and brings nothing down."""
    pattern, damaged = damage.KINDS[kind]
    flaws, codes = [], Counter[int]()
    for number in range(COUNT):
        choose = random.Random(f"{kind} {number}")
        base = runs / choose.choice(("small", "small", "everything"))
        shutil.rmtree("ours", ignore_errors=True)
        shutil.copytree(base, "ours")
        (place,) = Path("ours").glob(pattern)
        content, way = damaged(place.read_bytes(), choose)
        place.write_bytes(content)
        if kind == "results" and not choose.randrange(3):
            way += ", without samples"
            for samples in Path("ours").glob("*.npz"):
                samples.unlink()
        commands: list[tuple[object, ...]] = [
            ("gate", "ours", "--against", base, "--rules", "ours/rules.toml"),
            ("report", "ours"),
            ("compare", base, "ours"),
            ("history", base, "ours"),
        ]
        chosen = commands[:1] if kind == "rules" else commands if SLOW else [choose.choice(commands)]
        for command in chosen:
            with bounded_memory():
                done = qx(*command)
            codes[done.code] += 1
            if problem := flaw(done):
                flaws.append(f"{kind} {number}, {base.name}, {command[0]}: {way}: {problem}")
    print(f"{kind}: {COUNT} files, {codes.total()} commands, exit codes {dict(codes)}")
    assert not flaws, f"{len(flaws)} of {codes.total()}:\n" + "\n\n".join(flaws[:10])


def test_sets_of_different_numbers_of_items_are_refused(builders: ModuleType) -> None:
    """Statistics of the whole set are compared over the same items, so their number is the same."""
    whole, recording = builders.everything(items=40)
    check_whole(whole, recording, Path("samples.npz"))
    series = recording.series["other/base"][Figure("score")]
    changed = evolve(series.resampled[0], items=9999)
    recording.series["other/base"][Figure("score")] = evolve(series, resampled=(changed,))
    with pytest.raises(UsageError, match="has 40 items in one cell and 9,999 items in another"):
        check_whole(whole, recording, Path("samples.npz"))
