"""Unfinished folders of living processes stay, and those of dead ones are removed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from qx import files, leftovers
from qx.files import new_folder, sweep_cache, write_together, write_whole
from qx.leftovers import SUFFIX, sweep, temporary_folder, temporary_place, unfinished_folder


def killed(source: str) -> None:
    """Run statements in a process that ends by SIGKILL."""
    end = "import os; os.kill(os.getpid(), 9)"
    done = subprocess.run([sys.executable, "-c", f"{dedent(source)}\n{end}"], check=False)
    assert done.returncode == -signal.SIGKILL


#: Statements that leave an unfinished folder with a file in it.
HALF = """
    from pathlib import Path
    from qx.files import new_folder
    folder = new_folder(Path({place!r}))
    (folder.__enter__() / "file").touch()
"""


def test_what_a_dead_process_left_is_swept(tmp_path: Path) -> None:
    """The folder of a process that was killed is removed with all that is in it, readable or not."""
    killed(HALF.format(place=str(tmp_path / "home" / "build")))
    (half,) = (tmp_path / "home").iterdir()
    (half / "locked").mkdir(mode=0)
    sweep(tmp_path / "home")
    assert list((tmp_path / "home").iterdir()) == []


def test_what_a_living_process_fills_is_not_swept(tmp_path: Path) -> None:
    """A folder that a process is filling is not swept, however long that takes."""
    with new_folder(tmp_path / "build") as folder:
        os.utime(folder, (0, 0))
        sweep(tmp_path)
        assert folder.is_dir()
        (folder / "file").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["build"]


def test_others_folders_are_not_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only unfinished folders of the same user are swept, and no file, link, other name or other user's."""
    target = tmp_path / "target"
    target.mkdir()
    for name in (".git", ".part", f"build{SUFFIX}", f".old{SUFFIX}.bak"):
        (tmp_path / name).mkdir()
    (tmp_path / f".file{SUFFIX}").touch()
    (tmp_path / f".link{SUFFIX}").symlink_to(target)
    before = sorted(tmp_path.iterdir())
    sweep(tmp_path)
    assert sorted(tmp_path.iterdir()) == before
    (tmp_path / f".theirs{SUFFIX}").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: 1 << 20)
        sweep(tmp_path)
    assert (tmp_path / f".theirs{SUFFIX}").is_dir()
    sweep(tmp_path)
    assert not (tmp_path / f".theirs{SUFFIX}").exists()
    sweep(tmp_path / "nowhere")


def test_without_locks_nothing_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system without locks folders are made all the same, and none is swept."""
    (tmp_path / f".left{SUFFIX}").mkdir()
    monkeypatch.setattr(leftovers, "try_lock", lambda descriptor: None)
    sweep(tmp_path)
    with new_folder(tmp_path / "build") as folder:
        (folder / "file").touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f".left{SUFFIX}", "build"]


def test_a_folder_that_is_swept_as_it_is_made_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that is swept before it was locked is made again, and the new one exists and is locked."""
    swept = []

    def make(*arguments: object) -> str:
        name = mkdtemp(*arguments)  # type: ignore[call-overload]
        if not swept:
            swept.append(name)
            sweep(tmp_path)
            assert not Path(name).exists()
        return str(name)

    mkdtemp = tempfile.mkdtemp
    monkeypatch.setattr(tempfile, "mkdtemp", make)
    with unfinished_folder(tmp_path, ".") as folder:
        assert [str(folder)] != swept
        sweep(tmp_path)
        assert folder.is_dir()


def test_temporary_folders_of_dead_runs_go_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run's temporary folder is removed at its end, or by the next run where it was killed."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    killed("from qx.leftovers import temporary_folder as folder; kept = folder(); kept.__enter__()")
    assert len(list(tmp_path.iterdir())) == 1
    with temporary_folder() as first, temporary_folder() as second:
        assert sorted(tmp_path.iterdir()) == sorted([first, second])
    assert list(tmp_path.iterdir()) == []


