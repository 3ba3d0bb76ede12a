"""A whole run: its results, the files beside them, and that a second run gives the same."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qx.analysis.recompute import differences, recompute
from qx.contract.figures import Figure, Point
from qx.results.recording import Recording
from qx.results.results_file import read, to_json
from qx.worker.arrays import Split

#: Configs of the fixture ``digits`` in ``conftest.py``.
CONFIGS = ["fp32_baseline", "dynamic_int8", "static_int8_per_channel"]
if os.environ.get("QX_SLOW"):
    CONFIGS.append("static_int8_per_tensor")
METRICS = ("accuracy", "file_size", "latency", "rss")
STATIC = CONFIGS[2:]
#: Configs that are built a second time in the fast tier; with ``QX_SLOW=1`` all are.
REBUILT = (CONFIGS[0], CONFIGS[2])


@pytest.fixture(scope="session")
def recording(digits: Any) -> Recording:
    """The raw samples beside the results of the digits."""
    return Recording.read(digits.folder / digits.results["run"]["samples"])


@pytest.fixture(scope="session")
def rebuilt(
    qx: Callable[..., Any], digits: Any, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """Digests of the digits' builds before a second run with ``--rebuild``, and that run."""
    names = CONFIGS if os.environ.get("QX_SLOW") else REBUILT
    before = {config: artifact_files(cache, digits.cell(config)) for config in names}
    home = tmp_path_factory.mktemp("again")
    configs = [word for name in names for word in ("-c", name)]
    done = qx(
        *("run", "--workload", "digits_cnn", "--rebuild", *configs),
        *("-m", "accuracy", "-m", "file_size", "--out", "out"),
        cwd=home,
    )
    return before, done


