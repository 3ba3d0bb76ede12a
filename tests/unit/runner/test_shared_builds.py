"""Builds that share what they start from: their order, their imports, and what names an export."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from qx_plugins.recipes.naming import name_of_model
from torch import nn

from qx import Config
from qx.results.cells import CellId
from qx.runner.building import in_turns
from qx.runner.workload_run import Run

#: Runtime baselines of configs.
BASELINES = {
    "fp32": None,
    "onnx_fp32": None,
    "onnx_int8": "onnx_fp32",
    "onnx_int4": "onnx_fp32",
    "aot_fp32": None,
    "aot_int8": "aot_fp32",
}


def _run() -> Run:
    """Return a run whose host knows the configs."""

    def entry(kind: str, name: str) -> Any:
        programs = ["cc"] if name.startswith("aot") else []
        record = Config(
            name=name, summary="It quantizes.", runtime_baseline=BASELINES[name], programs=programs
        )
        return SimpleNamespace(record=record)

    return cast("Run", SimpleNamespace(host=SimpleNamespace(get=entry)))


def test_runtimes_take_turns() -> None:
    """The first cell of each runtime comes first, so that what it makes is there for the second.

    Those that compile take longest, and come before the others.
    """
    cells = {name: CellId(workload="w", config=name) for name in BASELINES}
    assert [*in_turns(_run(), cells)] == [
        "aot_fp32",
        "fp32",
        "onnx_fp32",
        "aot_int8",
        "onnx_int8",
        "onnx_int4",
    ]
    assert in_turns(_run(), cells) == cells
    assert in_turns(_run(), {}) == {}


def test_only_modules_of_torch_are_imported_for_several_builds() -> None:
    """A record that names another module is refused: it would run where all builds come from."""
    assert Config(name="a", summary="A config.", imports=["torch", "torch.onnx"]).imports == (
        "torch",
        "torch.onnx",
    )
    for name in ("torchao", "torch_rubbish", "mine.torch", ""):
        with pytest.raises(ValueError, match=r"'imports' must be modules of torch, not"):
            Config(name="a", summary="A config.", imports=[name])


def _network(padding: int = 1) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=padding), nn.BatchNorm2d(4), nn.Flatten()).eval()


def test_the_name_of_an_export_follows_the_model() -> None:
    """Equal models have one name; other weights, buffers, settings, modes or inputs have others."""
    image = (torch.zeros(1, 3, 8, 8),)
    name = name_of_model(_network(), image)
    assert name == name_of_model(_network(), image)

    weights, buffers = _network(), _network()
    with torch.no_grad():
        next(weights.parameters()).view(-1)[0] += 1e-7
        cast("nn.BatchNorm2d", buffers[1]).running_mean.add_(1)  # type: ignore[index,union-attr]
    others = [
        name_of_model(weights, image),
        name_of_model(buffers, image),
        name_of_model(_network(padding=2), image),
        name_of_model(_network().train(), image),
        name_of_model(_network(), (torch.zeros(1, 3, 9, 9),)),
        name_of_model(_network(), (image[0].half(),)),
    ]
    assert len({name, *others}) == 7
