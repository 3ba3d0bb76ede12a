"""The option ``float_layers``: what its patterns match, and what a config does with the layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from qx_plugins.recipes.calibration import observe
from qx_plugins.runtimes.torch_eager.converting import convert_to_int8, prepare_static
from torch import nn

import qx
from qx import Config, Context, Option, Unsupported, UsageError, float_layers
from qx.contract.float_layers import check_layers, chosen_names, layers_with_weights, match_layers
from qx.contract.options import Setting
from qx.contract.records import FLOAT_LAYERS
from qx.testing.network import BenchNet


class Block(nn.Module):
    """Two linear layers with a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(4, 8), nn.Linear(8, 4)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return values ``[batch, 4]``."""
        outputs: torch.Tensor = values + self.down(self.up(values).relu())
        return outputs


class Net(nn.Module):
    """Two blocks, a head, and a second name for the head."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block()])
        self.head = nn.Linear(4, 2)
        self.same = self.head

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return values ``[batch, 2]``."""
        for block in self.blocks:
            values = block(values)
        outputs: torch.Tensor = self.head(values)
        return outputs


LAYERS = ("blocks.0.up", "blocks.0.down", "blocks.1.up", "blocks.1.down", "head")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("head", "head"),
        ("blocks.0", "blocks.0.up blocks.0.down"),
        ("blocks.0.*", "blocks.0.up blocks.0.down"),
        ("blocks.[1-9]*", "blocks.1.up blocks.1.down"),
        ("*.up+head", "blocks.0.up blocks.1.up head"),
        ("blocks.?.down", "blocks.0.down blocks.1.down"),
        ("*", " ".join(LAYERS)),
        ("Head+head", None),
    ],
)
def test_patterns_match_modules_and_all_within(text: str, expected: str | None) -> None:
    """A pattern is a shell's, ``+`` joins several, and a container's name means all in it."""
    if expected is None:
        with pytest.raises(UsageError):
            match_layers(Net(), text)
        return
    matched = match_layers(Net(), text)
    assert [name for name in LAYERS if name in matched] == expected.split()


def test_a_name_is_whole() -> None:
    """``blocks.1`` names neither ``blocks.10`` nor ``block``."""
    net = nn.ModuleDict({"blocks": nn.ModuleList([nn.Linear(1, 1) for _ in range(11)])})
    matched = match_layers(net, "blocks.1")
    assert matched.names == ("blocks.1",)
    assert "blocks.10" not in matched


def test_an_unknown_name_is_refused_with_the_nearest_ones() -> None:
    """The message is one line and has names that the model has."""
    with pytest.raises(UsageError, match=r"no layer 'block\.0\.up' \(nearest: blocks\.0\.up, ") as caught:
        match_layers(Net(), "head+block.0.up")
    assert "\n" not in str(caught.value)


def test_a_second_name_of_a_layer_is_refused_with_the_first() -> None:
    """A layer that is in the model twice has one name here."""
    with pytest.raises(UsageError, match="'same' is the same layer as 'head'"):
        match_layers(Net(), "same")


def test_a_layer_that_is_not_quantized_is_refused() -> None:
    """Where a config does not quantize a layer, or cannot leave it in float, its name is a mistake."""
    check_layers(Net(), "head+blocks.0", ["blocks.0.up", "head"])
    with pytest.raises(UsageError, match=r"'head' names no layer that this config .* \(nearest: blocks"):
        check_layers(Net(), "head", ["blocks.0.up", "blocks.head"])


def test_layers_are_those_with_weights() -> None:
    """Unless a config says otherwise, its layers are the modules with a parameter of two dimensions."""
    assert layers_with_weights(Net()) == LAYERS
    assert layers_with_weights(BenchNet()) == ("features.0", "features.4", "hidden", "classifier")


def test_a_layer_with_two_names_is_in_float_by_both() -> None:
    """A runtime may know a layer, or what is in a container, by its second name: it is the same layer."""
    net = nn.Module()
    net.box = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    net.again = net.box
    layers = match_layers(net, "box")
    assert layers.names == ("box",)
    assert "again.0" in layers
    assert "again" in layers
    assert layers.without_any(["again.1"]) == ()
    first = match_layers(net, "box.0")
    assert "again.0" in first
    assert "again.1" not in first
    assert first.without_any(["again.1", "other"]) == ("box.0",)


def test_names_become_a_text_that_matches_them_alone() -> None:
    """Signs of patterns in a name are taken as letters."""
    names = ("a*", "a[0]", "a+b", "+", "[+]", "a]", "[", "a,b", "a b")
    net = nn.ModuleDict({name: nn.Linear(1, 1) for name in (*names, "ab", "a", "b", "a0")})
    assert match_layers(net, chosen_names(names)).names == names
    for name in names:
        assert match_layers(net, chosen_names([name])).names == (name,)
        check_layers(net, chosen_names([name]), [name])


def test_a_name_that_no_terminal_shows_becomes_a_pattern_that_can_be_typed() -> None:
    """Control characters of a name are matched by ``?``, so that what is printed is what is meant."""
    net = nn.ModuleDict({"\x1b[31mred": nn.Linear(1, 1), "blue": nn.Linear(1, 1)})
    text = chosen_names(["\x1b[31mred"])
    assert text.isprintable()
    assert match_layers(net, text).names == ("\x1b[31mred",)


def test_patterns_survive_the_command_line() -> None:
    """``--set`` splits at commas alone, so that brackets, signs and ``+`` reach the config."""
    setting = Setting.of("dynamic_int8.float_layers=blocks.[01].*+head,*.up")
    assert setting.values == ("blocks.[01].*+head", "*.up")


def test_the_record_brings_the_option() -> None:
    """A config that says ``float_layers`` has the option, and does not declare another one of that name."""
    record = Config(name="mine", summary="Mine.", float_layers=True)
    assert record.options == (FLOAT_LAYERS,)
    assert Config(name="mine", summary="Mine.", float_layers=True, options=record.options) == record
    with pytest.raises(ValueError, match="comes with float_layers=True"):
        Config(
            name="mine",
            summary="Mine.",
            float_layers=True,
            options=[Option(name="float_layers", default=1, help="Mine.")],
        )


def test_a_config_reads_its_layers_from_the_context() -> None:
    """``qx.float_layers`` follows the option, and names it where the value is wrong."""
    assert not float_layers(Net(), Context())
    assert float_layers(Net(), Context(options={"float_layers": "head"})) == qx.FloatLayers(["head"])
    with pytest.raises(UsageError, match=r"^float_layers: the model has no layer 'tail'"):
        float_layers(Net(), Context(options={"float_layers": "tail"}))


# Eager mode ---------------------------------------------------------------------------------------


INPUTS = torch.rand(8, 1, 12, 12, generator=torch.Generator().manual_seed(0))


def network(*, quantizable: bool = False) -> BenchNet:
    """Return the kit's network with the same random weights each time."""
    torch.manual_seed(1)
    return BenchNet(quantizable=quantizable).eval()


