"""Further builds of a run: other calibration items and seeds, evaluated and not timed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qx.contract.figures import Figure
from qx.results.recording import Recording

#: A config that adds noise to its weights. What it saw and drew are in its file.
NOISY = """
    from qx import Artifact, Config, hookimpl

    @hookimpl
    def describe():
        return Config(name="NAME", summary="Noisy."RECORD)

    @hookimpl
    def convert(model, context):
        import numpy
        FIRST
        weight, bias = (tensor.detach().numpy() for tensor in (model.weight, model.bias))
        weight = weight + numpy.random.RandomState(SEED).randn(3, 4).astype("float32")
        seen = getattr(model, "seen", numpy.zeros(1))
        numpy.savez(
            context.folder / "model.npz", weight=weight, bias=bias, seen=seen, seed=SEED, plain=bias
        )
        return Artifact(
            folder=context.folder, files=["model.npz"], loader="toy_numpy", details={"config": "NAME"}
        )
"""
CALIBRATE = """
    @hookimpl
    def calibrate(model, batches):
        import torch
        model.seen = torch.cat([torch.from_numpy(batch.inputs["point"].copy()) for batch in batches])
        return model
"""


def noisy(
    write: Callable[[str, str], str],
    name: str,
    record: str = "",
    first: str = "pass",
    seed: str = "context.seed",
) -> str:
    """Write a config whose noise has this seed, and return its path."""
    source = NOISY.replace("NAME", name).replace("RECORD", record).replace("SEED", seed)
    return write(name, source.replace("FIRST", first) + (CALIBRATE if record else ""))


@pytest.fixture(scope="module")
def arguments(toy: Any, write_plugin: Callable[[str, str], str]) -> list[object]:
    """The command line of a run of three builds."""
    failing = "if context.seed == 5: raise ValueError('this seed')"
    configs = [
        noisy(write_plugin, "drawing", ", calibration=True", first=failing),
        noisy(write_plugin, "secret"),
    ]
    words = [word for name in ("accuracy", "file_size") for word in ("-m", name)]
    return [
        "run", *toy.arguments(*configs), "--seed", 3, "--build-seeds", 3, "--calibration-n", 40,
        "--quick", "--budget", 0.01, *words,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def done(qx: Callable[..., Any], arguments: list[object], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run of three builds, one of which fails."""
    return qx(*arguments, "--out", tmp_path_factory.mktemp("built") / "out")


def artifact(cache: Path, build: dict[str, Any]) -> Any:
    """Return the arrays of a build in the cache."""
    with np.load(cache / "builds" / build["build"] / "artifact" / "model.npz") as arrays:
        return dict(arrays)


def test_a_config_that_calibrates_is_built_with_each_seed(done: Any, cache: Path) -> None:
    """Each build has its own images and its own seed, and the model of the first."""
    cell = done.cell("drawing")
    assert [build["seed"] for build in cell["further_builds"]] == [4, 5]
    first, second = (artifact(cache, build) for build in (cell, cell["further_builds"][0]))
    assert (int(first["seed"]), int(second["seed"])) == (3, 4)
    assert first["seen"].shape == second["seen"].shape == (40, 4)
    assert (first["seen"] != second["seen"]).any() and (first["plain"] == second["plain"]).all()
    workload = done.results["run"]["workloads"]["toy"]
    assert list(workload["further_calibrations"]) == ["4", "5"]
    draws = [workload["calibrations"], *workload["further_calibrations"].values()]
    assert len({draw["40"] for draw in draws}) == 3


def test_each_build_is_evaluated(done: Any) -> None:
    """The values by seed are those of the samples that were recorded, and the first is the measurement's."""
    spread = done.measurement("secret", "accuracy")["builds"]
    recording = Recording.read(done.folder / done.results["run"]["samples"])
    for seed in (4, 5):
        values = recording.further["toy/secret", seed][Figure("accuracy")].values
        assert spread["values"][str(seed)] == values.mean()
    assert spread["values"]["3"] == done.measurement("secret", "accuracy")["value"]
    assert spread["deviation"] > 0 and spread["vs_baseline"]["ci"] is not None
    assert done.measurement("secret", "file_size")["builds"]["deviation"] == 0


def test_what_does_not_draw_is_built_twice_and_is_equal(done: Any) -> None:
    """Another seed shows that a build has no randomness, by the digests of its files."""
    (build,) = done.cell("toy_fp32")["further_builds"]
    assert (build["seed"], build["same_as"], build["outcome"]) == (4, 3, "ok")
    assert "no randomness" in done.table


def test_what_draws_in_secret_is_built_with_all_seeds(done: Any) -> None:
    """A config that says nothing of data, and whose artifact depends on the seed, is found out."""
    builds = done.cell("secret")["further_builds"]
    assert [(build["seed"], build["same_as"]) for build in builds] == [(4, None), (5, None)]


def test_a_build_that_fails_costs_its_seed(done: Any) -> None:
    """The other builds go on, the cell has ended well, and the run says what is missing."""
    cell = done.cell("drawing")
    assert cell["outcome"] == "ok"
    assert [build["outcome"] for build in cell["further_builds"]] == ["ok", "failed"]
    assert list(done.measurement("drawing", "accuracy")["builds"]["values"]) == ["3", "4"]
    assert done.code == 1
    assert done.results["run"]["failures"] == ["drawing: the build with seed 5: failed"]
    assert "drawing, build with seed 5: failed in convert: ValueError: this seed" in done.err
    assert "`drawing`, build with seed 5: **failed** in convert: ValueError: this seed" in done.table


def test_the_report_is_written_again_from_the_samples(done: Any, qx: Callable[..., Any]) -> None:
    """The whole report has the table of builds, with the figures of the run."""
    report = qx("report", "-v", done.folder)
    assert report.code == 0 and "Builds." in report.out and "no randomness" in report.out


@pytest.mark.slow
def test_builds_are_found_again(done: Any, qx: Callable[..., Any], arguments: list[object]) -> None:
    """A second run takes every build from the cache and has the same values."""
    again = qx(*arguments, "--out", done.folder.parent / "again")
    assert all(build["build_cached"] for build in again.cell("secret")["further_builds"])
    first, second = (run.measurement("secret", "accuracy")["builds"] for run in (done, again))
    assert first == second


@pytest.mark.parametrize("number", ["0", "51", "many"])
def test_numbers_that_cannot_be_are_refused(qx: Callable[..., Any], toy: Any, number: str) -> None:
    """One line names the option and what was expected."""
    refused = qx("run", *toy.arguments(), "--build-seeds", number)
    assert refused.code == 2 and "--build-seeds" in refused.err.splitlines()[-1]
