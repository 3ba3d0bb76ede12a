"""The request of a run, and the plugins and cells that follow from it."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Literal, Protocol

from attrs import Factory, evolve, field, frozen

from qx.contract.devices import CPU, kind_of, to_device
from qx.contract.fields import to_integers, to_strings
from qx.contract.figures import Point
from qx.contract.records import Config, Metric, Workload
from qx.devices.finding import require_device
from qx.errors import UsageError
from qx.foreign import to_line
from qx.host.catalogue import unknown
from qx.host.host import Entry, Host, Reference
from qx.results.cells import CellId, part_name
from qx.results.constraints import Constraint, check_constraints
from qx.results.quality_precision import QualityPrecision
from qx.runner import settings
from qx.runner.models import FORMS, entry_of_model, to_model
from qx.runner.settings import Variant
from qx.storage.session_objects import is_reference
from qx.values import OptionValues

#: The longest time that can be asked for, in seconds: more than any run takes, and few enough for the system.
MOST_SECONDS = 1_000_000
#: The shortest limit of a whole run, in seconds: in less no workload is prepared.
LEAST_TIME = 5.0
#: Default budget of all launches in seconds, for up to ``BUDGET_CONFIGS`` configs and for each further one.
BUDGET, BUDGET_CONFIGS, BUDGET_MORE = 60.0, 5, 12.0
#: Default timeout for loading a split of the data, in seconds.
DATA_TIMEOUT = 3600.0
#: Budget in seconds and number of waves of a first look.
QUICK_BUDGET, QUICK_WAVES = 15.0, 3
#: Batch sizes that are timed where neither the user nor the workload says others.
DEFAULT_BATCH_SIZES = (1, 32)
#: The largest number of builds of a cell.
MOST_BUILDS = 50
#: The largest number of cells that a run has without ``--yes``.
MANY_CELLS = 1000


def _to_threads(value: int | Iterable[int]) -> tuple[int, ...]:
    return (value,) if isinstance(value, int) else tuple(value)


@frozen(kw_only=True)
class Request:
    """The options of a run; the defaults are those of ``qx run``."""

    workload: str | None = None
    #: Several workloads, in place of ``workload``: the run is then the grid of workloads by configs.
    workloads: tuple[str, ...] = field(default=(), converter=to_strings)
    #: Models as the user names them, in place of both: workloads, and what makes models of the user's own.
    models: tuple[str, ...] = field(default=(), converter=to_strings)
    #: Options of the models of the user's own, by the name of the option of their workload.
    model: Mapping[str, str] = Factory(dict)
    configs: tuple[str, ...] = field(default=(), converter=to_strings)
    #: Whether configs that train take part too, if no config is named.
    every: bool = False
    metrics: tuple[str, ...] = field(default=(), converter=to_strings)
    batch_sizes: tuple[int, ...] = field(default=DEFAULT_BATCH_SIZES, converter=to_integers)
    #: Whether the user named no batch sizes, so that a workload may say others.
    is_default_batch_sizes: bool = False
    #: Lengths of inputs that are timed at each batch size; empty: those that the workload says, else inputs
    #: as the data have them.
    lengths: tuple[int, ...] = field(default=(), converter=to_integers)
    #: Numbers of threads that serve, each measured in waves of its own.
    threads: tuple[int, ...] = field(default=(1,), converter=_to_threads)
    #: Device that the configs are served on: ``cpu``, ``cuda`` or ``cuda:N``.
    device: str = field(default=CPU, converter=to_device)
    #: Number of calibration items of configs whose own option is not set; None: the default of each.
    calibration_n: int | None = None
    #: Options of plugins, each as ``NAME.OPTION=VALUE[,VALUE...]``.
    settings: tuple[str, ...] = field(default=(), converter=to_strings)
    #: Whether more than ``MANY_CELLS`` cells are intended.
    yes: bool = False
    engine: str | None = None
    #: Where the workload's data lie: a folder or a file, or a function of a file as ``FILE.py:FUNCTION``.
    data: Path | None = None
    #: The data that calibrate, in the same forms; None: the workload's own.
    calibration_data: Path | None = None
    #: Number of evaluation items that are drawn; 0 for all, None where the workload decides.
    eval_n: int | None = None
    weights: Path | None = None
    #: Whether the model's factory gives trained weights, so that its answers can be right or wrong.
    trained: bool = False
    seed: int = 0
    #: Timeout of each stage of a process in seconds, which starts again with progress.
    timeout: float = 600.0
    #: Timeout of a stage that loads data, which may have to be downloaded, in seconds.
    data_timeout: float = DATA_TIMEOUT
    #: Number of builds of each config whose build depends on the seed: ``seed``, ``seed + 1`` and so on.
    build_seeds: int = 1
    rebuild: bool = False
    offline: bool = False
    #: A cache folder that is used although other users can write to it.
    trust_cache: Path | None = None
    #: How well the quality of every config is to be known; None: as well as all items say.
    quality_precision: QualityPrecision | None = None
    #: The relative half-width that the 95 % interval of every speedup should reach.
    precision: float = 0.01
    #: Budget of all launches in seconds; None: by the number of configs.
    budget: float | None = None
    #: Limit of the whole run in seconds; None: as long as it takes.
    max_time: float | None = None
    #: CPUs that launches may run on; empty: all.
    cpus: tuple[int, ...] = field(default=(), converter=to_integers)
    #: Metrics that are the axes of the front; empty: those whose records say so.
    front: tuple[str, ...] = field(default=(), converter=to_strings)
    #: What the user accepts of a config; reports say which configs meet it.
    constraints: tuple[Constraint, ...] = field(default=(), converter=tuple)
    #: Function of the user's own that judges answers, as ``FILE.py:FUNCTION``; None: that of the workload.
    score: str | None = None
    #: Which way values of the score are better, ``higher`` or ``lower``; None: as the metric says.
    score_better: Literal["higher", "lower"] | None = None
    #: Whether what plugins print, and tracebacks of their errors, are shown at once.
    debug: bool = False
    #: Whether this is a first look, with fewer waves than intervals need for the coverage that they claim.
    quick: bool = False
    #: Folder with the objects of a Python session that workers may load, see ``qx.storage.session_objects``;
    #: None: there are none.
    session: Path | None = None
    #: The command line, or the call, that results record.
    command: tuple[str, ...] = field(factory=lambda: ("qx", *sys.argv[1:]), converter=to_strings)

    @property
    def points(self) -> tuple[Point, ...]:
        """The points that metrics are measured at: every batch size at the first length, and so on."""
        lengths: tuple[int | None, ...] = self.lengths or (None,)
        return tuple(Point(size, length) for length in lengths for size in self.batch_sizes)

    def parts(self, workload: str) -> tuple[str, ...]:
        """Return the names of the parts of a run that measure a workload: one for each number of threads."""
        several = len(self.threads) > 1
        return tuple(part_name(workload, number) for number in self.threads) if several else (workload,)

    def threads_of(self, part: str) -> int:
        """Return the number of threads of a part of a run, by its name."""
        numbers = (number for number in self.threads if part.endswith(part_name("", number)))
        return next(numbers, self.threads[0])

    @property
    def further_seeds(self) -> tuple[int, ...]:
        """The seeds of further builds, each with a draw of calibration items of its own."""
        return tuple(range(self.seed + 1, self.seed + self.build_seeds))

    def check(self) -> None:
        """Raise ``UsageError`` for a value that no run can have, and for a device that is not there."""
        for option, value in (("--calibration-n", self.calibration_n), ("--threads", min(self.threads))):
            if value is not None and value < 1:
                raise UsageError(f"{option} must be at least 1, not {value}")
        if twice := [number for number, count in Counter(self.threads).items() if count > 1]:
            raise UsageError(f"--threads {twice[0]} is there twice: give each number of threads once")
        if self.eval_n is not None and self.eval_n < 0:
            raise UsageError(f"--eval-n must be at least 1, or 0 for all items, not {self.eval_n}")
        for option, sizes in (("--batch-size", self.batch_sizes), ("--length", self.lengths)):
            if min(sizes, default=1) < 1:
                raise UsageError(f"{option} must be at least 1, not {min(sizes)}")
        for option, amount in (("--timeout", self.timeout), ("--precision", self.precision)):
            if not 0 < amount <= MOST_SECONDS:
                raise UsageError(f"{option} must be above 0 and at most {MOST_SECONDS:,}, not {amount:g}")
        self._check_times()
        if hasattr(os, "sched_getaffinity"):
            available = os.sched_getaffinity(0)
            if missing := [cpu for cpu in self.cpus if cpu not in available]:
                names = ", ".join(map(str, sorted(available)))
                raise UsageError(
                    f"--cpus: there is no CPU {missing[0]} for this process; choose from {names}"
                )
        elif self.cpus:
            raise UsageError("--cpus: this system cannot hold a process to CPUs")
        self._check_seeds()
        require_device(self.device)

    def _check_seeds(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise UsageError(f"--seed must be from 0 to 2**63 - 1, not {self.seed}")
        if not 1 <= self.build_seeds <= MOST_BUILDS:
            raise UsageError(f"--build-seeds must be from 1 to {MOST_BUILDS}, not {self.build_seeds}")
        if self.seed + self.build_seeds > 2**63:
            raise UsageError(f"--build-seeds {self.build_seeds}: the last seed must be at most 2**63 - 1")

    def _check_times(self) -> None:
        if self.budget is not None and not 0 < self.budget <= MOST_SECONDS:
            raise UsageError(
                f"--budget must be above 0 and at most {MOST_SECONDS:,} seconds, not {self.budget:g}"
            )
        if self.max_time is not None and not LEAST_TIME <= self.max_time <= MOST_SECONDS:
            raise UsageError(
                f"--max-time must be from {LEAST_TIME:g} to {MOST_SECONDS:,} seconds, not {self.max_time:g}"
            )


class Reporter(Protocol):
    """The object that shows the user how a run goes on."""

    def phase(self, name: str, text: str) -> None:
        """Show that a phase begins: ``prepare``, ``build``, ``evaluate``, ``measure``, ``analyse``."""

    def step(self, done: float, text: str) -> None:
        """Show which share of the phase is done, 0 to 1."""

    def say(self, text: str) -> None:
        """Show a line that stays to be read after the run."""

    def note(self, text: str) -> None:
        """Show a line about a cell or a metric, which the results say again."""

    def show(self, text: str) -> None:
        """Show lines that stay, as they are: what a plugin printed, or a traceback."""


class Silent:
    """A reporter that shows nothing."""

    def phase(self, name: str, text: str) -> None:
        """Do nothing."""

    def step(self, done: float, text: str) -> None:
        """Do nothing."""

    def say(self, text: str) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""

    def show(self, text: str) -> None:
        """Do nothing."""


def cell_of(workload: str, variant: Variant, request: Request) -> CellId:
    """Return the cell of a config with its options on a workload."""
    return CellId(
        workload=workload,
        config=variant.entry.name,
        options=variant.options,
        label=variant.label,
        threads=request.threads_of(workload),
        device=request.device,
    )


@frozen(kw_only=True)
class Chosen:
    """The plugins of a run."""

    baseline: Entry
    configs: tuple[Entry, ...]
    #: The configs with their options, one cell each; the baseline has one variant.
    variants: tuple[Variant, ...]
    metrics: tuple[Entry, ...]
    #: Names of the metrics that are axes of the front.
    axes: frozenset[str]
    #: Names of the metrics that the user named.
    named_metrics: frozenset[str]
    #: Names of the configs that the user named: each that has no figures leads to exit code 1.
    named: frozenset[str]
    #: All options of each metric that has any.
    metric_options: Mapping[str, OptionValues]
    workloads: tuple[Entry, ...]
    #: All options of each workload.
    workload_options: Mapping[str, OptionValues]
    #: Runtime baselines that the user did not name, each with the named configs that need it.
    added_baselines: Mapping[str, tuple[str, ...]] = Factory(dict)
    #: Configs that train, which take minutes each and that the user did not ask for.
    left_out: tuple[str, ...] = ()

    def baseline_cell(self, workload: str, request: Request) -> str:
        """Return the id of the baseline's cell of a workload."""
        variant = next(variant for variant in self.variants if variant.entry.name == self.baseline.name)
        return str(cell_of(workload, variant, request))

    def metrics_of(self, phase: str) -> tuple[Entry, ...]:
        """Return the metrics of a phase, in their order."""
        return tuple(entry for entry in self.metrics if metric(entry).phase == phase)


