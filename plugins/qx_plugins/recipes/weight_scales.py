"""The option of dynamic configs that says how many scales the weights of a layer have. It needs no torch."""

from __future__ import annotations

from qx import Context, Option

PER_TENSOR, PER_CHANNEL = "per_tensor", "per_channel"

WEIGHT_SCALES = Option(
    name="weight_scales",
    default=PER_TENSOR,
    choices=(PER_TENSOR, PER_CHANNEL),
    help="Scales of a layer's weights: one for each matrix, or one for each of its output channels.",
)


def is_per_channel(context: Context) -> bool:
    """Return whether each output channel has a scale of its own."""
    return bool(context.options.get(WEIGHT_SCALES.name, WEIGHT_SCALES.default) == PER_CHANNEL)
