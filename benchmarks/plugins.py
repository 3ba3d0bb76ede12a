"""Configs whose truth is known: copies of the baseline, some with work added, one with memory added."""

from __future__ import annotations

from time import perf_counter_ns
from typing import Any

from attrs import evolve
from qx_plugins.configs import static_int8_per_channel

from qx import Config, hookimpl

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


class Slower(Copy):
    """The baseline, and then nothing useful for a known share of the time that it took."""

    def __init__(self, name: str, share: float) -> None:
        super().__init__(name)
        self.share = share

    @hookimpl
    def convert(self, model: Any) -> Any:
        """Add to its ``forward``: a module around it would be work of unknown size."""
        forward, share = model.forward, self.share

        def slowed(*inputs: Any) -> Any:
            start = perf_counter_ns()
            outputs = forward(*inputs)
            now = perf_counter_ns()
            end = now + share * (now - start)
            while perf_counter_ns() < end:
                pass
            return outputs

        model.forward = slowed
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
slower_0, slower_3, slower_5 = Slower("slower_0", 0.0), Slower("slower_3", 0.03), Slower("slower_5", 0.05)
recipe, worse_recipe = Static(doubled=False), Static(doubled=True)
heavier_0, heavier_64 = Heavier("heavier_0", 0), Heavier("heavier_64", 64)
