"""Worker processes, seen from the host: started, asked, watched, and ended whatever they do."""

from __future__ import annotations

import json
import math
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import cast

from attrs import frozen

from qx.contract.records import Outcome
from qx.environment import control_group
from qx.errors import DataError, QxError, UsageError
from qx.files import full_disk_advice, sweep_cache
from qx.foreign import to_terminal
from qx.leftovers import remove_tree, temporary_folder
from qx.processes import messages, supervisor
from qx.processes.failures import DATA, USAGE
from qx.processes.jobs import Job
from qx.processes.spawning import Ending, Supervisor, described_status
from qx.values import JsonObject

#: Run by the interpreter with the host's own search path as arguments, so that a file which happens to lie in
#: the current folder cannot stand in for a module.
_PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from qx.worker.__main__ import main; main()"

#: Variables through which the common runtimes take their number of threads before they are imported.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)

#: glibc gives freed memory back to the system by rules that follow what else a process happens to have
#: allocated. Large activations are then faulted in anew at every call, or not at all: up to 5,000 pages
#: at batch 32, a third of the latency of one and the same network. The rules are fixed, so that configs
#: differ by what they compute; a user's own setting stands.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}

#: Letters of a worker's name that its log file is called by: a cell with options may have a long one.
NAME = 100


@frozen
class Failure(Exception):
    """How a worker's work ended, when not well."""

    outcome: Outcome
    stage: str
    cause: str
    #: The process is gone; else it can be asked again.
    gone: bool = True

    def __str__(self) -> str:
        return f"{self.outcome} in {self.stage}: {self.cause}"


@frozen
class MetricFailure:
    """A metric that could not be measured of a cell."""

    outcome: Outcome
    cause: str


Progress = Callable[[float, str], None]

#: Seconds within which a worker that has closed its channel is known to have ended: its keeper first ends
#: what it has left.
_KEEPER_PATIENCE = supervisor.PATIENCE + 5


