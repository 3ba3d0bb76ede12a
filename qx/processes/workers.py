"""Worker processes on the host's side: start them, send commands, wait for answers, and end them."""

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
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Protocol, TypeVar, cast

from attrs import frozen

from qx.contract.records import Outcome
from qx.environment import control_group
from qx.errors import DataError, QxError, UsageError
from qx.files import full_disk_advice, sweep_cache
from qx.foreign import to_terminal
from qx.leftovers import remove_tree, temporary_folder
from qx.processes import messages, supervisor
from qx.processes.answers import Answer, MetricFailure
from qx.processes.failures import DATA, STACKS_SIGNAL, USAGE
from qx.processes.fork_servers import ForkServers, shared_servers
from qx.processes.jobs import Job
from qx.processes.logs import Logs, Output, Subject
from qx.processes.spawning import Ending, Process, Supervisor, describe_status
from qx.processes.structuring import Misfit, structure
from qx.processes.time_limit import TimeLimit
from qx.storage.session_objects import SESSION
from qx.storage.uses import Uses
from qx.tracebacks import NO_TRACEBACK, Traceback
from qx.values import JsonObject

A = TypeVar("A", bound=Answer)

#: The program of a worker. It takes the host's own search path as arguments, so that a file in the current
#: folder cannot take the place of a module.
_PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from qx.worker.__main__ import main; main()"

#: Environment variables from which the common runtimes read their number of threads.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)

#: Settings of glibc's allocator, unless the user has set them. By default it returns freed memory to the
#: system by rules that depend on all other allocations of a process. Large activations are then faulted in
#: anew at every call, or not at all: up to 5,000 pages at batch 32, a third of the latency of the same
#: network. With fixed rules configs differ only by what they compute.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}

#: The largest number of characters of a worker's name in the name of its log: cells may have long names.
MAX_NAME = 100


@frozen
class Failure(Exception):
    """A failure of a job or a command: outcome, stage and cause."""

    outcome: Outcome
    stage: str
    cause: str
    #: Whether the process has ended; if not, it takes further commands.
    gone: bool = True
    traceback: Traceback = NO_TRACEBACK
    #: Whether the run's time was over, so that neither the job nor the command is to blame.
    out_of_time: bool = False

    def __str__(self) -> str:
        return f"{self.outcome} in {self.stage}: {self.cause}"

    def of_metric(self) -> MetricFailure:
        """Return the same failure as that of a metric, where its process was measuring the metric."""
        return MetricFailure(self.outcome, self.cause, self.traceback)


