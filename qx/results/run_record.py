"""The records of a run: what was asked for, how it was measured, and the environment that it ran in."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import Factory, frozen

from qx.contract.devices import DeviceFacts
from qx.contract.figures import Point
from qx.contract.records import Outcome
from qx.results.constraints import Constraint
from qx.values import JsonMapping, OptionValues

#: Reason for which waves end: the run's time is over (``--max-time``).
TIME_LIMIT = "time limit"


@frozen(kw_only=True)
class Death:
    """A launch that died."""

    cell: str
    #: Number of the wave, from 0.
    wave: int
    outcome: Outcome
    stage: str | None
    cause: str | None


@frozen(kw_only=True)
class Unsteady:
    """A cell whose calls had not become steady when its warm-up ended."""

    cell: str
    point: Point


@frozen(kw_only=True)
class WaveReading:
    """The state of the device when a launch had warmed up; None where the driver does not say."""

    #: Number of the wave, from 0.
    wave: int
    cell: str
    #: Clocks of the multiprocessors and of the memory, in MHz.
    clock: float | None = None
    memory_clock: float | None = None
    #: Temperature in degrees Celsius.
    temperature: float | None = None
    #: Power that was drawn, in watts.
    power: float | None = None
    #: What held the clocks down, in words.
    limits: tuple[str, ...] = ()
    #: Other processes that used the device, in words.
    others: tuple[str, ...] = ()


@frozen(kw_only=True)
class Measuring:
    """How the launches were measured, of one workload or of all of a run."""

    #: Relative half-width that the 95 % interval of every speedup should reach.
    precision: float
    #: Budget in seconds.
    budget: float
    #: Reason for which the waves ended; see ``qx.runner.measure.plan.ENDED_BY``.
    ended_by: str
    #: Number of waves.
    waves: int
    #: Largest number of rounds of a wave, by metric and by point as text.
    rounds: Mapping[str, Mapping[str, int]]
    #: Number of waves in which a cell had fewer rounds than others, by cell: nothing that is decided needed
    #: more.
    fewer_rounds: Mapping[str, int] = Factory(dict)
    #: Number of CPUs that launches were pinned to during rounds, with the host on the others; 0: not pinned.
    pinned_to: int
    #: CPUs that launches were pinned to, by wave.
    pinned_cpus: tuple[tuple[int, ...], ...] = ()
    #: Number of calls in a block, by cell and by point as text.
    calls_per_block: Mapping[str, Mapping[str, int]]
    #: Time that all waves took, in seconds.
    seconds: float
    deaths: tuple[Death, ...]
    unsteady: tuple[Unsteady, ...]
    #: Whether it was a first look (``--quick``).
    quick: bool = False
    #: Whether the run's time was over, or the user had interrupted it, before the least number of waves.
    cut_short: bool = False
    #: Sitting of each wave, a position in ``RunRecord.sittings``; empty where that was not recorded.
    sittings: tuple[int, ...] = ()
    #: CPUs of ``--cpus``; empty: all.
    cpus: tuple[int, ...] = ()
    #: Settings of the C library's allocator in launches, by environment variable.
    allocator: Mapping[str, str] = Factory(dict)
    #: States of the device, in the order of the warm-ups; empty on the CPU.
    readings: tuple[WaveReading, ...] = ()
    #: Seconds of the slowest first call of a cell, by cell and point as text; empty on the CPU. It loads
    #: kernels and compiles, where a runtime does so when it is called.
    first_calls: Mapping[str, Mapping[str, float]] = Factory(dict)
    #: When Python's garbage collection is off in launches, in words.
    garbage_collection: str = ""
    #: Number of waves that measured memory and start-up, in fresh launches; None where that was not recorded.
    fresh_waves: int | None = None
    #: Loaders whose timed launches were forked from a process of their wave that had imported the runtime.
    forked: tuple[str, ...] = ()
    #: Loaders whose launches could not be forked, so that all are fresh, with the reason.
    not_forked: Mapping[str, str] = Factory(dict)


@frozen(kw_only=True)
class ItemLooks:
    """After how many items the evaluation of a workload ended, where a precision was asked for."""

    #: Half-width that the interval of every difference from the baseline was to have, as the user wrote it.
    precision: str
    #: Metric of the answers that it is about; None where none has values of the baseline.
    metric: str | None
    #: Numbers of items after which widths were looked at, the last of them all items.
    planned: tuple[int, ...]
    #: Number of items after which the evaluation ended.
    items: int
    #: Whether every interval was narrow enough then.
    is_reached: bool
    #: Whether it ended because the time of the run would not have been enough for the next look.
    is_out_of_time: bool = False
    #: Half of the widest interval, in the metric's unit; None where a cell has none. The cell that it is of.
    widest: float | None = None
    widest_cell: str | None = None
    #: Seconds that the items that were left out would probably have taken; None where they are not known.
    seconds_saved: float | None = None


@frozen(kw_only=True)
class WorkloadRecord:
    """One workload of a run. Of a workload that could not be prepared only the first two fields are known."""

    #: Id of the baseline's cell; None in results of early versions, which name only that of the run.
    baseline: str | None = None
    #: Values of all options of the workload.
    options: OptionValues = Factory(dict)
    #: Name of the data.
    source: str | None = None
    #: Number of items that were evaluated.
    items: int | None = None
    #: Number of items that they were drawn from; None where that was not recorded.
    total_items: int | None = None
    #: After how many items the evaluation ended, where ``--quality-precision`` was set.
    looks: ItemLooks | None = None
    #: Number of items that there were to calibrate with; None where that was not recorded.
    training_items: int | None = None
    classes: tuple[str, ...] = ()
    #: Number of parameters of the model.
    parameters: int | None = None
    weights_sha256: str | None = None
    #: Whether the weights are known to be trained; None where that was not recorded.
    trained: bool | None = None
    #: Task that the outputs and targets are for; None where it is not known.
    task: str | None = None
    evaluation_sha256: str | None = None
    #: Number of items that were evaluated in one call.
    evaluation_batch_size: int | None = None
    #: Size of the outputs of all its cells in bytes, where that is too large for them to be kept with the
    #: samples; None where they are kept.
    outputs_not_kept: int | None = None
    #: SHA-256 of the calibration data, by their number of items.
    calibrations: Mapping[str, str] = Factory(dict)
    #: The same of further draws (``--build-seeds``), by the seed and by their number of items.
    further_calibrations: Mapping[str, Mapping[str, str]] = Factory(dict)
    #: How its launches were measured, where the run has several workloads.
    measuring: Measuring | None = None


@frozen(kw_only=True)
class LeftOut:
    """Cells of a workload for which the run's time was too short."""

    workload: str
    #: Phase that was not done for them: ``build``, ``evaluate``, ``measure`` or ``derive``.
    phase: str
    #: Ids of the cells.
    cells: tuple[str, ...]


