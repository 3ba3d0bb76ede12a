"""The recipes and the metric: what they compute, and that qx finds and runs them through the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from qx import Predictions, Unsupported
from qx_extras import bias_corrected_int8, equalized_int8, log_loss


def qx(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"QX_OFFLINE": "1", "QX_CACHE": str(cwd / "cache")}
    command = [sys.executable, "-m", "qx", *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "layer",
    [
        torch.nn.Linear(6, 5),
        torch.nn.Conv2d(6, 4, 1),
        torch.nn.Conv2d(6, 4, 3),
        torch.nn.Conv2d(6, 4, 3, groups=2),
    ],
    ids=str,
)
def test_the_shift_is_what_rounding_does_to_the_mean(layer: torch.nn.Module) -> None:
    """The shift is exact for constant inputs, where all of a kernel sees their mean."""
    layer.qconfig = torch.ao.quantization.default_qconfig
    mean = torch.rand(6)
    inputs = (
        mean.expand(2, 6) if isinstance(layer, torch.nn.Linear) else mean.view(1, 6, 1, 1).expand(2, 6, 4, 4)
    )
    observed = bias_corrected_int8.InputMean()
    observed(layer, (inputs,))
    torch.testing.assert_close(observed.mean, mean)
    with torch.no_grad():
        before = layer(inputs)
        expected = bias_corrected_int8.shift(layer, mean)
        layer.weight.copy_(bias_corrected_int8.rounded(layer))
        moved = (layer(inputs) - before).transpose(1, -1).reshape(-1, len(expected))
    assert expected.abs().max() > 1e-4
    torch.testing.assert_close(moved, expected.expand_as(moved), rtol=1e-3, atol=1e-6)


class Net(torch.nn.Module):
    """Layers of all kinds in a row, with channels of very unequal weights."""

    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 3, bias=False),
            torch.nn.BatchNorm2d(8),
            torch.nn.ReLU(),
            torch.nn.MaxPool2d(2),
            torch.nn.Conv2d(8, 6, 3),
            torch.nn.ReLU(),
            torch.nn.Flatten(),
            torch.nn.Linear(6 * 9, 5),
        )
        with torch.no_grad():
            self.body[1].weight.copy_(torch.logspace(-2, 1, 8))
            self.body[1].bias.uniform_()
            self.body[1].running_var.uniform_(0.5, 2)
            self.body[4].weight.mul_(torch.logspace(-2, 1, 6).view(-1, 1, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return five numbers for each image."""
        return self.body(images)


def test_equalized_layers_compute_the_same_with_equal_ranges() -> None:
    """The outputs stay, and a channel takes as much of the range of one layer as of the other."""
    torch.manual_seed(0)
    model, images = Net().eval(), torch.rand(4, 3, 12, 12)
    body = model.body
    with torch.no_grad():
        expected = model(images)
        found = equalized_int8.pairs(model)
        assert [tuple(map(id, pair)) for pair in found] == [
            (id(body[0]), id(body[1]), id(body[4])),
            (id(body[4]), id(None), id(body[7])),
        ]
        equalized_int8.equalize(*found[1])
        torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-5)
        own = body[4].weight.flatten(1).abs().amax(dim=1)
        torch.testing.assert_close(own, body[7].weight.t().reshape(6, -1).abs().amax(dim=1))
        assert own.max() / own.min() < 100  # three orders of magnitude before
        equalized_int8.equalize(*found[0])
        torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-5)


def test_a_model_without_two_such_layers_is_refused() -> None:
    """The message names the model."""
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Sigmoid(), torch.nn.Linear(4, 2))
    with pytest.raises(Unsupported, match="Sequential has no two layers between which channels"):
        equalized_int8.pairs(model)


def test_the_log_loss_is_that_of_the_softmax() -> None:
    """The loss is right for odds of three to one, and for scores whose exponentials are not finite."""
    outputs = {"output": np.array([[np.log(3), 0], [np.log(3), 0], [2000, 0]], dtype=np.float32)}
    targets = {"labels": np.array([0, 1, 0])}
    losses = log_loss.measure(Predictions(outputs=outputs, targets=targets, classes=()))
    np.testing.assert_allclose(losses, [np.log(4 / 3), np.log(4), 0], rtol=1e-6)
    assert log_loss.measure(Predictions(outputs=outputs, targets={}, classes=())) is None


def test_qx_lists_them_under_this_distribution(tmp_path: Path) -> None:
    """All plugins are ready, each from its entry point."""
    plugins = json.loads(qx("list", "--json", cwd=tmp_path).stdout)
    states = {plugin["name"]: plugin["state"] for plugin in plugins if plugin["distribution"] == "qx-extras"}
    assert states == dict.fromkeys(["bias_corrected_int8", "equalized_int8", "log_loss"], "ready")


def test_qx_runs_them(tmp_path: Path) -> None:
    """A run measures the recipes by the metric, and their files have under 0.3 of the baseline's bytes."""
    process = qx(
        "run", "--workload", "digits_cnn", "-c", "bias_corrected_int8", "-c", "equalized_int8",
        "-m", "log_loss", "-m", "accuracy", "--calibration-n", "64",
        "-m", "file_size", "--set", "equalized_int8.scales=tensor", "--out", "out", cwd=tmp_path,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    results = json.loads((tmp_path / "out" / "full_results.json").read_text())
    for config in ("bias_corrected_int8", "equalized_int8"):
        measurements = {
            measurement["metric"]: measurement
            for measurement in results["measurements"]
            if measurement["config"] == config
        }
        assert measurements["file_size"]["vs_baseline"]["value"] < 0.3
        assert measurements["accuracy"]["value"] > 0.9
        assert measurements["log_loss"]["outcome"] == "ok"
        assert measurements["log_loss"]["vs_baseline"]["ci"] is not None
