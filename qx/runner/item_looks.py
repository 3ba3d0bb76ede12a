"""End the evaluation when the quality of every cell is known well enough (``--quality-precision``).

Items are evaluated in an order of which every beginning is a fair sample, all cells in turn: up to each of a
few numbers of items that are fixed in advance. After each of them the intervals of the differences from the
baseline are looked at. Whether that was the last look is decided by their widths, never by their values
(``qx.statistics.sequential``).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from attrs import define, evolve

from qx.analysis import on_items
from qx.contract.records import Metric
from qx.errors import UsageError
from qx.processes.time_limit import TimeLimit
from qx.processes.workers import Failure, Progress
from qx.results.quality_precision import QualityPrecision, words_of
from qx.results.recording import Series
from qx.results.run_record import ItemLooks
from qx.runner.blame import Hangs
from qx.runner.evaluation import (
    cells_side_by_side,
    evaluate_artifact,
    evaluation_batch_size,
    over_cells,
)
from qx.runner.journal import ItemLookRecord
from qx.runner.judging import judges_of
from qx.runner.preparation import Prepared
from qx.runner.request import metric
from qx.runner.workload_run import Run, WorkloadRun
from qx.statistics.over_items import ends_of_pairs
from qx.statistics.sequential import items_at_looks, level_at_a_look
from qx.worker.output_files import PREDICTIONS

#: Smallest number of items at the first look.
LEAST_ITEMS = 200


def check_quality_precision(run: Run, workload_runs: Sequence[WorkloadRun]) -> None:
    """Raise ``UsageError`` where the precision that was asked for does not suit a workload's quality."""
    if (precision := run.request.quality_precision) is None:
        return
    for workload_run in workload_runs:
        judges = _judges(run, workload_run.ready)
        if not judges:
            raise UsageError(
                f"{precision.words}: nothing judges the answers of {workload_run.workload} item by item: it "
                f"needs right answers, or --score; leave the option out"
            )
        precision.half_width(judges[0])


def evaluate_until_narrow(run: Run, workload_run: WorkloadRun) -> None:
    """Evaluate the metric of quality look by look, and leave the items that are not needed out.

    Without ``--quality-precision`` nothing is done. Looks of earlier sittings are not repeated.
    """
    if (precision := run.request.quality_precision) is None:
        return
    whole = workload_run.ready
    workload_run.planned_items = planned = _planned_items(whole, _judges(run, whole), precision)
    finished = looks_of_earlier_sittings(run, workload_run)
    hangs = Hangs()
    for items in planned:
        workload_run.prepared = evolve(whole, items=items)
        if (looks := finished.get(items)) is None:
            if (looks := _look(run, workload_run, precision, hangs)) is None:
                return
            run.journal.write(
                ItemLookRecord(workload=workload_run.name, looks=looks, builds=_contents(workload_run))
            )
        workload_run.looks = looks
        if looks.is_reached or looks.is_out_of_time:
            break
    _say(run, workload_run)


def _contents(workload_run: WorkloadRun) -> dict[str, str]:
    return {cell: build.content for cell, build in workload_run.successful_builds().items()}


def looks_of_earlier_sittings(run: Run, workload_run: WorkloadRun) -> dict[int, ItemLooks]:
    """Return the looks in the journal, by their number of items: those at builds that are still the same."""
    now = _contents(workload_run)
    records = (entry.record for entry in run.journal.entries_of(ItemLookRecord, workload_run.name))
    return {
        record.looks.items: record.looks
        for record in records
        if isinstance(record, ItemLookRecord) and record.builds.items() <= now.items()
    }


def _say(run: Run, workload_run: WorkloadRun) -> None:
    """Say after how many items the evaluation ended."""
    looks = workload_run.looks
    assert looks is not None
    judge = next((metric(entry) for entry in run.chosen.metrics if entry.name == looks.metric), None)
    label = workload_run.label(looks.widest_cell) if looks.widest_cell in workload_run.cells else ""
    several = f"{workload_run.name}: " if workload_run.is_one_of_several else ""
    run.reporter.say(several + words_of(looks, judge, label))


def _judges(run: Run, prepared: Prepared) -> list[Metric]:
    """Return the metrics that judge the answers of each cell by itself, the first of them first."""
    return [record for record in judges_of(run, prepared) if record.phase == "predictions"]


def _planned_items(
    prepared: Prepared, judges: Sequence[Metric], precision: QualityPrecision
) -> tuple[int, ...]:
    """Return the numbers of items at which is looked: none at which no difference could be known so well."""
    total, size, least = prepared.items, evaluation_batch_size(prepared), LEAST_ITEMS
    if precision.is_points and judges[0].samples == "per_item" and not judges[0].takes_score:
        # An answer is right or wrong: then the interval is narrowest where no answer changes.
        target, level = precision.half_width(judges[0]), level_at_a_look(0.95)
        while least < total and ends_of_pairs(0, 0, least, level)[1] > target:
            least = 5 * least // 4
    return items_at_looks(total, size, least)


