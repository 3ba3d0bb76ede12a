"""The cache folder and who may write it, and its entries, which are whole whoever writes, reads or dies."""

from __future__ import annotations

import grp
import os
import pwd
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from qx.errors import UsageError
from qx.files import new_folder
from qx.leftovers import sweep
from qx.storage.cache import new_entry, open_cache, open_folder, private_folder, read_entry
from qx.storage.digests import Damaged

Qx = Callable[..., Any]


def mode(folder: Path) -> int:
    return folder.stat().st_mode & 0o7777


def folder_of(tmp_path: Path, mode: int) -> Path:
    """Make a folder for the cache with these permissions."""
    folder = tmp_path / "cache"
    folder.mkdir()
    folder.chmod(mode)
    return folder


def refusal_of(folder: Path, trusted: Path | None = None) -> str:
    """Return the line with which a folder is refused."""
    with pytest.raises(UsageError) as caught:
        private_folder(folder, trusted)
    line = str(caught.value)
    assert "\n" not in line
    assert str(folder) in line
    return line


# Who may write it ---------------------------------------------------------------------------------


def test_a_new_cache_is_its_users_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache and the folders of its entries are made with mode 0700, whatever the mask says."""
    monkeypatch.setenv("QX_CACHE", str(tmp_path / "new" / "cache"))
    before = os.umask(0)
    try:
        cache = open_cache()
    finally:
        os.umask(before)
    assert cache == tmp_path / "new" / "cache"
    assert [mode(cache), mode(cache / "builds"), mode(cache / "splits")] == [0o700] * 3


@pytest.mark.parametrize("permissions", [0o755, 0o750, 0o711, 0o500, 0o700])
def test_what_others_could_read_is_closed_to_them(tmp_path: Path, permissions: int) -> None:
    """A folder of an earlier version that others can read but not write is used, and closed to them."""
    folder = folder_of(tmp_path, permissions)
    assert private_folder(folder) == folder
    assert mode(folder) == (0o700 if permissions & 0o077 else permissions)


def test_a_folder_that_the_user_chose_keeps_its_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that QX_CACHE names keeps its permissions, and only folders that qx makes in it are closed."""
    folder = folder_of(tmp_path, 0o755)
    monkeypatch.setenv("QX_CACHE", str(folder))
    open_cache()
    assert [mode(folder), mode(folder / "builds")] == [0o755, 0o700]


