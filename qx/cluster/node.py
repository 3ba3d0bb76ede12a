"""What is done on a machine of a cluster: say what it is, carry out a job, measure a wave."""

from __future__ import annotations

import atexit
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from threading import Lock, Thread
from typing import Any

from attrs import Factory, asdict, define, frozen

from qx.cluster.files import Contents, NodeStore, files_in
from qx.cluster.packing import OWN, SHARED, WRITTEN, Place, replace_texts
from qx.contract.references import Reference
from qx.environment import available_memory, cpu_flags, describe_environment
from qx.errors import DataError, QxError, UsageError
from qx.host.sources import fingerprint, rooms_fingerprint
from qx.processes.answers import to_fields
from qx.processes.fork_servers import share_fork_servers, shared_servers
from qx.processes.jobs import Job, LaunchJob, StoredArtifact, to_job
from qx.processes.time_limit import TimeLimit
from qx.processes.workers import Failure, processes_of_a_run, traceback_behind
from qx.results.cells import CellId
from qx.runner.measure.orders import WaveOrder, WaveOutcome
from qx.runner.measure.plan import LaunchJobs
from qx.runner.measure.waves import BudgetTooShort, carry_out
from qx.runner.resuming import DECIDING
from qx.tracebacks import Traceback
from qx.values import JsonObject

#: The largest number of fork servers that wait for jobs in each process: a machine may have many of these.
MOST_SERVERS = 2
#: Seconds for which the load by others is looked at before a wave.
LOOK = 0.3


# Imports ------------------------------------------------------------------------------------------


@define
class JobServers:
    """The fork servers of this process: what jobs need is imported once, and not for each of them."""

    _context: ExitStack = Factory(ExitStack)
    _lock: Lock = Factory(Lock)

    def keep(self, modules: Sequence[tuple[str, ...]] = ()) -> None:
        """Have all jobs share fork servers from now on, unless they do so already.

        Servers that the first jobs will need begin to import these ``modules``, without being waited for.
        """
        with self._lock:
            if shared_servers() is not None:
                return
            self._context.enter_context(share_fork_servers(MOST_SERVERS))
        if modules:
            Thread(target=_import_ahead, args=(modules[:MOST_SERVERS],), daemon=True).start()

    def end(self) -> None:
        """End the servers. The next job starts others."""
        with self._lock:
            self._context.close()


#: They end with this process at the latest.
job_servers = JobServers()
atexit.register(job_servers.end)


def _import_ahead(modules: Sequence[tuple[str, ...]]) -> None:
    # What cannot be imported is found out where it is needed, and the servers may have ended meanwhile.
    with suppress(QxError, OSError), processes_of_a_run() as processes:
        for part in modules:
            if (servers := shared_servers()) is not None:
                processes.prepare(servers, part)


# Facts --------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Question:
    """What a run wants to know of a machine."""

    #: Requirements whose versions decide figures.
    requirements: tuple[str, ...]
    #: Plugins that are installed, by kind and name.
    plugins: Mapping[str, Reference]
    #: Modules that builds will import, for each kind of build.
    modules: tuple[tuple[str, ...], ...] = ()


@frozen(kw_only=True)
class Facts:
    """What a machine is, and which software it has."""

    environment: JsonObject
    flags: frozenset[str]
    free_bytes: int
    #: SHA-256 of the sources of qx that decide figures, and of plugins by kind and name; empty: not there.
    sources: Mapping[str, str]

    @property
    def kind(self) -> tuple[str, ...]:
        """What machines of one kind have in common: processor, instruction sets, number of CPUs."""
        environment = self.environment
        names = ("machine", "cpu", "cpus")
        return (*(str(environment[name]) for name in names), " ".join(sorted(self.flags)))

    @property
    def words(self) -> str:
        """The kind of the machine in words."""
        return f"{self.environment['cpu']}, {self.environment['cpus']} CPUs, {self.environment['machine']}"


def describe(question: Question, _store: NodeStore) -> Facts:
    """Say what this machine is, and begin to import what builds will need."""
    job_servers.keep(question.modules)
    return Facts(
        environment=describe_environment(question.requirements),
        flags=cpu_flags(),
        free_bytes=available_memory(),
        sources={"qx": rooms_fingerprint(*DECIDING), **own_sources(question.plugins)},
    )


def own_sources(plugins: Mapping[str, Reference]) -> dict[str, str]:
    """Return the SHA-256 of the sources of plugins on this machine; empty where it lacks one."""
    digests = {}
    for name, reference in plugins.items():
        try:
            digests[name] = fingerprint([reference])
        except (OSError, ImportError):
            digests[name] = ""
    return digests


# Jobs ---------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class JobOrder:
    """A job for another machine."""

    #: The job as JSON, with the paths of the machine that it comes from.
    job: str
    #: Where files and folders lie that it reads, by the texts that name them.
    places: Mapping[str, Place]
    #: What is in the folders already that it writes, by the name of the field.
    begun: Mapping[str, Contents]
    name: str
    #: Timeout of each stage, and time that is left for the job, both in seconds.
    timeout: float
    left: float


