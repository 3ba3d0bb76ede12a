"""Words and rows about the builds of each config: how much another draw of calibration items changes."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import evolve

from qx.contract.figures import Figure
from qx.contract.records import CALIBRATION_N
from qx.report.wording import Markup, count
from qx.results import numbers
from qx.results.columns import View
from qx.results.numbers import NOTHING
from qx.results.records import BuildSpread

#: Headers of the columns before those of the metrics.
COLUMNS = ("config", "builds")
#: What a config says whose builds with other seeds are equal.
NO_RANDOMNESS = "no randomness"


def has_spread(view: View) -> bool:
    """Return whether builds with other seeds were asked for."""
    return view.results.run.build_seeds > 1


def are_single(view: View) -> bool:
    """Return whether each config has one build, and some would have another with another seed."""
    return not has_spread(view) and any(_draws_data(view, cell) for cell in view.rows)


def _draws_data(view: View, cell: str) -> bool:
    result = view.ended(cell)
    draws = view.results.configs[result.config].draws_data
    # Earlier versions did not record it; a config that calibrates has this option.
    return result.outcome == "ok" and (CALIBRATION_N.name in result.options if draws is None else draws)


def single(view: View, markup: Markup) -> Iterator[str]:
    """Say that each config has one build, which its intervals hold for, where that matters."""
    if are_single(view):
        yield (
            f"Each config has one build, for which its intervals hold: {markup.name('--build-seeds 5')} "
            "shows how much another draw of calibration items would change."
        )


def explained(view: View) -> str:
    """Explain the table of builds."""
    seeds = view.results.run.build_seeds
    first = view.results.run.seed
    return (
        f"Configs that calibrate or train were built {seeds} times, with the seeds {first} to "
        f"{first + seeds - 1}, each with its own draw of calibration items. sd: standard deviation between "
        "builds on the same items, with the smallest and the largest value. mean: how the mean over builds "
        "compares with the baseline; its 95 % interval covers the items and the draw of builds. All other "
        f"figures, the front and the picks are of the builds with seed {first}; the others were not timed. "
        f"{NO_RANDOMNESS}: another seed gave the same artifact, so one build is all there is."
    )


def columns(view: View) -> list[Figure]:
    """Return the figures that were measured of several builds."""
    return [
        figure
        for figure in view.columns
        if any(spread_of(view, cell, figure) is not None for cell in view.rows)
    ]


def spread_of(view: View, cell: str, figure: Figure) -> BuildSpread | None:
    """Return how a figure of a cell differs between builds; None where it has one build."""
    measured = view.measurement(cell, figure)
    return None if measured is None else measured.builds


def rows(view: View) -> list[str]:
    """Return the cells with further builds."""
    return [cell for cell in view.rows if view.ended(cell).further_builds]


def count_builds(view: View, cell: str) -> list[str]:
    """Return how many builds a cell has, in lines."""
    further = view.ended(cell).further_builds
    built = 1 + sum(build.outcome == "ok" for build in further)
    failed = 1 + len(further) - built
    lines = [NO_RANDOMNESS] if view.ended(cell).depends_on_seed is False else [f"{built}"]
    return lines + [f"{failed} failed"] * bool(failed)


def figure(view: View, cell: str, column: Figure) -> list[str]:
    """Return the spread of a figure between builds in lines; a dash where there is none."""
    built = spread_of(view, cell, column)
    if built is None or view.ended(cell).depends_on_seed is False:
        return [NOTHING]
    metric = view.results.metrics[column.metric]
    if not built.deviation:
        return ["all equal"]
    lines = [
        f"sd {numbers.deviation(built.deviation, metric.unit)}",
        numbers.span(built.smallest, built.largest, built.deviation, metric.unit),
    ]
    if built.vs_baseline is not None:
        compared = filter(None, numbers.comparison(built.vs_baseline, metric))
        lines.append(f"mean {' '.join(compared)}")
    return lines


def in_line(view: View, cell: str, column: Figure) -> str:
    """Return the spread of a figure between builds in a few words; empty where there is none."""
    built = spread_of(view, cell, column)
    if built is None or not built.deviation:
        return ""
    unit = view.results.metrics[column.metric].unit
    return f"{len(built.values)} builds: sd {numbers.deviation(built.deviation, unit)}"


def remarks(view: View, markup: Markup) -> Iterator[str]:
    """Say of which builds figures are missing, and which changes other builds do not show."""
    for cell in rows(view):
        name = markup.name(view.name(cell))
        for build in view.ended(cell).further_builds:
            subject = f"{name}, build with seed {build.seed}"
            if build.outcome != "ok":
                place = f" in {markup.text(build.stage)}" if build.stage else ""
                cause = markup.text(build.cause or "no cause is known")
                yield f"{subject}: {markup.strong(build.outcome.replace('_', ' '))}{place}: {cause}"
            for metric, failure in build.metric_failures.items():
                yield f"{subject}: {markup.name(metric)} {markup.text(failure)}"
        for column in columns(view):
            if (text := _contradiction(view, cell, column, markup)) is not None:
                yield f"{name}: {text}"


def _contradiction(view: View, cell: str, column: Figure, markup: Markup) -> str | None:
    """Say that a difference is clear for the measured build, and not for builds in general, or None."""
    measured, built = view.measurement(cell, column), spread_of(view, cell, column)
    if measured is None or built is None or measured.vs_baseline is None or built.vs_baseline is None:
        return None
    if not measured.vs_baseline.clear or built.vs_baseline.clear is not False:
        return None
    metric = view.results.metrics[column.metric]
    own, mean = (
        " ".join(filter(None, numbers.comparison(compared, metric)))
        for compared in (measured.vs_baseline, evolve(built.vs_baseline, clear=None))
    )
    builds = count(len(built.values), "build")
    return (
        f"the change of {markup.text(str(column))} is clear for the build that was measured ({own}), and not "
        f"for its recipe: over {builds} it is {mean}."
    )