def test_the_place_for_temporary_files_is_not_tried_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder for temporary files is the writable one that the user names, without a test file in it."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))
    monkeypatch.setenv("TEMP", str(tmp_path))

    def try_out() -> str:
        pytest.fail("places are tried out")

    monkeypatch.setattr(tempfile, "gettempdir", try_out)
    assert temporary_place() == tmp_path
    with temporary_folder() as folder:
        assert folder.parent == tmp_path


def test_the_cache_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unfinished folders anywhere in the cache are removed, and builds and splits stay."""
    monkeypatch.setenv("QX_CACHE", str(tmp_path / "cache"))
    sweep_cache()
    assert list(tmp_path.iterdir()) == []
    for name in ("builds", "splits"):
        with new_folder(tmp_path / "cache" / name / "whole"):
            pass
        killed(HALF.format(place=str(tmp_path / "cache" / name / "half")))
    sweep_cache()
    remaining = sorted(str(path.relative_to(tmp_path / "cache")) for path in tmp_path.glob("cache/*/*"))
    assert remaining == ["builds/whole", "splits/whole"]


# Files that are written together ------------------------------------------------------------------


@pytest.mark.parametrize("moved", range(4))
def test_files_are_replaced_together_though_their_writer_is_killed(tmp_path: Path, moved: int) -> None:
    """After a kill the next sweep moves the files that were not yet in place, once all were written."""
    names = ["b", "a", "c"]
    write_together({tmp_path / name: b"old" for name in names})
    killed(f"""
        import os
        from pathlib import Path
        from qx.files import write_together
        replace, count = os.replace, []
        def counted(*paths):
            if len(count) == {moved}:
                os.kill(os.getpid(), 9)
            count.append(replace(*paths))
        os.replace = counted
        write_together({{Path({str(tmp_path)!r}) / name: b"new" for name in {names!r}}})
    """)
    assert [(tmp_path / name).read_bytes() for name in names] == [b"new"] * moved + [b"old"] * (3 - moved)
    sweep(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == dict.fromkeys(names, b"new")


def test_files_that_were_half_written_are_forgotten(tmp_path: Path) -> None:
    """Where the writer is killed before all files are written, none is replaced, and nothing is left."""
    write_together({tmp_path / name: b"old" for name in "abc"})
    killed(f"""
        import os
        from pathlib import Path
        from qx.files import write_together
        class Content(bytes):
            pass
        def contents():
            yield Path({str(tmp_path)!r}) / "a", b"new"
            os.kill(os.getpid(), 9)
        class Contents(dict):
            items = lambda self: contents()
        write_together(Contents())
    """)
    sweep(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == dict.fromkeys("abc", b"old")


def test_files_that_cannot_all_be_written_are_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error in writing one file leaves the earlier files in every folder, and nothing else."""
    places = [tmp_path / "one" / "a", tmp_path / "one" / "b", tmp_path / "two" / "c"]
    write_together(dict.fromkeys(places, b"old"))
    flushed: list[int] = []

    def full(descriptor: int) -> None:
        flushed.append(descriptor)
        if len(flushed) == 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_together(dict.fromkeys(places, b"new"))
    assert [path.read_bytes() for path in places] == [b"old"] * 3
    assert sorted(path.name for path in tmp_path.glob("*/*")) == ["a", "b", "c"]


def test_a_file_is_readable_by_all(tmp_path: Path) -> None:
    """A file that is written whole has its content and the usual permissions."""
    write_whole(tmp_path / "deep" / "file-with-dashes.txt", b"content")
    place = tmp_path / "deep" / "file-with-dashes.txt"
    assert place.read_bytes() == b"content"
    assert place.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in place.parent.iterdir()] == [place.name]


@pytest.mark.parametrize(
    "make", [Path.touch, os.mkfifo, lambda path: path.symlink_to("nowhere")], ids=["file", "fifo", "link"]
)
def test_a_new_folder_takes_the_place_of_whatever_is_there(
    tmp_path: Path, make: Callable[[Path], object]
) -> None:
    """A file, pipe or link in the place of a new folder is removed, and never waited for."""
    place = tmp_path / "place"
    make(place)
    with new_folder(place, replace=True) as folder:
        (folder / "file").touch()
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == [
        "place",
        "place/file",
    ]
