"""Several workloads in one run: a front for each, and a summary across them."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qx.results.results_file import read, schema, to_json
from qx.results.summary import part


@pytest.fixture(scope="module")
def grid(qx: Callable[..., Any], toy: Any, write_plugin: Any, tmp_path_factory: Any) -> Any:
    """A run of the toy under three names by two configs, the third without its data."""
    source = Path(toy.plugins[0]).read_text(encoding="utf-8")
    second = source.replace('name="toy"', 'name="second"')
    broken = source.replace('name="toy"', 'name="broken"').replace(
        "import numpy\n",
        'import numpy\n    from qx import DataError\n    raise DataError("no data here")\n',
        1,
    )
    weights = f"qx_toy_weights:{toy.weights.name}"
    package = tmp_path_factory.mktemp("package") / "qx_toy_weights"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / toy.weights.name).write_bytes(toy.weights.read_bytes())
    plugins = []
    for name, text in (
        ("first", source.replace('name="toy"', 'name="first"')),
        ("second", second),
        ("broken", broken),
    ):
        text = text.replace(f'name="{name}",', f'name="{name}", weights="{weights}",')
        plugins.append(write_plugin(name, text))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(package.parent))
        done = qx(
            *("run", "--workload", "first", "--workload", "second", "--workload", "broken"),
            *toy.plugin_arguments(*plugins, toy.config("toy_int8")),
            *("--batch-size", 1, "--budget", 0.01, "--quick"),
            cwd=tmp_path_factory.mktemp("grid"),
        )
    folder = done.folder / "first+second+broken"
    return type(done)(done.code, done.out, done.err, folder)


def test_one_run_holds_all_workloads(grid: Any) -> None:
    """One results file, valid by the schema, holds both workloads with a baseline and a front each."""
    import jsonschema

    assert grid.code == 1, grid.err
    jsonschema.validate(grid.results, schema())
    workloads = grid.results["run"]["workloads"]
    assert list(workloads) == ["first", "second", "broken"]
    for name in ("first", "second"):
        assert workloads[name]["baseline"] == f"{name}/toy_fp32"
        assert any(
            entry["on_front"] for cell, entry in grid.results["front"].items() if cell.startswith(name)
        )
        controls = [floor for floor in grid.results["noise_floor"] if floor["workload"] == name]
        assert controls
        latency = [
            measurement
            for measurement in grid.results["measurements"]
            if measurement["cell"] == f"{name}/toy_int8" and measurement["metric"] == "latency"
        ]
        assert latency[0]["vs_baseline"]["value"] > 0


def test_a_workload_that_cannot_be_prepared_costs_its_own_cells(grid: Any) -> None:
    """Only the cells of a workload that cannot be prepared have failed, and give the reason."""
    endings = {name: (cell["outcome"], cell["stage"]) for name, cell in grid.results["cells"].items()}
    assert endings["broken/toy_fp32"] == endings["broken/toy_int8"] == ("failed", "prepare")
    assert "no data here" in grid.results["cells"]["broken/toy_int8"]["cause"]
    assert endings["first/toy_int8"] == endings["second/toy_int8"] == ("ok", None)
    assert {failure.partition("/")[0] for failure in grid.results["run"]["failures"]} == {"broken"}


def test_the_summary_is_the_mean_over_workloads(grid: Any) -> None:
    """The summary holds the geometric mean of the ratios, and how many fronts a config is on."""
    rows = {entry["row"]: entry for entry in grid.results["summary"]}
    assert set(rows) == {"toy_fp32", "toy_int8"}
    row = rows["toy_int8"]
    assert row["succeeded"] == ["first", "second"]
    (latency,) = (figure for figure in row["figures"] if figure["metric"] == "latency")
    values = [
        measurement["vs_baseline"]["value"]
        for measurement in grid.results["measurements"]
        if measurement["config"] == "toy_int8"
        and measurement["metric"] == "latency"
        and measurement["vs_baseline"]
    ]
    assert latency["value"] == pytest.approx(math.prod(values) ** (1 / len(values)))
    assert (latency["smallest"], latency["largest"]) == (min(values), max(values))
    on_front = [cell for cell, entry in grid.results["front"].items() if entry["on_front"]]
    assert [f"{name}/toy_int8" for name in row["on_front"]] == [
        cell for cell in on_front if cell.endswith("toy_int8")
    ]


def test_the_table_has_a_summary_and_a_section_for_each(grid: Any) -> None:
    """The summary comes first, then each workload, then the environment once."""
    headings = [line for line in grid.table.splitlines() if line.startswith("## ")]
    assert headings[0] == "## Summary"
    assert [
        name for name in ("first", "second", "broken") if any(f"`{name}`" in heading for heading in headings)
    ]
    assert headings[-1] == "## Environment"
    assert len(headings) == 5
    assert grid.table.count("### Front") == 3
    assert "could not be prepared" in grid.table
    assert "ended well" in grid.out
    assert "== first" in grid.out


def test_report_shows_it_again(qx: Callable[..., Any], grid: Any) -> None:
    """``qx report`` computes the same figures from the raw samples, the summary too."""
    before = grid.table
    done = qx("report", grid.folder)
    assert done.code == 0, done.err
    assert "differ" not in done.err
    assert grid.table == before


def test_runs_of_several_workloads_are_compared_and_gated(qx: Callable[..., Any], grid: Any) -> None:
    """``qx compare`` and ``qx gate`` compare each cell with the baseline of its own workload."""
    copy = grid.folder.parent / "copy"
    shutil.copytree(grid.folder, copy)
    done = qx("compare", f"ours={grid.folder}", f"theirs={copy}", "--format", "json")
    assert done.code == 0, done.err
    verdicts = {
        (change["workload"], change["metric"]): change["verdict"]
        for change in json.loads(done.out)["changes"]
        if change["config"] == "toy_int8" and change["basis"] == "own baseline"
    }
    assert verdicts["first", "latency"] == verdicts["second", "latency"] == "same"
    rules = copy / "rules.toml"
    rules.write_text('[[rule]]\nconfig = "toy_int8"\nmetric = "file_size"\nlargest_increase = 10\n')
    gated = qx("gate", "--rules", rules, copy)
    assert "gate failed: 1 breach, 2 met" in gated.out + gated.err, gated.err


def test_a_part_is_as_if_it_had_been_run_alone(grid: Any) -> None:
    """The part of a workload holds its own cells and baseline, and axes without its name."""
    results = part(read(grid.folder), "second")
    assert results.run.baseline == "second/toy_fp32"
    assert {cell.workload for cell in results.cells.values()} == {"second"}
    assert all(axis.workload is None for axis in results.axes)
    assert results.axes
    json.loads(to_json(results))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--workload", "digits_cnn", "--workload", "nonsense"), "nonsense"),
        (
            ("--workload", "digits_cnn", "--workload", "languages_encoder", "--weights", "x.pt"),
            "--weights can only be used with one workload",
        ),
    ],
)
def test_wrong_usage_ends_a_run_before_anything_is_done(
    qx: Callable[..., Any], arguments: tuple[str, ...], words: str
) -> None:
    """An unknown workload among several, or weights for several, end with one line and exit code 2."""
    done = qx("run", *arguments)
    assert done.code == 2
    assert words in done.err
    assert len(done.err.strip().splitlines()) == 1
