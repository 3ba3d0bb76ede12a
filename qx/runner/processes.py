"""Worker processes, seen from the host: started, asked, watched, and ended whatever they do."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any, cast

from attrs import frozen

from qx.environment import control_group
from qx.errors import DataError, QxError, UsageError
from qx.jobs import Job
from qx.records import Outcome
from qx.worker.failures import DATA, USAGE

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


class Processes:
    """All workers of a run. Leaving the context ends every one that still lives."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
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
            log = self._logs / f"{self._count:04d}-{name.replace('/', '-')[:NAME]}.log"
            worker = Worker(job, log, self._forget)
            self._live.add(worker)
        return worker

    def run(self, job: Job, name: str, *, timeout: float, progress: Progress | None = None) -> dict[str, Any]:
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


class Worker:
    """One process, in a session of its own, so that it can be ended with all that it started."""

    def __init__(self, job: Job, log: Path, forget: Callable[[Worker], None]) -> None:
        self._log, self._forget = log, forget
        self._stage = "start"
        self._buffer = b""
        self._kills = _out_of_memory_kills()
        with log.open("wb") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, *sys.path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                env=_environment(job.threads),
                start_new_session=True,
                bufsize=0,
            )
        self._send(job.to_json())

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def ask(self, do: str, *, timeout: float, **arguments: Any) -> dict[str, Any]:
        """Send a command to a launch and wait for its answer. Raises ``Failure``."""
        self._send(json.dumps({"do": do, **arguments}))
        return self.answer(timeout=timeout)

    def answer(self, *, timeout: float, progress: Progress | None = None) -> dict[str, Any]:
        """Wait for the answer; ``timeout`` is in seconds, for each stage, and begins again with progress.

        Raises ``Failure`` for what concerns the cell; ``UsageError`` or ``DataError`` for what the user is to
        mend.
        """
        deadline, furthest = time.monotonic() + timeout, 0.0
        while True:
            message = self._message(deadline, timeout)
            if "stage" in message:
                self._stage = message["stage"]
                deadline, furthest = time.monotonic() + timeout, 0.0
            elif "progress" in message:
                if message["progress"] > furthest:
                    deadline, furthest = time.monotonic() + timeout, message["progress"]
                if progress is not None:
                    progress(message["progress"], message["text"])
            elif "failure" in message:
                raise self._failure(message["failure"], message["cause"])
            else:
                answer: dict[str, Any] = message["answer"]
                # Where it dies now, waiting for a command, it does not die of what it was asked before.
                self._stage = "wait"
                return answer

    def kill(self) -> None:
        """End the process and whatever it started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """End the process, and hang up."""
        self._forget(self)
        self.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        # If it has died, the answer that is waited for next tells how.
        with suppress(BrokenPipeError):
            self._process.stdin.write(line.encode() + b"\n")

    def _message(self, deadline: float, timeout: float) -> Mapping[str, Any]:
        while b"\n" not in self._buffer:
            assert self._process.stdout is not None
            remaining = deadline - time.monotonic()
            handle = self._process.stdout.fileno()
            if remaining <= 0 or not select.select([handle], [], [], remaining)[0]:
                self.close()
                raise Failure("timeout", self._stage, f"no end after {timeout:g} s")
            received = os.read(handle, 1 << 16)
            if not received:
                raise self._death()
            self._buffer += received
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: Mapping[str, Any] = json.loads(line)
        return message

    def _failure(self, outcome: str, cause: str) -> Exception:
        if outcome == USAGE:
            return UsageError(cause)
        if outcome == DATA:
            return DataError(cause)
        return Failure(cast("Outcome", outcome), self._stage, cause, gone=False)

    def _death(self) -> Failure:
        try:
            status = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.close()
            return Failure("crashed", self._stage, "the process closed its channel and did not end")
        self.close()
        said = _last_line(self._log)
        tail = f"; it last said: {said}" if said else ""
        if status >= 0:
            return Failure("crashed", self._stage, f"the process ended itself with status {status}{tail}")
        name = signal.Signals(-status).name
        if -status == signal.SIGKILL and _out_of_memory_kills() > self._kills:
            return Failure("out_of_memory", self._stage, "the system killed the process for want of memory")
        return Failure("crashed", self._stage, f"the process was killed by {name}{tail}")


def _environment(threads: int) -> dict[str, str]:
    count = str(threads)
    return {
        **MALLOC,
        **os.environ,
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


def _last_line(log: Path, most: int = 200) -> str:
    """The last line of a log that says something."""
    try:
        text = log.read_bytes()[-8192:].decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [
        line for line in lines if not line.startswith(("File ", "Thread ", "Current thread", "Extension"))
    ]
    return telling[-1][:most] if telling else ""
