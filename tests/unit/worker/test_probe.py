"""The probe: a loaded artifact gives the outputs of the converted module, up to rounding by threads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from qx import OUTPUT, PluginError, QxError
from qx.worker.outputs import unpack
from qx.worker.probe import hold_to_probe, rounding, write_probe


class Served:
    """A module as a loader serves it, with outputs that a test can change."""

    def __init__(self, module: nn.Module, change: Callable[[Any], Any] = lambda outputs: outputs) -> None:
        self.module, self.change = module, change

    def prepare(self, arrays: dict[str, Any]) -> list[torch.Tensor]:
        assert all(array.flags.c_contiguous for array in arrays.values())
        return [torch.from_numpy(array) for array in arrays.values()]

    def call(self, native: list[torch.Tensor]) -> Any:
        with torch.inference_mode():
            return self.module(*native)

    def outputs(self, native: Any) -> dict[str, Any]:
        named = native if isinstance(native, dict) else {"output": native}
        return {name: self.change(output.numpy().copy()) for name, output in named.items()}


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)),
    )


IMAGES = np.random.default_rng(0).standard_normal((2, 20, 24, 3), dtype=np.float32)
LAYOUTS = {
    "transposed": IMAGES.transpose(0, 3, 1, 2),
    "reversed": np.ascontiguousarray(IMAGES.transpose(0, 3, 1, 2))[:, ::-1, ::-1],
    "strided": np.repeat(IMAGES.transpose(0, 3, 1, 2), 2, axis=3)[..., ::2],
    "broadcast": np.broadcast_to(IMAGES.transpose(0, 3, 1, 2)[:1, :, :1], (2, 3, 20, 24)),
    "fortran": np.asfortranarray(IMAGES.transpose(0, 3, 1, 2)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_probe_has_the_memory_layout_of_a_launch(layout: str, tmp_path: Path) -> None:
    """However its inputs lay in memory, the same module gives its probe's outputs again, bit for bit."""
    module = _network()
    write_probe(module, [LAYOUTS[layout]], (OUTPUT,), module.state_dict(), tmp_path / "probe.npz")
    hold_to_probe(Served(module), tmp_path / "probe.npz", loader="served", exact=True)


def _rounded(outputs: Any) -> Any:
    """Return outputs that are a few roundings off, as where a sum is divided otherwise."""
    return outputs + np.abs(outputs).max() * 4 * np.finfo(np.float32).eps


def test_rounding_is_allowed_where_several_threads_bring_it(tmp_path: Path) -> None:
    """One thread must give the same bits; with several, outputs may differ by rounding."""
    module, probe = _network(), tmp_path / "probe.npz"
    write_probe(module, [LAYOUTS["transposed"]], (OUTPUT,), module.state_dict(), probe)
    hold_to_probe(Served(module, _rounded), probe, loader="served", exact=False)
    with pytest.raises(QxError, match="they differ by up to"):
        hold_to_probe(Served(module, _rounded), probe, loader="served", exact=True)
    with pytest.raises(QxError, match=r"they differ by up to .* rounding by several threads explains"):
        hold_to_probe(Served(module, lambda outputs: 1.001 * outputs), probe, loader="served", exact=False)


def test_a_device_may_round_and_no_more(tmp_path: Path) -> None:
    """On a device outputs may differ from the build's by rounding too; the message names the device."""
    module, probe = _network(), tmp_path / "probe.npz"
    write_probe(module, [LAYOUTS["transposed"]], (OUTPUT,), module.state_dict(), probe)
    on_device = {"loader": "served", "exact": False, "rounded_by": "cuda:0"}
    hold_to_probe(Served(module, _rounded), probe, **on_device)
    with pytest.raises(QxError, match=r"they differ by up to .* rounding by cuda:0 explains"):
        hold_to_probe(Served(module, lambda outputs: 1.001 * outputs), probe, **on_device)


def test_outputs_of_another_shape_are_told_by_their_shapes(tmp_path: Path) -> None:
    """Outputs that could be broadcast to the expected ones are not the expected ones."""
    module, probe = _network(), tmp_path / "probe.npz"
    write_probe(module, [LAYOUTS["transposed"]], (OUTPUT,), module.state_dict(), probe)
    with pytest.raises(QxError, match=r"they have the shape \[2, 1\] in place of \[2, 10\]"):
        hold_to_probe(Served(module, lambda outputs: outputs[:, :1]), probe, loader="served", exact=False)
    with pytest.raises(
        PluginError, match=r"gave 'output' of shape \[1, 10\] for 2 items; expected \[2, ...\]"
    ):
        hold_to_probe(Served(module, lambda outputs: outputs[:1]), probe, loader="served", exact=False)


