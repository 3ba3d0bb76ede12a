"""The values of cells in every wave, which comparisons of what is measured in launches rest on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from functools import cached_property

import numpy as np
from attrs import frozen

from qx.contract.records import Metric
from qx.results.recording import Floats, Series
from qx.statistics.undisturbed import MIN_SAMPLES, comparison_rank, log_undisturbed


def is_relative(metric: Metric) -> bool:
    """Return whether a metric is compared by ratio."""
    return metric.compare != "difference"


@frozen(eq=False, slots=False)
class WaveValues:
    """One value of each cell in every wave, of a metric that is measured in launches."""

    metric: Metric
    #: Samples of the cells that have any.
    series: Mapping[str, Series]
    #: Cells whose samples can be compared.
    comparable: Set[str]

    @cached_property
    def count(self) -> int:
        """The largest number of waves of any cell."""
        return max(
            1 + int(series.wave.max()) if (series.wave >= 0).any() else len(series.values)
            for series in self.series.values()
        )

    def medians(self, cell: str) -> Floats:
        """Return the median sample of a cell in each wave, ``[waves]``; NaN where it has no launch.

        Samples without a wave, which are derived ones, count as one wave each.
        """
        if cell not in self._medians:
            self._medians[cell] = self._median_by_wave(self.series[cell])
        return self._medians[cell]

    def _median_by_wave(self, series: Series) -> Floats:
        medians = np.full(self.count, np.nan)
        has_wave = series.wave >= 0
        if not has_wave.any():
            medians[: len(series.values)] = series.values
        waves, values = series.wave[has_wave], series.values[has_wave]
        if len(np.unique(waves)) == len(waves):
            medians[waves] = values
        else:
            for wave in np.unique(waves):
                medians[wave] = np.median(values[waves == wave])
        # It is kept for all that asks for it.
        medians.setflags(write=False)
        return medians

    def values(self, cells: Sequence[str], samples: int | None = None) -> Floats:
        """Return one value per wave and cell, ``[waves, cells]``, for a comparison of comparable cells.

        The values are logs where the metric is compared by ratio. They are then the logs of undisturbed calls
        for metrics sampled per call; for all other metrics they come from ``medians``. ``samples`` is
        the smallest number of samples in a wave of any cell that is compared, by default of any of ``cells``.
        """
        if is_relative(self.metric) and self.metric.samples == "per_block":
            if samples is None:
                samples = min(self.min_samples(cell) for cell in cells)
            return self._undisturbed(samples)[:, [self._columns[cell] for cell in cells]]
        medians = np.array([self.medians(cell) for cell in cells]).T
        return np.log(medians) if is_relative(self.metric) else medians

    def min_samples(self, cell: str) -> int:
        """Return the smallest number of samples in any complete wave of a cell, at most ``MIN_SAMPLES``."""
        if self.metric.samples != "per_block" or not is_relative(self.metric):
            return MIN_SAMPLES
        if cell not in self._min_samples:
            self._min_samples[cell] = self._count_samples(cell)
        return self._min_samples[cell]

    @cached_property
    def _min_samples(self) -> dict[str, int]:
        return {}

    def _count_samples(self, cell: str) -> int:
        is_complete = ~np.isnan(self._undisturbed(MIN_SAMPLES)[:, self._columns[cell]])
        waves = self.series[cell].wave
        counts = np.bincount(waves[waves >= 0], minlength=self.count)
        return int(np.where(is_complete, counts, MIN_SAMPLES).min(initial=MIN_SAMPLES))

    def _undisturbed(self, samples: int) -> Floats:
        """Return the logs of undisturbed calls, ``[waves, cells]``; NaN for cells that are not comparable.

        All comparable cells are reduced together, because a wave is complete for a cell that has as many
        rounds in it as any other. ``samples`` is the smallest number of samples in a wave.
        """
        if samples not in self._undisturbed_by_samples:
            self._undisturbed_by_samples[samples] = self._reduce(comparison_rank(samples))
        return self._undisturbed_by_samples[samples]

    @cached_property
    def _medians(self) -> dict[str, Floats]:
        return {}

    @cached_property
    def _columns(self) -> dict[str, int]:
        return {cell: index for index, cell in enumerate(self.series)}

    @cached_property
    def _undisturbed_by_samples(self) -> dict[int, Floats]:
        return {}

    def _reduce(self, rank: float) -> Floats:
        all_series = list(self.series.values())
        cells = np.concatenate(
            [np.full(len(series.values), index) for index, series in enumerate(all_series)]
        )
        values, waves, rounds = (
            np.concatenate([getattr(series, name) for series in all_series])
            for name in ("values", "wave", "round")
        )
        comparable = [index for index, cell in enumerate(self.series) if cell in self.comparable]
        is_used = np.isin(cells, comparable)
        shape = (self.count, len(self.series))
        indices = cells[is_used], waves[is_used], rounds[is_used]
        return log_undisturbed(values[is_used], *indices, self.metric.better, shape, rank)

    def advantage(self, ours: str, theirs: str) -> Floats:
        """Return by how much one cell exceeds another in every wave, ``[waves]``.

        It is a log ratio where the metric is compared by ratio, else a difference in its unit.
        """
        values = self.values((ours, theirs))
        advantage: Floats = values[:, 0] - values[:, 1]
        return advantage
