"""Eager-mode static quantization of transposed convolutions, which torch takes with one scale alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from qx_plugins.configs import (
    qat_int8,
    static_int8_histogram,
    static_int8_per_channel,
    static_int8_per_tensor,
)
from qx_plugins.networks.small_unet import SmallUNet
from qx_plugins.runtimes.torch_eager.converting import convert_to_int8

from qx import Batch, Context

# The observers and torch's quantized tensors warn.
pytestmark = pytest.mark.filterwarnings("ignore")


def _small(*, quantizable: bool) -> SmallUNet:
    torch.manual_seed(0)
    return SmallUNet(channels=3, num_classes=4, width=4, quantizable=quantizable).eval()


def _images(seed: int) -> Any:
    return np.random.default_rng(seed).standard_normal((8, 3, 16, 16), dtype=np.float32)


@pytest.mark.parametrize(
    ("config", "observe"),
    [
        (static_int8_per_tensor, static_int8_per_tensor.calibrate),
        (static_int8_per_channel, static_int8_per_channel.calibrate),
        (static_int8_histogram, static_int8_histogram.calibrate),
        (qat_int8, static_int8_per_channel.calibrate),
    ],
    ids=["per tensor", "per channel", "histogram", "fake quantization"],
)
def test_a_u_net_is_quantized_in_eager_mode(
    config: ModuleType, observe: Callable[..., Any], tmp_path: Path
) -> None:
    """Whatever scales other layers have, transposed convolutions are in 8 bits, near the fp32 outputs."""
    context = Context(folder=tmp_path, engine="x86")
    examples = (torch.from_numpy(_images(0)[:1]),)
    model = config.prepare_model(_small(quantizable=True), examples, context)
    model = observe(model, [Batch(inputs={"image": _images(seed)}) for seed in range(2)])
    module = convert_to_int8(model)
    assert (
        "quantized" in type(module.enlarge_to_half).__module__ or module.enlarge_to_half.weight().is_quantized
    )
    images = torch.from_numpy(_images(9))
    with torch.no_grad():
        expected, outputs = _small(quantizable=False)(images), module(images)
    noise = (outputs - expected).square().sum()
    assert 10 * torch.log10(expected.square().sum() / noise) > 15
