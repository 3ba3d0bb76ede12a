"""Configs whose true results are known: copies of the baseline, some with more work, one with more memory.

And a workload on which added work can be counted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from attrs import evolve
from qx_plugins.configs import static_int8_per_channel

from qx import Config, Data, Workload, hookimpl

MIB = 2**20


class Copy:
    """The baseline under another name."""

    def __init__(self, name: str) -> None:
        self.name = name

    @hookimpl
    def describe(self) -> Config:
        """Return the record."""
        return Config(name=self.name, summary="The baseline, under another name.")

    @hookimpl
    def convert(self, model: Any) -> Any:
        """Return the model unchanged."""
        return model


#: Number of layers that a call of the network of ``EqualLayers`` runs through.
LAYERS = 100


class EqualLayers:
    """A workload whose network has equal layers, so that a few more add a known share of work."""

    @hookimpl
    def describe(self) -> Workload:
        """Return the record."""
        return Workload(
            name="equal_layers",
            summary=f"{LAYERS} equal linear layers, of 96 features.",
            random_weights=True,
        )

    @hookimpl
    def make_model(self) -> Any:
        """Return the network, whose attribute ``layers`` is the number of its layers."""
        import torch

        class Equal(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layers = LAYERS
                self.layer = torch.nn.Linear(96, 96)

            def forward(self, rows: torch.Tensor) -> torch.Tensor:
                for _ in range(self.layers):
                    outputs = self.layer(rows)
                means: torch.Tensor = outputs.mean(1)
                return means

        return Equal()

    @hookimpl
    def load_data(self, split: str) -> Data:
        """Return noise, since the accuracy of the network does not matter."""
        random = np.random.default_rng(len(split))
        rows = random.normal(size=(96, 32, 96)).astype(np.float32)
        classes = tuple(str(index) for index in range(96))
        targets = {"labels": np.arange(96)}
        return Data(inputs={"rows": rows}, targets=targets, classes=classes, source="noise")

    @hookimpl
    def example_inputs(self, batch_size: int) -> Any:
        """Return noise."""
        import torch

        return (torch.randn(batch_size, 32, 96, generator=torch.Generator().manual_seed(0)),)


class Slower(Copy):
    """The baseline of ``EqualLayers`` with some more of its layers."""

    def __init__(self, name: str, added_layers: int) -> None:
        super().__init__(name)
        self.added_layers = added_layers

    @hookimpl
    def convert(self, model: Any) -> Any:
        """Return the model with the added layers."""
        model.layers += self.added_layers
        return model


class Heavier(Copy):
    """The baseline with some MiB of memory added, which is written to.

    Others are compared with one that adds 0 MiB: a buffer on a network moves all later allocations in the
    heap, whose fragmentation differs by chance by some MiB.
    """

    def __init__(self, name: str, mib: int) -> None:
        super().__init__(name)
        self.mib = mib

    @hookimpl
    def convert(self, model: Any) -> Any:
        """Return the model with the added memory."""
        import torch

        # Not persistent: loading a state dict would hold it twice for a moment, which the peak would show.
        model.register_buffer("ballast", torch.ones(self.mib * MIB // 4), persistent=False)
        return model


class Static:
    """``static_int8_per_channel`` by another name; made worse by a doubled scale of a hidden convolution."""

    prepare_model = staticmethod(static_int8_per_channel.prepare_model)
    calibrate = staticmethod(static_int8_per_channel.calibrate)

    def __init__(self, *, doubled: bool = False, name: str = "recipe") -> None:
        self.doubled, self.name = doubled, name

    @hookimpl
    def describe(self) -> Config:
        """Return its record under another name."""
        record: Config = static_int8_per_channel.describe()
        return evolve(record, name=self.name)

    @hookimpl
    def convert(self, model: Any) -> Any:
        """Convert as it does, and then double the scale if asked to."""
        import torch

        model = static_int8_per_channel.convert(model)
        if self.doubled:
            hidden = [layer for layer in model.modules() if "Conv" in type(layer).__name__][1]
            weight = hidden.weight()
            scales, zeros = weight.q_per_channel_scales(), weight.q_per_channel_zero_points()
            worse = torch._make_per_channel_quantized_tensor(weight.int_repr(), 2 * scales, zeros, 0)
            hidden.set_weight_bias(worse, hidden.bias())
        return model


copy_a, copy_b, copy_c = Copy("copy_a"), Copy("copy_b"), Copy("copy_c")
equal_layers = EqualLayers()
slower_3, slower_5 = Slower("slower_3", 3), Slower("slower_5", 5)
recipe, worse_recipe = Static(), Static(doubled=True)
int8_a, int8_b, int8_c, int8_d = (Static(name=f"int8_{letter}") for letter in "abcd")
heavier_0, heavier_64 = Heavier("heavier_0", 0), Heavier("heavier_64", 64)
