"""Logs: a file for each cell or workload, with what plugins printed and the tracebacks of their errors.

They are written while a run goes on, so that an error can be looked at before the run is over.
"""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from threading import Condition, Thread

from attrs import Factory, define, frozen

from qx.errors import QxError
from qx.files import write_whole
from qx.foreign import to_line, to_printed
from qx.leftovers import is_abandoned, lock_folder, sweep
from qx.storage.cache import open_folder
from qx.tracebacks import Traceback

#: Size of the end of what the processes of one kind have printed for a subject that its log keeps, in bytes.
MOST_PRINTED = 1 << 16
#: Largest number of errors in a log.
MOST_ERRORS = 16
#: Largest length of the name of a log in characters, without its ending.
MAX_NAME = 100
#: The kind of process that is timed: nothing is shown while one is alive.
TIMED = "launch"
#: Seconds between two looks at what processes print.
PAUSE = 0.2


#: Names of the folders of logs of runs, and the ending of the files in them. Nothing else is ever removed.
FOLDER_NAME, ENDING = re.compile(r"logs-[0-9]{8}T[0-9]{6}-[0-9a-f]{6}"), ".log"
#: Folder within the cache for logs of commands that leave no results, and how many of them are kept.
IN_CACHE, MOST_KEPT = "logs", 50


def new_identity(started: datetime) -> str:
    """Return the id of a run, from which the names of its samples and logs follow."""
    return f"{started:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"


def logs_name(identity: str) -> str:
    """Return the name of the folder of the logs of a run."""
    return f"logs-{identity}"


def remove_logs(folder: Path, *, least_age: float = 0.0) -> None:
    """Remove the folder of logs of a run that has ended, if nothing was written into it for some seconds.

    What somebody else has put there stays, and the folder with it.
    """
    with suppress(OSError):
        is_old = time.time() - folder.stat().st_mtime >= least_age
        if is_old and FOLDER_NAME.fullmatch(folder.name) and is_abandoned(folder):
            sweep(folder)
            for file in folder.glob(f"*{ENDING}"):
                file.unlink()
            folder.rmdir()


def logs_in_cache(trusted: Path | None = None) -> Path:
    """Return the folder of the cache for logs of commands that leave no results. The oldest are removed.

    Raises ``UsageError`` where the cache cannot be used; ``trusted`` is as in ``open_folder``.
    """
    home = open_folder(IN_CACHE, trusted)
    # Their names begin with the time.
    for folder in sorted(home.glob("logs-*"))[: 1 - MOST_KEPT]:
        remove_logs(folder)
    return home


def copy_logs(files: Iterable[Path], parent: Path) -> None:
    """Copy logs of runs into another folder, within folders of the same names. Raises ``OSError``."""
    for file in files:
        if (copy := parent / file.parent.name / file.name).resolve() != file.resolve():
            write_whole(copy, file.read_bytes())


@frozen
class Subject:
    """A cell or a workload that processes work for."""

    #: Its id, from which the name of its log follows.
    id: str
    #: Its name for readers.
    label: str


@frozen
class Output:
    """The output of one process."""

    subject: Subject
    #: The kind of process, such as ``build``.
    stage: str
    #: The file that its output is written into.
    path: Path


@define
class _Printed:
    """What the processes of one kind have printed for a subject."""

    #: The end of it.
    text: bytes = b""
    #: Size of all of it, in bytes.
    size: int = 0

    def add(self, text: bytes, size: int) -> None:
        if self.text and not self.text.endswith(b"\n"):
            self.text += b"\n"
        self.text = (self.text + text)[-MOST_PRINTED:]
        self.size += size

    def section(self, stage: str) -> str:
        kept = "" if self.size <= len(self.text) else f"the last {len(self.text):,} of "
        return f"Printed in {stage} ({kept}{self.size:,} bytes):\n\n{printed_text(self.text)}"


@define
class _Log:
    """What is known of one subject."""

    name: str
    errors: list[str] = Factory(list)
    printed: dict[str, _Printed] = Factory(dict)
    #: Number of errors that there is no room for.
    left_out: int = 0
    #: Whether its file lacks something.
    is_stale: bool = False
    #: Whether its file exists.
    is_written: bool = False

    def add_error(self, error: str) -> None:
        error = error.rstrip()
        if error in self.errors:
            return
        if len(self.errors) < MOST_ERRORS:
            self.errors.append(error)
        else:
            self.left_out += 1
        self.is_stale = True

    def text(self, subject: str) -> str:
        sections = [*self.errors, *(printed.section(stage) for stage, printed in self.printed.items())]
        if self.left_out:
            sections.insert(len(self.errors), f"{self.left_out:,} further errors are left out here.")
        return "\n\n".join([to_printed(subject), *sections]) + "\n"


