"""Ratios of two cells in every round, of all their calls."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
from attrs import evolve

from qx.analysis.in_rounds import log_ratios_in_rounds
from qx.contract.figures import Figure, Point
from qx.processes.answers import PlainSamples
from qx.report import markdown, terminal
from qx.results.recording import Series
from qx.results.records import Results


def series(blocks):
    """Return samples of blocks ``{(wave, round): values}``."""
    rows = [(value, *place) for place, values in blocks.items() for value in values]
    values, wave, round_ = np.array(rows).T
    return Series(values=values, wave=wave, round=round_, position=np.zeros(len(rows)))


def test_it_is_the_mean_over_the_rounds_that_both_have():
    """The ratio is the mean over shared rounds of the log ratio of block means, or NaN if none is shared."""
    ours = series({(0, 0): [2, 4], (0, 1): [8], (1, 0): [1, 1], (2, 0): [5]})
    theirs = series({(0, 1): [1, 2, 3], (0, 0): [1], (0, 2): [9], (1, 0): [4]})
    logs = log_ratios_in_rounds(ours, theirs, 4)
    assert np.exp(logs) == pytest.approx([(3 * 4) ** 0.5, 0.25, np.nan, np.nan], nan_ok=True)
    assert log_ratios_in_rounds(theirs, ours, 4) == pytest.approx(-logs, nan_ok=True)


def test_samples_without_a_round_have_none():
    """Values that a metric derived itself are in no round."""
    plain = Series.plain(PlainSamples(values=[1.0, 2.0]))
    assert np.isnan(log_ratios_in_rounds(plain, plain, 2)).all()


@pytest.fixture
def held_up(builders) -> Results:
    """Return a run of two cells of one speed, one of which is held up in every other round."""
    cells = {"at_times": builders.Cell(delay=1.0, held_up=1.5), "steady": builders.Cell(delay=1.0)}
    return builders.Run(cells=cells, rounds=20).results()


def test_a_cell_that_is_held_up_at_times_is_told(held_up: Results):
    """Ratios in rounds show what a cell loses by being held up, and its undisturbed calls do not."""
    delays = {entry.cell: entry for entry in held_up.measurements if entry.metric == "delay"}
    in_rounds = delays["toy/at_times"].details["in_rounds"]
    assert delays["toy/at_times"].vs_baseline.value == pytest.approx(2.0, rel=0.05)
    assert in_rounds["value"] == pytest.approx(2.0 / 1.5**0.5, rel=0.01)
    assert in_rounds["ci"][0] < 2.0 / 1.5**0.5 < in_rounds["ci"][1]
    assert (in_rounds["kind"], in_rounds["differs"]) == ("speedup", "worse")
    for name in ("steady", "control"):
        assert delays[f"toy/{name}"].details["in_rounds"]["differs"] is None
    assert delays["toy/base"].details["in_rounds"] is None
    assert json.dumps(in_rounds)


@pytest.mark.parametrize(
    ("better", "cell", "base", "differs"),
    [
        ("lower", 1.0, 1.5, "better"),
        ("higher", 0.6, 1.0, "worse"),
        ("higher", 1.0, 0.6, "better"),
        ("neither", 1.5, 1.0, None),
    ],
)
def test_which_is_worse_depends_on_what_is_better(builders, better, cell, base, differs):
    """Rates fall where times rise, the baseline may be held up too, and neutral metrics show nothing."""
    metric = evolve(builders.DELAY, better=better, compare="ratio", axis=False, pick=None)
    cells = {"at_times": builders.Cell(delay=1.0, held_up=cell)}
    run = builders.Run(cells=cells, base=builders.Cell(held_up=base), metrics=(metric,), rounds=20)
    results = run.results()
    (in_rounds,) = [
        entry.details["in_rounds"] for entry in results.measurements if entry.cell == "toy/at_times"
    ]
    assert (in_rounds and in_rounds["differs"]) == differs
    assert (f"it fares {differs} against" in markdown.render(results)) == (differs is not None)


def test_a_wave_that_a_cell_did_not_see_to_its_end_is_left_out(builders):
    """An unfinished wave is left out of both answers, or one round would weigh as much as a wave."""
    run = builders.Run(cells={"short": builders.Cell(delay=1.0)}, metrics=(builders.DELAY,), rounds=20)
    recording = run.recording()
    series = recording.series["toy/short"][Figure("delay", Point(1))]
    kept = (series.wave < 5) | (series.round < 1)
    values = np.where(series.wave == 5, 8 * series.values, series.values)
    places = {name: getattr(series, name)[kept] for name in ("wave", "round", "position")}
    recording.series["toy/short"][Figure("delay", Point(1))] = Series(values=values[kept], **places)
    delays = {entry.cell: entry for entry in run.results(recording).measurements}
    in_rounds = delays["toy/short"].details["in_rounds"]
    assert in_rounds["value"] == pytest.approx(2.0, rel=0.01) and in_rounds["differs"] is None


def test_details_of_other_metrics_are_their_own(builders):
    """A metric's own detail may have the name ``in_rounds``, and is not taken for ratios."""
    run = builders.Run(cells={"one": builders.Cell()})
    recording = run.recording()
    for detail in (5, {"differs": True}):
        hits = recording.series["toy/one"][Figure("hits")]
        recording.series["toy/one"][Figure("hits")] = evolve(hits, details=({"in_rounds": detail},))
        assert "fares" not in markdown.render(run.results(recording))


@pytest.mark.parametrize("render", [markdown.render, partial(terminal.render, style="simple")])
def test_it_is_said_where_the_figures_are_judged(held_up: Results, render):
    """One line has both speedups, and cells on which they agree have none."""
    text = " ".join(render(held_up).replace("`", "").replace("\N{NO-BREAK SPACE}", " ").split())
    assert text.count("over all calls") == 1
    line = text[text.index("- at_times, delay (batch 1): 1.6") :]
    assert "over all calls, 1.9" in line
    assert "it fares worse against the baseline than the table says." in line
