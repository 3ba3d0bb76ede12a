"""Check whether the parts of results belong together, which no schema can say."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from qx.foreign import to_line
from qx.results.schema import find_flaw
from qx.storage.strict_json import ROOM, place

if TYPE_CHECKING:
    from qx.results.records import BuildSpread, Comparison, Measurement, NoiseFloor, Results


def check_consistency(results: Results) -> None:
    """Raise ``ValueError`` where one part names something that another lacks, or contradicts another."""
    _check_names("cells", _named_cells(results), results.cells)
    _check_names("configs", _named_configs(results), results.configs)
    _check_names("metrics", _named_metrics(results), results.metrics)
    _check_names("run.workloads", _named_workloads(results), results.run.workloads)
    for name, metric in results.metrics.items():
        if metric.name != name:
            raise ValueError(f"{place(('metrics', name))} must be named {name}, not {metric.name}")
    for index, measurement in enumerate(results.measurements):
        workload = results.cells[measurement.cell].workload
        if measurement.workload != workload:
            field = place(("measurements", index, "workload"))
            raise ValueError(
                f"{field} is {to_line(measurement.workload, ROOM)}, but its cell belongs to {workload}"
            )
    _check_sittings(results)
    _check_figures(results)
    _check_details(results)


def _check_sittings(results: Results) -> None:
    """Check that every wave belongs to a sitting of the run."""
    run = results.run
    for measuring in filter(None, [run.measuring, *(part.measuring for part in run.workloads.values())]):
        if measuring.sittings and max(measuring.sittings) >= len(run.sittings):
            raise ValueError(
                f"measuring.sittings has the position {max(measuring.sittings)}, and run.sittings has "
                f"{len(run.sittings)} entries"
            )


def _check_names(part: str, names: Iterator[str], present: Collection[str]) -> None:
    if missing := sorted(set(names) - set(present)):
        raise ValueError(f"{part} lacks {', '.join(to_line(name, ROOM) for name in missing[:3])}")


def _named_cells(results: Results) -> Iterator[str]:
    yield results.run.baseline
    for workload in results.run.workloads.values():
        yield from filter(None, [workload.baseline])
    yield from (measurement.cell for measurement in results.measurements)
    for cell, front in results.front.items():
        yield from (cell, *front.dominated_by, *front.tied_with)
    for pick in results.picks:
        yield from (pick.cell, *pick.tied_with)
    for pair in results.pairs:
        yield from (pair.cell, pair.counterpart)
    yield from (cell for limit in results.limits for cell in limit.verdicts)
    for speedup in results.thread_speedups:
        yield from filter(None, (speedup.cell, speedup.comparison.against))


def _named_configs(results: Results) -> Iterator[str]:
    yield from (cell.config for cell in results.cells.values())
    yield from (row.config for row in results.summary)


def _named_metrics(results: Results) -> Iterator[str]:
    yield from (measurement.metric for measurement in results.measurements)
    yield from (floor.metric for floor in results.noise_floor)
    yield from (axis.metric for axis in results.axes)
    yield from (speedup.metric for speedup in results.thread_speedups)
    for pick in results.picks:
        yield from filter(None, (pick.metric, pick.decided_by))
    yield from (figure.metric for row in results.summary for figure in row.figures)


def _named_workloads(results: Results) -> Iterator[str]:
    yield from (cell.workload for cell in results.cells.values())
    yield from filter(None, (floor.workload for floor in results.noise_floor))
    yield from filter(None, (axis.workload for axis in results.axes))


def _check_figures(results: Results) -> None:
    """Check that intervals have their lower end first, and that ratios are positive."""
    for index, measurement in enumerate(results.measurements):
        field = place(("measurements", index))
        _check_interval(f"{field}.ci", measurement.ci)
        built = measurement.builds
        over_builds = [] if built is None else [built.vs_baseline]
        for comparison in (measurement.vs_baseline, *measurement.comparisons, *over_builds):
            if comparison is not None:
                _check_comparison(f"a comparison of {field}", comparison)
        if built is not None:
            _check_builds(results, measurement, built, f"{field}.builds")
    for index, floor in enumerate(results.noise_floor):
        _check_comparison(place(("noise_floor", index)), floor)
    for index, speedup in enumerate(results.thread_speedups):
        _check_comparison(place(("thread_speedups", index)), speedup.comparison)
    for index, pair in enumerate(results.pairs):
        _check_interval(place(("pairs", index, "ci")), pair.ci)


def _check_builds(results: Results, measurement: Measurement, built: BuildSpread, field: str) -> None:
    """Check that the builds are those of the cell, and that their ends are those of their values."""
    _check_interval(f"{field}.ci", built.ci)
    cell = results.cells[measurement.cell]
    seeds = [str(results.run.seed), *(str(build.seed) for build in cell.further_builds)]
    if strange := sorted(built.values.keys() - set(seeds)):
        raise ValueError(f"{field}.values has the seed {strange[0]}, and the seeds are {', '.join(seeds)}")
    if seeds[0] not in built.values:
        raise ValueError(f"{field}.values lacks the seed of the run, {seeds[0]}")
    values = list(built.values.values())
    if [built.smallest, built.largest] != [min(values), max(values)]:
        raise ValueError(f"{field}: smallest and largest must be those of its values")


def _check_comparison(field: str, comparison: Comparison | NoiseFloor) -> None:
    _check_interval(f"{field}: ci", comparison.ci)
    lowest = min((comparison.value, *(comparison.ci or ())))
    if comparison.kind != "difference" and lowest <= 0:
        raise ValueError(f"{field} must be above 0, since it is a {comparison.kind}, not {lowest:g}")


def _check_interval(field: str, interval: tuple[float, float] | None) -> None:
    if interval is not None and interval[0] > interval[1]:
        raise ValueError(f"{field} must have its lower end first, not {list(interval)}")


def _check_details(results: Results) -> None:
    """Check the details that qx itself adds to metrics that time blocks; all others are the authors' own."""
    for index, measurement in enumerate(results.measurements):
        details = measurement.details
        if results.metrics[measurement.metric].phase != "block" or "in_rounds" not in details:
            continue
        field = ("measurements", index, "details", "in_rounds")
        if flaw := find_flaw(details["in_rounds"], "full_results", "in_rounds", within=field):
            raise ValueError(flaw)