def traceback_behind(error: BaseException) -> Traceback:
    """Return the traceback of the failure of a process that an error was raised for, if there is one."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, Failure):
            return cause.traceback
        cause = cause.__cause__
    return NO_TRACEBACK


Progress = Callable[[float, str], None]


class Elsewhere(Protocol):
    """Carries out jobs on other machines than this one."""

    def takes(self, job: Job[Answer]) -> bool:
        """Return whether such a job is carried out elsewhere."""

    def run(self, job: Job[A], name: str, limit: TimeLimit, *, timeout: float) -> tuple[A, float]:
        """Carry out a job; return its answer and how long it took there, in seconds.

        ``name`` is the job in words, ``timeout`` that of each stage in seconds. Raises what ``Worker.answer``
        raises, and ``Failure`` where the ``limit`` is over.
        """

    def end(self) -> None:
        """End all jobs and start no more. Threads that wait for a job see it fail."""


#: Seconds to wait for the end of a worker that has closed its channel, while its keeper ends the processes
#: that the worker has started.
_KEEPER_PATIENCE = supervisor.PATIENCE + 5


#: Seconds that a process has to write the stacks of its threads.
STACKS_PATIENCE = 0.3


class Processes:
    """All workers of a run. Leaving the context ends those that are still alive, with all that they started.

    ``folder`` holds their outputs, and their temporary files while they are alive. ``session`` is the folder
    of the objects of a Python session that they may load, if there are any. ``logs`` keeps what they print.
    No worker is waited for, and none is started, after ``limit.end``. ``uses`` keeps the entries of the cache
    that they work with from being pruned.
    """

    def __init__(
        self,
        folder: Path,
        session: Path | None = None,
        logs: Logs | None = None,
        limit: TimeLimit | None = None,
    ) -> None:
        self.folder = folder.absolute()
        self.logs = Logs() if logs is None else logs
        self.uses = Uses()
        self.limit = limit or TimeLimit()
        #: Where jobs are carried out that other machines take; None: here.
        self.elsewhere: Elsewhere | None = None
        self._session = session
        self._supervisor = Supervisor(self.folder / "supervisor.log")
        self._own_servers = ForkServers(self._supervisor, self.folder)
        #: The servers of parts of the run, such as a wave, which end before it.
        self._further_servers: set[ForkServers] = set()
        self._live: set[Worker] = set()
        self._lock = Lock()
        self._count = 0
        self._closed = False

    def start(
        self,
        job: Job[Answer],
        name: str,
        subject: Subject | None = None,
        *,
        fresh: bool = False,
        servers: ForkServers | None = None,
    ) -> Worker:
        """Start a process for this job. ``name`` becomes part of the name of the file of its output.

        ``subject`` is what it works for, in whose log its output is kept; None: its output is not kept.
        It is forked from a server that has imported torch, one of ``servers`` or of the run's own, unless it
        is to be ``fresh``: a program that imports all that it needs itself. Raises ``Failure`` if the time
        for it is over.
        """
        if self.limit.is_over:
            raise Failure("timeout", job.do, self.limit.cause("not begun"), out_of_time=True)
        with self._lock:
            self._check_open()
            self._count += 1
            number = f"{self._count:04d}"
        log = self.folder / f"{number}-{name.replace('/', '-')[:MAX_NAME]}.log"
        scratch = self.folder / number
        environment = _environment(job.threads, scratch, self._session)
        servers = servers or shared_servers() or self._own_servers
        # With several threads numpy's library starts them at once, and a fork would lose them.
        can_fork = bool(job.preloads) and job.threads == 1 and not fresh
        server = servers.prepare(job.preloads, environment) if can_fork else None
        with self._lock:
            self._check_open()
            scratch.mkdir()
            process = servers.fork(server, environment, log)
            is_forked = process is not None
            if process is None:
                command = [sys.executable, "-c", _PROGRAM, *sys.path]
                process = self._supervisor.spawn(command, environment, log)
            worker = Worker(job, process, log, scratch, self._forget, self.limit)
            worker.is_forked = is_forked
            self._live.add(worker)
            if subject is not None:
                worker.output = Output(subject, job.stage, log)
                self.logs.started(worker.output)
        return worker

    def run(
        self,
        job: Job[A],
        name: str,
        subject: Subject | None = None,
        *,
        timeout: float,
        progress: Progress | None = None,
    ) -> A:
        """Start a process, wait for its only answer, and end it."""
        return self.run_timed(job, name, subject, timeout=timeout, progress=progress)[0]

    def run_timed(
        self,
        job: Job[A],
        name: str,
        subject: Subject | None = None,
        *,
        timeout: float,
        progress: Progress | None = None,
    ) -> tuple[A, float]:
        """Do the same, and return with the answer how long it took where it was done, in seconds."""
        if self.elsewhere is not None and self.elsewhere.takes(job):
            if self.limit.is_over:
                raise Failure("timeout", job.do, self.limit.cause("not begun"), out_of_time=True)
            return self.elsewhere.run(job, name, self.limit, timeout=timeout)
        began = time.perf_counter()
        worker = self.start(job, name, subject)
        try:
            answer = worker.answer(job.answer_type, timeout=timeout, progress=progress)
        finally:
            worker.close()
        return answer, time.perf_counter() - began

    @contextmanager
    def side_by_side(self, count: int) -> Iterator[ThreadPoolExecutor]:
        """Yield a pool of ``count`` threads, each of which waits for one worker.

        When an error or Ctrl-C leaves the block, all workers are ended first. Each thread then sees its own
        worker die and cleans up, and the block waits for all threads.
        """
        with ThreadPoolExecutor(max(1, count)) as pool:
            try:
                yield pool
            except BaseException:
                self.end()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def end(self) -> None:
        """End all workers and start no more. Threads that wait for a worker see it die."""
        with self._lock:
            self._closed = True
            live, further = list(self._live), list(self._further_servers)
        for worker in live:
            worker.kill()
        for servers in (self._own_servers, *further):
            servers.kill()
        if self.elsewhere is not None:
            self.elsewhere.end()

    def cut_off(self) -> None:
        """End all workers, since the user has interrupted the run; nobody is to blame for what they lack."""
        self.limit.cut_off()
        with self._lock:
            live = list(self._live)
        for worker in live:
            worker.kill()

    @contextmanager
    def fork_servers(self) -> Iterator[ForkServers]:
        """Yield servers whose workers share no import with others, and which end with the context.

        In a process whose runs share servers, as in a session of tests, these are yielded.
        """
        if (shared := shared_servers()) is not None:
            yield shared
            return
        servers = ForkServers(self._supervisor, self.folder)
        with self._lock:
            self._check_open()
            self._further_servers.add(servers)
        try:
            yield servers
        finally:
            servers.close()
            with self._lock:
                self._further_servers.discard(servers)

    def prepare(self, servers: ForkServers, modules: tuple[str, ...]) -> None:
        """Have servers import modules for workers with one thread, and wait until they have."""
        servers.prepare(modules, _environment(1, self.folder, self._session))

    def _check_open(self) -> None:
        if self._closed:
            raise QxError("the run is over")

    def _forget(self, worker: Worker, ending: Ending | None) -> None:
        with self._lock:
            was_live = worker in self._live
            self._live.discard(worker)
        if was_live and worker.output is not None:
            self.logs.ended(worker.output, ending.printed if ending is not None else 0)

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        for worker in list(self._live):
            worker.close()
        self._own_servers.close()
        self._supervisor.close()
        self.uses.close()


@contextmanager
def processes_of_a_run(
    session: Path | None = None, logs: Logs | None = None, limit: TimeLimit | None = None
) -> Iterator[Processes]:
    """Yield processes with a temporary folder. First remove the leftovers of runs that were killed.

    ``session`` is the folder of the objects of a Python session that they may load, if there are any, and
    ``limit`` the time that they may take. The ``logs`` are closed at the end.
    """
    sweep_cache()
    with ExitStack() as stack:
        if logs is not None:
            stack.enter_context(logs)
        folder = stack.enter_context(temporary_folder())
        yield stack.enter_context(Processes(folder, session, logs, limit))


class Worker:
    """One worker process, which ends with all processes that it started."""

    def __init__(
        self,
        job: Job[Answer],
        process: Process,
        log: Path,
        scratch: Path,
        forget: Callable[[Worker, Ending | None], None],
        limit: TimeLimit,
    ) -> None:
        self._log, self._scratch, self._forget, self._limit = log, scratch, forget, limit
        #: Whether it was forked from a server, and is not a program of its own.
        self.is_forked = False
        #: Where its output is kept; None: it is not kept.
        self.output: Output | None = None
        self._stage = "start"
        #: The job or the command that the next answer is to.
        self._task = job.do
        self._received = bytearray()
        self._token = os.urandom(8).hex().encode()
        self._kills = _out_of_memory_kills()
        self._process = process
        self._send(self._token.decode())
        self._send(job.to_json())

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def ask(self, do: str, kind: type[A], *, timeout: float, **arguments: object) -> A:
        """Send a command and wait for its answer, a record of this type. Raises ``Failure``."""
        self._task = do
        self._send(json.dumps({"do": do, **arguments}))
        return self.answer(kind, timeout=timeout)

    def answer(self, kind: type[A], *, timeout: float, progress: Progress | None = None) -> A:
        """Wait for the answer, a record of this type.

        ``timeout`` holds for each stage, in seconds, and starts again with progress. Raises ``Failure`` if
        the cell failed, ``UsageError`` or ``DataError`` if the user has to mend it.
        """
        deadline, furthest = time.monotonic() + timeout, 0.0
        while True:
            match self._next_message(deadline, timeout):
                case messages.Stage(name):
                    self._stage = name
                    deadline, furthest = time.monotonic() + timeout, 0.0
                case messages.Progress(done, text):
                    if done > furthest:
                        deadline, furthest = time.monotonic() + timeout, done
                    elif time.monotonic() > deadline:
                        raise self._timeout_failure(timeout)
                    if progress is not None:
                        progress(done, text)
                case messages.BadEnd(outcome, cause, traceback):
                    raise self._failure(outcome, _with_advice(cause), traceback)
                case messages.Answer(fields):
                    answer = self._structure(kind, fields)
                    # If it dies now, while it waits for a command, the last command is not to blame.
                    self._stage = "wait"
                    return answer

    def kill(self) -> None:
        """End the process and all that it started."""
        self._process.kill()

    def printed(self) -> bytes:
        """Return what it has printed: the beginning, and once it has ended the end as well."""
        with suppress(OSError):
            return self._log.read_bytes()
        return b""

    def close(self) -> Ending | None:
        """End the process and all that it started, hang up, and remove its temporary files.

        Returns how the process ended; None if its keeper was killed.
        """
        ending = self._process.close()
        remove_tree(self._scratch)
        self._forget(self, ending)
        return ending

    def _send(self, line: str) -> None:
        # If the process has died, waiting for its next answer shows how.
        with suppress(BrokenPipeError):
            content = memoryview(line.encode() + b"\n")
            while content:
                content = content[os.write(self._process.commands, content) :]

    def _next_message(self, deadline: float, timeout: float) -> messages.Message:
        line = self._next_line(deadline, timeout)
        try:
            return messages.read_message(line, self._token)
        except messages.NotAMessage as error:
            raise self._protocol_failure(line, str(error)) from error

    def _structure(self, kind: type[A], fields: JsonObject) -> A:
        try:
            return structure(kind, fields)
        except Misfit as misfit:
            why = f"as an answer to {self._task!r} it does not fit: {misfit}"
            raise self._protocol_failure(json.dumps(fields).encode(), why) from misfit

    def _next_line(self, deadline: float, timeout: float) -> bytes:
        """Return the next line of the channel, without its line break."""
        searched = 0
        while (end := self._received.find(b"\n", searched)) < 0:
            searched = len(self._received)
            if searched > messages.MAX_MESSAGE_BYTES:
                raise self._protocol_failure(self._received, "it does not end")
            self._received += self._receive(deadline, timeout)
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        return line

    def _receive(self, deadline: float, timeout: float) -> bytes:
        remaining = min(deadline, self._limit.end) - time.monotonic()
        poll = select.poll()
        poll.register(self._process.answers, select.POLLIN)
        if remaining <= 0 or not poll.poll(math.ceil(1000 * remaining)):
            if self._limit.end < deadline:
                self.close()
                raise Failure("timeout", self._stage, self._limit.cause("not finished"), out_of_time=True)
            raise self._timeout_failure(timeout)
        received = os.read(self._process.answers, 1 << 16)
        if not received and self._limit.is_cut_off:
            self.close()
            raise Failure("timeout", self._stage, self._limit.cause("not finished"), out_of_time=True)
        if not received:
            raise self._death_failure()
        return received

    def _timeout_failure(self, timeout: float) -> Failure:
        self._ask_for_stacks()
        ending, cause = self.close(), f"not finished after {timeout:g} s"
        if ending is not None and ending.printed > supervisor.FLOOD:
            cause += f"; it has printed {ending.printed / 1e6:,.0f} MB"
        return Failure("timeout", self._stage, cause)

    def _protocol_failure(self, line: bytes | bytearray, why: str) -> Failure:
        self.close()
        start = ascii(bytes(line[:80]).decode("latin-1"))
        return Failure(
            "crashed",
            self._stage,
            f"the process wrote something other than a message to its host ({why}): {start}",
        )

    def _ask_for_stacks(self) -> None:
        """Have the process write the stacks of its threads into its log, so that it shows where it hung."""
        if self._process.wait(0) is not None:
            return
        with suppress(QxError, OSError):
            os.kill(self._process.pid, STACKS_SIGNAL)
            # The handler writes them at once, whatever the process is doing.
            self._process.wait(STACKS_PATIENCE)

    def _failure(self, outcome: str, cause: str, traceback: Traceback) -> Exception:
        kinds: dict[str, type[QxError]] = {USAGE: UsageError, DATA: DataError}
        is_failure = outcome not in kinds
        kind = cast("Outcome", outcome if is_failure else "failed")
        failure = Failure(kind, self._stage, cause, gone=False, traceback=traceback)
        if is_failure:
            return failure
        error = kinds[outcome](cause)
        # For whoever shows its traceback, see `traceback_behind`.
        error.__cause__ = failure
        return error

    def _death_failure(self) -> Failure:
        own_ending = self._process.wait(_KEEPER_PATIENCE)
        # Check the disk before the temporary files are removed.
        advice = _with_advice("")
        ending = self.close()
        if ending is None:
            cause = "the process that supervises it was killed"
        elif own_ending is None:
            cause = "the process closed its channel but did not exit"
        elif ending.status == -signal.SIGKILL and _out_of_memory_kills() > self._kills:
            cause = "the system killed the process because memory ran out"
            return Failure("out_of_memory", self._stage, cause)
        else:
            cause = f"the process {describe_status(ending.status)}"
            if last_line := _last_line(self._log):
                cause += f"; its last line of output: {last_line}"
            elif ending.log_error:
                cause += f"; its output could not be written to {self._log}: {os.strerror(ending.log_error)}"
        return Failure("crashed", self._stage, cause + advice)


def _environment(threads: int, scratch: Path, session: Path | None) -> dict[str, str]:
    count = str(threads)
    return {
        **MALLOC,
        **os.environ,
        # Set in any case, so that only a run decides which objects are loaded.
        SESSION: str(session) if session else "",
        # Removed with the worker.
        "TMPDIR": str(scratch),
        **dict.fromkeys(THREAD_VARIABLES, count),
        "PYTHONHASHSEED": "0",
        # A traceback of every thread into the log, when a plugin's native code dies.
        "PYTHONFAULTHANDLER": "1",
        "PYTHONUNBUFFERED": "1",
    }


def _out_of_memory_kills() -> int:
    """Return how often the kernel has killed a process of this control group for want of memory."""
    try:
        lines = (control_group() / "memory.events").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


def _with_advice(cause: str) -> str:
    """Add advice to a cause if a disk is full and the cause does not say so itself."""
    advice = "" if "QX_CACHE" in cause else full_disk_advice(cause)
    return f"{cause}; {advice}" if advice else cause


def _last_line(log: Path, length: int = 200) -> str:
    """Return the last line of a log that is no part of a stack trace, cut to a length in characters."""
    try:
        text = log.read_bytes()[-8192:].decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [shown for line in text.splitlines() if (shown := to_terminal(line))]
    messages_only = [
        line for line in lines if not line.startswith(("File ", "Thread ", "Current thread", "Extension"))
    ]
    return messages_only[-1][:length] if messages_only else ""
