"""The executor that carries out builds, evaluations and waves on the machines of a cluster."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Condition, Lock
from typing import Any, TypeVar

from attrs import define, field, frozen

from qx.cluster.files import Contents, Shelf
from qx.cluster.node import (
    Facts,
    JobOrder,
    JobOutcome,
    Question,
    RemoteWave,
    WaveReply,
    describe,
    do_job,
    do_wave,
    own_sources,
)
from qx.cluster.packing import WRITTEN, Place, places_of
from qx.cluster.planning import Room, Work, choose
from qx.cluster.transport import Lost, Node, Reply, Transport
from qx.contract.references import Reference
from qx.errors import DataError, QxError, UsageError
from qx.host.host import Entry, Host
from qx.host.sources import rooms_fingerprint
from qx.processes.answers import Answer
from qx.processes.jobs import TORCH, BuildJob, EvaluateJob, Job
from qx.processes.structuring import Misfit, structure
from qx.processes.time_limit import TimeLimit
from qx.processes.workers import Failure
from qx.results.run_record import ClusterRecord, LostTask, NodeRecord
from qx.runner.executor import MOST_LOST, Machine, MachineLost, requirements
from qx.runner.measure.orders import WaveOrder, WaveOutcome
from qx.runner.measure.plan import Plan
from qx.runner.measure.waves import BudgetTooShort
from qx.runner.request import Chosen, Reporter, Request, config, recipes_of
from qx.runner.resuming import DECIDING
from qx.values import JsonObject

A = TypeVar("A", bound=Answer)

#: Seconds between two looks at whether a task has ended.
PATIENCE = 0.5
#: Seconds that a machine has to say what it is.
DESCRIBING = 120.0
#: Number of CPUs that others may keep busy before a wave without being mentioned.
QUIET = 0.2
#: Most machines and differences that a message names.
MOST_NAMED = 4


@frozen
class _Machine:
    """A machine of the run."""

    node: Node
    facts: Facts


@frozen
class _Terms:
    """What a machine must have to take part in a run."""

    question: Question
    #: Fingerprints of the sources here, of qx and of plugins by their names.
    sources: Mapping[str, str]
    #: The largest number of threads that serve.
    threads: int


@define
class ClusterExecutor:
    """Carries out the jobs and the waves of a run on machines of one kind.

    ``on`` is the name of the kind that ``--on`` names. The cluster decides where builds and evaluations run;
    the waves of a workload have one machine for themselves.
    """

    transport: Transport
    on: str | None = None
    _machines: dict[str, _Machine] = field(factory=dict, init=False)
    #: Ids of machines that are gone, which the cluster may not have noticed yet.
    _gone: set[str] = field(factory=set, init=False)
    _lost: list[LostTask] = field(factory=list, init=False)
    _jobs: dict[str, int] = field(factory=dict, init=False)
    _waves: dict[str, dict[str, int]] = field(factory=dict, init=False)
    #: Number of waves by workload, and the CPUs that others kept busy before some of them.
    _loads: dict[str, list[float]] = field(factory=dict, init=False)
    #: What machines must have, since the run has begun.
    _terms: _Terms = field(init=False)
    #: Why machines that have joined take no part, by their ids.
    _refused: dict[str, str] = field(factory=dict, init=False)
    #: Number of threads that take in machines which have joined, and what lets one at a time do so.
    _admitting: int = field(default=0, init=False)
    _admission: Lock = field(factory=Lock, init=False)
    _waiting: dict[str, Work] = field(factory=dict, init=False)
    #: Ids of machines that measure a workload.
    _taken: set[str] = field(factory=set, init=False)
    _changed: Condition = field(factory=Condition, init=False)
    _shelf: Shelf = field(init=False)
    _is_over: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._shelf = Shelf(self.transport.put)

    # The machines ---------------------------------------------------------------------------------

    @property
    def cpus(self) -> int:
        """Number of CPUs of all machines together."""
        return sum(machine.node.cpus for machine in self._machines.values())

    @property
    def cpus_of_one(self) -> int:
        """Number of CPUs of the machine that has the fewest."""
        return min(int(machine.facts.environment["cpus"]) for machine in self._machines.values())

    @property
    def cpu_flags(self) -> frozenset[str]:
        """Instruction sets of the machines, which are of one kind."""
        return next(iter(self._machines.values())).facts.flags

    @property
    def elsewhere(self) -> ClusterExecutor:
        """The executor itself, which carries out builds and evaluations."""
        return self

    @property
    def runs_side_by_side(self) -> bool:
        """Whether there is more than one machine."""
        return len(self._machines) > 1

    def available_memory(self) -> int:
        """Return the bytes that were free on the machine with the least of them when the run began."""
        return min(machine.facts.free_bytes for machine in self._machines.values())

    def begin(self, host: Host, request: Request, chosen: Chosen, reporter: Reporter) -> JsonObject:
        """Check that the machines can carry out a run, and return their environment.

        Raises ``UsageError`` with what they lack.
        """
        _refuse_options(request)
        nodes = self._named_nodes()
        question = Question(
            requirements=requirements(chosen), plugins=_installed(host, chosen), modules=_modules(chosen)
        )
        own = {"qx": rooms_fingerprint(*DECIDING), **own_sources(question.plugins)}
        self._terms = _Terms(question, own, max(request.threads))
        self._machines = {node.identity: self._describe(node) for node in nodes}
        self._check(list(self._machines.values()))
        names = ", ".join(machine.node.name for machine in list(self._machines.values())[:MOST_NAMED])
        more = f" and {len(nodes) - MOST_NAMED} more" if len(nodes) > MOST_NAMED else ""
        reporter.say(
            f"{len(nodes)} machine{'s' * (len(nodes) != 1)} of the cluster, {self.cpus} "
            f"CPU{'s' * (self.cpus != 1)}: {names}{more}"
        )
        return self._environment()

    @property
    def kind(self) -> JsonObject:
        """Fields of the environment by which machines of one kind count as one when a run is resumed."""
        facts = next(iter(self._machines.values())).facts
        memory = round(facts.environment["memory_bytes"] / 2**30)
        return {"fingerprint": " ".join(facts.kind), "memory_bytes": f"about {memory} GiB"}

    def _environment(self) -> JsonObject:
        """Return the environment of the machines, with the load of the busiest."""
        environment = dict(next(iter(self._machines.values())).facts.environment)
        loads = [machine.facts.environment["load_before"] or 0.0 for machine in self._machines.values()]
        return environment | {"load_before": max(loads)}

    def _named_nodes(self) -> list[Node]:
        nodes = self._nodes()
        named = [node for node in nodes if self.on is None or self.on in node.names]
        if not nodes:
            raise UsageError(
                f"--executor {self.transport.name}: no machine of the cluster has CPUs for tasks"
            )
        if not named:
            names = ", ".join(sorted({name for node in nodes for name in node.names})) or "none"
            raise UsageError(f"--on {self.on}: no machine of the cluster has this name (there are: {names})")
        return named

    def _nodes(self) -> list[Node]:
        return [node for node in self.transport.nodes() if node.cpus > 0]

    def _check(self, machines: Sequence[_Machine]) -> None:
        """Raise ``UsageError`` where machines cannot take part together."""
        _check_same_software(machines, self._terms)
        _check_one_kind(machines, self.on)
        few = [machine for machine in machines if machine.node.cpus < self._terms.threads]
        if few:
            raise UsageError(
                f"--threads {self._terms.threads}: {few[0].node.name} gives tasks {few[0].node.cpus} CPUs"
            )

    def _describe(self, node: Node) -> _Machine:
        try:
            task = self.transport.submit(describe, self._terms.question, {}, [node.identity], 0)
            reply = self.transport.wait(task, DESCRIBING)
        except Lost as lost:
            raise UsageError(f"{node.name} cannot take part: {lost.cause}") from lost
        if reply is None:
            self.transport.cancel(task)
            raise UsageError(f"{node.name} has not answered within {DESCRIBING:.0f} s")
        assert isinstance(reply.value, Facts)
        return _Machine(node, reply.value)

    def _admit_joined(self) -> None:
        """Take in the machines that have joined the cluster since the run began, and suit it."""
        with self._admission:
            joined = [node for node in self._nodes() if self.on is None or self.on in node.names]
            for node in joined:
                if node.identity in self._machines or node.identity in self._refused:
                    continue
                try:
                    machine = self._describe(node)
                    self._check([next(iter(self._machines.values())), machine])
                except UsageError as error:
                    self._refused[node.identity] = f"{node.name} has joined, and takes no part: {error}"
                    continue
                with self._changed:
                    self._machines = {**self._machines, node.identity: machine}
                    self._changed.notify_all()

    # Tasks ----------------------------------------------------------------------------------------

    def _carry_out(
        self,
        words: str,
        work: Callable[..., Any],
        argument: object,
        places: Mapping[str, Place],
        nodes: Callable[[], Sequence[str]],
        cpus: int,
        limit: TimeLimit,
    ) -> Reply:
        """Have a task carried out; where it is lost, again, at most ``MOST_LOST`` times. Raises ``Lost``.

        ``words`` says what it is, and ``nodes`` returns the ids of the machines that may do it. Raises
        ``Failure`` where the limit is over.
        """
        parcels = self._shelf.parcels(place.tree for place in places.values())
        for attempt in range(MOST_LOST + 1):
            if not (identities := self._await(nodes)):
                raise Lost("no machine of the run is left")
            try:
                task = self.transport.submit(work, argument, parcels, identities, cpus)
                return self._wait(task, limit)
            except Lost as lost:
                self._note_lost(words, lost, identities)
                if attempt == MOST_LOST or not self._await(nodes):
                    raise
        raise AssertionError("unreachable")

    def _await(self, nodes: Callable[[], Sequence[str]]) -> Sequence[str]:
        """Return the machines that may do a task. Where there is none, wait while others are taken in."""
        while not (identities := nodes()):
            with self._changed:
                if not self._admitting:
                    # The last of them may have been taken in since.
                    return nodes()
                self._changed.wait(PATIENCE)
        return identities

    def _wait(self, task: object, limit: TimeLimit) -> Reply:
        try:
            while True:
                if (reply := self.transport.wait(task, PATIENCE)) is not None:
                    return reply
                if self._is_over:
                    raise QxError("the run is over")
                if limit.is_over:
                    raise Failure("timeout", "wait", limit.cause("not finished"), out_of_time=True)
        except Lost:
            raise
        except BaseException:
            self.transport.cancel(task)
            raise

    def _note_lost(self, words: str, lost: Lost, identities: Sequence[str]) -> None:
        """Note a task that was lost. Machines that have joined may take the place of one that is gone."""
        identity = lost.node or (identities[0] if len(identities) == 1 else "")
        machine = self._machines.get(identity)
        node = None if machine is None else machine.node.name
        with self._changed:
            self._lost.append(LostTask(task=words, node=node, cause=lost.cause))
            if lost.is_machine_gone:
                self._gone.add(identity)
                self._admitting += 1
        if lost.is_machine_gone:
            try:
                self._admit_joined()
            finally:
                with self._changed:
                    self._admitting -= 1
                    self._changed.notify_all()

    def _alive(self) -> list[str]:
        """Return the ids of the machines of the run that are alive."""
        present = [node.identity for node in self._nodes() if node.identity in self._machines]
        return [identity for identity in present if identity not in self._gone]

    def end(self) -> None:
        """End all tasks and start no more. Threads that wait for one see it fail."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    # Builds and evaluations -----------------------------------------------------------------------

    def takes(self, job: Job[Answer]) -> bool:
        """Return whether such a job is carried out on the cluster."""
        return isinstance(job, (BuildJob, EvaluateJob))

    def run(self, job: Job[A], name: str, limit: TimeLimit, *, timeout: float) -> tuple[A, float]:
        """Carry out a job on the cluster; return its answer and how long it took there, in seconds.

        What it has written lies in the folders that it names. Raises ``Failure``, ``UsageError``,
        ``DataError``.
        """
        fields = job.fields()
        places = places_of(fields, self._shelf)
        written = {name: Path(fields[name]) for name in WRITTEN if fields.get(name) is not None}
        order = JobOrder(
            job=job.to_json(),
            places=places,
            begun={name: Contents.of(folder) for name, folder in written.items() if folder.is_dir()},
            name=name,
            timeout=timeout,
            left=limit.end - time.monotonic(),
        )
        try:
            reply = self._carry_out(name, do_job, order, places, self._alive, job.threads, limit)
        except Lost as lost:
            raise Failure("crashed", job.stage, f"lost on the cluster: {lost.cause}") from lost
        with self._changed:
            self._jobs[reply.node] = self._jobs.get(reply.node, 0) + 1
        assert isinstance(reply.value, JobOutcome)
        return self._answer(job, reply.value, written), reply.value.seconds

    def _answer(self, job: Job[A], outcome: JobOutcome, written: Mapping[str, Path]) -> A:
        for name, folder in written.items():
            outcome.written[name].write(folder)
        if outcome.failure is not None:
            raise Failure(**outcome.failure)
        if outcome.mistake is not None:
            is_of_data, message, traceback = outcome.mistake
            kind = DataError if is_of_data else UsageError
            raise kind(message) from Failure("failed", job.stage, message, traceback=traceback)
        try:
            return structure(job.answer_type, json.loads(outcome.answer or ""))
        except (Misfit, ValueError) as error:
            raise Failure("crashed", job.stage, f"the answer does not fit: {error}") from error

    # Waves ----------------------------------------------------------------------------------------

    @contextmanager
    def machine_for(self, plan: Plan, workload: str, limit: TimeLimit) -> Iterator[Machine]:
        """Yield a machine that measures the waves of a workload, and nothing else meanwhile."""
        identity = self._take(plan, workload, limit)
        machine = self._machines[identity]

        def measure(order: WaveOrder) -> WaveOutcome:
            return self._measure(order, workload, machine, limit)

        try:
            yield Machine(str(machine.facts.environment["fingerprint"]), measure)
        except MachineLost:
            # Its waves do not count, since another machine measures all of them.
            with self._changed:
                self._waves.get(identity, {}).pop(workload, None)
            raise
        finally:
            with self._changed:
                self._taken.discard(identity)
                self._changed.notify_all()

    def _take(self, plan: Plan, workload: str, limit: TimeLimit) -> str:
        """Wait until it is a workload's turn, and return the id of the machine that measures it."""
        work = Work(name=workload, seconds=plan.budget, is_alone=True)
        with self._changed:
            self._waiting[workload] = work
            try:
                while True:
                    rooms = self._rooms()
                    choice = choose(list(self._waiting.values()), rooms)
                    if choice is not None and choice[0].name == workload:
                        self._taken.add(choice[1].name)
                        return choice[1].name
                    if not rooms and not self._admitting:
                        raise MachineLost("no machine of the run is left", is_gone=False)
                    if self._is_over:
                        raise QxError("the run is over")
                    if limit.is_over:
                        raise MachineLost(limit.cause("not begun"), is_gone=False)
                    self._changed.wait(PATIENCE)
            finally:
                self._waiting.pop(workload, None)
                self._changed.notify_all()

    def _rooms(self) -> list[Room]:
        """Return the machines that are alive; those that measure a workload have no free CPU."""
        machines = [self._machines[identity] for identity in self._alive()]
        return [
            Room(
                name=machine.node.identity,
                cpus=machine.node.cpus,
                free=0 if machine.node.identity in self._taken else machine.node.cpus,
            )
            for machine in machines
        ]

    def _measure(self, order: WaveOrder, workload: str, machine: _Machine, limit: TimeLimit) -> WaveOutcome:
        """Have a machine measure a wave. Raises ``BudgetTooShort``, and ``MachineLost`` where it is gone."""
        identity = machine.node.identity

        def nodes() -> list[str]:
            return [identity] if identity in self._alive() else []

        places: dict[str, Place] = {}
        for cell in order.cells:
            job = order.plan.job(order.plan.cells[cell], order.plan.artifacts[cell], 0)
            places |= places_of(job.fields(), self._shelf)
        wave = RemoteWave(order=order, places=places)
        words = f"wave {order.measured.waves} of {workload}"
        try:
            reply = self._carry_out(words, do_wave, wave, places, nodes, machine.node.cpus, limit)
        except Lost as lost:
            cause = f"{words} was lost on {machine.node.name} ({lost.cause})"
            raise MachineLost(cause, is_gone=not nodes()) from lost
        assert isinstance(reply.value, WaveReply)
        if reply.value.outcome is None:
            raise BudgetTooShort(reply.value.needed)
        with self._changed:
            waves = self._waves.setdefault(identity, {})
            waves[workload] = waves.get(workload, 0) + 1
            self._loads.setdefault(identity, []).append(reply.value.others)
        return reply.value.outcome

    # Results --------------------------------------------------------------------------------------

    def record(self) -> ClusterRecord:
        """Return what the results say of the machines."""
        return ClusterRecord(
            executor=self.transport.name,
            on=self.on,
            nodes=tuple(
                NodeRecord(
                    name=machine.node.name,
                    fingerprint=str(machine.facts.environment["fingerprint"]),
                    cpus=machine.node.cpus,
                    jobs=self._jobs.get(identity, 0),
                    waves=self._waves.get(identity, {}),
                )
                for identity, machine in self._machines.items()
            ),
            lost=tuple(self._lost),
            notes=(*self._refused.values(), *self._load_notes()),
        )

    def _load_notes(self) -> Iterator[str]:
        for identity, loads in self._loads.items():
            busy = [load for load in loads if load > QUIET]
            if busy:
                name = self._machines[identity].node.name
                yield (
                    f"other processes kept up to {max(busy):.1f} CPUs of {name} busy before {len(busy)} of "
                    f"{len(loads)} waves"
                )


