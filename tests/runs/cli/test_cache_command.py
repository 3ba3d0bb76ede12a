"""``qx cache``: what it shows and removes, and what it leaves, whatever lies in the cache."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qx.storage.cache import new_entry, open_cache, read_entry
from qx.storage.pruning import entries, prune
from qx.storage.uses import FILE, Uses, while_unused

Qx = Callable[..., Any]
DAY = 86400.0
#: Names of builds and splits, as runs give them.
NEW, OLD, SPLIT = "a" * 32, "b" * 32, "c" * 64


def put(cache: Path, kind: str, name: str, days: float = 0.0, size: int = 1000) -> Path:
    """Put an entry into the cache that was used last some days ago."""
    with new_entry(cache / kind / name) as folder:
        (folder / "content").write_bytes(b"x" * size)
    age(cache / kind / name / "digests.json", days)
    return cache / kind / name


def age(path: Path, days: float) -> None:
    """Set the times of a file back."""
    then = time.time() - days * DAY
    os.utime(path, (then, then))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a cache with a new build, an old one, an old split, and an image that a workload keeps."""
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("QX_CACHE", str(folder))
    open_cache()
    put(folder, "builds", NEW)
    put(folder, "builds", OLD, days=40)
    put(folder, "splits", SPLIT, days=50, size=5000)
    (folder / "images.npy").write_bytes(b"x" * 200)
    age(folder / "images.npy", 100)
    return folder


def present(cache: Path) -> set[str]:
    """Return the names of the builds, splits and files that are there."""
    places = (cache, cache / "builds", cache / "splits")
    return {path.name for place in places for path in place.iterdir()} - {"builds", "splits", FILE}


# What it shows ------------------------------------------------------------------------------------


