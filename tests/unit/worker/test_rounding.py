"""How layers are rounded in the simulation that ``qx layers`` and ``qx search`` rank them by."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import torch
from torch import nn

from qx import Context, PluginError, Rounding
from qx.report.layers import rounding_words
from qx.worker.layers import _simulate, rounded_weight, rounding_of

#: Two output channels, the second of which has weights a hundred times as large.
WEIGHT = torch.tensor([[0.1, -0.35, 0.6, 0.7], [10.0, -35.0, 60.0, 70.0]])


@pytest.mark.parametrize(
    ("rounding", "expected"),
    [
        # One scale for each channel, of which 7 is the largest multiple: 0.1 and 10.
        (Rounding(weight_bits=4), [[0.1, -0.4, 0.6, 0.7], [10.0, -40.0, 60.0, 70.0]]),
        # One scale of 10 for the layer: the small channel is lost.
        (Rounding(weight_bits=4, per_channel=False), [[0.0, 0.0, 0.0, 0.0], [10.0, -40.0, 60.0, 70.0]]),
        # Scales of 0.05 and 0.1, 5 and 10.
        (Rounding(weight_bits=4, group_size=2), [[0.1, -0.35, 0.6, 0.7], [10.0, -35.0, 60.0, 70.0]]),
        # Groups of three do not divide a channel of four.
        (Rounding(weight_bits=4, group_size=3), [[0.1, -0.4, 0.6, 0.7], [10.0, -40.0, 60.0, 70.0]]),
        # Of 2 bits only -1, 0 and 1 are left.
        (Rounding(weight_bits=2), [[0.0, -0.7, 0.7, 0.7], [0.0, -70.0, 70.0, 70.0]]),
    ],
)
def test_weights_are_rounded_as_the_config_does(rounding: Rounding, expected: list[list[float]]) -> None:
    """Each weight becomes the nearest multiple of the scale with which the largest of its group fits."""
    # -0.35 lies a hair off the middle between two multiples.
    weight = WEIGHT * torch.tensor([[1.0, 1.001, 1.0, 1.0]])
    torch.testing.assert_close(rounded_weight(weight, rounding), torch.tensor(expected), atol=0.08, rtol=0.01)


def test_a_weight_of_more_dimensions_has_its_shape() -> None:
    """A convolution's weights are rounded over all but their first dimension."""
    weight = torch.randn(4, 3, 2, 2)
    rounded = rounded_weight(weight, Rounding())
    assert rounded.shape == weight.shape
    step = weight.abs().amax(dim=(1, 2, 3), keepdim=True) / 127
    assert bool(((rounded - weight).abs() <= step / 2 * 1.001).all())


def simulated(layer: nn.Module, rounding: Rounding, inputs: torch.Tensor) -> torch.Tensor:
    """Return what the simulation of a layer gives for inputs."""
    from qx.worker.layers import _Call

    model = nn.Sequential(layer)
    outputs: torch.Tensor = _simulate(model, rounding).quantized("0", _Call((inputs,), {}, None), None)
    return outputs


def test_what_stays_in_float_is_not_rounded() -> None:
    """Without bits of activations the inputs are exact, and without bits of weights these are."""
    layer, inputs = nn.Linear(8, 4).eval(), torch.randn(5, 8)
    with torch.no_grad():
        exact = layer(inputs)
        in_float = Rounding(weight_bits=None, activation_bits=None)
        assert torch.equal(simulated(layer, in_float, inputs), exact)
        errors = [
            float((simulated(layer, rounding, inputs) - exact).square().sum())
            for rounding in (
                Rounding(weight_bits=None, activation_bits=16),
                Rounding(weight_bits=None),
                Rounding(weight_bits=None, activation_bits=4),
            )
        ]
    assert 0 < errors[0] < errors[1] < errors[2]


def test_transposed_convolutions_have_their_channels_in_the_second_dimension() -> None:
    """A large output channel costs the others nothing."""
    layer = nn.ConvTranspose2d(2, 2, 1, bias=False).eval()
    with torch.no_grad():
        layer.weight[:] = torch.tensor([[0.3, 300.0], [0.7, 700.0]]).reshape(2, 2, 1, 1)
        outputs = simulated(layer, Rounding(activation_bits=None), torch.ones(1, 2, 1, 1))
    assert outputs[0, 0].item() == pytest.approx(1.0, rel=0.01)


class Bound:
    """A config, with what its hook gives; a class has no hook."""

    name = "mine"

    def __init__(self, *values: object) -> None:
        self.values = values

    def implements(self, hook: str) -> bool:
        """Return whether it has the hook."""
        return bool(self.values)

    def call(self, hook: str) -> object:
        """Return what the hook gives."""
        return self.values[0]


def test_a_config_without_the_hook_has_8_bits() -> None:
    """No hook, and a hook that gives None, mean the usual rounding; anything else is an error in words."""
    bound: Any
    for bound in (Bound(), Bound(None)):
        assert rounding_of(bound) == Rounding()
    own = Rounding(weight_bits=4)
    bound = Bound(own)
    assert rounding_of(bound) is own
    bound = Bound({"weight_bits": 4})
    with pytest.raises(PluginError, match=r"^mine: rounding gave a dict, expected qx\.Rounding$"):
        rounding_of(bound)


@pytest.mark.parametrize(
    "fields",
    [
        {"weight_bits": 1},
        {"weight_bits": 17},
        {"activation_bits": "8"},
        {"group_size": 0},
        {"group_size": 32, "per_channel": False},
    ],
)
def test_what_no_layer_can_have_is_refused(fields: dict[str, Any]) -> None:
    """Bits that no integer type has, and groups without channels, are errors of the plugin's author."""
    with pytest.raises((TypeError, ValueError)):
        Rounding(**fields)


@pytest.mark.parametrize(
    ("config", "options", "words"),
    [
        (
            "onnxruntime_static_int8_per_tensor",
            {"weight_bits": 4, "activation_bits": 16},
            "weights of 4 bits and a scale for each layer, inputs of 16 bits by their range",
        ),
        (
            "onnxruntime_weight_only",
            {"bits": 4, "group_size": 64, "arithmetic": "fp32"},
            "weights of 4 bits and a scale for each group of 64, inputs in float",
        ),
        (
            "openvino_weight_only",
            {"bits": 8, "group_size": 64},
            "weights of 8 bits and a scale for each output channel, inputs in float",
        ),
        (
            "llama_cpp_weight_only",
            {"type": "q6_k"},
            "weights of 6 bits and a scale for each group of 32, inputs of 8 bits by their range",
        ),
    ],
)
def test_configs_say_what_their_options_do(config: str, options: dict[str, Any], words: str) -> None:
    """The hook of a built-in config follows its options, and the report says what is simulated."""
    module: Any = import_module(f"qx_plugins.configs.{config}")
    assert rounding_words(module.rounding(Context(options=options))) == words
