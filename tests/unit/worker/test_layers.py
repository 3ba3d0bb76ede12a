"""The comparison of layers: errors of single layers, and what is unusual of weights and outputs."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import nn

from qx import Rounding
from qx.processes.job_answers import LayerFigures
from qx.worker import layers
from qx.worker.ratios import MOST_DECIBELS

NAMES = ("first", "second", "third")


def network(**scales: float) -> nn.Sequential:
    """Return three linear layers; of one that is named the first column of weights is scaled."""
    torch.manual_seed(0)
    model = nn.Sequential(
        OrderedDict(first=nn.Linear(8, 16), relu=nn.ReLU(), second=nn.Linear(16, 16), third=nn.Linear(16, 4))
    ).eval()
    with torch.no_grad():
        model.get_submodule("first").weight[0] = 0.0  # type: ignore[operator]
        model.get_submodule("first").bias[0] = 0.0  # type: ignore[operator]
        for name, scale in scales.items():
            model.get_submodule(name).weight[:, 0] *= scale  # type: ignore[operator]
    return model


def figures_of(pair: Any, model: nn.Module, batches: int = 2) -> dict[str, LayerFigures]:
    """Return the figures of all layers of a pair of models for some noise."""
    generator = torch.Generator().manual_seed(1)
    figures = {name: layers._Figures() for name in NAMES}
    with torch.no_grad():
        for number in range(batches):
            inputs = (torch.randn(16, 8, generator=generator),)
            pair.compare(inputs, figures, with_effects=number == 0)
    return {
        name: figure.record(name, 0, layers._weight_range(model.get_submodule(name)))
        for name, figure in figures.items()
    }


def decibels(value: float | None) -> float:
    """Return a ratio that must be known."""
    assert value is not None
    return value


@pytest.mark.parametrize("injured", ["second", "third"])
def test_a_layer_with_useless_large_weights_is_the_worst(injured: str) -> None:
    """Weights that meet no signal, since their channel is always 0, cost all others of a layer their bits."""
    model = network(**{injured: 300.0} if injured == "second" else {})
    if injured == "third":
        with torch.no_grad():
            model.get_submodule("second").weight[0] = 0.0  # type: ignore[operator]
            model.get_submodule("second").bias[0] = 0.0  # type: ignore[operator]
            model.get_submodule("third").weight[:, 0] *= 300.0  # type: ignore[operator]
    found = figures_of(layers._simulate(model, Rounding()), model)
    assert min(NAMES, key=lambda name: decibels(found[name].alone)) == injured
    assert min(NAMES, key=lambda name: decibels(found[name].made)) == injured
    assert all(found[name].arrived is None for name in NAMES)


def test_dead_and_constant_channels_are_counted() -> None:
    """A row of weights of 0 is a dead channel, and what it gives is constant."""
    model = network()
    found = figures_of(layers._simulate(model, Rounding()), model)
    first = found["first"]
    assert first.weights is not None
    assert first.outputs is not None
    assert (first.weights.channels, first.weights.dead_channels) == (16, 1)
    assert (first.outputs.channels, first.outputs.constant_channels) == (16, 1)
    assert found["second"].outputs is not None
    assert found["second"].outputs.constant_channels == 0


def test_a_channel_of_large_weights_is_seen() -> None:
    """The spread is the largest channel over the median one, by rows of a linear layer."""
    model = network()
    with torch.no_grad():
        model.get_submodule("second").weight[3] *= 50.0  # type: ignore[operator]
    weights = layers._weight_range(model.get_submodule("second"))
    assert weights is not None
    assert 30 < decibels(weights.spread) < 70
    assert decibels(weights.peak) > 50
    assert layers._weight_range(nn.ReLU()) is None


def test_outputs_that_are_not_finite_are_said_and_break_nothing() -> None:
    """Infinite activations leave errors unknown instead of raising."""
    model = network()
    with torch.no_grad():
        model.get_submodule("second").bias[0] = torch.inf  # type: ignore[operator]
    found = figures_of(layers._simulate(model, Rounding()), model)
    outputs = found["second"].outputs
    assert outputs is not None
    assert not outputs.is_finite
    assert outputs.low is None
    assert found["second"].made is None


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_errors_grow_along_the_network_and_clipping_is_seen() -> None:
    """A layer in 8 bits is fed with inputs rounded as in its own network, and its range clips outputs."""
    from torch.ao.nn import quantized

    class Quantized(nn.Module):
        def __init__(self, plain: nn.Sequential) -> None:
            super().__init__()
            self.quant = quantized.Quantize(0.05, 64, torch.quint8)
            self.first = self._layer(plain.get_submodule("first"), scale=0.02)
            self.relu = nn.ReLU()
            self.second = self._layer(plain.get_submodule("second"), scale=0.001)
            self.third = self._layer(plain.get_submodule("third"), scale=0.02)

        @staticmethod
        def _layer(layer: Any, scale: float) -> Any:
            observed = layer
            observed.qconfig = torch.ao.quantization.default_qconfig
            observed.activation_post_process = torch.ao.quantization.FixedQParamsObserver(
                scale=scale, zero_point=64
            )
            return quantized.Linear.from_float(observed)

        def forward(self, values: torch.Tensor) -> torch.Tensor:
            steps = self.relu(self.first(self.quant(values)))
            outputs: torch.Tensor = self.third(self.second(steps)).dequantize()
            return outputs

    model, plain = network(), network()
    module = Quantized(plain)

    def quantized_layer(name: str, call: Any, own: Any) -> Any:
        arguments, named = layers._quantized_as((call.arguments, call.named), (own.arguments, own.named))
        return module.get_submodule(name)(*arguments, **named)

    found = figures_of(layers._Pair(model, module, quantized_layer), model)
    assert decibels(found["third"].arrived) < decibels(found["third"].made)
    second = found["second"].outputs
    third = found["third"].outputs
    assert second is not None
    assert third is not None
    assert second.clipped is not None
    assert second.clipped > 0.1
    assert third.clipped == 0


def test_an_error_that_is_not_finite_is_the_largest() -> None:
    """A layer that overflows in 8 bits alone comes first, instead of having no error."""
    ratio = layers._Ratio()
    ratio.add(torch.ones(2, 2), torch.full((2, 2), torch.inf))
    assert ratio.decibels == -MOST_DECIBELS
    unknown = layers._Ratio()
    unknown.add(torch.full((2, 2), torch.nan), torch.ones(2, 2))
    assert unknown.decibels is None


@pytest.mark.parametrize("value", [torch.inf, torch.nan])
def test_weights_that_are_not_finite_have_no_range(value: float) -> None:
    """Weights of infinity or NaN leave ranges unknown, since JSON has no number for them."""
    layer = nn.Linear(8, 4)
    with torch.no_grad():
        layer.weight[1, 1] = value
    weights = layers._weight_range(layer)
    assert weights is not None
    assert (weights.low, weights.high, weights.channels, weights.spread) == (None, None, 4, None)


def test_a_layer_without_a_weight_has_no_range() -> None:
    """A layer of no inputs has a weight of no elements."""
    layer = nn.Linear(8, 4)
    layer.weight = nn.Parameter(torch.empty(4, 0))
    assert layers._weight_range(layer) is None
