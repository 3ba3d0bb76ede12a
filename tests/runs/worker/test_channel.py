"""Whatever a plugin does to the channel between its worker and the host costs its own cell, and no more."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil
import pytest

from qx.processes.messages import Answer, BadEnd, NotAMessage, Progress, Stage, read_message
from qx.processes.workers import Failure
from qx.tracebacks import NO_TRACEBACK, Traceback

#: Statements by which the plugin's hook returns a split of two items.
DATA = "import numpy; return Data(inputs={'x': numpy.ones((2, 1))}, targets={'labels': numpy.zeros(2, int)})"


# Messages -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stage": "convert"}, Stage("convert")),
        ({"progress": 0.5, "text": "half"}, Progress(0.5, "half")),
        ({"answer": {"items": 3}}, Answer({"items": 3})),
        (
            {"failure": "failed", "cause": "torn", "traceback": {"full": "a\nb", "shown": "b"}},
            BadEnd("failed", "torn", Traceback(full="a\nb", shown="b")),
        ),
        (
            {"failure": "usage", "cause": "torn", "traceback": {"full": "", "shown": ""}, "more": 1},
            BadEnd("usage", "torn", NO_TRACEBACK),
        ),
    ],
)
def test_a_message_is_read(fields: dict[str, Any], message: object) -> None:
    """Each kind of message that a worker sends is recognized by its fields."""
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
        'token {"failure": "failed", "cause": "torn"}',
        'token {"failure": "failed", "cause": "torn", "traceback": {"full": 5, "shown": ""}}',
        'token {"failure": "lost", "cause": "torn", "traceback": {"full": "", "shown": ""}}',
        'token {"failure": ["failed"], "cause": "torn", "traceback": {"full": "", "shown": ""}}',
        "token " + "[" * 100_000,
        "token \N{LATIN SMALL LETTER E WITH ACUTE}".encode("latin-1"),
        "token " + "9" * 10_000,
    ],
    ids=lambda text: ascii(text[:40]),
)
def test_what_is_no_message_is_recognized(text: str | bytes) -> None:
    """Rubbish, deep nesting, huge numbers, other types and unknown fields are no messages."""
    with pytest.raises(NotAMessage):
        read_message(text if isinstance(text, bytes) else text.encode(), b"token")


# What plugins do ----------------------------------------------------------------------------------

#: Statements that write into every writable descriptor of the process but the standard ones.
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
    """Return statements that write into the channel, whatever its descriptor."""
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
def test_rubbish_in_the_channel_makes_its_cell_crashed(
    mischief: Callable[..., Any], rubbish: bytes, shown: str
) -> None:
    """Rubbish that a plugin writes into the channel makes its cell crashed, and is shown escaped."""
    with pytest.raises(Failure) as failed:
        mischief(into_every_descriptor(rubbish))
    assert (failed.value.outcome, failed.value.stage) == ("crashed", "load_data test")
    assert "something other than a message" in failed.value.cause
    assert shown in failed.value.cause
    assert failed.value.cause.isprintable()


def test_a_line_without_end_is_not_taken_in(
    mischief: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host reads no more of a line than a message may have."""
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
    """An error that a plugin raises after it has replaced functions is reported as usual."""
    with pytest.raises(Failure) as failed:
        mischief(f"{patch}; raise ValueError('as ever')")
    assert (failed.value.outcome, failed.value.cause) == ("failed", "ValueError: as ever")


def test_a_plugin_that_closes_every_descriptor_has_crashed(mischief: Callable[..., Any]) -> None:
    """The host does not wait for a process that has closed its channel."""
    with pytest.raises(Failure) as failed:
        mischief("os.closerange(3, 1000); raise ValueError('unheard')")
    assert failed.value.outcome == "crashed"
    assert "the process ended itself with status 1; its last line of output: " in failed.value.cause