def quantized(text: str) -> nn.Module:
    """Return the network in 8 bits, calibrated, with these layers in float."""
    torch.backends.quantized.engine = "x86"
    context = Context(options={"float_layers": text}, engine="x86")
    model = network(quantizable=True)
    prepared = prepare_static(
        model, (INPUTS[:1],), context, torch.ao.quantization.default_per_channel_weight_observer
    )
    return convert_to_int8(observe(prepared, [qx.Batch(inputs={"image": INPUTS.numpy()})]))


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize(
    "text", ["features.0", "features", "hidden", "classifier", "features.4+classifier", "*"]
)
def test_layers_in_float_compute_among_layers_in_8_bits(text: str) -> None:
    """Named layers keep fp32 weights, others have 8 bits, and the outputs stay near those of fp32."""
    model = quantized(text)
    chosen = match_layers(BenchNet(), text)
    for name in layers_with_weights(BenchNet()):
        layer: Any = model.get_submodule(name)
        weight = layer.weight() if callable(getattr(layer, "weight", None)) else None
        assert (weight is None) == (name in chosen), name
    with torch.no_grad():
        expected = network()(INPUTS)
        assert (model(INPUTS) - expected).abs().max() < 0.05 * expected.abs().max()


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_the_state_of_a_border_is_saved() -> None:
    """The range at which a layer in float hands over to 8 bits is in the state dict."""
    state = quantized("hidden").state_dict()
    assert {name for name in state if name.startswith("hidden.qx_output")} == {
        "hidden.qx_output_scale",
        "hidden.qx_output_zero_point",
    }
    assert float(state["hidden.qx_output_scale"]) not in (0.0, 1.0)


def test_a_model_without_fuse_model_is_refused_as_before() -> None:
    """The option does not hide what a config cannot quantize at all."""
    with pytest.raises(Unsupported, match="fuse_model"):
        prepare_static(Net(), (torch.rand(1, 4),), Context(options={"float_layers": "head"}), None, None)
