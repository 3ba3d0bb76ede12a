"""A log has the errors and the end of the output of a cell, is bounded and safe, and costs nothing else."""

from __future__ import annotations

import errno
import os
import re
import time
from pathlib import Path

import pytest

from qx.processes import logs as logs_module
from qx.processes.logs import (
    MOST_ERRORS,
    MOST_PRINTED,
    Logs,
    Output,
    Subject,
    logs_in_cache,
    logs_name,
    new_identity,
    remove_logs,
)
from qx.tracebacks import NO_TRACEBACK, Traceback

CELL = Subject("toy/deep[bits=4]", "deep[bits=4]")
TRACEBACK = Traceback(full="full\n  frame\nKeyError: 5", shown="  frame\nKeyError: 5")


def printed(tmp_path: Path, content: bytes, stage: str = "build", subject: Subject = CELL) -> Output:
    """Write the output of a process, as its keeper does."""
    path = tmp_path / f"{stage}-{len(content)}.txt"
    path.write_bytes(content)
    return Output(subject, stage, path)


def test_a_log_has_the_error_and_the_output(tmp_path: Path) -> None:
    """The file that ``failed`` returns is whole at once: message, full traceback, what was printed."""
    logs = Logs(lambda: tmp_path / "logs")
    logs.ended(printed(tmp_path, b"one\ntwo\n"), 8)
    file = logs.failed(CELL, "failed in convert: KeyError: 5", TRACEBACK)
    assert file == tmp_path / "logs" / "toy-deep-bits=4.log"
    assert file.read_text() == (
        "toy/deep[bits=4]\n\nfailed in convert: KeyError: 5\n\nfull\n  frame\nKeyError: 5\n\n"
        "Printed in build (8 bytes):\n\none\ntwo\n"
    )


def test_nothing_is_written_where_there_is_nothing_to_read(tmp_path: Path) -> None:
    """A cell that printed nothing and has no traceback has no log, nor a folder for it."""
    with Logs(lambda: tmp_path / "logs") as logs:
        logs.ended(printed(tmp_path, b""), 0)
        assert logs.failed(CELL, "unsupported in convert: a loop", NO_TRACEBACK) is None
    assert not (tmp_path / "logs").exists()


def test_what_a_cell_printed_that_went_well_is_kept(tmp_path: Path) -> None:
    """At the end of a run there is a log of each cell that printed anything."""
    with Logs(lambda: tmp_path / "logs") as logs:
        logs.ended(printed(tmp_path, b"convert took 0.1 s\n"), 19)
        assert logs.file(CELL.id) is None
    file = logs.file(CELL.id)
    assert file is not None
    assert file.read_text().endswith("\n\nconvert took 0.1 s\n")


def test_a_run_that_an_error_ends_writes_no_more(tmp_path: Path) -> None:
    """What went well until then is not written."""
    logs = Logs(lambda: tmp_path / "logs")
    logs.ended(printed(tmp_path, b"well\n"), 5)
    logs.__exit__(KeyboardInterrupt)
    assert not (tmp_path / "logs").exists()


def test_output_is_bounded(tmp_path: Path) -> None:
    """The last 64 kB that processes of one kind printed are kept, and the log says of how many."""
    logs = Logs(lambda: tmp_path)
    for number in range(5):
        logs.ended(printed(tmp_path, b"%d" % number * 100_000), 11_000_000_000)
    file = logs.failed(CELL, "failed", TRACEBACK)
    assert file is not None
    text = file.read_text()
    assert "Printed in build (the last 65,536 of 55,000,000,000 bytes):" in text
    assert text.endswith("4" * MOST_PRINTED + "\n")


def test_errors_are_bounded(tmp_path: Path) -> None:
    """A cell in which metric after metric fails has a bounded number of errors, each once."""
    logs = Logs(lambda: tmp_path)
    for number in [0, 0, *range(30)]:
        file = logs.failed(CELL, f"metric m{number} failed", TRACEBACK)
    assert file is not None
    text = file.read_text()
    assert text.count("KeyError: 5") == MOST_ERRORS
    assert f"{30 - MOST_ERRORS} further errors are left out here." in text


def test_hostile_output_is_text(tmp_path: Path) -> None:
    """Escape sequences, controls, bytes that are no text and bars of progress are safe to show."""
    shown: list[str] = []
    logs = Logs(lambda: tmp_path, shown.append)
    content = b"\x1b]0;title\x07\x1b[31mred\x1b[0m\t|\n\xff\xfe\0\x08 bell\x07\n"
    content += b"10 %\r50 %\r100 %\r\n\x1b]never ends\n"
    output = printed(tmp_path, content)
    logs.ended(output, len(content))
    file = logs.failed(CELL, "failed \x1b[2J", Traceback(full="\x1b[31mred", shown="\x1b[31mred"))
    logs.close()
    assert file is not None
    for text in (file.read_text(), *shown):
        assert all(line.isprintable() for line in text.split("\n"))
    assert "red     |\n\\xff\\xfe\\x00\\x08 bell\\x07\n100 %\n\\x1b]never ends" in file.read_text()
    assert shown[0].split("\n")[0] == "deep[bits=4] build | red     |"


