"""One metric, at one batch size, over all cells: its values, comparisons, and axis of the front."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from functools import cached_property, partial

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from qx.analysis import on_items
from qx.analysis.in_rounds import log_ratios_in_rounds
from qx.contract.figures import Point
from qx.contract.records import Metric
from qx.results.recording import Floats, Key, Recording, Series
from qx.results.results_file import without_nan
from qx.statistics import intervals, pareto
from qx.statistics.undisturbed import MIN_SAMPLES, comparison_rank, log_undisturbed
from qx.values import JsonMapping, JsonObject

#: Number of resamplings of waves and items for the probability of being on the front.
DRAWS = 1000
#: Kinds of samples that are not taken in launches.
OF_ITEMS = ("exact", "per_item", "per_set")
#: Ignores overflow: values of a plugin's metric may be 1e149 and 1e-300, and infinite ratios are handled.
ignore_overflow = partial(np.errstate, over="ignore", divide="ignore", invalid="ignore")


@frozen(eq=False, slots=False)
class Quantity:
    """A metric, at one batch size where it has one, over the cells of a workload, which share their waves."""

    metric: Metric
    batch_size: int | None
    #: Samples of the cells of this workload alone.
    recording: Recording
    baseline: str
    #: Cells whose samples are not used: the cell did not end well, or this metric failed in it.
    failed: Set[str] = frozenset()

    @property
    def key(self) -> Key:
        """The key of its samples in the recording."""
        return Key(self.metric.name, None if self.batch_size is None else Point(self.batch_size))

    @property
    def params(self) -> JsonObject:
        """The parameters that distinguish it from the same metric at another batch size."""
        return {} if self.batch_size is None else {"batch_size": self.batch_size}

    @property
    def is_from_launches(self) -> bool:
        """Whether it is measured in launches or derived from them, and so measured of the control too."""
        is_derived = self.metric.phase == "derived" and self.metric.samples in ("per_launch", "per_block")
        return self.metric.phase in ("fresh", "block") or is_derived

    @property
    def is_relative(self) -> bool:
        """Whether it is compared by ratio."""
        return self.metric.compare != "difference"

    @cached_property
    def measured(self) -> list[str]:
        """The cells that have samples of it."""
        return [
            cell
            for cell, series_by_key in self.recording.series.items()
            if self.key in series_by_key and cell not in self.failed
        ]

    def are_comparable(self, *cells: str) -> bool:
        """Return whether these cells have samples that can be compared.

        A comparison by ratio needs positive samples. Of values per item only the mean must be positive, and
        an exact value may be 0, which is less than any other.
        """
        return self._comparable.issuperset(cells)

    @cached_property
    def _comparable(self) -> frozenset[str]:
        if not self.is_relative:
            return frozenset(self.measured)
        conditions: Mapping[str, Callable[[Floats], np.bool_]] = {
            "exact": lambda values: values[0] >= 0,
            "per_item": lambda values: values.mean() > 0,
            "per_set": lambda values: values[0] > 0,
        }
        is_comparable = conditions.get(self.metric.samples, _all_positive)
        return frozenset(cell for cell in self.measured if is_comparable(self.values(cell)))

    def series(self, cell: str) -> Series:
        """Return what was recorded of a cell."""
        return self.recording.series[cell][self.key]

    def values(self, cell: str) -> Floats:
        """Return the raw samples of a cell."""
        return self.series(cell).values

    def is_exact(self, cell: str) -> bool:
        """Return whether the value of a cell has no sampling error."""
        return on_items.is_exact(self.metric, self.series(cell))

    def are_identical(self, ours: str, theirs: str) -> bool:
        """Return whether two cells are the same on every item that was evaluated."""
        outputs = self.recording.single(ours), self.recording.single(theirs)
        return on_items.are_identical(self.metric, self.series(ours), self.series(theirs), outputs)

    def wave_medians(self, cell: str) -> Floats:
        """Return the median sample of a cell in each wave, ``[waves]``; NaN where it has no launch.

        Samples without a wave, which are derived ones, count as one wave each.
        """
        series = self.recording.series[cell][self.key]
        medians = np.full(self.waves, np.nan)
        has_wave = series.wave >= 0
        if not has_wave.any():
            medians[: len(series.values)] = series.values
        waves, values = series.wave[has_wave], series.values[has_wave]
        if len(np.unique(waves)) == len(waves):
            medians[waves] = values
        else:
            for wave in np.unique(waves):
                medians[wave] = np.median(values[waves == wave])
        return medians

    def wave_values(self, cells: Sequence[str], samples: int | None = None) -> Floats:
        """Return one value per wave and cell, ``[waves, cells]``, for a comparison of comparable cells.

        The values are logs where the metric is compared by ratio. They are then the logs of undisturbed calls
        for metrics sampled per call; for all other metrics they come from ``wave_medians``. ``samples`` is
        the smallest number of samples in a wave of any cell that is compared, by default of any of ``cells``.
        """
        if self.is_relative and self.metric.samples == "per_block":
            if samples is None:
                samples = min(self.min_samples_per_wave(cell) for cell in cells)
            return self._undisturbed(samples)[:, [self._columns[cell] for cell in cells]]
        medians = np.array([self.wave_medians(cell) for cell in cells]).T
        return np.log(medians) if self.is_relative else medians

    def min_samples_per_wave(self, cell: str) -> int:
        """Return the smallest number of samples in any complete wave of a cell, at most ``MIN_SAMPLES``."""
        if self.metric.samples != "per_block" or not self.is_relative:
            return MIN_SAMPLES
        is_complete = ~np.isnan(self._undisturbed(MIN_SAMPLES)[:, self._columns[cell]])
        waves = self.recording.series[cell][self.key].wave
        counts = np.bincount(waves[waves >= 0], minlength=self.waves)
        return int(np.where(is_complete, counts, MIN_SAMPLES).min(initial=MIN_SAMPLES))

    def _undisturbed(self, samples: int) -> Floats:
        """Return the logs of undisturbed calls, ``[waves, measured]``; NaN for cells that are not comparable.

        All comparable cells are reduced together, because a wave is complete for a cell that has as many
        rounds in it as any other. ``samples`` is the smallest number of samples in a wave.
        """
        if samples not in self._undisturbed_by_samples:
            self._undisturbed_by_samples[samples] = self._reduce(comparison_rank(samples))
        return self._undisturbed_by_samples[samples]

    @cached_property
    def _columns(self) -> dict[str, int]:
        return {cell: index for index, cell in enumerate(self.measured)}

    @cached_property
    def _undisturbed_by_samples(self) -> dict[int, Floats]:
        return {}

    def _reduce(self, rank: float) -> Floats:
        all_series = [self.recording.series[cell][self.key] for cell in self.measured]
        cells = np.concatenate(
            [np.full(len(series.values), index) for index, series in enumerate(all_series)]
        )
        values, waves, rounds = (
            np.concatenate([getattr(series, name) for series in all_series])
            for name in ("values", "wave", "round")
        )
        comparable = [index for index, cell in enumerate(self.measured) if self.are_comparable(cell)]
        is_used = np.isin(cells, comparable)
        shape = (self.waves, len(self.measured))
        indices = cells[is_used], waves[is_used], rounds[is_used]
        return log_undisturbed(values[is_used], *indices, self.metric.better, shape, rank)

    @cached_property
    def waves(self) -> int:
        """The largest number of waves of any cell."""
        all_series = [self.recording.series[cell][self.key] for cell in self.measured]
        return max(
            1 + int(series.wave.max()) if (series.wave >= 0).any() else len(series.values)
            for series in all_series
        )

    def advantage(self, ours: str, theirs: str) -> Floats:
        """Return by how much one cell exceeds another in every wave, ``[waves]``.

        It is a log ratio where the metric is compared by ratio, else a difference in its unit.
        """
        values = self.wave_values((ours, theirs))
        advantage: Floats = values[:, 0] - values[:, 1]
        return advantage

    def estimate(self, cell: str, level: float = 0.95) -> intervals.Estimate:
        """Estimate the value of a cell."""
        if self.metric.samples in OF_ITEMS:
            return on_items.estimate(self.metric, self.series(cell), level)
        medians = self.wave_medians(cell)
        return intervals.between_launches(medians[~np.isnan(medians)], level)

    def compare(self, ours: str, theirs: str, level: float = 0.95) -> intervals.Difference | None:
        """Compare one cell with another; None where they cannot be compared."""
        difference = self._difference(ours, theirs, level)
        return difference if difference is not None and difference.is_finite else None

    @ignore_overflow()
    def _difference(self, ours: str, theirs: str, level: float) -> intervals.Difference | None:
        kind = self.metric.compare
        if not self.are_comparable(ours, theirs):
            return None
        if self.metric.samples in OF_ITEMS:
            compared = on_items.compare(self.metric, self.series(ours), self.series(theirs), level)
            without_interval = compared is not None and compared.ci is None
            return (
                intervals.no_difference(kind)
                if without_interval and self.are_identical(ours, theirs)
                else compared
            )
        advantage = self.advantage(ours, theirs)
        shared = np.count_nonzero(~np.isnan(advantage))
        if shared < 2 and self.baseline not in (ours, theirs) and self.are_comparable(self.baseline):
            # Cells of two groups share no waves, so each is compared with the baseline of its own.
            first, second = (self.advantage(cell, self.baseline) for cell in (ours, theirs))
            if not (np.isnan(first).all() or np.isnan(second).all()):
                return intervals.independent(first, second, kind, level, where="through the baseline")
        if not shared:
            return None
        if kind == "difference":
            return intervals.difference_interval(advantage, level)
        if self.metric.samples == "per_launch":
            return intervals.launch_ratio(self.wave_medians(ours), self.wave_medians(theirs), kind, level)
        return intervals.ratio_interval(advantage, level, kind)

    def details(self, cell: str) -> JsonObject:
        """Return the details of a metric: the medians over launches of what it reported, and quantiles."""
        details = _median_of(self.recording.series[cell][self.key].details)
        if self.metric.samples == "per_block":
            values = self.values(cell)
            # The quantiles on the worse side.
            ranks = (5, 1) if self.metric.better == "higher" else (95, 99)
            details |= {f"p{rank}": float(np.quantile(values, rank / 100)) for rank in ranks}
            details |= {
                "lowest": float(values.min()),
                "calls": len(values),
            }
            details |= {"in_rounds": self._in_rounds(cell)} if self.metric.phase == "block" else {}
        series = self.series(cell)
        if series.resampled:
            whole_set = series.resampled[0]
            details["resampled"] = {
                "items": whole_set.items,
                "groups": len(whole_set.influence),
                "draws": len(whole_set.draws),
                "step": whole_set.step,
            }
        if series.groups is not None or len(series.resampled) > 1:
            has_baseline = cell != self.baseline and self.are_comparable(self.baseline)
            details["groups"] = on_items.groups(
                self.metric, series, self.series(self.baseline) if has_baseline else None
            )
        plain: JsonObject = without_nan(details)
        return plain

    @ignore_overflow()
    def _in_rounds(self, cell: str) -> JsonObject | None:
        """Compare a cell with the baseline by ratios in every round, of all calls, disturbed or not.

        ``differs`` is ``worse`` or ``better`` where the undisturbed calls of the same waves give another
        result, at 99.9 % and by more than the margin.
        """
        kind, pair = self.metric.compare, (cell, self.baseline)
        if cell == self.baseline or kind == "difference" or self.metric.better == "neither":
            return None
        if not self.are_comparable(*pair):
            return None
        ours, theirs = (self.recording.series[name][self.key] for name in pair)
        undisturbed = self.advantage(*pair)
        # A wave that is incomplete for one of them counts for neither.
        ratios = np.where(np.isnan(undisturbed), np.nan, log_ratios_in_rounds(ours, theirs, self.waves))
        deviations = ratios - undisturbed
        if np.isnan(deviations).all():
            return None
        compared = intervals.ratio_interval(ratios, kind=kind)
        if not compared.is_finite:
            return None
        deviation = float(np.nanmean(deviations))
        differs = abs(deviation) > np.log1p(self.metric.margin) and intervals.control_alarm(
            intervals.difference_interval(deviations)
        )
        is_worse = (deviation > 0) == (self.metric.better == "lower")
        return {
            "kind": kind,
            "value": compared.value,
            "ci": compared.ci,
            "differs": ("worse" if is_worse else "better") if differs else None,
        }

    @ignore_overflow()
    def axis(self, cells: Sequence[str]) -> pareto.Axis:
        """Return the axis of the front: how much better each of these cells is than each other."""
        margin, count = self.metric.margin, len(cells)
        if self.metric.samples in OF_ITEMS:
            low, high = on_items.pairwise(self.metric, [self.series(cell) for cell in cells])
        else:
            # Cells of two groups are compared through the baseline, which may not be among the cells.
            base = [self.baseline] if self.are_comparable(self.baseline) else []
            samples = np.array([self.min_samples_per_wave(cell) for cell in cells])
            low, high = np.empty((2, count, count))
            for number in np.unique(samples):
                values = self.wave_values([*cells, *base], int(number))
                ends = intervals.pairwise_over_waves(values, count if base else None)
                # The cell with fewer samples decides how a pair is compared.
                pairs = np.minimum(samples[:, None], samples) == number
                for target, end in zip((low, high), ends, strict=True):
                    np.copyto(target, end[:count, :count], where=pairs)
        if self.metric.better == "lower":
            low, high = low.T, high.T
        return pareto.Axis(low, high, float(np.log1p(margin)) if self.is_relative else margin)

    def draws(self, cells: Sequence[str], waves: NDArray[np.intp], generator: np.random.Generator) -> Floats:
        """Draw values of these cells in resampled runs, ``[draws, cells]``, more is better.

        They are on the scale of ``axis``: logs where the metric is compared by ratio. ``waves`` are the
        waves drawn, ``[draws, waves]``, the same for every quantity of a run.
        """
        sign = 1.0 if self.metric.better == "higher" else -1.0
        if self.metric.samples in OF_ITEMS:
            rows = [self.series(cell) for cell in cells]
            return sign * on_items.drawn_values(self.metric, rows, DRAWS, generator)
        base = self.baseline if self.are_comparable(self.baseline) else cells[0]
        ratios = np.array([self.advantage(cell, base) for cell in cells])
        has_ratio = ~np.isnan(ratios)
        # A cell that shares no wave with the baseline is drawn as its equal, for lack of anything better.
        means = np.where(has_ratio, ratios, 0.0).sum(axis=1) / np.maximum(has_ratio.sum(axis=1), 1)
        drawn = ratios[:, waves % ratios.shape[1]]
        present = ~np.isnan(drawn)
        counts = present.sum(axis=2)
        sums = np.where(present, drawn, 0.0).sum(axis=2)
        drawn_means: Floats = sign * np.where(counts > 0, sums / np.maximum(counts, 1), means[:, None]).T
        return drawn_means


def _all_positive(values: Floats) -> np.bool_:
    return (values > 0).all()


def _median_of(details: Sequence[JsonMapping]) -> JsonObject:
    """Merge nested mappings: take the median of each number, and the first of anything else.

    An integer stays an integer where its median is whole.
    """
    if not details:
        return {}
    first = details[0]
    merged: JsonObject = {}
    for name, value in first.items():
        values = [mapping[name] for mapping in details if name in mapping]
        if all(isinstance(item, Mapping) for item in values):
            merged[name] = _median_of(values)
        elif all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in values):
            median = float(np.median(values))
            merged[name] = int(median) if isinstance(value, int) and median.is_integer() else median
        else:
            merged[name] = value
    return merged