def _look(run: Run, workload_run: WorkloadRun, precision: QualityPrecision, hangs: Hangs) -> ItemLooks | None:
    """Evaluate all cells on the items so far, and return how narrow the intervals are.

    None where the time was over before that.
    """
    planned, items = workload_run.planned_items, workload_run.ready.items
    began, cells = time.monotonic(), workload_run.successful_builds()
    run.reporter.phase("evaluate", f"{items:,} of {planned[-1]:,} items, {len(cells)} cells")
    judges, paces = _judges(run, workload_run.ready), {cell: Pace() for cell in cells}
    series = _evaluated(run, workload_run, judges, hangs, paces)
    if series is None:
        return None
    baseline = run.chosen.baseline_cell(workload_run.name, run.request)
    judge = next((record for record in judges if record.name in series.get(baseline, {})), None)
    widest, widest_cell = (None, None) if judge is None else _widest(judge, series, baseline)
    return ItemLooks(
        precision=precision.text,
        metric=None if judge is None else judge.name,
        planned=planned,
        items=items,
        is_reached=judge is not None and widest is not None and widest <= precision.half_width(judge),
        is_out_of_time=has_no_time(run.processes.limit, planned, items, time.monotonic() - began),
        widest=widest,
        widest_cell=widest_cell,
        seconds_saved=seconds_of(paces.values(), planned[-1] - items, cells_side_by_side(run, workload_run)),
    )


def _evaluated(
    run: Run,
    workload_run: WorkloadRun,
    judges: Sequence[Metric],
    hangs: Hangs,
    paces: Mapping[str, Pace],
) -> dict[str, Mapping[str, Series]] | None:
    """Return the samples of the judges by cell and by metric; None where the time was over before that.

    Cells whose evaluation fails take no further part. The paces of the others are noted.
    """
    names, items = [record.name for record in judges], workload_run.ready.items
    looked = {record.name: workload_run.is_looked_at(record) for record in judges}

    def evaluate(cell: str, progress: Progress) -> Failure | dict[str, Series]:
        def note(done: float, text: str) -> None:
            paces[cell].note(done * items, text)
            progress(done, text)

        build = workload_run.builds[cell]
        try:
            evaluation = evaluate_artifact(run, workload_run, cell, build, hangs, note, only=names)
        except Failure as failure:
            return failure
        samples = evaluation.samples.items()
        return {name: Series.plain(plain, looked=looked[name]) for name, plain in samples}

    series: dict[str, Mapping[str, Series]] = {}
    for cell, result in over_cells(run, workload_run, evaluate).items():
        if not isinstance(result, Failure):
            series[cell] = result
        elif result.out_of_time:
            return None
        else:
            workload_run.mark_failed(cell, result, run.reporter, "evaluate")
    return series


def has_no_time(limit: TimeLimit, planned: Sequence[int], items: int, seconds: float) -> bool:
    """Return whether the run's time is probably over before the next look; this one took so many seconds."""
    former = max((number for number in planned if number < items), default=0)
    following = next((number for number in planned if number > items), None)
    left = limit.end - time.monotonic()
    return following is not None and seconds * (following - items) / (items - former) > left


@define
class Pace:
    """How long a cell takes for an item, from what its process says while it makes predictions."""

    #: Number of items, and the time by the monotonic clock in seconds, when it was first and last said.
    first: tuple[float, float] | None = None
    last: tuple[float, float] | None = None

    def note(self, items: float, text: str) -> None:
        """Note how many items are done."""
        if text == PREDICTIONS:
            self.last = items, time.monotonic()
            self.first = self.first or self.last

    @property
    def seconds_an_item(self) -> float | None:
        """Seconds between two items; None where too little was said."""
        if self.first is None or self.last is None or self.last[0] <= self.first[0]:
            return None
        return (self.last[1] - self.first[1]) / (self.last[0] - self.first[0])


def seconds_of(paces: Iterable[Pace], items: int, side_by_side: int) -> float | None:
    """Return how long all cells would take for so many items; None where the pace of one is not known."""
    seconds = [pace.seconds_an_item for pace in paces]
    known = [value for value in seconds if value is not None]
    if not known or len(known) < len(seconds):
        return None
    return round(sum(known) * items / min(side_by_side, len(known)), 1)


def _widest(
    judge: Metric, series: Mapping[str, Mapping[str, Series]], baseline: str
) -> tuple[float | None, str | None]:
    """Return half of the widest interval of a difference from the baseline, and its cell.

    The first is None for a cell without an interval, and both where no cell has values.
    """
    widest: tuple[float | None, str | None] = None, None
    for cell, own in series.items():
        if cell == baseline or judge.name not in own:
            continue
        compared = on_items.compare(judge, own[judge.name], series[baseline][judge.name])
        if compared is None or compared.ci is None:
            return None, cell
        half = (compared.ci[1] - compared.ci[0]) / 2
        if widest[0] is None or half > widest[0]:
            widest = half, cell
    return widest
