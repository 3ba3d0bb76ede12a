"""How a config rounds layers, in the terms that a simulation needs."""

from __future__ import annotations

from typing import Any

from attrs import Attribute, field, frozen
from attrs.validators import instance_of

#: Fewest and most bits that an integer type of a runtime has.
FEWEST_BITS, MOST_BITS = 2, 16


def _check_bits(_: object, attribute: Attribute[Any], bits: int | None) -> None:
    if bits is not None and (type(bits) is not int or not FEWEST_BITS <= bits <= MOST_BITS):
        span = f"from {FEWEST_BITS} to {MOST_BITS}"
        raise ValueError(f"{attribute.name!r} must be a whole number {span}, or None, not {bits!r}")


def _check_group(_: object, attribute: Attribute[Any], size: int | None) -> None:
    if size is not None and (type(size) is not int or size < 1):
        raise ValueError(f"{attribute.name!r} must be a whole number from 1, or None, not {size!r}")


@frozen(kw_only=True)
class Rounding:
    """How a config rounds the layers that it quantizes: to the nearest of evenly spaced values.

    ``qx layers`` simulates this where an artifact is no module whose layers could be called. Raises
    ``ValueError`` for bits or groups that nothing can have.
    """

    #: Bits of a weight; None: weights are not rounded.
    weight_bits: int | None = field(default=8, validator=_check_bits)
    #: Whether the weights of each output channel have a scale of their own; else a layer has one.
    per_channel: bool = field(default=True, validator=instance_of(bool))
    #: Number of successive weights of an output channel that share a scale; None: all of them.
    group_size: int | None = field(default=None, validator=_check_group)
    #: Bits of the values that go into a layer; None: they are not rounded.
    activation_bits: int | None = field(default=8, validator=_check_bits)

    def __attrs_post_init__(self) -> None:
        if self.group_size is not None and not self.per_channel:
            raise ValueError("a 'group_size' divides the weights of a channel: 'per_channel' must be True")
