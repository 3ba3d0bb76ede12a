"""Amounts of padding of convolutions, as ``functional.pad`` takes them: those of the last dimension first."""

from __future__ import annotations

from collections.abc import Sequence


def same_padding(sizes: Sequence[int], dilation: int | Sequence[int]) -> list[int]:
    """Return what ``padding="same"`` adds for kernels of these sizes; the higher end gets an odd rest."""
    dilations = [dilation] * len(sizes) if isinstance(dilation, int) else dilation
    if len(dilations) == 1:
        dilations = [*dilations] * len(sizes)
    totals = [step * (size - 1) for size, step in zip(sizes, dilations, strict=True)]
    return [part for total in reversed(totals) for part in (total // 2, total - total // 2)]


def symmetric_padding(amounts: Sequence[int]) -> tuple[int, ...] | None:
    """Return a number for each dimension, the first dimension first; None where two ends differ."""
    pairs = list(zip(amounts[::2], amounts[1::2], strict=True))
    return tuple(low for low, _ in reversed(pairs)) if all(low == high for low, high in pairs) else None
