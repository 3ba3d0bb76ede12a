"""Executors: where the builds, the evaluations and the waves of a run are carried out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from attrs import frozen

from qx.environment import available_memory, cpu_flags, describe_environment, usable_cpus
from qx.host.host import Host
from qx.processes.time_limit import TimeLimit
from qx.processes.workers import Elsewhere
from qx.results.run_record import ClusterRecord
from qx.runner.measure.orders import MeasureElsewhere
from qx.runner.measure.plan import Plan
from qx.runner.request import Chosen, Reporter, Request, config
from qx.values import JsonObject

#: Number of times that a task is carried out again after the machine or the process that it ran on was lost.
MOST_LOST = 2


class MachineLost(Exception):
    """A wave of a workload was lost for good. The message says what became of it.

    Where ``is_gone``, the machine is gone, and another one may measure the workload.
    """

    def __init__(self, cause: str, *, is_gone: bool = True) -> None:
        super().__init__(cause)
        self.is_gone = is_gone


@frozen
class Machine:
    """A machine that measures the waves of a workload."""

    #: Identifier of the machine, as in ``Environment``; None: this one.
    fingerprint: str | None = None
    #: Has it measure a wave; None: this process does.
    measure: MeasureElsewhere | None = None


class Executor(Protocol):
    """Decides where the jobs of a run are carried out. A run is made on machines of one kind."""

    @property
    def cpus(self) -> int:
        """Number of CPUs of all machines together, for builds and evaluations."""

    @property
    def cpus_of_one(self) -> int:
        """Number of CPUs of one machine, for waves."""

    @property
    def cpu_flags(self) -> frozenset[str]:
        """Instruction sets of the machines that build, which decide what a build serves for."""

    @property
    def elsewhere(self) -> Elsewhere | None:
        """What carries out jobs on other machines; None: this machine carries out all."""

    @property
    def runs_side_by_side(self) -> bool:
        """Whether several workloads may be built, evaluated and measured at the same time."""

    @property
    def kind(self) -> JsonObject:
        """Fields of the environment that other machines on which the run may be resumed have otherwise."""

    def begin(self, host: Host, request: Request, chosen: Chosen, reporter: Reporter) -> JsonObject:
        """Check that the machines can carry out a run, and return their environment.

        Raises ``UsageError`` with what they lack.
        """

    def available_memory(self) -> int:
        """Return the bytes that are free on the machine with the least of them."""

    def machine_for(self, plan: Plan, workload: str, limit: TimeLimit) -> AbstractContextManager[Machine]:
        """Return a machine that measures the waves of a workload, and is kept for it while the context lasts.

        Waits for one within the ``limit``. ``Machine.measure`` raises ``MachineLost`` where it is gone.
        """

    def record(self) -> ClusterRecord | None:
        """Return what the results say of the machines; None where there was this one alone."""


@frozen
class LocalExecutor:
    """Carries out everything on this machine."""

    @property
    def cpus(self) -> int:
        """Number of CPUs that this process may run on."""
        return usable_cpus()

    @property
    def cpus_of_one(self) -> int:
        """Number of CPUs that this process may run on."""
        return usable_cpus()

    @property
    def cpu_flags(self) -> frozenset[str]:
        """Instruction sets of this CPU."""
        return cpu_flags()

    @property
    def elsewhere(self) -> None:
        """None, since nothing is carried out elsewhere."""

    @property
    def runs_side_by_side(self) -> bool:
        """False, since workloads that share CPUs would disturb each other."""
        return False

    @property
    def kind(self) -> JsonObject:
        """Nothing, since another machine is another run."""
        return {}

    def begin(self, host: Host, request: Request, chosen: Chosen, reporter: Reporter) -> JsonObject:
        """Return the environment of this machine, before the run adds to its load."""
        del host, request, reporter
        return describe_environment(requirements(chosen))

    def available_memory(self) -> int:
        """Return the bytes that are free here."""
        return available_memory()

    @contextmanager
    def machine_for(self, plan: Plan, workload: str, limit: TimeLimit) -> Iterator[Machine]:
        """Yield this machine."""
        del plan, workload, limit
        yield Machine()

    def record(self) -> None:
        """Return None, since the environment says all of this machine."""


def requirements(chosen: Chosen) -> tuple[str, ...]:
    """Return what the configs of a run require to be installed."""
    return tuple(name for entry in chosen.configs for name in config(entry).requires)