def metric(entry: Entry) -> Metric:
    """Return the record of a metric."""
    assert isinstance(entry.record, Metric)
    return entry.record


def config(entry: Entry) -> Config:
    """Return the record of a config."""
    assert isinstance(entry.record, Config)
    return entry.record


def workload(entry: Entry) -> Workload:
    """Return the record of a workload."""
    assert isinstance(entry.record, Workload)
    return entry.record


def references(entries: Sequence[Entry]) -> tuple[Reference, ...]:
    """Return the references by which another process imports these plugins."""
    return tuple(entry.reference for entry in entries if entry.reference is not None)


def recipes_of(host: Host, *configs: Entry) -> tuple[Entry, ...]:
    """Return the configs that these are composed of, directly or indirectly, each once."""
    found: dict[str, Entry] = {}
    pending = [name for entry in configs for name in config(entry).recipes]
    while pending:
        name = pending.pop(0)
        if name not in found:
            found[name] = host.get("config", name)
            pending += config(found[name]).recipes
    return tuple(found.values())


def choose(host: Host, request: Request) -> Chosen:
    """Choose the plugins of a run: those that the user named, or all but the configs that train.

    The baseline is always among them, and so is the runtime baseline of each config. Configs that are
    unavailable keep their row. Raises ``UsageError`` for unknown names.
    """
    kind = kind_of(request.device)
    baseline = _baseline(host)
    usable = [
        entry
        for entry in host.entries
        if entry.kind == "config" and entry.usable and kind in config(entry).devices
    ]
    left_out = (
        [] if request.configs or request.every else [entry for entry in usable if config(entry).training]
    )
    requested = [host.get("config", name) for name in request.configs] or [
        entry for entry in usable if entry not in left_out
    ]
    configs = _with_runtime_baselines(host, _unique([baseline, *requested]))
    check_devices(configs, request.device)
    named = frozenset(request.configs)
    workloads = choose_workloads(host, request)
    metrics = _metrics(host, request, workloads)
    check_constraints(request.constraints, _with_axes(metrics, request))
    # A config that others are compared with has one cell, so its options have one value each.
    compared_with = {baseline.name, *(config(entry).runtime_baseline for entry in configs)}
    swept = [entry for entry in configs if entry.name not in compared_with]
    values = settings.read(host, request.settings, (*configs, *metrics, *workloads), swept)
    _check_number(
        len(workloads)
        * len(request.threads)
        * sum(settings.count_variants(entry, values) for entry in configs),
        request,
    )
    return Chosen(
        axes=frozenset(request.front or (entry.name for entry in metrics if metric(entry).axis)),
        named_metrics=frozenset(name.removeprefix("+") for name in (*request.metrics, *request.front)),
        baseline=baseline,
        configs=configs,
        variants=tuple(
            variant
            for entry in configs
            for variant in settings.variants(entry, values, request.calibration_n)
        ),
        metrics=metrics,
        named=named,
        added_baselines=_added_baselines(configs, named),
        left_out=tuple(entry.name for entry in left_out),
        metric_options={
            entry.name: settings.all_options(entry, values) for entry in metrics if metric(entry).options
        },
        workloads=workloads,
        workload_options={entry.name: settings.all_options(entry, values) for entry in workloads},
    )


