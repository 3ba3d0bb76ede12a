"""The values of cells in every wave, which comparisons of what is measured in launches rest on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from functools import cached_property

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from qx.contract.records import Metric
from qx.results.recording import Floats, Series
from qx.statistics.undisturbed import (
    MIN_SAMPLES,
    Booleans,
    comparison_rank,
    complete_launches,
    in_shared_rounds,
    log_undisturbed,
)


def is_relative(metric: Metric) -> bool:
    """Return whether a metric is compared by ratio."""
    return metric.compare != "difference"


@frozen(eq=False)
class _Samples:
    """Samples with the cell, the wave and the round of each, all ``[samples]``."""

    values: Floats
    cells: NDArray[np.int64]
    waves: NDArray[np.int64]
    rounds: NDArray[np.int64]

    def part(self, is_kept: Booleans) -> _Samples:
        """Return some of them."""
        return _Samples(self.values[is_kept], self.cells[is_kept], self.waves[is_kept], self.rounds[is_kept])


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
        In a wave in which one of several ``cells`` had fewer rounds, all have the values of the rounds that
        they share.
        """
        if self._is_undisturbed:
            if samples is None:
                samples = min(self.min_samples(cell) for cell in cells)
            columns = [self._columns[cell] for cell in cells]
            own, has_fewer = self._undisturbed(samples)[:, columns], self._has_fewer[:, columns]
            if len(cells) == 1 or not has_fewer.any():
                return own
            shared = self._in_shared_rounds(samples)[:, columns]
            return np.where(has_fewer.any(axis=1, keepdims=True), shared, own)
        medians = np.array([self.medians(cell) for cell in cells]).T
        return np.log(medians) if is_relative(self.metric) else medians

    def rows_for_pairs(self, cells: Sequence[str], samples: int) -> tuple[Floats, Floats]:
        """Return ``values`` for a comparison of every two cells, each pair in the rounds that it shares.

        They are ``[rows, cells]`` with weights ``[rows]``, for ``qx.statistics.over_waves``. A wave in which
        some cells had fewer rounds has three rows: the first is for pairs of which both had all rounds, the
        others together are for all other pairs.
        """
        if not self._is_undisturbed:
            values = self.values(cells, samples)
            return values, np.ones(len(values))
        columns = [self._columns[cell] for cell in cells]
        own, has_fewer = self._undisturbed(samples)[:, columns], self._has_fewer[:, columns]
        differing = has_fewer.any(axis=1)
        if not differing.any():
            return own, np.ones(len(own))
        shared = self._in_shared_rounds(samples)[differing][:, columns]
        of_all, of_whole = np.where(has_fewer, np.nan, own), np.where(has_fewer[differing], np.nan, shared)
        signs = np.ones(len(of_all)), np.ones(len(shared)), -np.ones(len(shared))
        return np.concatenate([of_all, shared, of_whole]), np.concatenate(signs)

    @property
    def _is_undisturbed(self) -> bool:
        """Whether values are those of undisturbed calls."""
        return is_relative(self.metric) and self.metric.samples == "per_block"

    def min_samples(self, cell: str) -> int:
        """Return the smallest number of samples in any complete wave of a cell, at most ``MIN_SAMPLES``."""
        if not self._is_undisturbed:
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

        All comparable cells are reduced together, because their rounds show which launches saw a wave to its
        end. ``samples`` is the smallest number of samples in a wave.
        """
        if samples not in self._undisturbed_by_samples:
            self._undisturbed_by_samples[samples] = self._log(self._gather(), comparison_rank(samples))
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

    def _in_shared_rounds(self, samples: int) -> Floats:
        """Return ``_undisturbed`` from the rounds alone that all cells with a complete launch have in a wave.

        Only of waves in which some cell has fewer rounds than others; the rest is NaN.
        """
        if samples not in self._shared_by_samples:
            of_all, is_complete = self._gather(), self._complete[0]
            is_shared = in_shared_rounds(of_all.cells, of_all.waves, of_all.rounds, is_complete)
            is_shared &= np.asarray(self._has_fewer.any(axis=1))[of_all.waves]
            logs = self._log(of_all.part(is_shared), comparison_rank(samples))
            self._shared_by_samples[samples] = np.where(is_complete, logs, np.nan)
        return self._shared_by_samples[samples]

    @cached_property
    def _shared_by_samples(self) -> dict[int, Floats]:
        return {}

    @property
    def _has_fewer(self) -> Booleans:
        """Whether a cell had fewer rounds in a wave than others, since no more were planned for it."""
        return self._complete[1]

    @cached_property
    def _complete(self) -> tuple[Booleans, Booleans]:
        samples = self._gather()
        shape = self.count, len(self.series)
        return complete_launches(samples.cells, samples.waves, samples.rounds, shape)

    def _gather(self) -> _Samples:
        """Return the samples of all comparable cells. They are large, and not kept."""
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
        return _Samples(values, cells, waves, rounds).part(is_used)

    def _log(self, samples: _Samples, rank: float) -> Floats:
        shape = self.count, len(self.series)
        indices = samples.cells, samples.waves, samples.rounds
        return log_undisturbed(samples.values, *indices, self.metric.better, shape, rank)

    def advantage(self, ours: str, theirs: str) -> Floats:
        """Return by how much one cell exceeds another in every wave, ``[waves]``.

        It is a log ratio where the metric is compared by ratio, else a difference in its unit.
        """
        values = self.values((ours, theirs))
        advantage: Floats = values[:, 0] - values[:, 1]
        return advantage