class Processes:
    """All workers of a run. Leaving the context ends every one that still lives, with all that it started.

    In ``folder`` lie their logs, and while they live their temporary files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._supervisor = Supervisor(self.folder / "supervisor.log")
        self._live: set[Worker] = set()
        self._lock = Lock()
        self._count = 0
        self._closed = False

    def start(self, job: Job, name: str) -> Worker:
        """Start a process for this job. ``name`` is what its log file is called by."""
        with self._lock:
            if self._closed:
                raise QxError("the run is over")
            self._count += 1
            number = f"{self._count:04d}"
            log = self.folder / f"{number}-{name.replace('/', '-')[:NAME]}.log"
            worker = Worker(job, self._supervisor, log, self.folder / number, self._forget)
            self._live.add(worker)
        return worker

    def run(self, job: Job, name: str, *, timeout: float, progress: Progress | None = None) -> JsonObject:
        """Start a process, wait for its one answer, and end it."""
        worker = self.start(job, name)
        try:
            return worker.answer(timeout=timeout, progress=progress)
        finally:
            worker.close()

    @contextmanager
    def side_by_side(self, count: int) -> Iterator[ThreadPoolExecutor]:
        """Threads to wait for so many workers at once.

        When an error, or Ctrl-C, leaves the block, all workers are ended first: each thread sees its own die,
        tidies up, and is waited for.
        """
        with ThreadPoolExecutor(max(1, count)) as pool:
            try:
                yield pool
            except BaseException:
                self.end()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def end(self) -> None:
        """End all workers and start no more. Whoever waits for one sees it die."""
        with self._lock:
            self._closed = True
            live = list(self._live)
        for worker in live:
            worker.kill()

    def _forget(self, worker: Worker) -> None:
        with self._lock:
            self._live.discard(worker)

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        for worker in list(self._live):
            worker.close()
        self._supervisor.close()


@contextmanager
def processes_of_a_run() -> Iterator[Processes]:
    """Workers, with a temporary folder for them. What runs that were killed have left is removed first."""
    sweep_cache()
    with temporary_folder() as folder, Processes(folder) as processes:
        yield processes


class Worker:
    """One process, which ends with all that it started."""

    def __init__(
        self, job: Job, supervisor: Supervisor, log: Path, scratch: Path, forget: Callable[[Worker], None]
    ) -> None:
        self._log, self._scratch, self._forget = log, scratch, forget
        self._stage = "start"
        self._received = bytearray()
        self._token = os.urandom(8).hex().encode()
        self._kills = _out_of_memory_kills()
        scratch.mkdir()
        command = [sys.executable, "-c", _PROGRAM, *sys.path]
        self._process = supervisor.spawn(command, _environment(job.threads, scratch), log)
        self._send(self._token.decode())
        self._send(job.to_json())

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def ask(self, do: str, *, timeout: float, **arguments: object) -> JsonObject:
        """Send a command to a launch and wait for its answer. Raises ``Failure``."""
        self._send(json.dumps({"do": do, **arguments}))
        return self.answer(timeout=timeout)

    def answer(self, *, timeout: float, progress: Progress | None = None) -> JsonObject:
        """Wait for the answer; ``timeout`` is in seconds, for each stage, and begins again with progress.

        Raises ``Failure`` for what concerns the cell; ``UsageError`` or ``DataError`` for what the user is to
        mend.
        """
        deadline, furthest = time.monotonic() + timeout, 0.0
        while True:
            match self._message(deadline, timeout):
                case messages.Stage(name):
                    self._stage = name
                    deadline, furthest = time.monotonic() + timeout, 0.0
                case messages.Progress(done, text):
                    if done > furthest:
                        deadline, furthest = time.monotonic() + timeout, done
                    elif time.monotonic() > deadline:
                        raise self._overdue(timeout)
                    if progress is not None:
                        progress(done, text)
                case messages.BadEnd(outcome, cause):
                    raise self._failure(outcome, _with_advice(cause))
                case messages.Answer(fields):
                    # Where it dies now, waiting for a command, it does not die of what it was asked before.
                    self._stage = "wait"
                    return fields

    def kill(self) -> None:
        """End the process and whatever it started."""
        self._process.kill()

    def close(self) -> Ending | None:
        """End the process and whatever it started, hang up, and remove its temporary files.

        Gives how it ended; None where the system does not tell.
        """
        ending = self._process.close()
        remove_tree(self._scratch)
        self._forget(self)
        return ending

    def _send(self, line: str) -> None:
        # If it has died, the answer that is waited for next tells how.
        with suppress(BrokenPipeError):
            content = memoryview(line.encode() + b"\n")
            while content:
                content = content[os.write(self._process.commands, content) :]

    def _message(self, deadline: float, timeout: float) -> messages.Message:
        line = self._line(deadline, timeout)
        try:
            return messages.read_message(line, self._token)
        except messages.NotAMessage as error:
            raise self._disturbed(line, str(error)) from error

    def _line(self, deadline: float, timeout: float) -> bytes:
        """The next line, without its end."""
        searched = 0
        while (end := self._received.find(b"\n", searched)) < 0:
            searched = len(self._received)
            if searched > messages.LONGEST:
                raise self._disturbed(self._received, "it does not end")
            self._received += self._receive(deadline, timeout)
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        return line

    def _receive(self, deadline: float, timeout: float) -> bytes:
        remaining = deadline - time.monotonic()
        poll = select.poll()
        poll.register(self._process.answers, select.POLLIN)
        if remaining <= 0 or not poll.poll(math.ceil(1000 * remaining)):
            raise self._overdue(timeout)
        received = os.read(self._process.answers, 1 << 16)
        if not received:
            raise self._death()
        return received

    def _overdue(self, timeout: float) -> Failure:
        ending, cause = self.close(), f"no end after {timeout:g} s"
        if ending is not None and ending.printed > supervisor.FLOOD:
            cause += f"; it has printed {ending.printed / 1e6:,.0f} MB"
        return Failure("timeout", self._stage, cause)

    def _disturbed(self, line: bytes | bytearray, why: str) -> Failure:
        self.close()
        start = ascii(bytes(line[:80]).decode("latin-1"))
        return Failure(
            "crashed",
            self._stage,
            f"the process wrote something into the channel to its host that is no message ({why}): {start}",
        )

    def _failure(self, outcome: str, cause: str) -> Exception:
        if outcome == USAGE:
            return UsageError(cause)
        if outcome == DATA:
            return DataError(cause)
        return Failure(cast("Outcome", outcome), self._stage, cause, gone=False)

    def _death(self) -> Failure:
        ended = self._process.wait(_KEEPER_PATIENCE)
        # Looked at before the temporary files go.
        advice = _with_advice("")
        ending = self.close()
        if ending is None:
            cause = "the process that supervises it was killed"
        elif ended is None:
            cause = "the process closed its channel and did not end"
        elif ending.status == -signal.SIGKILL and _out_of_memory_kills() > self._kills:
            cause = "the system killed the process for want of memory"
            return Failure("out_of_memory", self._stage, cause)
        else:
            cause = f"the process {described_status(ending.status)}"
            if said := _last_line(self._log):
                cause += f"; it last said: {said}"
            elif ending.log_error:
                cause += f"; what it said could not be written: {os.strerror(ending.log_error)}: {self._log}"
        return Failure("crashed", self._stage, cause + advice)


def _environment(threads: int, scratch: Path) -> dict[str, str]:
    count = str(threads)
    return {
        **MALLOC,
        **os.environ,
        # Removed with the worker, whatever it leaves there.
        "TMPDIR": str(scratch),
        **dict.fromkeys(THREAD_VARIABLES, count),
        "PYTHONHASHSEED": "0",
        # A traceback of every thread into the log, when a plugin's native code dies.
        "PYTHONFAULTHANDLER": "1",
        "PYTHONUNBUFFERED": "1",
    }


def _out_of_memory_kills() -> int:
    """How often the kernel has killed a process of this control group for want of memory."""
    try:
        lines = (control_group() / "memory.events").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


def _with_advice(cause: str) -> str:
    """A cause, with what to do where a disk is full and it does not say so itself."""
    advice = "" if "QX_CACHE" in cause else full_disk_advice(cause)
    return f"{cause}; {advice}" if advice else cause


def _last_line(log: Path, most: int = 200) -> str:
    """The last line of a log that says something."""
    try:
        text = log.read_bytes()[-8192:].decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [said for line in text.splitlines() if (said := to_terminal(line))]
    telling = [
        line for line in lines if not line.startswith(("File ", "Thread ", "Current thread", "Extension"))
    ]
    return telling[-1][:most] if telling else ""