def check_devices(configs: Sequence[Entry], device: str) -> None:
    """Raise ``UsageError`` for a config that is not for the device of the run."""
    for entry in configs:
        devices = config(entry).devices
        if kind_of(device) not in devices:
            advice = "leave --device out" if CPU in devices else f"qx run --device {devices[0]} takes it"
            raise UsageError(
                f"config {entry.name} is for {' and '.join(devices)}, and this is on {device}: {advice}"
            )


def _metrics(host: Host, request: Request, workloads: Sequence[Entry]) -> tuple[Entry, ...]:
    """Return the metrics that the user named, or all that are ready; those of ``--front`` are among them.

    Names with a plus before them are measured beside those that are measured by default, and so are those
    that a workload names. What a metric is derived from is measured with it.
    """
    names_of_workloads = {name for entry in workloads for name in workload(entry).metrics}
    added = [name[1:] for name in request.metrics if name.startswith("+")]
    own = [name for name in request.metrics if not name.startswith("+")]
    kind = kind_of(request.device)
    default = [
        entry
        for entry in host.ready("metric")
        if (not metric(entry).on_request or entry.name in names_of_workloads)
        and kind in (metric(entry).devices or (kind,))
    ]
    metrics = [host.get_ready("metric", name) for name in own] or default
    metrics += [host.get_ready("metric", name) for name in added]
    metrics = _with_sources(host, _with_score(host, metrics, request))
    for entry in metrics:
        if (devices := metric(entry).devices) and kind not in devices:
            raise UsageError(
                f"metric {entry.name} is measured on {' and '.join(devices)}, and this run is on "
                f"{request.device}"
            )
    if not metrics:
        raise UsageError("no metric is ready: qx list shows the reasons")
    names = [entry.name for entry in metrics]
    for name in request.front:
        if name not in names:
            raise UsageError(f"--front {name} is not among the metrics of this run: {', '.join(names)}")
        if metric(host.get("metric", name)).better == "neither":
            raise UsageError(
                f"--front {name}: this metric has no better direction, so it cannot be an axis; choose others"
            )
    return _unique(metrics)


