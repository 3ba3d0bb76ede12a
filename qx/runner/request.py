"""What a run is asked for, and the cells that follow from it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Protocol

from attrs import Factory, field, frozen

from qx.contract.fields import to_integers, to_strings
from qx.contract.records import CONTROL, Config, Metric, Workload
from qx.errors import UsageError
from qx.host.host import Entry, Host, Reference
from qx.runner import settings
from qx.runner.settings import Variant
from qx.values import OptionValues

#: More seconds than a run can be meant to take, and fewer than the system's calls choke on.
MOST = 1_000_000
#: Default seconds for all launches: so much for up to five configs, and so much more for each further one.
BUDGET, BUDGET_CONFIGS, BUDGET_MORE = 60.0, 5, 12.0
#: Seconds for loading a split of the data, where the user names no other number.
DATA_TIMEOUT = 3600.0
#: For a first look.
QUICK_BUDGET, QUICK_WAVES = 15.0, 3
#: More cells than this must be meant.
MANY = 1000


@frozen(kw_only=True)
class Request:
    """What a run is asked for; the defaults are those of ``qx run``."""

    workload: str | None = None
    #: A model of the user's own: options of the workload that takes it.
    model: Mapping[str, str] = Factory(dict)
    #: Several workloads, in place of ``workload``: a run is then the grid of workloads by configs.
    workloads: tuple[str, ...] = field(default=(), converter=to_strings)
    configs: tuple[str, ...] = field(default=(), converter=to_strings)
    #: Where no config is named: those that train as well.
    every: bool = False
    metrics: tuple[str, ...] = field(default=(), converter=to_strings)
    batch_sizes: tuple[int, ...] = field(default=(1, 32), converter=to_integers)
    threads: int = 1
    #: Calibration images of configs whose own option is not set; None leaves each at its default.
    calibration_n: int | None = None
    #: Options of plugins, each as ``NAME.OPTION=VALUE[,VALUE...]``.
    settings: tuple[str, ...] = field(default=(), converter=to_strings)
    #: More cells than anybody makes by mistake are meant.
    yes: bool = False
    engine: str | None = None
    data: Path | None = None
    weights: Path | None = None
    #: The model comes from its factory with trained weights, so its answers can be right or wrong.
    trained: bool = False
    seed: int = 0
    #: Seconds for each stage of a process; they begin again with progress.
    timeout: float = 600.0
    #: The same for a stage that loads data, which may have to be downloaded.
    data_timeout: float = DATA_TIMEOUT
    rebuild: bool = False
    offline: bool = False
    #: A cache folder that is used although others can write it.
    trust_cache: Path | None = None
    #: The relative half-width that the 95 % interval of every speedup is to reach.
    precision: float = 0.01
    #: Seconds for all launches; None goes by the number of configs.
    budget: float | None = None
    #: CPUs that launches are held to; none for no such thing.
    cpus: tuple[int, ...] = field(default=(), converter=to_integers)
    #: Metrics that are the axes of the front; none for those whose records say so.
    front: tuple[str, ...] = field(default=(), converter=to_strings)
    #: A first look: fewer waves than intervals need to hold what they claim.
    quick: bool = False

    def check(self) -> None:
        """Raise ``UsageError`` for what no run can be made of."""
        for option, value in (("--calibration-n", self.calibration_n), ("--threads", self.threads)):
            if value is not None and value < 1:
                raise UsageError(f"{option} must be at least 1, not {value}")
        for size in self.batch_sizes:
            if size < 1:
                raise UsageError(f"--batch-size must be at least 1, not {size}")
        for option, amount in (("--timeout", self.timeout), ("--precision", self.precision)):
            if not 0 < amount <= MOST:
                raise UsageError(f"{option} must be above 0 and at most {MOST:,}, not {amount:g}")
        if self.budget is not None and not 0 < self.budget <= MOST:
            raise UsageError(f"--budget must be above 0 and at most {MOST:,} seconds, not {self.budget:g}")
        if hasattr(os, "sched_getaffinity"):
            here = os.sched_getaffinity(0)
            if strange := [cpu for cpu in self.cpus if cpu not in here]:
                there = ", ".join(map(str, sorted(here)))
                raise UsageError(f"--cpus names {strange[0]}, which is not there; choose from {there}")
        elif self.cpus:
            raise UsageError("--cpus: this system cannot hold a process to CPUs")
        if not 0 <= self.seed < 2**63:
            raise UsageError(f"--seed must be from 0 to 2**63 - 1, not {self.seed}")


class Reporter(Protocol):
    """Whoever shows how a run goes."""

    def phase(self, name: str, text: str) -> None:
        """A phase begins: ``prepare``, ``build``, ``evaluate``, ``measure``, ``analyse``."""

    def step(self, done: float, text: str) -> None:
        """So far is the phase, 0 to 1."""

    def say(self, text: str) -> None:
        """A line that the user is to read, now and afterwards."""


@frozen(kw_only=True)
class Cell:
    """One config with its options on one workload, at one thread count."""

    id: str
    workload: str
    config: str
    threads: int
    options: OptionValues = Factory(dict)
    #: It is the baseline's second self.
    control: bool = False

    @property
    def row(self) -> str:
        """What a reader knows it by."""
        return CONTROL if self.control else self.id.partition("/")[2]


def cell_of(workload: str, variant: Variant, request: Request) -> Cell:
    """The cell of a config with its options on a workload."""
    return Cell(
        id=f"{workload}/{variant.row}",
        workload=workload,
        config=variant.entry.name,
        threads=request.threads,
        options=variant.options,
    )


@frozen(kw_only=True)
class Chosen:
    """The plugins of a run."""

    baseline: Entry
    configs: tuple[Entry, ...]
    #: The configs with their options, a cell each; the baseline has one.
    variants: tuple[Variant, ...]
    metrics: tuple[Entry, ...]
    #: Names of the metrics that are axes of the front.
    axes: frozenset[str]
    #: Names that the user said: such a config is due, and an unavailable one ends in exit code 1.
    named: frozenset[str]
    #: All options of each metric that has any.
    metric_options: Mapping[str, OptionValues]
    workloads: tuple[Entry, ...]
    #: All options of each workload.
    workload_options: Mapping[str, OptionValues]
    #: Runtime baselines that nobody named, each with the configs that it takes part for.
    brought: Mapping[str, tuple[str, ...]] = Factory(dict)
    #: Configs that train, which take minutes each and were not asked for.
    left_out: tuple[str, ...] = ()

    @property
    def baseline_row(self) -> str:
        """What the cell of the baseline is known by."""
        return next(variant.row for variant in self.variants if variant.entry.name == self.baseline.name)

    def metrics_of(self, phase: str) -> tuple[Entry, ...]:
        """The metrics of a phase, in their order."""
        return tuple(entry for entry in self.metrics if metric(entry).phase == phase)


def metric(entry: Entry) -> Metric:
    """The record of a metric."""
    assert isinstance(entry.record, Metric)
    return entry.record


def config(entry: Entry) -> Config:
    """The record of a config."""
    assert isinstance(entry.record, Config)
    return entry.record


def workload(entry: Entry) -> Workload:
    """The record of a workload."""
    assert isinstance(entry.record, Workload)
    return entry.record


def references(entries: Sequence[Entry]) -> tuple[Reference, ...]:
    """How to import these plugins elsewhere."""
    return tuple(entry.reference for entry in entries if entry.reference is not None)


def choose(host: Host, request: Request) -> Chosen:
    """The configs and metrics asked for; without names all there are, but for configs that train.

    The baseline is always among them, and so is the runtime baseline of each. Configs that are unavailable
    keep their row. Raises ``UsageError`` for unknown names.
    """
    baseline = _baseline(host)
    there = [entry for entry in host.entries if entry.kind == "config" and entry.usable]
    left_out = (
        [] if request.configs or request.every else [entry for entry in there if config(entry).training]
    )
    wanted = [host.get("config", name) for name in request.configs] or [
        entry for entry in there if entry not in left_out
    ]
    configs = _with_runtime_baselines(host, _unique([baseline, *wanted]))
    asked = frozenset(request.configs)
    measured, workloads = _metrics(host, request), choose_workloads(host, request)
    # What others are compared with has one cell.
    compared_with = {baseline.name, *(config(entry).runtime_baseline for entry in configs)}
    swept = [entry for entry in configs if entry.name not in compared_with]
    values = settings.read(host, all_settings(request, workloads), (*configs, *measured, *workloads), swept)
    _check_number(len(workloads) * sum(settings.count(entry, values) for entry in configs), request)
    return Chosen(
        axes=frozenset(request.front or (entry.name for entry in measured if metric(entry).axis)),
        baseline=baseline,
        configs=configs,
        variants=tuple(
            variant
            for entry in configs
            for variant in settings.variants(entry, values, request.calibration_n)
        ),
        metrics=measured,
        named=asked,
        brought=_brought(configs, asked),
        left_out=tuple(entry.name for entry in left_out),
        metric_options={
            entry.name: settings.settled(entry, values) for entry in measured if metric(entry).options
        },
        workloads=workloads,
        workload_options={entry.name: settings.settled(entry, values) for entry in workloads},
    )


def _metrics(host: Host, request: Request) -> tuple[Entry, ...]:
    """The metrics asked for, or all that are ready; the axes asked for are among them."""
    metrics = [host.get("metric", name) for name in request.metrics] or list(host.ready("metric"))
    for entry in metrics:
        if entry.state != "ready":
            raise UsageError(f"metric {entry.name} is {entry.state}: {entry.reason}")
    if not metrics:
        raise UsageError("there is no metric: the list of plugins (qx list) says why")
    for name in request.front:
        if name not in [entry.name for entry in metrics]:
            raise UsageError(
                f"--front {name} is not among the metrics of this run: {', '.join(e.name for e in metrics)}"
            )
        if metric(host.get("metric", name)).better == "neither":
            raise UsageError(f"--front {name}: of this metric neither more nor less is better")
    return _unique(metrics)


def _check_number(cells: int, request: Request) -> None:
    if cells > MANY and not request.yes:
        raise UsageError(
            f"this run would have {cells:,} cells, more than {MANY:,}: give --yes if that is meant"
        )


def _unique(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    return tuple({entry.name: entry for entry in entries}.values())


def _with_runtime_baselines(host: Host, configs: Sequence[Entry]) -> tuple[Entry, ...]:
    """Each config behind the runtime baseline that it names, where there is one that can take a row."""
    there = {entry.name: entry for entry in host.entries if entry.kind == "config" and entry.usable}
    every = []
    for entry in configs:
        if (wanted := config(entry).runtime_baseline) in there:
            every.append(there[wanted])
        every.append(entry)
    return _unique(every)


def _brought(configs: Sequence[Entry], asked: Set[str]) -> dict[str, tuple[str, ...]]:
    """Runtime baselines that are here for the configs that were asked for."""
    users = {
        entry.name: tuple(
            other.name
            for other in configs
            if config(other).runtime_baseline == entry.name and other.name in asked
        )
        for entry in configs
        if entry.name not in asked and not config(entry).reference
    }
    return {name: those for name, those in users.items() if those}


def _baseline(host: Host) -> Entry:
    references = [entry for entry in host.ready("config") if config(entry).reference]
    if len(references) == 1:
        return references[0]
    found = ", ".join(entry.name for entry in references) or "none"
    raise UsageError(f"just one config must be the baseline (a record with reference=True); found: {found}")


def all_settings(request: Request, workloads: Sequence[Entry]) -> tuple[str, ...]:
    """What was given to ``--set``, and what ``--model`` and its like set of the workload that takes them."""
    taking = [entry.name for entry in workloads if workload(entry).takes_model]
    return request.settings + tuple(
        f'{name}.{option}="{quoted}"'
        for name in taking
        for option, value in request.model.items()
        for quoted in [value.replace('"', '""')]
    )


def _workload_for_model(host: Host, request: Request) -> Entry:
    if "model" not in request.model:
        option = next(iter(request.model)).replace("_", "-")
        raise UsageError(f"--{option} is of --model, which is missing")
    if request.workload is not None or request.workloads:
        raise UsageError("give --model or --workload, not both")
    taking = [entry for entry in host.ready("workload") if workload(entry).takes_model]
    if len(taking) != 1:
        found = ", ".join(entry.name for entry in taking) or "none"
        raise UsageError(f"--model: just one workload must take models (takes_model=True); found: {found}")
    return taking[0]


def choose_workloads(host: Host, request: Request) -> tuple[Entry, ...]:
    """The workloads asked for, each once, or the default one. Raises ``UsageError``."""
    if len(request.workloads) < 2 or request.trained:
        return (choose_workload(host, request),)
    entries = _unique([_ready_workload(host, name) for name in request.workloads])
    if request.weights is not None:
        raise UsageError(f"--weights is of one workload, and there are {len(request.workloads)}")
    return entries


def choose_workload(host: Host, request: Request) -> Entry:
    """The workload asked for, or the default one. Raises ``UsageError``."""
    if request.model:
        return _workload_for_model(host, request)
    if request.trained:
        raise UsageError("--trained is of --model: it says that the model's factory gives trained weights")
    for name in (*request.workloads, request.workload):
        if name is not None:
            return _ready_workload(host, name)
    defaults = [entry for entry in host.ready("workload") if workload(entry).default]
    if len(defaults) != 1:
        names = ", ".join(entry.name for entry in host.ready("workload"))
        raise UsageError(f"name a workload with --workload: {names or 'none is there, see qx list'}")
    return defaults[0]


def _ready_workload(host: Host, name: str) -> Entry:
    entry = host.get("workload", name)
    if entry.state != "ready":
        raise UsageError(f"workload {entry.name} is {entry.state}: {entry.reason}")
    return entry


def budget_of(request: Request, configs: int) -> float:
    """Seconds for all launches of a workload, where the user has not given any."""
    if request.quick:
        return QUICK_BUDGET
    return BUDGET + BUDGET_MORE * max(0, configs - BUDGET_CONFIGS)