def test_the_systems_place_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache in the user's cache folder is closed to others where an earlier version left it open."""
    monkeypatch.delenv("QX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "qx" / "builds").mkdir(parents=True)
    assert open_cache() == tmp_path / "qx"
    assert [mode(tmp_path / "qx"), mode(tmp_path / "qx" / "builds")] == [0o700, 0o700]


def test_a_folder_of_the_cache_is_as_private_as_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of the cache is refused where others can write the cache around it."""
    folder = folder_of(tmp_path, 0o700)
    monkeypatch.setenv("QX_CACHE", str(folder))
    plugins = open_folder("plugins")
    assert (plugins, mode(plugins)) == (folder / "plugins", 0o700)
    folder.chmod(0o777)
    with pytest.raises(UsageError, match="can be written by other users"):
        open_folder("plugins")
    assert open_folder("plugins", folder) == plugins


def test_a_folder_that_everybody_can_write_is_refused(tmp_path: Path) -> None:
    """The refusal says what is wrong, how to close the folder, and how to use it as it is."""
    folder = folder_of(tmp_path, 0o757)
    line = refusal_of(folder)
    assert f"{folder} can be written by other users: chmod 700 {folder}, or name another in QX_CACHE" in line
    assert line.endswith(f"give --trust-cache {folder}")
    assert mode(folder) == 0o757
    folder.chmod(0o700)
    assert private_folder(folder) == folder


def test_a_folder_for_everybody_is_not_to_be_closed(tmp_path: Path) -> None:
    """The refusal of a folder like /tmp does not say to close it, which would harm all who use it."""
    line = refusal_of(folder_of(tmp_path, 0o1777))
    assert "make a folder of your own in it" in line
    assert "chmod" not in line


@pytest.mark.parametrize(
    ("name", "members", "is_private"),
    [("me", [], True), ("me", ["me"], True), ("me", ["me", "you"], False), ("team", [], False)],
)
def test_a_group_of_the_user_alone_is_no_stranger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, members: list[str], is_private: bool
) -> None:
    """A group that has the user's name and no other member may write."""
    folder = folder_of(tmp_path, 0o775)
    group = folder.stat().st_gid
    monkeypatch.setattr(pwd, "getpwuid", lambda user: SimpleNamespace(pw_name="me", pw_gid=group))
    monkeypatch.setattr(grp, "getgrgid", lambda group: SimpleNamespace(gr_name=name, gr_mem=members))
    if is_private:
        assert mode(private_folder(folder)) == 0o700
    else:
        assert "can be written by other users: chmod 700" in refusal_of(folder)


def someone_elses(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder one that belongs to another user, and return it."""
    if os.geteuid() == 0:
        os.chown(folder, 54321, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 54321)
    return folder


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that belongs to another user is refused, and the refusal names the owner."""
    folder = someone_elses(folder_of(tmp_path, 0o700), monkeypatch)
    line = refusal_of(folder)
    assert f"{folder} belongs to " in line
    assert "use one of your own, or name another in QX_CACHE" in line
    assert "chmod" not in line


@pytest.mark.parametrize("permissions", [0o777, 0o755])
def test_a_trusted_folder_is_used_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, permissions: int
) -> None:
    """A trusted folder and those in it are used whoever can write them, by whatever path it is named."""
    folder = folder_of(tmp_path, permissions)
    (folder / "builds").mkdir(mode=0o755)
    someone_elses(folder, monkeypatch)
    (tmp_path / "link").symlink_to(folder)
    for trusted in (folder, tmp_path / "link", tmp_path / "." / "cache" / ".." / "cache"):
        assert private_folder(folder, trusted) == folder
        assert private_folder(tmp_path / "link", trusted) == tmp_path / "link"
    assert mode(folder) == permissions
    assert mode(private_folder(folder / "builds", folder)) == 0o755


def test_another_folder_is_not_trusted(tmp_path: Path) -> None:
    """Trust is in the named folder: not in one whose name it begins with, nor in the one around it."""
    folder = folder_of(tmp_path, 0o777)
    (tmp_path / "cac").mkdir()
    for trusted in (tmp_path / "cac", folder / "builds", tmp_path / "nowhere"):
        assert "can be written by other users" in refusal_of(folder, trusted)


def test_a_link_is_as_good_as_what_it_leads_to(tmp_path: Path) -> None:
    """A cache may be a link to another disk, and who can write its target is what counts."""
    folder = folder_of(tmp_path, 0o755)
    (tmp_path / "link").symlink_to(folder)
    assert private_folder(tmp_path / "link") == tmp_path / "link"
    folder.chmod(0o777)
    assert "can be written by other users" in refusal_of(tmp_path / "link")


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    """A file, a link to nowhere and a folder that cannot be made are refused in one line."""
    (tmp_path / "file").write_text("mine")
    assert "is a file" in refusal_of(tmp_path / "file")
    assert "Not a directory" in refusal_of(tmp_path / "file" / "cache")
    (tmp_path / "link").symlink_to("nowhere")
    assert "cannot be used: File exists" in refusal_of(tmp_path / "link")
    (tmp_path / "loop").symlink_to("loop")
    refusal_of(tmp_path / "loop")
    assert "File name too long" in refusal_of(tmp_path / ("n" * 300))
    assert "cannot be used" in refusal_of(Path("/proc/qx"))
    assert (tmp_path / "file").read_text() == "mine"


COMMANDS = {
    "run": ["run", "-c", "toy_fp32"],
    "quantize": ["quantize", "-c", "toy_fp32"],
    "train": ["train"],
    "check": ["check", "toy_fp32"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_uses_the_cache_refuses_one_that_others_can_write(
    qx: Qx, toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """A shared cache, a file and an unknown user end a command with 2, and nothing is written."""
    shared = folder_of(tmp_path, 0o777)
    (tmp_path / "file").touch()
    plugins = toy.plugin_arguments() if command == "check" else toy.arguments()
    if command == "train":
        plugins = ["--workload", "toy", *toy.plugin_arguments()]
    for value, words in (
        (str(shared), "can be written by other users"),
        (str(tmp_path / "file"), "is a file"),
        ("~no-such-user-of-qx/cache", "there is no such user"),
    ):
        monkeypatch.setenv("QX_CACHE", value)
        done = qx(*COMMANDS[command], *plugins)
        assert done.code == 2, done.err
        assert [words in line for line in done.err.splitlines() if line.startswith("qx: error: ")] == [True]
    assert list(shared.iterdir()) == []


def test_a_command_uses_a_cache_that_is_trusted_by_name(
    qx: Qx, toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ``--trust-cache`` a shared folder is used, and its permissions stay."""
    shared = folder_of(tmp_path, 0o777)
    monkeypatch.setenv("QX_CACHE", str(shared))
    done = qx("quantize", "-c", "toy_fp32", *toy.arguments(), "--trust-cache", shared)
    assert done.code == 0, done.err
    assert Path(done.out.strip()).is_relative_to(shared)
    assert mode(shared) == 0o777


# Folders and entries ------------------------------------------------------------------------------


def test_the_first_of_two_who_make_the_same_is_kept(tmp_path: Path) -> None:
    """The second writer keeps the first's folder and leaves no trace, or with ``replace`` replaces it."""
    place = tmp_path / "place"
    for replace, expected in ((False, "first"), (True, "second")):
        with new_folder(place, replace=replace) as second:
            with new_folder(place, replace=replace) as first:
                (first / "name").write_text("first")
            (second / "name").write_text("second")
        assert (place / "name").read_text() == expected
    assert list(tmp_path.iterdir()) == [place]


def test_an_entry_is_whole_for_those_who_read_while_it_is_replaced(tmp_path: Path) -> None:
    """A reader gets a complete entry, however often it is replaced meanwhile."""
    place, over = tmp_path / "place", threading.Event()

    def write(content: str) -> None:
        with new_entry(place, replace=True) as folder:
            (folder / "a").write_text(content)
            (folder / "b").write_text(content)

    def keep_writing() -> None:
        count = 0
        while not over.is_set():
            count += 1
            write(str(count) * 1000)

    write("0")
    writer = threading.Thread(target=keep_writing)
    writer.start()
    try:
        comparisons = {
            read_entry(place, lambda folder, digests: digests["a"] == digests["b"]) for _ in range(300)
        }
    finally:
        over.set()
        writer.join()
    assert comparisons == {True}


def test_without_an_exchange_of_names_an_entry_is_replaced_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system cannot exchange two names at once, the old entry is moved aside first."""
    monkeypatch.setattr("qx.files._exchange", lambda first, second: False)
    for content in ("first", "second"):
        with new_folder(tmp_path / "place", replace=True) as folder:
            (folder / content).touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["place", "second"]


def test_no_entry_is_no_damage(tmp_path: Path) -> None:
    """A missing entry is None, and a folder that is no entry is damaged."""
    assert read_entry(tmp_path / "place", lambda folder, digests: 1) is None
    (tmp_path / "place").mkdir()
    with pytest.raises(Damaged, match=r"digests\.json is missing"):
        read_entry(tmp_path / "place", lambda folder, digests: 1)


KILLED = """
import os, pathlib, signal, sys
from qx.files import new_folder
with new_folder(pathlib.Path(sys.argv[1])) as folder:
    (folder / "half").write_bytes(b"0" * 1000)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    """A sweep removes unfinished folders of killed processes, and leaves those of living ones."""
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "place"])
        assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    (tmp_path / ".hidden").mkdir()
    with new_folder(tmp_path / "other") as living:
        sweep(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([".hidden", living.name])
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "other"]


def test_opening_the_cache_removes_what_the_dead_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unfinished builds and splits of killed runs are removed when the next run begins."""
    monkeypatch.setenv("QX_CACHE", str(tmp_path))
    subprocess.run([sys.executable, "-c", KILLED, tmp_path / "builds" / "place"])
    assert len(list((tmp_path / "builds").iterdir())) == 1
    open_cache()
    assert list((tmp_path / "builds").iterdir()) == []