@frozen(kw_only=True)
class JobOutcome:
    """What a machine that has carried out a job gives back."""

    #: Time that it took, in seconds.
    seconds: float
    #: What is in the folders that it has written, by the name of the field; also where it has failed.
    written: Mapping[str, Contents]
    #: The answer as JSON; None where there is none.
    answer: str | None = None
    #: Fields of the failure.
    failure: Mapping[str, Any] | None = None
    #: Mistake of the user: whether it is in the data, and the message.
    mistake: tuple[bool, str, Traceback] | None = None


def do_job(order: JobOrder, store: NodeStore) -> JobOutcome:
    """Carry out a job with the files that it needs."""
    fields = replace_texts(json.loads(order.job), _paths(order.places, store))
    if OWN in fields:
        fields[OWN] = None
    if fields.get(SHARED) is not None:
        # Its name is random, so other runs have others.
        fields[SHARED] = str(store.shared(fields[SHARED]))
    job_servers.keep()
    with processes_of_a_run(limit=_limit(order.left)) as processes:
        written = {name: processes.folder / name for name in WRITTEN if fields.get(name) is not None}
        for name, folder in written.items():
            folder.mkdir()
            order.begun.get(name, Contents((), {})).write(folder)
        job: Job[Any] = to_job(fields | {name: str(folder) for name, folder in written.items()})
        result: dict[str, Any] = {}
        began = time.perf_counter()
        try:
            answer = processes.run(job, order.name, timeout=order.timeout)
            result["answer"] = json.dumps(answer, default=to_fields)
        except Failure as failure:
            result["failure"] = failure_fields(failure)
        except (UsageError, DataError) as error:
            result["mistake"] = (isinstance(error, DataError), str(error), traceback_behind(error))
        seconds = time.perf_counter() - began
        if "folder" in written and "answer" in result:
            for path in files_in(written["folder"]):
                store.keep(path)
        contents = {name: Contents.of(folder) for name, folder in written.items()}
    return JobOutcome(seconds=seconds, written=contents, **result)


def failure_fields(failure: Failure) -> dict[str, Any]:
    """Return the fields of a failure, for the machine that it is sent to."""
    return asdict(failure, recurse=False)


def _paths(places: Mapping[str, Place], store: NodeStore) -> dict[str, str]:
    """Lay down files; return the texts that name them on this machine, by the original ones."""
    return {text: f"{place.before}{store.lay(place.tree)}{place.after}" for text, place in places.items()}


def _limit(left: float) -> TimeLimit:
    limit = TimeLimit(None if left == float("inf") else left)
    limit.end = limit.began + left
    return limit


# Waves --------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class RemoteWave:
    """A wave for another machine."""

    order: WaveOrder
    #: Where files and folders lie that launches read, by the texts that name them.
    places: Mapping[str, Place]


@frozen(kw_only=True)
class WaveReply:
    """What a machine that has measured a wave gives back."""

    #: None where the budget is too short.
    outcome: WaveOutcome | None
    #: Time that the least number of waves needs in seconds, where the budget is too short for them.
    needed: float = 0.0
    #: Number of CPUs that other processes kept busy before the wave.
    others: float = 0.0


@define
class LaunchJobsHere:
    """Makes the jobs of launches with the paths of this machine."""

    jobs: LaunchJobs
    texts: Mapping[str, str]

    def __call__(self, cell: CellId, artifact: StoredArtifact, spawned_ns: int) -> LaunchJob:
        """Return the job of a launch of a cell; ``spawned_ns`` is the time of its spawn in nanoseconds."""
        job = to_job(replace_texts(self.jobs(cell, artifact, spawned_ns).fields(), self.texts))
        assert isinstance(job, LaunchJob)
        return job


def do_wave(wave: RemoteWave, store: NodeStore) -> WaveReply:
    """Measure a wave, and look before it at the load by others."""
    from attrs import evolve

    order = wave.order
    assert isinstance(order.plan.job, LaunchJobs)
    job = LaunchJobsHere(order.plan.job, _paths(wave.places, store))
    # Nothing of earlier jobs takes memory beside a wave.
    job_servers.end()
    others = busy_cpus(LOOK)
    with processes_of_a_run(limit=_limit(order.left)) as processes:
        try:
            outcome = carry_out(evolve(order, plan=evolve(order.plan, job=job)), processes)
        except BudgetTooShort as error:
            return WaveReply(outcome=None, needed=error.needed, others=others)
    # What was sent is not sent back.
    outcome = evolve(outcome, measured=evolve(outcome.measured, parts={}))
    return WaveReply(outcome=outcome, others=others)


def busy_cpus(seconds: float) -> float:
    """Return how many CPUs of this machine are busy in so many seconds."""
    import psutil

    share: float = psutil.cpu_percent(interval=seconds) / 100
    return share * (psutil.cpu_count() or 1)