@frozen(kw_only=True)
class TimeLimitRecord:
    """The limit that the user set for the time of the run, and what it was too short for."""

    #: Seconds of ``--max-time``.
    seconds: float
    left_out: tuple[LeftOut, ...] = ()


@frozen(kw_only=True)
class SittingRecord:
    """One sitting of a run: from a start of qx to its end, orderly or not."""

    #: Date and time of the start, ISO 8601 with its time zone.
    started: str
    #: Time until the last thing that it finished, in seconds.
    seconds: float
    #: Load of the system in the minute before.
    load_before: float | None = None


@frozen(kw_only=True)
class InterruptionRecord:
    """The interruption of a run by the user, and what was not done because of it."""

    #: Signal that ended it: ``SIGINT`` (Ctrl-C) or ``SIGTERM``.
    signal: str
    left_out: tuple[LeftOut, ...] = ()


@frozen(kw_only=True)
class NodeRecord:
    """A machine of a cluster that took part in a run."""

    #: Address of the machine, and the beginning of its id in the cluster.
    name: str
    #: Identifier of the machine, as in ``Environment``.
    fingerprint: str
    #: Number of CPUs that the cluster gave the run.
    cpus: int
    #: Number of builds and evaluations that it carried out.
    jobs: int = 0
    #: Number of waves in the results that it measured in the last sitting, by workload.
    waves: Mapping[str, int] = Factory(dict)


@frozen(kw_only=True)
class LostTask:
    """A job or a wave that a cluster lost, so that it was carried out again."""

    #: The job in words.
    task: str
    #: Name of the machine; None where it had not begun on any.
    node: str | None
    #: What became of it, in words.
    cause: str


@frozen(kw_only=True)
class ClusterRecord:
    """The machines of a run that was made on a cluster, and what was lost on them."""

    #: Name of the executor.
    executor: str
    #: Name of the kind of machine (``--on``); None where none was named.
    on: str | None
    nodes: tuple[NodeRecord, ...]
    lost: tuple[LostTask, ...] = ()
    #: What else readers should know of the machines, in sentences.
    notes: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str | None:
        """Identifier of the machine that was timed; None where there were several, or none."""
        timed = {node.fingerprint for node in self.nodes if node.waves}
        return timed.pop() if len(timed) == 1 else None