class TwoHeads(nn.Module):
    """A network that gives scores and boxes, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.boxes = _network(), nn.Linear(10, 4)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        scores = self.body(images)
        return {"scores": scores, "boxes": self.boxes(scores)}


def test_every_output_is_held_by_its_name(tmp_path: Path) -> None:
    """A probe holds all named outputs of a module; another name or another value is told with the name."""
    module, probe = TwoHeads(), tmp_path / "probe.npz"
    write_probe(module, [LAYOUTS["transposed"]], (OUTPUT,), module.state_dict(), probe)
    hold_to_probe(Served(module), probe, loader="served", exact=True)

    class Changed(Served):
        """Serves the module with the boxes changed."""

        def __init__(self, boxes: str, more: float) -> None:
            super().__init__(module)
            self.boxes, self.more = boxes, more

        def outputs(self, native: Any) -> dict[str, Any]:
            named = super().outputs(native)
            return {"scores": named["scores"], self.boxes: named["boxes"] + self.more}

    with pytest.raises(QxError, match=r"they differ by up to 0\.5 in 'boxes'"):
        hold_to_probe(Changed("boxes", 0.5), probe, loader="served", exact=True)
    words = "they are called 'scores', 'places' in place of 'scores', 'boxes'"
    with pytest.raises(QxError, match=words):
        hold_to_probe(Changed("places", 0), probe, loader="served", exact=True)


def test_outputs_without_names_have_no_probe(tmp_path: Path) -> None:
    """Of a module that gives several tensors without names no probe is written."""
    module = nn.LSTM(3, 4)
    inputs = [np.zeros((2, 3), dtype=np.float32)]
    write_probe(module, inputs, (OUTPUT,), module.state_dict(), tmp_path / "probe.npz")
    assert not (tmp_path / "probe.npz").exists()


def test_outputs_in_order_are_held_by_the_names_that_they_are_given(tmp_path: Path) -> None:
    """Of a module that gives a tuple each output is held under its name."""

    class Pair(nn.Module):
        def forward(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return values + 1, values * 2

    probe = tmp_path / "probe.npz"
    write_probe(Pair(), [np.ones((2, 3), dtype=np.float32)], ("sums", "products"), {}, probe)
    with np.load(probe) as arrays:
        outputs = unpack(arrays)
    assert {name: float(array.max()) for name, array in outputs.items()} == {"sums": 2.0, "products": 2.0}


@pytest.mark.parametrize(("width", "depth"), [(8, 1), (64, 12), (512, 6)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_rounding_that_is_derived_covers_the_rounding_there_is(
    width: int, depth: int, dtype: torch.dtype
) -> None:
    """The error of outputs against float64 lies within the bound, for several depths, widths and types."""
    torch.manual_seed(width + depth)
    layers = [part for _ in range(depth) for part in (nn.Linear(width, width), nn.ReLU())]
    network = nn.Sequential(*layers, nn.Linear(width, 10)).to(dtype)
    inputs = torch.randn(64, width).to(dtype)
    with torch.no_grad():
        outputs = network(inputs).double()
        exact = network.double()(inputs.double())
    share = ((outputs - exact).abs().max() / exact.abs().max()).item()
    allowed = rounding(network.to(dtype).state_dict())
    assert share < allowed < 200 * share


# torch warns that its quantized tensors will go.
@pytest.mark.filterwarnings("ignore")
def test_rounding_goes_by_the_coarsest_type() -> None:
    """8-bit weights allow a step of an activation, and float32 some parts in a million."""
    quantized = torch.quantize_per_tensor(torch.randn(4, 4), 0.1, 0, torch.qint8)
    plain = {"0.weight": torch.randn(4, 4), "1.weight": torch.randn(4, 4)}
    assert 1e-7 < rounding(plain) < 1e-5
    assert rounding(plain | {"2.weight": (quantized, None)}) > 1e-2
    assert rounding({"scale": torch.tensor(1.0)}) > 0