def _refuse_options(request: Request) -> None:
    """Raise ``UsageError`` for options that say something of this machine alone."""
    if request.device != "cpu":
        raise UsageError(f"--device {request.device}: a cluster serves on CPUs only; drop --executor")
    if request.cpus:
        raise UsageError("--cpus: the CPUs of other machines cannot be named; drop --cpus or --executor")
    if request.quality_precision is not None:
        raise UsageError(
            "--quality-precision: a cluster evaluates all items at once; drop --quality-precision or "
            "--executor"
        )


def _installed(host: Host, chosen: Chosen) -> dict[str, Reference]:
    """Return the plugins of a run that every machine must have installed, by kind and name."""
    entries: list[Entry] = [*chosen.configs, *recipes_of(host, *chosen.configs), *chosen.metrics]
    entries += [*chosen.workloads, *host.ready("loader"), *host.wrappers]
    return {
        f"{entry.kind} {entry.plugin}": entry.reference
        for entry in entries
        if entry.reference is not None and entry.reference.path is None and entry.reference.folder is None
    }


def _modules(chosen: Chosen) -> tuple[tuple[str, ...], ...]:
    """Return the modules that builds import, for each kind of build, those that more of them need first."""
    counts = Counter((*TORCH, *config(entry).imports) for entry in chosen.configs)
    return tuple(modules for modules, _ in counts.most_common())


