"""The data of the page, which are those of the results, and the policy that keeps everything else out."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from attrs import evolve

from qx.contract.figures import Figure, Point
from qx.report.html import data, page
from qx.results.columns import View
from qx.results.recording import Recording, Series
from qx.results.records import Results


def workload(results: Results, recording: Recording | None) -> dict[str, Any]:
    """Return the data of the only workload, as the script reads them."""
    text = page.render(results, recording)
    content = re.search(r'<script type="application/json" id="data">(.*?)</script>', text)
    assert content is not None
    (only,) = json.loads(content.group(1))["workloads"]
    assert isinstance(only, dict)
    return only


def test_figures_are_those_of_the_table(builders: ModuleType) -> None:
    """Values, intervals and texts are those of the results, row by row."""
    results, recording = builders.many(4)
    own, view = workload(results, recording), View(results)
    assert [cell["name"] for cell in own["cells"]] == [view.name(cell) for cell in view.rows]
    for column, figure in zip(own["columns"], view.columns, strict=True):
        for row, cell in enumerate(view.rows):
            measured = view.measurement(cell, figure)
            assert measured is not None and measured.ci is not None
            assert column["value"]["middle"][row] == pytest.approx(measured.value, rel=1e-5)
            assert column["value"]["low"][row] == pytest.approx(measured.ci[0], rel=1e-5)
            assert column["text"][row] == view.figure(cell, figure).value
    assert own["axes"] == [view.columns.index(figure) for figure in view.axes]


def test_waves_compare_with_the_baseline_of_the_same_wave(builders: ModuleType) -> None:
    """The mean over waves of what the page shows is the speedup of the table, of the control as well."""
    run = builders.small(noise=0.01)
    results, recording = run.results(), run.recording()
    own = workload(results, recording)
    title = [plot for plot in own["waves"] if own["columns"][plot["column"]]["title"] == "delay (batch 1)"]
    (plot,) = title
    quick = [cell["name"] for cell in own["cells"]].index("quick")
    speedup = own["columns"][plot["column"]]["change"]["middle"][quick]
    assert len(plot["cells"][quick]) == 6
    assert math.exp(np.mean(np.log(plot["cells"][quick]))) == pytest.approx(speedup, rel=1e-3)
    floor = next(floor for floor in results.noise_floor if floor.figure == Figure("delay", Point(1)))
    assert math.exp(np.mean(np.log(plot["control"]))) == pytest.approx(floor.value, rel=1e-3)
    assert plot["cells"][[cell["name"] for cell in own["cells"]].index("lost")] is None


def test_a_round_shows_what_held_it_up(builders: ModuleType) -> None:
    """A config whose calls take longer in every other round shows that, and the median does not."""
    run = builders.small(noise=0.0)
    cells = {"held": builders.Cell(held_up=1.5), **{f"free{n}": builders.Cell() for n in range(4)}}
    run = evolve(run, cells=cells, batch_sizes=(1,))
    own = workload(run.results(), run.recording())
    (plot,) = own["rounds"]
    held = np.array(plot["cells"][[cell["name"] for cell in own["cells"]].index("held")])
    odd = np.array([round_ % 2 for _, round_ in plot["rounds"]], dtype=bool)
    assert held[odd].mean() > held[~odd].mean() + 0.3
    assert len(plot["rounds"]) == 6 * run.rounds == len(plot["median"]) == len(plot["control"])


def test_of_many_rounds_only_the_median_is_kept(
    builders: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page of hundreds of configs has the median, the baseline and the control, and no line for each."""
    monkeypatch.setattr("qx.report.html.waves.MAX_BLOCKS", 10)
    (plot,) = workload(*builders.many(4))["rounds"]
    assert plot["cells"] is None
    assert plot["baseline"] is not None


def test_changed_answers_are_counted_by_class(builders: ModuleType) -> None:
    """Each answer that differs from the baseline's is counted once, and whether it became right or wrong."""
    results, recording = builders.many(4)
    answers = workload(results, recording)["answers"]
    cells = [name for name, cell in results.cells.items() if not cell.control]
    ours, theirs = (recording.outputs[cell]["output"].argmax(1) for cell in (cells[2], cells[0]))
    own = answers["cells"][2]
    assert answers["cells"][0] is None
    assert own["changed"] == (ours != theirs).sum() == sum(items for _, _, items, _, _ in own["moves"])
    for before, after, items, gained, lost in own["moves"]:
        assert items == ((theirs == before) & (ours == after)).sum()
        assert gained + lost <= items
    hits = [recording.series[cell][Figure("hits")].values for cell in (cells[2], cells[0])]
    assert own["lost"] == ((hits[0] < hits[1]) & (ours != theirs)).sum()
    assert answers["judge"] == "hits"


def test_groups_have_corrected_intervals(builders: ModuleType) -> None:
    """Differences, intervals and p values by group are those of the details."""
    results, recording = builders.many(4)
    (plot,) = workload(results, recording)["groups"]
    measured = next(
        own for own in results.measurements if own.cell == "toy/config_001" and own.metric == "hits"
    )
    entries = measured.details["groups"]
    own = plot["cells"][2]
    for position, group in enumerate(own["group"]):
        difference = entries[plot["names"][group]]["vs_baseline"]
        assert own["change"]["low"][position] == pytest.approx(difference["ci"][0], rel=1e-5)
        assert own["p"][position] == pytest.approx(difference["p_adjusted"], rel=1e-2)


