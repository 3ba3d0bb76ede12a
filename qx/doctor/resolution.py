"""How small a difference a run can show on this machine, and in how many seconds."""

from __future__ import annotations

import numpy as np
from attrs import frozen
from scipy.special import chdtri

from qx.analysis.quantity import Quantity
from qx.contract.records import Config, Metric
from qx.errors import QxError, UsageError
from qx.host.host import Entry, Host
from qx.results.recording import Floats, Recording
from qx.results.records import Results
from qx.runner import Request, run
from qx.runner.request import BUDGET_CONFIGS, Silent
from qx.statistics import over_waves
from qx.statistics.effort import waves_needed

#: Relative half widths of 95 % intervals for which the seconds are estimated.
PRECISIONS = (0.02, 0.01)
#: Batch size of the calls.
BATCH_SIZE = 1
#: Relative half width at which waves end: any, so that there are no more than the least number.
ANY_PRECISION = 1e3
#: Number of items that the model is evaluated on, since no answer is of interest here.
ITEMS = 16


@frozen(kw_only=True)
class Goal:
    """What it takes until the interval of a speedup is as narrow as wanted."""

    #: Relative half width of a 95 % interval: 0.01 for ±1 %.
    precision: float
    #: Number of waves, and their seconds together; None where there are too many to tell.
    waves: int | None
    seconds: float | None


@frozen(kw_only=True)
class Resolution:
    """What launches of the baseline show that are held against launches of the baseline itself."""

    workload: str
    config: str
    batch_size: int
    #: Number of waves, and the seconds of one, which has a launch of the baseline and one of its control.
    waves: int
    wave_seconds: float
    #: Standard deviation over waves of the log ratio of the two.
    deviation: float
    #: Number of configs that the goals are for, the baseline among them.
    configs: int
    #: Seconds of a wave of as many configs and the control, in proportion to its launches.
    wave_seconds_of_configs: float
    goals: tuple[Goal, ...]
    #: Factors between which the true seconds lie (95 %), since few waves say their variance roughly.
    factors: tuple[float, float]


def measure_resolution(host: Host) -> Resolution | str:
    """Run waves of the baseline and its control. Return what they show, or the reason why they show nothing.

    They are those of a run: real launches of the default workload, in as few waves as a run has.
    """
    try:
        metric = _speed(host)
        request = Request(
            configs=(_baseline(host),),
            metrics=(metric.name,),
            batch_sizes=(BATCH_SIZE,),
            precision=ANY_PRECISION,
            eval_n=ITEMS,
            command=("qx", "doctor"),
        )
        results, recording = run(host, request, Silent())
        return resolution_of(results, recording, metric.name)
    except QxError as error:
        return str(error)


def resolution_of(results: Results, recording: Recording, metric: str) -> Resolution:
    """Return what a run of the baseline alone shows. Raises ``UsageError`` where it shows nothing."""
    cells, measuring = results.cells, results.run.measuring
    control = next((name for name, cell in cells.items() if cell.control), None)
    point = results.run.points[0]
    quantity = Quantity(results.metrics[metric], point, recording.select(cells), results.run.baseline)
    if control is None or measuring is None or not quantity.are_comparable(control, results.run.baseline):
        causes = [cell.cause for cell in cells.values() if cell.cause]
        raise UsageError(causes[0] if causes else "the baseline could not be timed")
    ratios = quantity.by_wave.advantage(control, results.run.baseline)
    ratios = ratios[~np.isnan(ratios)]
    baseline = cells[results.run.baseline]
    wave_seconds = measuring.seconds / measuring.waves
    of_configs = (BUDGET_CONFIGS + 1) / 2 * wave_seconds
    return Resolution(
        workload=baseline.workload,
        config=baseline.config,
        batch_size=point.batch_size,
        waves=len(ratios),
        wave_seconds=wave_seconds,
        deviation=float(np.std(ratios, ddof=1)),
        configs=BUDGET_CONFIGS,
        wave_seconds_of_configs=of_configs,
        goals=tuple(goal_of(precision, ratios, of_configs) for precision in PRECISIONS),
        factors=variance_factors(len(ratios)),
    )


def goal_of(precision: float, ratios: Floats, wave_seconds: float) -> Goal:
    """Return how many waves like those of these log ratios, ``[waves]``, make an interval narrow enough."""
    excess = float(over_waves.half_width(ratios)) / precision
    waves = len(ratios) if excess <= 1 else waves_needed(excess, len(ratios))
    return Goal(precision=precision, waves=waves, seconds=None if waves is None else waves * wave_seconds)


def variance_factors(waves: int) -> tuple[float, float]:
    """Return between which factors of an estimated variance over waves the true one lies, at 95 %.

    By the chi-square distribution, for waves that are normally distributed.
    """
    freedom = waves - 1
    return freedom / float(chdtri(freedom, 0.025)), freedom / float(chdtri(freedom, 0.975))


def _baseline(host: Host) -> str:
    entries = host.ready("config")
    names = [entry.name for entry in entries if isinstance(entry.record, Config) and entry.record.reference]
    if not names:
        raise UsageError("no baseline is ready: qx list shows the reasons")
    return names[0]


def _speed(host: Host) -> Entry:
    """Return the metric by which configs are called fast."""
    for entry in host.ready("metric"):
        record = entry.record
        if (
            isinstance(record, Metric)
            and (record.phase, record.compare) == ("block", "speedup")
            and record.axis
        ):
            return entry
    raise UsageError("no metric that compares by speedup is ready: qx list shows the reasons")
