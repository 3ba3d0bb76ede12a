"""Groups of weights that do not divide a layer: which layers these are, and what is said of them."""

from __future__ import annotations

from qx_plugins.recipes.group_sizes import describe_layers, undivided_layers
from qx_plugins.recipes.linears import left_in_float, multiples
from torch import nn

from qx import FloatLayers

MODEL = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 24), nn.LSTM(24, 16))


def test_layers_are_named_with_their_inputs() -> None:
    """Linear and recurrent ones, but for those that stay in float."""
    assert undivided_layers(MODEL, 16, FloatLayers()) == {"3": (24, 16)}
    layers = undivided_layers(MODEL, 32, FloatLayers())
    assert describe_layers(layers) == "'2' (48 inputs), '3' (24 and 16 inputs)"
    assert undivided_layers(MODEL, 32, FloatLayers(["2"])) == {"3": (24, 16)}


def test_a_message_names_the_first_of_many_layers() -> None:
    """And counts the others."""
    model = nn.Sequential(*(nn.Linear(10, 10) for _ in range(6)))
    text = describe_layers(undivided_layers(model, 16, FloatLayers()))
    assert text.endswith("'3' (10 inputs) and 2 more")


def test_layers_that_a_kernel_does_not_take_are_in_a_note() -> None:
    """They stay in float, which those that the user has chosen do anyway."""
    kernel = multiples(32, 8)
    (note,) = left_in_float(MODEL, FloatLayers(), kernel)
    assert note == (
        "layer '2' left in float: the kernel takes nn.Linear with inputs in multiples of 32 and outputs in "
        "multiples of 8"
    )
    assert left_in_float(MODEL, FloatLayers(["2"]), kernel) == ()
