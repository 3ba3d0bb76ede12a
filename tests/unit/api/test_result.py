"""``Result``: what it has is what the JSON has, and what it shows does nothing but show."""

from __future__ import annotations

import contextlib
import html.parser
import io
import json
import math
import re
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from attrs import evolve

import qx
from qx.api.result import Result
from qx.contract.figures import Figure, Point
from qx.report import screen
from qx.results.results_file import to_json

COMMITTED = Path(__file__).parents[3] / "artifacts" / "results"
VERSION_1 = Path(__file__).parents[2] / "data" / "results_of_version_1.json"
#: Text that a page or a terminal might act on.
HOSTILE = "<script>alert(1)</script>\x1b[31m$x^2$&amp;\"'`|*"


def result(builders: ModuleType, run: Any = None) -> Result:
    """Return the result of a small run that was made by hand."""
    run = run or builders.small()
    recording = run.recording()
    return Result(run.results(recording), recording)


@pytest.fixture
def everything(builders: ModuleType) -> Result:
    """Return a result of two workloads in which no field is empty."""
    return Result(*builders.everything())


def test_what_is_within_the_limits_is_by_name(everything: Result) -> None:
    """``within`` has a verdict on each cell of each workload that can be judged."""
    assert everything.within["toy/quick"] in ("surely", "perhaps", "no")
    assert everything.within["toy/base"] == "no"
    assert everything.within["toy/lost"] is None


def test_records_have_the_figures_of_the_json(everything: Result) -> None:
    """Each record has the value, interval and comparison of the measurement in ``full_results.json``."""
    measurements = json.loads(to_json(everything.results))["measurements"]
    records = everything.to_records()
    assert len(records) == len(measurements)
    for record, measurement in zip(records, measurements, strict=True):
        for name in ("workload", "config", "cell", "metric", "value", "unit", "n", "outcome", "cause"):
            assert record[name] == measurement[name]
        assert record["batch_size"] == (measurement["point"] or {}).get("batch_size")
        ci = measurement["ci"] or [None, None]
        assert [record["low"], record["high"]] == ci
        compared = measurement["vs_baseline"] or {}
        names = {"": "kind", "_value": "value", "_p": "p", "_clear": "clear"}
        assert all(record[f"comparison{end}"] == compared.get(name) for end, name in names.items())
        ends = [record["comparison_low"], record["comparison_high"]]
        assert ends == (compared.get("ci") or [None, None])


def test_the_frame_has_the_figures_of_the_json() -> None:
    """``to_pandas`` of the committed run has a row for each measurement, with the same figures."""
    pandas = pytest.importorskip("pandas", reason="the extra notebook installs pandas")
    frame = qx.load(COMMITTED).to_pandas()
    measurements = json.loads((COMMITTED / "full_results.json").read_text())["measurements"]
    assert len(frame) == len(measurements) > 0
    for row, measurement in zip(frame.to_dict("records"), measurements, strict=True):
        compared = measurement["vs_baseline"] or {}
        expected = {
            "value": measurement["value"],
            "low": (measurement["ci"] or [None])[0],
            "high": (measurement["ci"] or [None])[-1],
            "n": measurement["n"],
            "comparison": compared.get("kind"),
            "comparison_value": compared.get("value"),
            "comparison_low": (compared.get("ci") or [None])[0],
            "comparison_p": compared.get("p"),
            "comparison_clear": compared.get("clear"),
        }
        for name, value in expected.items():
            assert pandas.isna(row[name]) if value is None else row[name] == value, (name, measurement)
    assert list(map(str, frame.dtypes[["batch_size", "value", "comparison_clear"]])) == [
        "Int64",
        "float64",
        "boolean",
    ]
    latency = frame.query("metric == 'latency' and batch_size == 1")
    assert (latency["comparison"] == "speedup").sum() == 5


