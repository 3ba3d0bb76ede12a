"""A run whose outputs count as too large to be kept with the samples."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qx.analysis.recompute import read_samples

METRIC = """
    from qx import Metric, hookimpl

    @hookimpl
    def describe():
        return Metric(
            name="top", summary="The highest output.", unit="points", better="neither", samples="per_item",
            compare="difference", phase="{phase}", by_parts=True,
        )

    @hookimpl
    def measure(data):
        output = data.outputs["output"]
        assert not output.flags.writeable
        return output.max(axis=1)
"""


@pytest.fixture(scope="module")
def done(
    qx: Callable[..., Any],
    toy: Any,
    cache: Path,
    write_plugin: Callable[[str, str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:
    """Run two cells of the toy with a metric that is measured in parts; no output is small enough to keep."""
    plugins = [
        toy.config("half", first="import torch; model.weight.data *= torch.tensor([[0.1], [1.0], [1.0]])"),
        write_plugin("top", METRIC.format(phase="predictions")),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(import_module("qx.runner.assembly"), "MOST_OUTPUT_BYTES", 0)
        return qx(
            *("run", *toy.arguments(*plugins), "--quick", "--budget", 0.01, "--batch-size", 1),
            *("-m", "top", "-m", "sqnr", "-m", "agreement", "-m", "accuracy"),
            *("--out", "out"),
            cwd=tmp_path_factory.mktemp("large"),
        )


def test_outputs_are_left_out_and_figures_are_not(done: Any, cache: Path) -> None:
    """Every figure is there, the samples have traces of the outputs, and the folder of outputs is gone."""
    assert (done.code, done.results["run"]["failures"]) == (0, [])
    workload = done.results["run"]["workloads"]["toy"]
    # Two cells, 36 points, 3 floats of 4 bytes each.
    assert workload["outputs_not_kept"] == 2 * 36 * 3 * 4
    samples = read_samples(done.folder / done.results["run"]["samples"])
    assert samples.outputs == {}
    answers = [samples.answers(f"toy/{config}") for config in ("toy_fp32", "half")]
    assert [None if own is None else (len(own[0]), own[1]) for own in answers] == [(36, 3)] * 2
    agreement = done.measurement("half", "agreement")
    assert answers[0] is not None
    assert answers[1] is not None
    assert agreement["value"] == np.mean(answers[0][0] == answers[1][0]) < 1
    assert done.measurement("half", "top")["n"] == 36
    assert [output["cell"] for output in done.results["outputs"]] == ["toy/half"]
    assert list(cache.glob(".outputs-*")) == []


def test_a_report_computes_the_rest_anew(done: Any, qx: Callable[..., Any], tmp_path: Path) -> None:
    """``qx report`` names what it takes from the file, finds no other figure, and writes an equal page."""
    again = qx("report", done.folder, "--out", tmp_path)
    assert again.code == 0
    assert "toy: the outputs (864 B) were too large to be kept" in again.err
    assert "differ from those in the file" not in again.err
    for name in ("pareto.md", "report.html"):
        assert (tmp_path / name).read_bytes() == (done.folder / name).read_bytes()
