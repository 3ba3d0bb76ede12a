"""What several builds of a run need is made once, and never used where it is damaged."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from qx.worker import once as module
from qx.worker.once import once, once_in


class Export:
    """Fills a folder, and counts how often."""

    def __init__(self, text: str = "graph") -> None:
        self.text, self.count = text, 0

    def __call__(self, folder: Path) -> None:
        self.count += 1
        (folder / "graph").write_text(self.text, encoding="utf-8")


def test_the_first_makes_it_and_others_find_it(tmp_path: Path) -> None:
    """Whoever gives a name for the second time gets the same folder, and makes nothing."""
    first, second = Export(), Export("another")
    place = once(tmp_path, "ONNX of a", first)
    assert once(tmp_path, "ONNX of a", second) == place
    assert (first.count, second.count) == (1, 0)
    assert (place / "graph").read_text(encoding="utf-8") == "graph"


def test_another_name_is_another_folder(tmp_path: Path) -> None:
    """Names that differ share nothing."""
    one, other = once(tmp_path, "a", Export("1")), once(tmp_path, "b", Export("2"))
    assert [(place / "graph").read_text(encoding="utf-8") for place in (one, other)] == ["1", "2"]


@pytest.mark.parametrize("damage", ["changed", "shorter", "gone", "no digests"])
def test_what_is_damaged_is_made_anew(tmp_path: Path, damage: str) -> None:
    """Files that are not as they were written are not used: they are made again."""
    place = once(tmp_path, "a", Export())
    match damage:
        case "changed":
            (place / "graph").write_text("gRaph", encoding="utf-8")
        case "shorter":
            (place / "graph").write_text("gr", encoding="utf-8")
        case "gone":
            (place / "graph").unlink()
        case "no digests":
            (place / "digests.json").unlink()
    again = Export()
    assert (once(tmp_path, "a", again) / "graph").read_text(encoding="utf-8") == "graph"
    assert again.count == 1


def test_an_error_keeps_nothing(tmp_path: Path) -> None:
    """The error of one build is its own: the next one that needs the same makes it."""

    def fail(folder: Path) -> None:
        (folder / "graph").write_text("half", encoding="utf-8")
        raise ValueError("no export")

    with pytest.raises(ValueError, match="no export"):
        once(tmp_path, "a", fail)
    later = Export()
    once(tmp_path, "a", later)
    assert later.count == 1


def test_a_build_that_died_holds_up_nobody(tmp_path: Path) -> None:
    """What a process had half made when it was killed is not used, and its lock is gone with it."""

    def die(folder: Path) -> None:
        (folder / "graph").write_text("half", encoding="utf-8")
        os._exit(1)

    child = os.fork()
    if not child:
        once(tmp_path, "a", die)
    os.waitpid(child, 0)
    place = once(tmp_path, "a", Export())
    assert (place / "graph").read_text(encoding="utf-8") == "graph"


def test_a_build_that_hangs_costs_others_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another build holds the lock for too long, this one makes its own."""
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    place = once(tmp_path, "a", Export("theirs"))
    with place.with_suffix(".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        own = once(tmp_path, "a", Export("ours"))
    assert own != place
    assert (own / "graph").read_text(encoding="utf-8") == "ours"


def test_without_a_folder_nothing_is_shared() -> None:
    """Where no run shares, each call makes its own."""
    export, alone = Export(), once_in(None)
    assert alone("a", export) != alone("a", export)
    assert export.count == 2