def test_the_page_shows_real_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``docs/python.md`` shows of the committed results is what Python prints."""
    pytest.importorskip("pandas", reason="the extra notebook installs pandas")
    monkeypatch.chdir(COMMITTED.parents[1])
    monkeypatch.setenv("COLUMNS", "100")
    page = (COMMITTED.parents[1] / "docs" / "python.md").read_text(encoding="utf-8")
    shown = page.partition("## Read results")[2].partition("\n## ")[0]
    blocks = re.findall(r"(?:^    .*\n|^\n(?=    ))+", shown, re.MULTILINE)
    examples = [
        (source, [line[4:] for line in output.splitlines()])
        for block in blocks
        for source, output in re.findall(r"^    >>> (.*)\n((?:(?!    >>> ).*\n)*)", block, re.MULTILINE)
    ]
    space: dict[str, Any] = {}
    assert len(examples) > 8
    for source, expected in examples:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(source, "python.md", "single"), space)
        assert [line.rstrip() for line in printed.getvalue().splitlines()] == expected, source


def test_every_comparison_is_in_the_frame_of_comparisons(everything: Result) -> None:
    """The frame of comparisons has those with the baseline and all others, each with the other cell."""
    pytest.importorskip("pandas", reason="the extra notebook installs pandas")
    frame = everything.comparisons_to_pandas()
    measurements = everything.results.measurements
    count = sum(len(measured.comparisons) + bool(measured.vs_baseline) for measured in measurements)
    assert len(frame) == count
    assert set(frame["against"]) <= set(everything.results.cells)


def test_the_frame_of_samples_has_every_raw_sample(everything: Result) -> None:
    """Every value of the recording is a row, with its wave and its group where it has them."""
    pandas = pytest.importorskip("pandas", reason="the extra notebook installs pandas")
    frame = everything.samples_to_pandas()
    total = sum(len(series.values) for by in everything.samples.series.values() for series in by.values())
    assert len(frame) == total
    some = frame[(frame["cell"] == "toy/quick") & (frame["metric"] == "delay") & (frame["batch_size"] == 1)]
    series = everything.samples.get("toy/quick", Figure("delay", Point(1)))
    assert series is not None
    assert np.array_equal(some["value"], series.values) and np.array_equal(some["wave"], series.wave)
    assert frame[frame["metric"] == "hits"]["wave"].isna().all()
    only = everything.samples_to_pandas("hits")
    assert set(only["metric"]) == {"hits"} and isinstance(only["metric"].dtype, pandas.CategoricalDtype)
    with pytest.raises(qx.UsageError, match="metric 'nothing' is not in this result"):
        everything.samples_to_pandas(["nothing"])


def test_table_front_and_picks(builders: ModuleType) -> None:
    """The table has the front first, numbers by titles of figures, and failed cells last, with the cause."""
    small = result(builders)
    assert small.table.names[0] == "quick" and small.table.names[-1] == "lost"
    first, last = small.table[0], small.table[-1]
    assert (first["front"], first["outcome"]) == ("yes", "ok")
    assert first["weight"] == 260_000 and first["weight vs baseline"] == 0.26
    assert isinstance(first["delay (batch 1)"], float)
    assert (last["front"], last["outcome"], last["cause"]) == ("no", "failed", "ValueError: no | pipe")
    assert last["weight"] is None
    assert {row["front"] for row in small.front} <= {"yes", "perhaps"} and "quick" in small.front.names
    picks = {pick.aim: pick for pick in small.picks}
    assert picks["the lightest"].config == "quick"
    assert str(picks["the lightest"]) == "For the lightest, pick quick."
    assert repr(small) == "<qx.Result of toy: 4 cells, 3 on the front>"
    assert "FAILED in convert: lost: ValueError: no | pipe" in str(small.table)
    assert str(small) == screen.render(small.results)


def test_an_aim_without_a_pick_says_between_which(builders: ModuleType) -> None:
    """Where the noise decides nothing, the pick has no config, and names those it could be."""
    cells = {"slightly": builders.Cell(delay=1.96)}
    picks = result(builders, builders.Run(cells=cells, noise=0.05)).picks
    (delay,) = (pick for pick in picks if pick.metric == "delay")
    assert delay.config is None and set(delay.not_told_apart) == {"base", "slightly"}
    assert str(delay).startswith("No pick for the quickest")


def test_a_result_that_was_saved_is_loaded_with_its_samples(builders: ModuleType, tmp_path: Path) -> None:
    """``save`` writes the files of a run, and ``load`` reads the same figures and samples from them."""
    saved = result(builders).save(tmp_path / "out")
    assert saved.folder == tmp_path / "out"
    assert {path.name for path in saved.folder.iterdir()} > {"pareto.md", "report.html", "full_results.json"}
    for place in (saved.folder, saved.folder / "full_results.json"):
        loaded = qx.load(place)
        assert to_json(loaded.results) == to_json(saved.results)
        for cell, by_figure in saved.samples.series.items():
            for figure, series in by_figure.items():
                assert np.array_equal(loaded.samples.series[cell][figure].values, series.values)


def test_results_of_version_1_are_loaded(tmp_path: Path) -> None:
    """Results that an earlier version wrote have a table; samples that are not there are an error."""
    shutil.copy(VERSION_1, tmp_path / "full_results.json")
    old = qx.load(tmp_path)
    assert len(old.table) > 1 and old.to_records()
    with pytest.raises(qx.UsageError, match=r"the samples in .* cannot be read"):
        _ = old.samples


def test_what_is_no_result_is_one_line(tmp_path: Path) -> None:
    """A folder without results, and a file that is none, raise ``UsageError``."""
    with pytest.raises(qx.UsageError, match="there are no results in"):
        qx.load(tmp_path)
    (tmp_path / "full_results.json").write_text("{}")
    with pytest.raises(qx.UsageError, match="is not a results file"):
        qx.load(str(tmp_path))


class Tags(html.parser.HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, attrs))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_foreign_text_does_nothing_in_a_notebook(builders: ModuleType) -> None:
    """Markup in names, causes, units, aims and sources is shown as text, without its control characters."""
    cells = {
        HOSTILE.replace("/", "_"): builders.Cell(delay=0.5),
        "lost": builders.Cell(outcome="failed", stage=HOSTILE, cause=HOSTILE),
    }
    run = builders.Run(cells=cells, workload={"source": HOSTILE})
    metrics = tuple(evolve(metric, unit=HOSTILE, pick=HOSTILE) for metric in builders.METRICS)
    hostile = result(builders, evolve(run, metrics=metrics))
    for page in (hostile._repr_html_(), hostile.table._repr_html_(), hostile.front._repr_html_()):
        parsed = Tags(page)
        allowed = {
            "div",
            "p",
            "table",
            "thead",
            "tbody",
            "tr",
            "th",
            "td",
            "small",
            "ul",
            "li",
            "code",
            "b",
            "br",
        }
        assert {tag for tag, _ in parsed.tags} <= allowed
        names = {name for _, attributes in parsed.tags for name, _ in attributes}
        assert names <= {"class", "style"}
        assert "\x1b" not in page and "alert(1)" in parsed.text
    assert "\x1b" not in str(hostile)


@pytest.fixture(scope="module")
def pyplot() -> Any:
    """Return matplotlib's module, imported before tests are kept from processes: it asks for fonts."""
    matplotlib = pytest.importorskip("matplotlib", reason="the extra plot installs matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def test_the_plots_show_cells_waves_and_the_control(everything: Result, pyplot: Any) -> None:
    """The front has a name for each cell with both figures; waves have a line for each, and the control."""
    axes = everything.plot.pareto()
    names = {text.get_text() for text in axes.texts}
    assert {"quick", "alike"} <= names
    assert axes.get_xscale() == "log" and "delay (batch 1)" in axes.get_xlabel()
    axes.figure.canvas.draw()
    waves = everything.plot.waves()
    labels = waves.get_legend_handles_labels()[1]
    assert "control" in labels and "quick" in labels
    line = next(line for line in waves.get_lines() if line.get_label() == "quick")
    assert math.isclose(float(np.nanmedian(np.asarray(line.get_ydata()))), 4.0, rel_tol=0.05)
    own = pyplot.subplots()[1]
    assert everything.plot.pareto("weight", "heap", ax=own) is own
    assert everything.plot.waves("heap", ax=own) is own
    for call in (lambda: everything.plot.pareto("nothing"), lambda: everything.plot.waves("weight")):
        with pytest.raises(qx.UsageError, match=r"it has hits|was"):
            call()
    with pytest.raises(qx.UsageError, match="workload 'nowhere' is not in this result"):
        everything.plot.pareto(workload="nowhere")
    pyplot.close("all")


def test_hostile_names_are_no_formula_in_a_plot(builders: ModuleType, pyplot: Any) -> None:
    """Dollar signs in names and units are drawn as they are."""
    run = builders.Run(cells={"$\\frac{$": builders.Cell(delay=0.5)})
    metrics = tuple(evolve(metric, unit="$\\frac{$") for metric in builders.METRICS)
    hostile = result(builders, evolve(run, metrics=metrics))
    for axes in (hostile.plot.pareto(), hostile.plot.waves()):
        axes.figure.canvas.draw()
    pyplot.close("all")