def test_the_path_is_printed_alone(qx: Qx, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is printed, for use in scripts, whether it exists or not."""
    assert qx("cache", "path").out == f"{cache}\n"
    monkeypatch.setenv("QX_CACHE", str(cache / "none"))
    done = qx("cache", "path")
    assert (done.code, done.out, done.err) == (0, f"{cache / 'none'}\n", "")


def test_the_size_is_shown_kind_by_kind(qx: Qx, cache: Path) -> None:
    """Each kind has its number of entries and its size, and what workloads keep has its names."""
    (cache / "builds" / "notes.txt").write_text("mine")
    done = qx("cache", "size")
    assert (done.code, done.err) == (0, "")
    lines = [line.split() for line in done.out.splitlines()]
    assert lines[0] == [str(cache)]
    assert lines[1][:3] == ["builds", "2", "entries"]
    assert lines[2][:3] == ["splits", "1", "entry"]
    assert lines[3][:3] == ["descriptions", "0", "entries"]
    assert lines[4] == ["downloads", "1", "entry", "200", "B", "images.npy"]
    assert lines[5][0] == "total"
    assert done.out.splitlines()[6] == "not qx's, and left alone: builds/notes.txt"


@pytest.mark.parametrize("action", ["size", "prune"])
def test_a_cache_that_is_missing_is_said_to_be(
    qx: Qx, cache: Path, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    """Where there is no cache yet one line says so, and none is made."""
    monkeypatch.setenv("QX_CACHE", str(cache / "none"))
    done = qx("cache", action)
    assert (done.code, done.err) == (0, "")
    assert done.out == f"there is no cache yet: {cache / 'none'} does not exist\n"
    assert not (cache / "none").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["prune", "--older-than", "soon"], "--older-than: 'soon' is not a duration"),
        (["prune", "--max-size", "2 gigs"], "--max-size: '2 gigs' is not a size"),
        (["shrink"], "invalid choice: 'shrink'"),
        ([], "the following arguments are required: ACTION"),
    ],
)
def test_mistakes_are_refused_in_a_line(qx: Qx, cache: Path, words: list[str], message: str) -> None:
    """A mistake ends with exit code 2 and one line, and nothing is removed."""
    before = present(cache)
    done = qx("cache", *words)
    assert (done.code, done.out) == (2, "")
    assert message in done.err and done.err.count("\n") == 1
    assert present(cache) == before


# What it removes ----------------------------------------------------------------------------------


def test_what_was_not_used_for_thirty_days_is_removed(qx: Qx, cache: Path) -> None:
    """Without options entries go that were not used for 30 days, and what workloads keep stays."""
    expected = "removed: 1 build and 1 split, 6."
    dry = qx("cache", "prune", "--dry-run")
    assert dry.code == 0 and dry.out.startswith("would be " + expected)
    assert present(cache) == {NEW, OLD, SPLIT, "images.npy"}
    done = qx("cache", "prune")
    assert done.code == 0 and done.out.startswith(expected)
    assert present(cache) == {NEW, "images.npy"}
    assert qx("cache", "prune").out == "nothing removed\n"


@pytest.mark.parametrize(
    ("words", "left"),
    [
        (["--older-than", "45d"], {NEW, OLD, "images.npy"}),
        (["--older-than", "45d", "--downloads"], {NEW, OLD}),
        (["--older-than", "0"], {"images.npy"}),
        (["--max-size", "1G"], {NEW, OLD, SPLIT, "images.npy"}),
        (["--max-size", "4k"], {NEW, OLD, "images.npy"}),
        (["--max-size", "0"], {"images.npy"}),
        (["--max-size", "4k", "--older-than", "1d"], {NEW, "images.npy"}),
    ],
)
def test_age_and_size_decide(qx: Qx, cache: Path, words: list[str], left: set[str]) -> None:
    """What was used longest ago goes first, until no more is left than may be."""
    assert qx("cache", "prune", *words).code == 0
    assert present(cache) == left


def test_use_keeps_an_entry(cache: Path) -> None:
    """An entry that was read has been used, and its digests still hold."""
    assert read_entry(cache / "builds" / OLD, lambda folder, digests: len(digests)) == 1
    assert not [entry for entry in prune(cache, unused_for=30 * DAY).removed if entry.path.name == OLD]
    assert read_entry(cache / "builds" / OLD, lambda folder, digests: len(digests)) == 1


def test_what_a_run_is_using_stays(qx: Qx, cache: Path) -> None:
    """Entries that another process holds stay, and go once that has died, however it died."""
    program = f"""if True:
        import sys, time
        from pathlib import Path
        from qx.storage.uses import Uses
        uses = Uses()
        uses.hold(Path({str(cache)!r}), "builds", {OLD!r})
        print("held", flush=True)
        time.sleep(600)
    """
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as run:
        try:
            assert run.stdout is not None and run.stdout.readline() == "held\n"
            done = qx("cache", "prune", "--older-than", "0")
            assert done.code == 0
            assert "left, since a run is using them: 1 entry" in done.out
            assert present(cache) == {OLD, "images.npy"}
        finally:
            run.kill()
    assert qx("cache", "prune", "--older-than", "0").out.startswith("removed: 1 build")


@pytest.mark.slow
def test_a_run_holds_what_it_uses(qx: Qx, toy: Any, cache: Path, write_metric: Any) -> None:
    """While a launch is measured, its build and the data cannot be pruned, nor what workloads keep."""
    metric = write_metric(
        "pruning",
        "fresh",
        """
        import subprocess, sys
        words = [sys.executable, "-m", "qx", "cache", "prune", "--older-than", "0", "--downloads"]
        answer = subprocess.run(words, capture_output=True, text=True, check=False)
        return Samples(float(answer.returncode), details={"said": answer.stdout + answer.stderr})
        """,
    )
    done = qx(
        *("run", *toy.arguments(metric), "-m", "pruning", "--batch-size", 1, "--quick", "--budget", 0.01),
        *("--out", "out"),
    )
    assert done.code == 0, done.err
    said = done.measurement("toy_fp32", "pruning")["details"]["said"]
    # The build, the evaluation split, and the image that the folder held before.
    assert "left, since a run is using them: 3 entries" in said
    assert "images.npy" in present(cache)


def test_a_run_that_begins_waits_for_no_lock_of_the_dead(cache: Path) -> None:
    """Locks end with their holder, and two holders of one entry do not keep each other up."""
    with Uses() as first, Uses() as second:
        first.hold(cache, "builds", OLD)
        second.hold(cache, "builds", OLD)
        with while_unused(cache, "builds", OLD) as is_unused:
            assert is_unused is False
        with while_unused(cache, "builds", NEW) as is_unused:
            assert is_unused is True
    with while_unused(cache, "builds", OLD) as is_unused:
        assert is_unused is True


# What lies in its way -----------------------------------------------------------------------------


def test_links_are_not_followed(qx: Qx, cache: Path, tmp_path: Path) -> None:
    """A link in place of an entry, or in one, goes, and what it leads to stays."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("mine")
    (cache / "builds" / ("d" * 32)).symlink_to(outside)
    (cache / "builds" / OLD / "link").symlink_to(outside)
    (cache / "download").symlink_to(outside)
    assert qx("cache", "size").code == 0
    done = qx("cache", "prune", "--older-than", "0", "--downloads")
    assert done.code == 0, done.err
    assert present(cache) == set()
    assert (outside / "precious").read_text() == "mine"


def test_a_folder_of_entries_that_is_a_link_is_left_alone(qx: Qx, cache: Path, tmp_path: Path) -> None:
    """Entries behind a link are neither counted nor removed, and that is said."""
    (cache / "splits").rename(tmp_path / "splits")
    (cache / "splits").symlink_to(tmp_path / "splits")
    assert "not qx's, and left alone: splits" in qx("cache", "size").out
    assert qx("cache", "prune", "--older-than", "0").code == 0
    assert (tmp_path / "splits" / SPLIT / "content").exists()


def test_damaged_entries_are_removed_like_others(qx: Qx, cache: Path) -> None:
    """What lies under an entry's name is removed, be it a file, a pipe, an empty or a locked folder."""
    (cache / "builds" / ("1" * 32)).write_text("no folder")
    os.mkfifo(cache / "builds" / ("2" * 32))
    (cache / "builds" / ("3" * 32)).mkdir()
    locked = cache / "builds" / ("4" * 32) / "inner"
    locked.mkdir(parents=True)
    (locked / "file").write_text("")
    locked.chmod(0)
    locked.parent.chmod(stat.S_IRUSR)
    assert qx("cache", "size").code == 0
    done = qx("cache", "prune", "--older-than", "0")
    assert done.code == 0, done.err
    assert present(cache) == {"images.npy"}


def test_what_is_not_qxs_stays(qx: Qx, cache: Path) -> None:
    """Files with other names in the folders of entries stay, whatever is removed."""
    for name in ("notes.txt", "B" * 32, "a" * 31, f"{'a' * 32}.bak"):
        (cache / "builds" / name).write_text("mine")
    qx("cache", "prune", "--older-than", "0", "--downloads")
    assert present(cache) == {"notes.txt", "B" * 32, "a" * 31, f"{'a' * 32}.bak"}


def test_a_name_that_a_terminal_would_obey_is_shown_escaped(qx: Qx, cache: Path) -> None:
    """Names of files reach the terminal as text."""
    (cache / "evil\x1b[2J\n").write_text("")
    done = qx("cache", "size")
    assert "\x1b" not in done.out
    assert "evil\\x1b[2J" in done.out


def test_a_cache_that_others_can_write_is_not_pruned(qx: Qx, cache: Path) -> None:
    """As for a run, such a cache is refused unless it is named as trusted."""
    cache.chmod(0o777)
    done = qx("cache", "prune", "--older-than", "0")
    assert done.code == 2 and "can be written by other users" in done.err
    assert OLD in present(cache)
    assert qx("cache", "prune", "--older-than", "0", "--trust-cache", cache).code == 0
    assert OLD not in present(cache)


def test_a_cache_that_cannot_be_written_is_said_to_be(
    qx: Qx, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache that can only be read ends in one line, exit code 2; its size can be seen."""
    # Root may write anywhere but on a file system that is read-only.
    monkeypatch.setattr("os.access", lambda path, mode: False)
    done = qx("cache", "prune", "--older-than", "0")
    assert (done.code, done.out) == (2, "")
    assert (
        done.err
        == f"qx: error: the cache folder {cache} cannot be written, so nothing in it can be removed\n"
    )
    assert qx("cache", "size").code == 0


def test_what_cannot_be_removed_is_named(qx: Qx, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry that cannot be removed has a line, the others go, and the exit code is 1."""
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if self.name == OLD:
            raise PermissionError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    done = qx("cache", "prune", "--older-than", "0")
    assert done.code == 1
    assert done.err == f"qx: cannot remove {cache / 'builds' / OLD}: Permission denied\n"
    assert present(cache) == {OLD, "images.npy"}


def test_no_half_of_an_entry_is_left(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is killed while it removes an entry leaves no name of it, and the next run the rest."""

    def die(folder: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("qx.storage.pruning.remove_tree", die)
        with pytest.raises(KeyboardInterrupt):
            prune(cache, unused_for=0.0)
    assert not [entry for entry in entries(cache) if entry.path.name == SPLIT]
    assert [path for path in (cache / "splits").iterdir() if path.name.endswith(".qx-part")]
    open_cache()
    assert list((cache / "splits").iterdir()) == []
