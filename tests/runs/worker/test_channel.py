"""The channel between a worker and its host: whatever a plugin does to it costs its own cell, and no more."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil
import pytest

from qx.processes.messages import Answer, BadEnd, NotAMessage, Progress, Stage, read_message
from qx.processes.workers import Failure

#: A split, as the plugin's hook gives it.
DATA = "import numpy; return Data(inputs={'x': numpy.ones((2, 1))}, labels=numpy.zeros(2, int))"


# Messages -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stage": "convert"}, Stage("convert")),
        ({"progress": 0.5, "text": "half"}, Progress(0.5, "half")),
        ({"answer": {"items": 3}}, Answer({"items": 3})),
        ({"failure": "failed", "cause": "torn"}, BadEnd("failed", "torn")),
        ({"failure": "usage", "cause": "torn", "more": 1}, BadEnd("usage", "torn")),
    ],
)
def test_a_message_is_read(fields: dict[str, Any], message: object) -> None:
    """Each kind of message that a worker sends is told from the others by its fields."""
    assert read_message(b"token " + json.dumps(fields).encode(), b"token") == message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "token",
        "token ",
        "token garbage",
        'nekot {"stage": "convert"}',
        '{"answer": {}}',
        ' {"stage": "convert"}',
        "token 5",
        "token null",
        "token []",
        "token {}",
        'token {"answer": 5}',
        'token {"stage": null}',
        'token {"progress": "half", "text": ""}',
        'token {"progress": NaN, "text": ""}',
        'token {"progress": Infinity, "text": ""}',
        'token {"progress": 0.5}',
        'token {"failure": "failed"}',
        'token {"failure": "lost", "cause": "torn"}',
        'token {"failure": ["failed"], "cause": "torn"}',
        "token " + "[" * 100_000,
        "token \N{LATIN SMALL LETTER E WITH ACUTE}".encode("latin-1"),
        "token " + "9" * 10_000,
    ],
    ids=lambda text: ascii(text[:40]),
)
def test_what_is_no_message_is_known(text: str | bytes) -> None:
    """Rubbish, deep nesting, huge numbers, other types and unknown fields are no messages."""
    with pytest.raises(NotAMessage):
        read_message(text if isinstance(text, bytes) else text.encode(), b"token")


# What plugins do ----------------------------------------------------------------------------------

#: Writes into every descriptor of the process that can be written, but for its standard ones.
WRITE = """
        import fcntl
        for fd in map(int, os.listdir("/proc/self/fd")):
            try:
                if fd > 2 and fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_WRONLY | os.O_RDWR):
                    os.write(fd, {rubbish!r})
            except OSError:
                pass
        time.sleep(1000)"""


def into_every_descriptor(rubbish: bytes) -> str:
    """Statements that write into the channel, wherever it is."""
    return WRITE.format(rubbish=rubbish)


@pytest.mark.parametrize(
    ("rubbish", "shown"),
    [
        (b"garbage\n", "'garbage'"),
        (b'{"answer": {}}\n', "answer"),
        (b"\0\xff\x1b[31m\n", r"'\x00\xff\x1b[31m'"),
        (b"\n\n", "''"),
    ],
)
def test_rubbish_in_the_channel_is_told_of_its_cell(
    mischief: Callable[..., Any], rubbish: bytes, shown: str
) -> None:
    """What a plugin writes into the channel's descriptor makes its cell crashed, and is shown harmlessly."""
    with pytest.raises(Failure) as failed:
        mischief(into_every_descriptor(rubbish))
    assert (failed.value.outcome, failed.value.stage) == ("crashed", "load_data test")
    assert "is no message" in failed.value.cause
    assert shown in failed.value.cause
    assert failed.value.cause.isprintable()


