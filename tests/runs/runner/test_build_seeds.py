"""Further builds of a run: other calibration images and seeds, evaluated and not timed."""

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
    def calibrate(model, batches):
        import torch
        model.seen = torch.cat([torch.from_numpy(batch.inputs["point"].copy()) for batch in batches])
        return model

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
SEEDS = 4


def noisy(
    write: Callable[[str, str], str],
    name: str,
    record: str = "",
    first: str = "pass",
    seed: str = "context.seed",
) -> str:
    """Write a config whose noise has this seed, and return its path."""
    source = NOISY.replace("NAME", name).replace("RECORD", record).replace("SEED", seed)
    return write(name, source.replace("FIRST", first))


@pytest.fixture(scope="module")
def arguments(toy: Any, write_plugin: Callable[[str, str], str]) -> list[object]:
    """The command line of a run of four builds."""
    configs = [
        noisy(write_plugin, "drawing", ", calibration=True"),
        noisy(write_plugin, "secret"),
        noisy(write_plugin, "fixed", seed="0"),
        noisy(
            write_plugin,
            "fragile",
            ", calibration=True",
            first="if context.seed == 5: raise ValueError('this seed')",
        ),
    ]
    words = [word for name in ("accuracy", "file_size") for word in ("-m", name)]
    return [
        "run", *toy.arguments(*configs), "--seed", 3, "--build-seeds", SEEDS, "--calibration-n", 40,
        "--quick", "--budget", 0.01, *words,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def done(qx: Callable[..., Any], arguments: list[object], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run of four builds, one of which fails."""
    return qx(*arguments, "--out", tmp_path_factory.mktemp("built") / "out")


def artifact(cache: Path, build: dict[str, Any]) -> Any:
    """Return the arrays of a build in the cache."""
    with np.load(cache / "builds" / build["build"] / "artifact" / "model.npz") as arrays:
        return dict(arrays)


def test_a_config_that_calibrates_is_built_with_each_seed(done: Any, cache: Path) -> None:
    """Each build has its own images and its own seed, and the model of the first."""
    cell = done.cell("drawing")
    assert [build["seed"] for build in cell["further_builds"]] == [4, 5, 6]
    arrays = [artifact(cache, build) for build in (cell, *cell["further_builds"])]
    assert [int(own["seed"]) for own in arrays] == [3, 4, 5, 6]
    assert len({own["seen"].tobytes() for own in arrays}) == SEEDS
    assert {own["seen"].shape for own in arrays} == {(40, 4)}
    assert len({own["plain"].tobytes() for own in arrays}) == 1
    workload = done.results["run"]["workloads"]["toy"]
    splits = [workload["calibrations"]["40"]]
    splits += [draw["40"] for draw in workload["further_calibrations"].values()]
    assert list(workload["further_calibrations"]) == ["4", "5", "6"] and len(set(splits)) == SEEDS


def test_each_build_is_evaluated(done: Any) -> None:
    """The values by seed are those of the samples that were recorded, and the first is the measurement's."""
    spread = done.measurement("drawing", "accuracy")["builds"]
    recording = Recording.read(done.folder / done.results["run"]["samples"])
    for seed in (4, 5, 6):
        values = recording.further["toy/drawing", seed][Figure("accuracy")].values
        assert spread["values"][str(seed)] == values.mean()
    assert spread["values"]["3"] == done.measurement("drawing", "accuracy")["value"]
    assert spread["deviation"] > 0 and spread["vs_baseline"]["ci"] is not None
    assert done.measurement("drawing", "file_size")["builds"]["deviation"] == 0


def test_what_does_not_draw_is_built_twice_and_is_equal(done: Any) -> None:
    """Another seed shows that a build has no randomness; digests say so, not the record."""
    (build,) = done.cell("fixed")["further_builds"]
    assert (build["seed"], build["same_as"], build["outcome"]) == (4, 3, "ok")
    (build,) = done.cell("toy_fp32")["further_builds"]
    assert build["same_as"] == 3
    assert "no randomness" in done.table


def test_what_draws_in_secret_is_built_with_all_seeds(done: Any) -> None:
    """A config that says nothing of data, and whose artifact depends on the seed, is found out."""
    builds = done.cell("secret")["further_builds"]
    assert [(build["seed"], build["same_as"]) for build in builds] == [(4, None), (5, None), (6, None)]
    assert len(done.measurement("secret", "accuracy")["builds"]["values"]) == SEEDS


def test_a_build_that_fails_costs_its_seed(done: Any) -> None:
    """The other builds go on, the cell has ended well, and the run says what is missing."""
    cell = done.cell("fragile")
    assert cell["outcome"] == "ok"
    assert [build["outcome"] for build in cell["further_builds"]] == ["ok", "failed", "ok"]
    assert list(done.measurement("fragile", "accuracy")["builds"]["values"]) == ["3", "4", "6"]
    assert done.code == 1
    assert done.results["run"]["failures"] == ["fragile: the build with seed 5: failed"]
    assert "fragile, build with seed 5: failed in convert: ValueError: this seed" in done.err
    assert "`fragile`, build with seed 5: **failed** in convert: ValueError: this seed" in done.table


def test_builds_are_found_again(done: Any, qx: Callable[..., Any], arguments: list[object]) -> None:
    """A second run takes every build from the cache and has the same values."""
    again = qx(*arguments, "--out", done.folder.parent / "again")
    for config in ("drawing", "secret", "fixed"):
        assert all(build["build_cached"] for build in again.cell(config)["further_builds"])
    first, second = (run.measurement("drawing", "accuracy")["builds"] for run in (done, again))
    assert first == second
    report = qx("report", "-v", again.folder)
    assert report.code == 0 and "Builds." in report.out


@pytest.mark.parametrize("number", ["0", "51", "many"])
def test_numbers_that_cannot_be_are_refused(qx: Callable[..., Any], toy: Any, number: str) -> None:
    """One line names the option and what was expected."""
    refused = qx("run", *toy.arguments(), "--build-seeds", number)
    assert refused.code == 2 and "--build-seeds" in refused.err.splitlines()[-1]
