"""Implementations of the hook ``rounding`` that several configs share. It needs no torch."""

from __future__ import annotations

from qx import Context, Rounding, hookimpl
from qx_plugins.recipes.saturation import saturates
from qx_plugins.recipes.weight_scales import is_per_channel


@hookimpl(specname="rounding")
def weights_alone() -> Rounding:
    """Round weights to 8 bits, and no activations."""
    return Rounding(activation_bits=None)


@hookimpl(specname="rounding")
def four_bits_by_group(context: Context) -> Rounding:
    """Round weights to 4 bits by groups of as many as ``group_size`` has, and no activations."""
    return Rounding(weight_bits=4, group_size=context.options["group_size"], activation_bits=None)


@hookimpl(specname="rounding")
def by_weight_scales(context: Context) -> Rounding:
    """Round weights and activations to 8 bits, with the scales that the option ``weight_scales`` has."""
    return Rounding(per_channel=is_per_channel(context))


@hookimpl(specname="rounding")
def without_overflow() -> Rounding:
    """Round weights to 8 bits, and activations to 7 where sums of products could overflow on this CPU."""
    return Rounding(activation_bits=7 if saturates() else 8)
