"""Configs whose truth is known: copies of the baseline, some with work added, one with memory added.

And the workload on which it is known what work was added.
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
        """Say so."""
        return Config(name=self.name, summary="The baseline, under another name.")

    @hookimpl
    def convert(self, model: Any) -> Any:
        """Change nothing."""
        return model


#: Equal layers in a call of the network of ``EqualLayers``.
LAYERS = 100


class EqualLayers:
    """A workload whose network is so many equal layers that what a few more take can be counted."""

    @hookimpl
    def describe(self) -> Workload:
        """Say so."""
        return Workload(
            name="equal_layers",
            summary=f"{LAYERS} equal linear layers, of 96 features.",
            random_weights=True,
        )

    @hookimpl
    def make_model(self) -> Any:
        """The network; its ``layers`` say how many."""
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
        """Noise: nobody asks how right the network is."""
        random = np.random.default_rng(len(split))
        rows = random.normal(size=(96, 32, 96)).astype(np.float32)
        classes = tuple(str(index) for index in range(96))
        return Data(inputs={"rows": rows}, labels=np.arange(96), classes=classes, source="noise")

    @hookimpl
    def example_inputs(self, batch_size: int) -> Any:
        """Noise."""
        import torch

        return (torch.randn(batch_size, 32, 96, generator=torch.Generator().manual_seed(0)),)


class Slower(Copy):
    """The baseline of ``EqualLayers``, and so many more of its layers."""

    def __init__(self, name: str, more: int) -> None:
        super().__init__(name)
        self.more = more

    @hookimpl
    def convert(self, model: Any) -> Any:
        """Have it do them."""
        model.layers += self.more
        return model


class Heavier(Copy):
    """The baseline, and so many MiB of memory that is written to.

    One of none is what others are held against: to hang anything on a network shifts what comes after it in
    the heap, and how that breaks up is a matter of luck, of some MiB.
    """

    def __init__(self, name: str, mib: int) -> None:
        super().__init__(name)
        self.mib = mib

    @hookimpl
    def convert(self, model: Any) -> Any:
        """Hang the ballast on it."""
        import torch

        # Not persistent: loading would hold it twice for a moment, and the peak would be right to say so.
        model.register_buffer("ballast", torch.ones(self.mib * MIB // 4), persistent=False)
        return model


class Static:
    """``static_int8_per_channel`` by another name; worse where a hidden convolution's scale is doubled."""

    prepare_model = staticmethod(static_int8_per_channel.prepare_model)
    calibrate = staticmethod(static_int8_per_channel.calibrate)

    def __init__(self, *, doubled: bool) -> None:
        self.doubled = doubled

    @hookimpl
    def describe(self) -> Config:
        """As that one does."""
        described: Config = static_int8_per_channel.describe()
        return evolve(described, name="recipe")

    @hookimpl
    def convert(self, model: Any) -> Any:
        """As that one does, and then the damage."""
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
recipe, worse_recipe = Static(doubled=False), Static(doubled=True)
heavier_0, heavier_64 = Heavier("heavier_0", 0), Heavier("heavier_64", 64)
