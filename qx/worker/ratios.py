"""Signal over noise: how far values with errors are from those without."""

from __future__ import annotations

import math

from attrs import define

#: Ratio of signal and noise in dB that stands for outputs without any error.
MOST_DECIBELS = 200.0


@define
class Ratio:
    """Sums of squares of a signal and of its error."""

    signal: float = 0.0
    noise: float = 0.0

    @property
    def decibels(self) -> float | None:
        """The ratio in dB; None where it is not known, the smallest where the noise alone is not finite."""
        if not math.isfinite(self.signal) or self.signal <= 0:
            return None
        if not math.isfinite(self.noise):
            return -MOST_DECIBELS
        if self.noise <= 0:
            return MOST_DECIBELS
        decibels = 10 * (math.log10(self.signal) - math.log10(self.noise))
        return max(-MOST_DECIBELS, min(decibels, MOST_DECIBELS))