def _with_sources(host: Host, metrics: Sequence[Entry]) -> list[Entry]:
    """Return metrics, and behind them those that they are derived from: without these they have no values."""
    ready = {entry.name: entry for entry in host.ready("metric")}
    found = {entry.name: entry for entry in metrics}
    waiting = list(metrics)
    while waiting:
        record = metric(waiting.pop())
        for name in record.derived_from if record.phase == "derived" else ():
            if name in ready and name not in found:
                found[name] = ready[name]
                waiting.append(ready[name])
    return list(found.values())


def _with_axes(metrics: Sequence[Entry], request: Request) -> list[Metric]:
    """Return the records of metrics, of which those are axes that the user named, if any was named."""
    records = [metric(entry) for entry in metrics]
    if not request.front:
        return records
    return [evolve(record, axis=record.name in request.front) for record in records]


def with_axis(record: Metric, chosen: Chosen, request: Request) -> Metric:
    """Return the record of a metric as a run uses it: as an axis of the front or not.

    Axes that the user has named count without regard to their ranks.
    """
    is_axis = record.name in chosen.axes
    return evolve(record, axis=is_axis, quality=record.quality if is_axis and not request.front else 0)


def with_points(request: Request, chosen: Chosen) -> Request:
    """Return the request with the batch sizes and lengths that its workloads say, where the user named none.

    Of several workloads these are what all of them have.
    """
    records = [workload(entry) for entry in chosen.workloads]
    sizes = _common([record.batch_sizes or DEFAULT_BATCH_SIZES for record in records])
    lengths = _common([record.lengths for record in records])
    if request.is_default_batch_sizes and sizes:
        request = evolve(request, batch_sizes=sizes)
    return request if request.lengths else evolve(request, lengths=lengths)