def _check_same_software(machines: Sequence[_Machine], terms: _Terms) -> None:
    """Raise ``UsageError`` where a machine has other sources or versions than this one."""
    from qx.environment import describe_environment

    here = describe_environment(terms.question.requirements)
    versions = {"Python": here["python"], **here["distributions"]}
    for machine in machines:
        environment = machine.facts.environment
        if environment["machine"] != here["machine"]:
            raise UsageError(
                f"{machine.node.name} is a machine of another architecture ({environment['machine']}): start "
                f"the run on one like it ({here['machine']} here)"
            )
        theirs = {"Python": environment["python"], **environment["distributions"]}
        differing = [
            f"{name} {theirs.get(name) or 'not installed'} (here {versions.get(name) or 'not installed'})"
            for name in dict.fromkeys([*versions, *theirs])
            if versions.get(name) != theirs.get(name)
        ]
        differing += [
            f"other sources of {name}" if machine.facts.sources.get(name) else f"no {name}"
            for name, digest in terms.sources.items()
            if machine.facts.sources.get(name) != digest
        ]
        if differing:
            more = f", and {len(differing) - MOST_NAMED} more" if len(differing) > MOST_NAMED else ""
            raise UsageError(
                f"{machine.node.name} has {', '.join(differing[:MOST_NAMED])}{more}: install there what is "
                f"installed here"
            )


def _check_one_kind(machines: Sequence[_Machine], on: str | None) -> None:
    """Raise ``UsageError`` unless all machines are of one kind, since a speedup is that of one kind."""
    kinds = {machine.facts.kind: machine.facts.words for machine in machines}
    if len(kinds) > 1:
        what = f"--on {on}: these machines are" if on else "the machines of the cluster are"
        words = "; ".join(list(kinds.values())[:MOST_NAMED])
        raise UsageError(
            f"{what} of {len(kinds)} kinds ({words}): name those of one kind with --on, a resource or a label"
        )