def test_a_plugin_that_becomes_another_program_has_crashed(
    mischief: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that has become another program is ended, and the cause says that it closed its channel."""
    # It never ends by itself, so a short wait suffices.
    monkeypatch.setattr(import_module("qx.processes.workers"), "_KEEPER_PATIENCE", 1.0)
    with pytest.raises(Failure) as failed:
        mischief("os.execvp('sleep', ['sleep', '1000'])")
    assert failed.value.outcome == "crashed"
    assert failed.value.cause == "the process closed its channel but did not exit"


def test_a_forked_child_has_no_part_in_the_conversation(mischief: Callable[..., Any]) -> None:
    """A forked child that goes on with the worker's program sends nothing to the host."""
    child = """
        if os.fork() == 0:
            raise ValueError("I am the child")
        os.wait()
        """
    assert mischief(child + DATA).items == 2


def test_programs_of_a_plugin_do_not_inherit_the_channel(
    mischief: Callable[..., Any], tmp_path: Path
) -> None:
    """A program that a plugin starts has its own streams, and no other descriptor of the worker's."""
    listing = tmp_path / "listing"
    list_them = f"ls /proc/self/fd > {listing}"
    mischief(f"subprocess.run({list_them!r}, shell=True, close_fds=False); {DATA}")
    # Reading the folder takes the last one.
    assert listing.read_text().split() == ["0", "1", "2", "3"]


def test_progress_that_is_no_progress_times_out(mischief: Callable[..., Any]) -> None:
    """A plugin that repeats the same progress times out."""
    with pytest.raises(Failure, match="not finished after 3 s"):
        mischief("while True: context.progress(0.5, 'on')", timeout=3.0, progress=lambda *_: time.sleep(0.1))


@pytest.mark.parametrize("done", ["float('nan')", "float('inf')", "-1", "7"])
def test_odd_progress_harms_nobody(mischief: Callable[..., Any], done: str) -> None:
    """Progress that is no share from 0 to 1 does not end the cell."""
    assert mischief(f"context.progress({done}, 'on'); {DATA}").items == 2


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ("items=2", "source is missing, which must be a text"),
        ("**fields, more=1", "more is no field of it (it has source, "),
        ("**fields | {'items': 'two'}", "items must be a whole number, and is 'two'"),
        ("**fields | {'damaged': {'a': 5}}", "damaged.a must be a text, and is a whole number"),
    ],
)
def test_an_answer_that_does_not_fit_makes_its_cell_crashed(
    mischief: Callable[..., Any], fields: str, why: str
) -> None:
    """An answer with missing, unknown or wrong fields is no message: the cause names job and field."""
    replace = f"import qx.worker.data as job; job.DataAnswer = lambda **fields: dict({fields}); "
    with pytest.raises(Failure) as failed:
        mischief(replace + DATA)
    assert failed.value.outcome == "crashed"
    assert "the process wrote something other than a message to its host" in failed.value.cause
    assert f"(as an answer to 'data' it does not fit: {why}" in failed.value.cause
    assert failed.value.cause.isprintable()


def test_the_channel_is_light() -> None:
    """The channel and the records of all answers import neither numpy, torch nor cattrs."""
    program = (
        "import sys, qx.worker.channel; print(*{'numpy', 'torch', 'cattrs', 'cattr'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# What plugins leave -------------------------------------------------------------------------------


def test_temporary_files_end_with_their_worker(mischief: Callable[..., Any], tmp_path: Path) -> None:
    """What a plugin leaves in its folder for temporary files is removed, however its worker ended."""
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
    """A flood of output gives a log of bounded size, and the cell ends well."""
    assert mischief(f"[print('a' * 1000) for _ in range(20_000)]; {DATA}").items == 2
    (log,) = (tmp_path / "logs").glob("*-data.log")
    assert 100_000 < log.stat().st_size < 200_000


def test_a_flood_that_hangs_is_reported(mischief: Callable[..., Any]) -> None:
    """A plugin that never stops printing times out, and the cause says how much it has printed."""
    with pytest.raises(Failure, match=r"not finished after 5 s; it has printed \d+ MB"):
        mischief("while True: print('a' * 1_000_000)", timeout=5.0)


@pytest.mark.parametrize("code", ["ENOSPC", "EDQUOT"])
def test_a_full_disk_is_reported_with_what_to_do(mischief: Callable[..., Any], code: str) -> None:
    """The cause of an error on a full disk names the file and says what to do."""
    import errno
    import os

    number = getattr(errno, code)
    with pytest.raises(Failure) as failed:
        mischief(f"raise OSError({number}, os.strerror({number}), '/the/file')")
    assert failed.value.cause == (
        f"OSError: [Errno {number}] {os.strerror(number)}: '/the/file'; "
        f"free space there, or name a folder on another disk (QX_CACHE, TMPDIR, --out)"
    )


def test_the_death_of_a_process_on_a_full_disk_is_reported_as_such(
    mischief: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    """A full disk is reported even where a library hides why it could not write."""
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