@frozen(kw_only=True)
class RunRecord:
    """What was asked for, and what became of it."""

    id: str
    #: Command line.
    command: tuple[str, ...]
    #: Date and time of the start, ISO 8601 with its time zone.
    started: str
    #: Seconds of each phase, and ``total``.
    seconds: Mapping[str, float]
    seed: int
    #: Id of the baseline's cell, of the first workload that could be prepared.
    baseline: str
    #: Points that metrics are measured at.
    points: tuple[Point, ...]
    #: Number of threads that serve, the first where there are several.
    threads: int
    #: Number of ``--calibration-n``; None where each config went by its own option.
    calibration_n: int | None
    #: Quantized engine of torch.
    engine: str | None
    #: Name of the file of raw samples, which lies beside the results.
    samples: str
    workloads: Mapping[str, WorkloadRecord]
    #: How the launches of all workloads together were measured; None where no workload was.
    measuring: Measuring | None
    #: A line for each cell and metric that should have figures and has none.
    failures: tuple[str, ...]
    #: Values of all options of each metric that has any.
    metric_options: Mapping[str, OptionValues] = Factory(dict)
    #: Number of builds that were asked for of each config whose build depends on the seed.
    build_seeds: int = 1
    #: Further numbers of threads that serve, each in a part of the run of its own.
    further_threads: tuple[int, ...] = ()
    #: Limit of the run's time (``--max-time``); None where there was none.
    time_limit: TimeLimitRecord | None = None
    #: What the user accepts of a config (``--max-drop`` and the like).
    constraints: tuple[Constraint, ...] = ()
    #: The sittings that it was made in, in their order; empty where that was not recorded.
    sittings: tuple[SittingRecord, ...] = ()
    #: What the user interrupted; None where the run ended by itself.
    interruption: InterruptionRecord | None = None
    #: The machines of a cluster that it was made on; None where it was made on one machine without.
    cluster: ClusterRecord | None = None
    #: Whether there are figures; else the analysis failed, and ``qx report`` computes them from the samples.
    analysed: bool = True

    def sittings_of(self, workload: str) -> tuple[int, ...]:
        """Return the sitting of each wave of a workload, where there is more than one; else nothing."""
        record = self.workloads.get(workload)
        measuring = self.measuring if record is None or record.measuring is None else record.measuring
        return () if measuring is None or len(set(measuring.sittings)) < 2 else measuring.sittings

    @property
    def has_left_out(self) -> bool:
        """Whether the run's time was too short for something, or ended its waves."""
        has_left_out = self.time_limit is not None and bool(self.time_limit.left_out)
        return has_left_out or (self.measuring is not None and self.measuring.ended_by == TIME_LIMIT)

    @property
    def is_partial(self) -> bool:
        """Whether the user has interrupted it before all was done."""
        return self.interruption is not None

    def baseline_of(self, workload: str) -> str:
        """Return the id of the baseline's cell of a workload."""
        return self.workloads[workload].baseline or self.baseline

    @property
    def is_quick(self) -> bool:
        """Whether the run was a first look."""
        return self.measuring is not None and self.measuring.quick


@frozen(kw_only=True)
class Repository:
    """A git repository that a run was made in."""

    #: ``command``: of the folder that the command was given in; ``model``: of the file of ``--model``.
    role: str
    #: Name of the commit that was checked out, in hexadecimal digits.
    commit: str
    #: Whether tracked files differed from the commit, or the model's file was not tracked; None where git
    #: did not say.
    dirty: bool | None = None

    @property
    def words(self) -> str:
        """The commit in words, with whether files differed from it."""
        words = f"{self.commit[:12]} with changes" if self.dirty else self.commit[:12]
        return words if self.role == "command" else f"{words} (of the model)"


@frozen(kw_only=True)
class Environment:
    """The machine and the software that a run was made with."""

    #: Identifier of the machine, equal for two runs on one; None where the run recorded none.
    fingerprint: str | None = None
    python: str
    implementation: str
    system: str
    machine: str
    cpu: str
    #: Number of CPUs that the run could use.
    cpus: int | None
    cpu_flags: tuple[str, ...]
    hypervisor: bool
    #: Frequency governor of the first CPU.
    governor: str | None
    memory_bytes: int
    #: Load of the system in the minute before the run.
    load_before: float | None
    #: Versions of the distributions that may affect figures.
    distributions: Mapping[str, str]
    #: Git repositories that the run was made in; empty where it was made in none.
    repositories: tuple[Repository, ...] = ()
    #: What torch says of itself.
    runtime: JsonMapping = Factory(dict)
    #: Devices that cells ran on, other than the CPU, by name.
    devices: Mapping[str, DeviceFacts] = Factory(dict)

    @property
    def commit(self) -> str | None:
        """The commits of the repositories, in words; None where the run was made in none."""
        return ", ".join(repository.words for repository in self.repositories) or None

    @property
    def engines(self) -> tuple[str, ...]:
        """The quantized engines that torch has."""
        return tuple(map(str, self.runtime.get("engines", ())))