def artifact_files(cache: Path, cell: dict[str, Any]) -> dict[str, str]:
    """Return the SHA-256 of each file in a cell's build, but for ``build.json`` and the digests."""
    build = cache / "builds" / cell["build"]
    return {
        str(path.relative_to(build)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(build.rglob("*"))
        if path.is_file() and path.name not in ("build.json", "digests.json")
    }


def test_every_config_has_every_metric(digits: Any) -> None:
    """Each measurement of four metrics is ok, with a value, an interval and a difference to the baseline."""
    assert digits.code == 0, digits.err
    assert set(digits.results["configs"]) == set(CONFIGS)
    assert {config["outcome"] for config in digits.results["configs"].values()} == {"ok"}
    for config in CONFIGS:
        for metric in METRICS:
            measurement = digits.measurement(config, metric)
            assert (measurement["outcome"], measurement["cause"]) == ("ok", None)
            assert np.isfinite(measurement["value"])
            assert np.isfinite(measurement["vs_baseline"]["value"])
            low, high = measurement["ci"]
            assert low <= measurement["value"] <= high
            assert measurement["n"] >= 1
    assert digits.measurement("fp32_baseline", "latency")["vs_baseline"]["value"] == 1.0
    assert digits.measurement("fp32_baseline", "accuracy")["vs_baseline"]["value"] == 0.0


def test_sizes_are_those_of_the_files(digits: Any, cache: Path) -> None:
    """``file_size`` is the bytes of the shipped files, of which static int8 takes a quarter of fp32."""
    for config in CONFIGS:
        cell, size = digits.cell(config), digits.measurement(config, "file_size")
        folder = cache / "builds" / cell["build"] / "artifact"
        assert size["value"] == sum((folder / name).stat().st_size for name in cell["artifact"])
        assert "manifest.json" not in cell["artifact"]
    for config in STATIC:
        assert 0.24 < digits.measurement(config, "file_size")["vs_baseline"]["value"] < 0.30
    assert 0.95 < digits.measurement("dynamic_int8", "file_size")["vs_baseline"]["value"] < 1.05


def test_every_prediction_is_kept(digits: Any, recording: Recording, cache: Path) -> None:
    """The samples hold the outputs for every image, and the accuracies follow from them."""
    workload = digits.results["run"]["workloads"]["digits_cnn"]
    split = Split.read(cache / "splits" / workload["evaluation_sha256"])
    assert split.fingerprint() == workload["evaluation_sha256"]
    for config in CONFIGS:
        (outputs,) = recording.outputs[f"digits_cnn/{config}"].values()
        assert outputs.shape == (500, 10)
        accuracy = digits.measurement(config, "accuracy")
        right = outputs.argmax(axis=1) == split.labels
        assert accuracy["value"] == pytest.approx(right.mean())
        assert accuracy["n"] == workload["items"] == 500
    assert digits.measurement("fp32_baseline", "accuracy")["value"] >= 0.98


def test_the_front_and_the_picks_are_of_the_configs(digits: Any) -> None:
    """The front is not empty, every pick is a cell of the run, and the control takes no part in either."""
    cells = {f"digits_cnn/{config}" for config in CONFIGS}
    front = digits.results["front"]
    assert set(front) == cells
    assert any(entry["on_front"] for entry in front.values())
    picks = {pick["aim"]: pick["cell"] for pick in digits.results["picks"]}
    assert set(picks.values()) <= cells
    assert picks["the smallest artifact"] in {f"digits_cnn/{config}" for config in STATIC}
    # An aim that noise leaves undecided is listed instead of its pick.
    assert len(picks) + len(digits.results["undecided"]) == len(METRICS)
    assert {axis["metric"] for axis in digits.results["axes"]} == set(METRICS)


def test_what_is_written_bears_the_name_of_the_workload(digits: Any) -> None:
    """Results of a workload that is not the default lie in a folder of its name, which the title has too."""
    assert digits.folder.parts[-3:] == ("artifacts", "results", "digits_cnn")
    title = digits.table.splitlines()[0]
    assert title.startswith("#")
    assert "digits_cnn" in title
    for config in CONFIGS:
        assert config in digits.table
        assert config in digits.out


def test_the_samples_are_where_the_results_say(digits: Any, recording: Recording) -> None:
    """Every measurement names its raw samples, and its value can be computed from them."""
    # There are logs, too, where a library has printed a warning.
    names = sorted(path.name for path in digits.folder.iterdir() if path.is_file())
    reports = ["pareto.md", "pareto.svg", "report.html"]
    assert names == sorted(["full_results.json", *reports, digits.results["run"]["samples"]])
    with np.load(digits.folder / digits.results["run"]["samples"]) as arrays:
        for measurement in digits.results["measurements"]:
            file, _, key = measurement["samples_ref"].partition("#")
            assert file == digits.results["run"]["samples"]
            assert len(arrays[key]) >= measurement["n"]
    latency = recording.series["digits_cnn/fp32_baseline"][Figure("latency", Point(1))]
    medians = [np.median(latency.values[latency.wave == wave]) for wave in np.unique(latency.wave)]
    assert digits.measurement("fp32_baseline", "latency")["value"] == pytest.approx(np.median(medians))


def test_rounds_go_in_an_order_that_changes_and_is_recorded(digits: Any, recording: Recording) -> None:
    """Each round has the cells in an order of its own, which the samples record."""
    cells = [f"digits_cnn/{config}" for config in (*CONFIGS, "control")]
    orders = []
    series = {cell: recording.series[cell][Figure("latency", Point(1))] for cell in cells}
    measuring = digits.results["run"]["measuring"]
    most_rounds, counts = measuring["rounds"]["latency"]["1"], []
    baseline = series["digits_cnn/fp32_baseline"]
    for wave in range(measuring["waves"]):
        counts.append(len(np.unique(baseline.round[baseline.wave == wave])))
        for number in range(counts[-1]):
            places = {
                cell: np.unique(samples.position[(samples.wave == wave) & (samples.round == number)])
                for cell, samples in series.items()
            }
            assert sorted(int(place) for (place,) in places.values()) == list(range(len(cells)))
            orders.append(tuple(int(place) for (place,) in places.values()))
    assert max(counts) == most_rounds
    assert len(set(orders)) > min(len(orders), math.factorial(len(cells))) / 2


def test_figures_computed_again_are_the_same(digits: Any) -> None:
    """The figures that a run has written can be computed again from the samples that it has kept."""
    written = read(digits.folder / "full_results.json")
    recording = Recording.read(digits.folder / digits.results["run"]["samples"])
    assert differences(recompute(written, recording), written) == []


def test_every_cell_is_launched_in_every_wave(digits: Any) -> None:
    """A first look has three waves, with two launches of every cell: one is timed, one tells its memory."""
    measuring = digits.results["run"]["measuring"]
    assert measuring["waves"] == 3
    assert measuring["ended_by"] in ("precision", "budget")
    assert measuring["deaths"] == []
    assert measuring["fresh_waves"] == 3
    assert {cell["launches"] for cell in digits.results["cells"].values()} == {6}
    control = digits.cell("control")
    assert control["control"]
    assert control["config"] == "fp32_baseline"
    floors = {floor["metric"] for floor in digits.results["noise_floor"]}
    assert {"latency", "rss"} <= floors


def test_what_the_run_was_is_recorded(digits: Any) -> None:
    """Seed, engine, batch sizes, baseline, fingerprints and environment stand in the results."""
    run, environment = digits.results["run"], digits.results["environment"]
    assert run["seed"] == 0
    assert run["threads"] == 1
    assert run["points"] == [{"batch_size": 1}]
    assert run["calibration_n"] is None
    assert [digits.cell(config)["options"] for config in CONFIGS] == [
        {},
        {"weight_scales": "per_tensor", "float_layers": ""},
        *[{"calibration_n": 256, "float_layers": ""}] * len(STATIC),
    ]
    assert run["baseline"] == "digits_cnn/fp32_baseline"
    assert run["engine"] in environment["runtime"]["engines"]
    workload = run["workloads"]["digits_cnn"]
    assert {len(workload[f"{part}_sha256"]) for part in ("weights", "evaluation")} == {64}
    assert {count: len(sha) for count, sha in workload["calibrations"].items()} == {"256": 64}
    assert workload["options"] == {"epochs": 15}
    assert (
        environment["distributions"]["torch"].partition("+")[0]
        == (environment["runtime"]["torch"].partition("+")[0])
    )
    assert {cell["build_seconds"] > 0 for cell in digits.results["cells"].values()} == {True}


def test_results_are_read_as_they_were_written(digits: Any) -> None:
    """Reading the results and writing them again gives the same file."""
    text = (digits.folder / "full_results.json").read_text(encoding="utf-8")
    assert to_json(read(digits.folder)) == text


def test_launches_import_no_more_than_they_serve_with(digits: Any) -> None:
    """A launch of an eager artifact imports torch, and no package that decodes data or prints tables."""
    for config in CONFIGS:
        packages = set(digits.measurement(config, "loaded_modules")["details"]["packages"])
        assert "torch" in packages
        assert not packages & {"torchvision", "sklearn", "PIL", "scipy", "rich", "tabulate", "cattrs"}


def test_the_same_seed_gives_the_same_bits(
    rebuilt: Any, digits: Any, recording: Recording, cache: Path
) -> None:
    """A second run with ``--rebuild`` builds anew, and artifacts and predictions are the same bit for bit."""
    before, done = rebuilt
    assert done.code == 0, done.err
    second = Recording.read(done.folder / done.results["run"]["samples"])
    for config in before:
        cell = done.cell(config)
        assert not cell["build_cached"]
        assert cell["build"] == digits.cell(config)["build"]
        assert {"artifact/manifest.json", "artifact/model.pt", "probe.npz"} == set(before[config])
        assert artifact_files(cache, cell) == before[config]
        first, again = (kept.outputs[f"digits_cnn/{config}"] for kept in (recording, second))
        assert list(first) == list(again) == ["output"]
        assert first["output"].tobytes() == again["output"].tobytes()
        accuracies = [run.measurement(config, "accuracy")["value"] for run in (done, digits)]
        assert accuracies[0] == accuracies[1]


def test_without_a_metric_of_launches_nothing_is_launched(rebuilt: Any) -> None:
    """A run of metrics that need no launches has no waves, and says that there was nothing to repeat."""
    _, done = rebuilt
    assert done.results["run"]["measuring"]["waves"] == 0
    assert done.results["run"]["measuring"]["ended_by"] == "nothing to repeat"
    assert {measurement["metric"] for measurement in done.measurements()} == {"accuracy", "file_size"}