def test_of_many_groups_those_that_differ_most_are_kept(
    builders: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page of hundreds of configs and classes has of each config the smallest p values."""
    monkeypatch.setattr("qx.report.html.answers.MAX_GROUPS", 5)
    monkeypatch.setattr("qx.report.html.answers.TOP_GROUPS", 3)
    results, recording = builders.many(4)
    (whole,) = workload(results, recording)["groups"]
    assert not whole["isWhole"]
    assert {len(cell["group"]) for cell in whole["cells"]} == {3}


def test_stages_and_layers_come_from_details_of_any_metric(builders: ModuleType) -> None:
    """Fields that add up are stacked; equal lists of layers are written once."""
    results, recording = builders.many(4)
    changed = tuple(
        evolve(own, details={"stages": {"a": 0.25 * own.value, "b": 0.75 * own.value}})
        if own.metric == "delay" and own.value
        else own
        for own in results.measurements
    )
    own = workload(evolve(results, measurements=changed), recording)
    delay, heap = own["stages"]
    assert delay["fields"][0]["isSum"] and delay["stages"] == ["a", "b"]
    assert [field["name"] for field in heap["fields"]] == ["rss", "own"]
    assert not heap["fields"][heap["best"]]["isSum"]
    (layers,) = own["layers"]
    assert layers["cells"] == [0, 1, 1, 1]
    assert layers["kinds"] == [[32, "int"], [8, "int"]]


@pytest.mark.parametrize(
    "details",
    [
        {"stages": "none", "layers": 7, "groups": [1]},
        {"stages": {}, "layers": {}, "groups": {}},
        {
            "stages": {"a": None, "b": {"c": "d"}},
            "layers": {"a": {"bits": "8"}, "b": None},
            "groups": {"a": {}},
        },
        {
            "stages": {"a": True},
            "layers": {"a": {"elements": None, "bits": 8}},
            "groups": {"a": {"value": None}},
        },
    ],
)
def test_details_of_other_shapes_are_left_out(builders: ModuleType, details: dict[str, Any]) -> None:
    """A metric may put into its details what it likes: the page does not fail."""
    results, recording = builders.many(4)
    odd = tuple(evolve(own, details=details) for own in results.measurements)
    own = workload(evolve(results, measurements=odd), recording)
    assert own["groups"] == own["layers"] == own["stages"] == []


def test_a_metric_without_samples_of_waves_has_no_plot(builders: ModuleType) -> None:
    """Samples that are not positive have no ratio, so no wave of them is shown."""
    results, recording = builders.many(4)
    for series in recording.series.values():
        own = series[Figure("heap")]
        series[Figure("heap")] = Series(
            values=-own.values, wave=own.wave, round=own.round, position=own.position
        )
    titles = [plot["column"] for plot in workload(results, recording)["waves"]]
    assert [column["metric"] for column in data.run_content(results, recording)["workloads"][0]["columns"]][
        titles[0]
    ] == "delay"
    assert len(titles) == 1


def test_the_policy_names_the_only_script_and_style(builders: ModuleType) -> None:
    """The digests in the policy are those of the script and of the style; everything else is refused."""
    text = page.render(*builders.many(4))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert policy.group(1).startswith("default-src 'none'; ")
    for kind, element in (("script", "script"), ("style", "style")):
        (content,) = re.findall(rf"<{element}>(.*?)</{element}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy.group(1)
    assert "unsafe" not in policy.group(1)


def test_data_cannot_end_their_script(builders: ModuleType) -> None:
    """No text closes the element that the data lie in, or opens a comment."""
    results, recording = builders.many(4, text="</script><!--<script>\u2028&amp;")
    text = page.render(results, recording)
    assert text.count("<script") == text.count("</script>") == 2
    assert workload(results, recording)["cells"][0]["runtime"].endswith("</script><!--<script> &amp;")


def test_the_library_is_the_one_that_is_named() -> None:
    """The vendored library has the version and the digest that stand beside it, and its licence."""
    folder = page.PACKAGE.joinpath("vendor")
    named = folder.joinpath("README.md").read_text(encoding="utf-8")
    assert hashlib.sha256(page.LIBRARY.read_bytes()).hexdigest() in named
    version = re.search(r"v(\d+\.\d+\.\d+)", page.LIBRARY.read_text(encoding="utf-8").splitlines()[0])
    assert version is not None and f"D3](https://d3js.org) {version.group(1)}" in named
    assert "Permission to use, copy, modify" in folder.joinpath("d3.LICENSE").read_text(encoding="utf-8")


def test_every_script_is_part_of_the_page() -> None:
    """The parts of the script are those in the folder, each once."""
    scripts = [entry.name for entry in page.ASSETS.iterdir() if entry.name.endswith(".js")]
    assert sorted(scripts) == sorted(page.SCRIPTS)


def test_the_scripts_name_no_metric() -> None:
    """What the script knows of a metric is its record: neither it nor the modules here name one."""
    names = {
        "accuracy",
        "agreement",
        "file_size",
        "latency",
        "quantized_share",
        "rss",
        "startup",
        "throughput",
    }
    for name in page.SCRIPTS:
        words = re.findall(r"[a-z_]+", page.ASSETS.joinpath(name).read_text(encoding="utf-8"))
        assert not names & set(words), name


def test_a_recipe_in_two_runtimes_has_its_row(builders: ModuleType) -> None:
    """Pairs are in the page as they are in the table, and only where there are any."""
    results, recording = builders.everything()
    heading = "<summary>One recipe in two runtimes</summary>"
    assert page.render(results, recording).count(heading) == 2
    assert heading not in page.render(*builders.many(4))
