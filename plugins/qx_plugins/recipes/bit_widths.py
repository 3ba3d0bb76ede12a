"""Options for other widths than 8 bits, of configs whose runtime has them. It needs no torch."""

from __future__ import annotations

from qx import Context, Option

NARROW, USUAL, WIDE = 4, 8, 16

WEIGHT_BITS = Option(
    name="weight_bits", default=USUAL, choices=(NARROW, USUAL), help="Bits of a weight in the file."
)
ACTIVATION_BITS = Option(
    name="activation_bits", default=USUAL, choices=(USUAL, WIDE), help="Bits of an activation between layers."
)


def weight_bits(context: Context) -> int:
    """Return the bits of a weight."""
    return int(context.options.get(WEIGHT_BITS.name, WEIGHT_BITS.default))


def activation_bits(context: Context) -> int:
    """Return the bits of an activation."""
    return int(context.options.get(ACTIVATION_BITS.name, ACTIVATION_BITS.default))