def items_to_evaluate(request: Request, entry: Entry) -> int | None:
    """Return how many items of a workload are evaluated, where the user or the workload says it; 0 for all.

    With ``--quality-precision`` the widths of intervals decide, also in a quick look.
    """
    if request.eval_n is not None or request.quality_precision is not None or not request.quick:
        return request.eval_n
    return workload(entry).quick_items


def _common(numbers: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the numbers that are in all of these, in the order of the first."""
    first = numbers[0] if numbers else ()
    return tuple(number for number in first if all(number in others for others in numbers))


def _with_score(host: Host, metrics: Sequence[Entry], request: Request) -> list[Entry]:
    """Return the metrics, with the user's function for the one that takes a score. Raises ``UsageError``."""
    if request.score is None and request.score_better is None:
        return list(metrics)
    if request.score_better not in (None, "higher", "lower"):
        raise UsageError(f"--score-better {request.score_better}: expected higher or lower")
    takers = [entry for entry in host.ready("metric") if metric(entry).takes_score]
    if len(takers) != 1:
        names = ", ".join(entry.name for entry in takers) or "none"
        raise UsageError(f"--score: exactly one metric must have takes_score=True; found: {names}")
    (taker,) = takers
    if request.score is not None:
        taker = evolve(taker, fixed_options={"function": _function_in_file(request.score)})
    if request.score_better is not None:
        taker = evolve(taker, record=evolve(metric(taker), better=request.score_better))
    others = [entry for entry in metrics if entry.name != taker.name]
    return [taker, *others]


def _function_in_file(text: str) -> str:
    """Return ``FILE.py:FUNCTION`` with an absolute path; a session's object as it is.

    Raises ``UsageError``.
    """
    if is_reference(text):
        return text
    file, colon, function = text.rpartition(":")
    if not colon or not file.endswith(".py") or not function.isidentifier():
        raise UsageError(f"--score {to_line(text, 200)}: expected FILE.py:FUNCTION")
    if not Path(file).is_file():
        raise UsageError(f"--score {to_line(text, 200)}: there is no file {to_line(file, 200)}")
    return f"{Path(file).absolute()}:{function}"


def _check_number(cells: int, request: Request) -> None:
    if cells > MANY_CELLS and not request.yes:
        raise UsageError(
            f"this run would have {cells:,} cells, more than {MANY_CELLS:,}: give --yes if that is meant"
        )


def _unique(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    return tuple({entry.name: entry for entry in entries}.values())


def _with_runtime_baselines(host: Host, configs: Sequence[Entry]) -> tuple[Entry, ...]:
    """Return the configs, each after the runtime baseline that it names, if there is a usable one."""
    usable = {entry.name: entry for entry in host.entries if entry.kind == "config" and entry.usable}
    extended = []
    for entry in configs:
        if (baseline := config(entry).runtime_baseline) in usable:
            extended.append(usable[baseline])
        extended.append(entry)
    return _unique(extended)


def _added_baselines(configs: Sequence[Entry], named: Set[str]) -> dict[str, tuple[str, ...]]:
    """Return the runtime baselines that the user did not name, each with the named configs that need it."""
    users = {
        entry.name: tuple(
            other.name
            for other in configs
            if config(other).runtime_baseline == entry.name and other.name in named
        )
        for entry in configs
        if entry.name not in named and not config(entry).reference
    }
    return {name: names for name, names in users.items() if names}


def _baseline(host: Host) -> Entry:
    references = [entry for entry in host.ready("config") if config(entry).reference]
    if len(references) == 1:
        return references[0]
    names = ", ".join(entry.name for entry in references) or "none"
    raise UsageError(
        f"exactly one config must be the baseline (reference=True in its record); found: {names}"
    )


def choose_workloads(host: Host, request: Request) -> tuple[Entry, ...]:
    """Return the workloads that the user named, each once, or the default one. Raises ``UsageError``.

    Each model of the user's own has an entry of its own.
    """
    if request.models and (request.workloads or request.workload is not None):
        raise UsageError("give MODEL or --workload, not both")
    if request.models:
        entries = _entries_of_models(host, request)
    else:
        names = (*request.workloads, *filter(None, [request.workload]))
        entries = _unique([host.get_ready("workload", name) for name in names]) or (_default_workload(host),)
    if not any(entry.fixed_options for entry in entries):
        _check_no_model_options(request)
    if request.weights is not None and len(entries) > 1:
        raise UsageError(f"--weights can only be used with one workload, not {len(entries)}")
    return entries


def choose_workload(host: Host, request: Request) -> Entry:
    """Return the only workload that the user named, or the default one. Raises ``UsageError``."""
    entries = choose_workloads(host, request)
    if len(entries) > 1:
        names = ", ".join(entry.name for entry in entries)
        raise UsageError(f"one MODEL is expected here, not {len(entries)}: {names}")
    return entries[0]


def _entries_of_models(host: Host, request: Request) -> tuple[Entry, ...]:
    entries: list[Entry] = []
    for word in dict.fromkeys(request.models):
        model = to_model(word)
        if model is None:
            entries.append(_workload_of_word(host, word))
        else:
            taken = [entry.name for entry in entries]
            entries.append(entry_of_model(host, model, request.model, taken))
    return _unique(entries)


def _workload_of_word(host: Host, word: str) -> Entry:
    """Return the workload of that name. Raises ``UsageError`` that names the other forms of a model too."""
    ready = [entry.name for entry in host.ready("workload")]
    if any(entry.name == word for entry in host.entries):
        return host.get_ready("workload", word)
    if Path(f"{word}.py").is_file():
        raise UsageError(f"MODEL: no workload {word!r}; the file is named with its suffix: {word}.py")
    raise unknown("MODEL: no workload", word, [*ready, *FORMS.split(", ")[:-1]])


def _default_workload(host: Host) -> Entry:
    defaults = [entry for entry in host.ready("workload") if workload(entry).default]
    if len(defaults) != 1:
        names = ", ".join(entry.name for entry in host.ready("workload"))
        raise UsageError(f"name a workload with --workload: {names or 'none is ready, see qx list'}")
    return defaults[0]


def _check_no_model_options(request: Request) -> None:
    """Raise ``UsageError`` for an option that only models of the user's own have."""
    if request.model:
        option = next(iter(request.model)).replace("_", "-")
        raise UsageError(f"--{option} can only be used with a MODEL of your own, such as FILE.py:FACTORY")
    if request.trained:
        raise UsageError(
            "--trained can only be used with a MODEL of your own: it says that what makes the model gives "
            "trained weights"
        )


def budget_of(request: Request, configs: int) -> float:
    """Return the default budget of all launches of a workload, in seconds."""
    if request.quick:
        return QUICK_BUDGET
    return BUDGET + BUDGET_MORE * max(0, configs - BUDGET_CONFIGS)