def test_a_line_without_end_is_not_taken_in(
    mischief: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host takes in no more of a line than a message may have."""
    monkeypatch.setattr(import_module("qx.processes.messages"), "MAX_MESSAGE_BYTES", 1 << 20)
    with pytest.raises(Failure, match="it does not end") as failed:
        mischief(into_every_descriptor(b"a" * (1 << 22)))
    assert failed.value.outcome == "crashed"
    assert len(failed.value.cause) < 300


@pytest.mark.parametrize(
    "patch",
    [
        "import json; json.dumps = json.loads = None",
        "import json; json.JSONEncoder = json.JSONDecoder = None",
        "os.write = os.read = os._exit = None",
        "import sys; sys.stdout = sys.stderr = sys.stdin = None",
        "import sys; sys.stdout.close(); sys.stderr.close()",
        "import builtins; builtins.print = builtins.open = None",
        "import signal; signal.signal = None",
    ],
)
def test_a_plugin_that_replaces_functions_does_not_reach_the_channel(
    mischief: Callable[..., Any], patch: str
) -> None:
    """What was raised after a plugin has replaced functions is told as ever."""
    with pytest.raises(Failure) as failed:
        mischief(f"{patch}; raise ValueError('as ever')")
    assert (failed.value.outcome, failed.value.cause) == ("failed", "ValueError: as ever")


def test_a_plugin_that_closes_every_descriptor_has_crashed(mischief: Callable[..., Any]) -> None:
    """Where nothing can be said any more the host does not wait for it."""
    with pytest.raises(Failure) as failed:
        mischief("os.closerange(3, 1000); raise ValueError('unheard')")
    assert failed.value.outcome == "crashed"
    assert "the process ended itself with status 1; it last said: " in failed.value.cause


def test_a_plugin_that_becomes_another_program_has_crashed(
    mischief: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is another program now is ended, and it is said that it closed its channel."""
    # It does not end by itself, however long it is waited for.
    monkeypatch.setattr(import_module("qx.processes.workers"), "_KEEPER_PATIENCE", 1.0)
    with pytest.raises(Failure) as failed:
        mischief("os.execvp('sleep', ['sleep', '1000'])")
    assert failed.value.outcome == "crashed"
    assert failed.value.cause == "the process closed its channel and did not end"


def test_a_forked_child_has_no_part_in_the_conversation(mischief: Callable[..., Any]) -> None:
    """A child that goes on with the worker's program, as forgotten ones do, says nothing to the host."""
    child = """
        if os.fork() == 0:
            raise ValueError("I am the child")
        os.wait()
        """
    assert mischief(child + DATA)["items"] == 2


def test_programs_of_a_plugin_do_not_inherit_the_channel(
    mischief: Callable[..., Any], tmp_path: Path
) -> None:
    """A program that a plugin starts has its own streams, and no other descriptor of the worker's."""
    seen = tmp_path / "seen"
    list_them = f"ls /proc/self/fd > {seen}"
    mischief(f"subprocess.run({list_them!r}, shell=True, close_fds=False); {DATA}")
    # The last is that by which the folder is read.
    assert seen.read_text().split() == ["0", "1", "2", "3"]


def test_progress_that_is_no_progress_times_out(mischief: Callable[..., Any]) -> None:
    """A plugin that says over and over that it is where it was is not waited for for ever."""
    with pytest.raises(Failure, match="no end after 3 s"):
        mischief("while True: context.progress(0.5, 'on')", timeout=3.0, progress=lambda *_: time.sleep(0.1))


@pytest.mark.parametrize("done", ["float('nan')", "float('inf')", "-1", "7"])
def test_odd_progress_harms_nobody(mischief: Callable[..., Any], done: str) -> None:
    """Progress that is no share from 0 to 1 does not end the cell."""
    assert mischief(f"context.progress({done}, 'on'); {DATA}")["items"] == 2


# What plugins leave -------------------------------------------------------------------------------


def test_temporary_files_end_with_their_worker(mischief: Callable[..., Any], tmp_path: Path) -> None:
    """What a plugin leaves in the place for temporary files is removed, however its worker ended."""
    leave = "import tempfile; place = tempfile.mkdtemp(); open(place + '/file', 'w').close()"
    tell = f"open({str(tmp_path / 'place')!r}, 'w').write(place); os.chmod(place, 0)"
    for end in ("os._exit(3)", "raise ValueError", "os.kill(os.getpid(), 9)", DATA):
        if end is DATA:
            mischief(f"{leave}; {tell}; {end}")
        else:
            with pytest.raises(Failure):
                mischief(f"{leave}; {tell}; {end}")
        place = Path((tmp_path / "place").read_text())
        assert place.is_relative_to(tmp_path / "logs")
        assert not place.parent.exists()


def test_a_plugin_prints_as_much_as_it_likes(mischief: Callable[..., Any], tmp_path: Path) -> None:
    """A flood of output ends up in a log of bounded size, and the cell is what it would be without."""
    assert mischief(f"[print('a' * 1000) for _ in range(20_000)]; {DATA}")["items"] == 2
    (log,) = (tmp_path / "logs").glob("*-data.log")
    assert 100_000 < log.stat().st_size < 200_000


def test_a_flood_that_hangs_is_told(mischief: Callable[..., Any]) -> None:
    """A plugin that prints for ever times out, and it is said how much it has printed."""
    with pytest.raises(Failure, match=r"no end after 5 s; it has printed \d+ MB"):
        mischief("while True: print('a' * 1_000_000)", timeout=5.0)


@pytest.mark.parametrize("code", ["ENOSPC", "EDQUOT"])
def test_a_full_disk_is_told_with_what_to_do(mischief: Callable[..., Any], code: str) -> None:
    """The cause names the file, says that the disk is full, and what to do about it."""
    import errno
    import os

    number = getattr(errno, code)
    with pytest.raises(Failure) as failed:
        mischief(f"raise OSError({number}, os.strerror({number}), '/the/file')")
    assert failed.value.cause == (
        f"OSError: [Errno {number}] {os.strerror(number)}: '/the/file'; "
        f"free space there, or name a folder on another disk (QX_CACHE, TMPDIR, --out)"
    )


def test_a_process_that_dies_of_a_full_disk_is_told_so(
    mischief: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    """Where a library hides why it could not write, the disk itself is asked."""
    monkeypatch.setattr(import_module("qx.files"), "LEAST_FREE", 1 << 60)
    with pytest.raises(Failure) as failed:
        mischief("os.kill(os.getpid(), 7)")
    assert "killed by SIGBUS" in failed.value.cause
    assert f"the disk that holds {cache} is full: free space there, or name a folder" in failed.value.cause


def test_nothing_is_left_running(mischief: Callable[..., Any], tmp_path: Path) -> None:
    """A child in a session of its own ends with its worker."""
    pid = tmp_path / "pid"
    start = "child = subprocess.Popen(['sleep', '1000'], start_new_session=True)"
    start += f"; open({str(pid)!r}, 'w').write(str(child.pid))"
    for end in ("raise ValueError", "os._exit(1)"):
        with pytest.raises(Failure):
            mischief(f"{start}; {end}")
        assert not psutil.pid_exists(int(pid.read_text()))