def test_output_is_shown_while_a_process_lives(tmp_path: Path) -> None:
    """With something that shows it, each line is shown once, soon after it was printed, with its cell."""
    shown: list[str] = []
    logs = Logs(None, shown.append)
    output = printed(tmp_path, b"")
    logs.started(output)
    with output.path.open("ab", buffering=0) as file:
        file.write(b"first\nhalf")
        deadline = time.monotonic() + 20
        while not shown and time.monotonic() < deadline:
            time.sleep(0.02)
        assert shown == ["deep[bits=4] build | first"]
        file.write(b" a line\n")
    logs.ended(output, 18)
    logs.close()
    assert "\n".join(shown).split("\n") == ["deep[bits=4] build | first", "deep[bits=4] build | half a line"]


def test_nothing_is_shown_while_something_is_timed(tmp_path: Path) -> None:
    """The output of launches is shown when nothing is timed, and not when they end."""
    shown: list[str] = []
    logs = Logs(None, shown.append)
    output = printed(tmp_path, b"in a launch\n", stage="launch")
    logs.started(output)
    logs.ended(output, 12)
    time.sleep(3 * logs_module.PAUSE)
    assert shown == []
    logs.flush()
    logs.flush()
    logs.close()
    assert shown == ["deep[bits=4] launch | in a launch"]


def test_a_full_disk_costs_the_log_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a log cannot be written that is said once, and no message names its file."""

    def write(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(logs_module, "write_whole", write)
    complaints: list[str] = []
    with Logs(lambda: tmp_path, complain=complaints.append) as logs:
        assert logs.failed(CELL, "failed", TRACEBACK) is None
        assert logs.failed(CELL, "failed again", TRACEBACK) is None
    assert complaints == ["logs cannot be written: No space left on device"]
    assert logs.file(CELL.id) is None


def test_a_folder_that_cannot_be_made_costs_the_logs(tmp_path: Path) -> None:
    """A file in the place of the folder is no reason for a run to end."""
    (tmp_path / "file").write_text("")
    complaints: list[str] = []
    logs = Logs(lambda: tmp_path / "file" / "logs", complain=complaints.append)
    assert logs.failed(CELL, "failed", TRACEBACK) is None
    assert len(complaints) == 1


def test_names_of_files_are_plain_and_differ(tmp_path: Path) -> None:
    """Whatever a cell is called, its log has a plain name of its own."""
    logs = Logs(lambda: tmp_path)
    ids = ["toy/a b", "toy/a/b", "toy/a-b", "../../etc", "x" * 500, "[", "caf\u00e9\n\x1b[31m"]
    files = [logs.failed(Subject(name, name), "failed", TRACEBACK) for name in ids]
    names = [file.name for file in files if file is not None]
    assert len(set(names)) == len(ids)
    assert all(re.fullmatch(r"[A-Za-z0-9_.=+-]{1,110}[.]log", name) for name in names)
    assert {path.name for path in tmp_path.iterdir()} == set(names)


def test_only_logs_of_runs_that_have_ended_are_removed(tmp_path: Path) -> None:
    """Logs of a living run stay, those of one that has ended go, and nobody's own files do."""
    from datetime import datetime, timezone

    name = logs_name(new_identity(datetime.now(timezone.utc)))
    logs = Logs(lambda: tmp_path / name)
    file = logs.failed(CELL, "failed", TRACEBACK)
    assert file is not None
    remove_logs(tmp_path / name)
    assert file.is_file()
    logs.close()
    remove_logs(tmp_path / name, least_age=60.0)
    assert file.is_file()
    (tmp_path / name / "notes.txt").write_text("mine")
    remove_logs(tmp_path / name)
    assert [path.name for path in (tmp_path / name).iterdir()] == ["notes.txt"]
    mine = tmp_path / "logs-mine"
    mine.mkdir()
    (mine / "a.log").write_text("mine")
    remove_logs(mine)
    assert (mine / "a.log").is_file()


def test_the_cache_keeps_the_logs_of_the_last_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest folders of logs are removed from the cache."""
    monkeypatch.setenv("QX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(logs_module, "MOST_KEPT", 3)
    home = logs_in_cache()
    for day in range(1, 7):
        (home / f"logs-2026010{day}T000000-abcdef").mkdir()
    assert logs_in_cache() == home
    assert sorted(path.name[11:14] for path in home.iterdir()) == ["05T", "06T"]