class Logs:
    """The logs of one run or command.

    ``folder`` names the folder that they are written into when the first is; None: nothing is written.
    ``show`` shows lines to the user at once (``--debug``); None: nothing is shown. ``complain`` tells the
    user in a line that logs cannot be written.
    """

    def __init__(
        self,
        folder: Callable[[], Path] | None = None,
        show: Callable[[str], None] | None = None,
        complain: Callable[[str], None] | None = None,
    ) -> None:
        self._name_folder, self._show, self._complain = folder, show, complain
        self._folder: Path | None = None
        self._lock_descriptor: int | None = None
        self._has_complained = False
        #: The end of what the last process printed that has printed something.
        self.last_printed = b""
        self._logs: dict[str, _Log] = {}
        #: Outputs that are being shown, each with the number of bytes that have been.
        self._followed: dict[Output, int] = {}
        #: Outputs of timed processes that have ended, as lines that have not been shown yet.
        self._waiting: list[str] = []
        self._changed = Condition()
        self._is_closed = False
        if show is not None:
            Thread(target=self._follow, daemon=True, name="qx logs").start()

    # What processes do ----------------------------------------------------------------------------

    def started(self, output: Output) -> None:
        """Begin to show the output of a process, unless it is a timed one."""
        if self._show is not None and output.stage != TIMED:
            with self._changed:
                self._followed[output] = 0
                self._changed.notify_all()

    def ended(self, output: Output, size: int) -> None:
        """Keep the output of a process that has ended, which has printed ``size`` bytes."""
        with self._changed:
            shown = self._followed.pop(output, 0)
            content = _read(output.path) if size else b""
            if not content:
                return
            self._log(output.subject).printed.setdefault(output.stage, _Printed()).add(
                content[-MOST_PRINTED:], size
            )
            self._log(output.subject).is_stale = True
            self.last_printed = content[-MOST_PRINTED:]
            lines = self._prefixed(output, content[shown:]) if self._show else []
            if output.stage == TIMED:
                self._waiting += lines
            else:
                self._show_lines(lines)

    def failed(
        self, subject: Subject, summary: str, traceback: Traceback, *, is_shown: bool = True
    ) -> Path | None:
        """Add an error to the log of a subject, write it, and return its file.

        None where it would say no more than the summary, or cannot be written. Without ``is_shown`` the
        caller shows the traceback itself.
        """
        with self._changed:
            if is_shown and traceback.shown:
                self._show_lines(to_printed(traceback.shown).split("\n"))
            if traceback.full or subject.id in self._logs:
                self._log(subject).add_error(f"{to_line(summary, 1000)}\n\n{to_printed(traceback.full)}")
                self._write(subject.id)
            return self.file(subject.id)

    def write_into(self, folder: Callable[[], Path]) -> None:
        """Write logs into another folder from now on, unless some are written already."""
        with self._changed:
            if self._folder is None and self._name_folder is not None:
                self._name_folder = folder

    def flush(self) -> None:
        """Show what timed processes have printed. Call it while nothing is timed."""
        with self._changed:
            self._show_lines(self._waiting)
            self._waiting.clear()

    def __enter__(self) -> Logs:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        """Write what is not written yet unless an error has ended the run, and close."""
        with self._changed:
            for subject in self._logs if error is None else ():
                self._write(subject)
        self.close()

    def close(self) -> None:
        """Show what is left, and show and write no more."""
        self.flush()
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            if self._lock_descriptor is not None:
                os.close(self._lock_descriptor)
                self._lock_descriptor = None

    def file(self, subject: str) -> Path | None:
        """Return the file of the log of a subject; None if there is none."""
        log = self._logs.get(subject)
        return self._folder / log.name if log is not None and log.is_written and self._folder else None

    # ----------------------------------------------------------------------------------------------

    def _log(self, subject: Subject) -> _Log:
        if subject.id not in self._logs:
            stem = re.sub(r"[^A-Za-z0-9._=+]+", "-", subject.id)[:MAX_NAME].strip("-.") or "log"
            names = {log.name for log in self._logs.values()}
            candidates = (f"{stem}{number}{ENDING}" for number in ("", *range(-2, -3 - len(names), -1)))
            name = next(candidate for candidate in candidates if candidate not in names)
            self._logs[subject.id] = _Log(name)
        return self._logs[subject.id]

    def _write(self, subject: str) -> None:
        """Write the log of a subject where it has changed. A full disk must cost nothing but the log."""
        log = self._logs.get(subject)
        if log is None or not log.is_stale or self._name_folder is None:
            return
        try:
            if self._folder is None:
                folder = self._name_folder()
                folder.mkdir(parents=True, exist_ok=True)
                self._lock_descriptor = lock_folder(folder)
                self._folder = folder
            write_whole(self._folder / log.name, log.text(subject).encode("utf-8", "backslashreplace"))
        except (OSError, QxError) as error:
            reason = error.strerror if isinstance(error, OSError) else None
            if self._complain is not None and not self._has_complained:
                self._complain(f"logs cannot be written: {reason or error}")
            self._has_complained = True
            return
        log.is_stale, log.is_written = False, True

    def _show_lines(self, lines: list[str]) -> None:
        if self._show is not None and lines:
            self._show("\n".join(lines))

    def _prefixed(self, output: Output, content: bytes) -> list[str]:
        start = f"{to_line(output.subject.label, MAX_NAME)} {output.stage} | "
        text = printed_text(content)
        return [start + line for line in text.split("\n")] if text else []

    def _follow(self) -> None:
        """Show complete lines of processes while they are alive."""
        while True:
            with self._changed:
                # Waking up takes a processor, which launches that are timed would miss.
                self._changed.wait_for(lambda: self._followed or self._is_closed)
                if self._is_closed:
                    return
                for output, shown in self._followed.items():
                    content = _read(output.path)[shown:]
                    complete = content[: content.rfind(b"\n") + 1]
                    if complete:
                        self._followed[output] = shown + len(complete)
                        self._show_lines(self._prefixed(output, complete))
                self._changed.wait_for(lambda: self._is_closed, PAUSE)


def log_hint(file: Path | None) -> str:
    """Return what a message about an error says of its log; empty where there is none."""
    return "" if file is None else f"; log: {file}"


def printed_text(content: bytes) -> str:
    """Return what a process printed as text that is safe in a terminal and in a file, without its ends."""
    return to_printed(content.decode("utf-8", "backslashreplace")).strip("\n")


def _read(path: Path) -> bytes:
    """Return the content of a log of a process, whose size its keeper limits; empty if it cannot be read."""
    with suppress(OSError):
        return path.read_bytes()
    return b""
