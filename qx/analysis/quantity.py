"""One metric, at one batch size, over all cells: values, comparisons, and what the front wants of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from functools import cached_property, partial

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from qx.analysis import on_items
from qx.analysis.in_rounds import log_ratios_in_rounds
from qx.contract.records import Metric
from qx.results.recording import Floats, Key, Recording, Series
from qx.results.results_file import without_nan
from qx.statistics import intervals, pareto
from qx.statistics.undisturbed import FEW, log_undisturbed, rank_of
from qx.values import JsonMapping, JsonObject

#: Resamplings of waves and items for the probability of being on the front.
DRAWS = 1000
#: Samples of these are not taken in launches.
OF_ITEMS = ("exact", "per_item", "per_set")
#: Values of a plugin's metric may be 1e149 and 1e-300, whose ratio is no number; that is dealt with.
far_apart = partial(np.errstate, over="ignore", divide="ignore", invalid="ignore")


@frozen(eq=False, slots=False)
class Quantity:
    """A metric, at one batch size where it has one, over the cells of a workload, which share their waves."""

    metric: Metric
    batch_size: int | None
    #: Of the cells of this workload alone.
    recording: Recording
    baseline: str
    #: Cells whose samples are not gone by: they did not end well, or this metric did not in them.
    failed: Set[str] = frozenset()

    @property
    def key(self) -> Key:
        """Where its samples lie in the recording."""
        return self.metric.name, self.batch_size

    @property
    def params(self) -> JsonObject:
        """What tells it from the same metric at another batch size."""
        return {} if self.batch_size is None else {"batch_size": self.batch_size}

    @property
    def in_launches(self) -> bool:
        """It is measured in launches, or derived from them, so of the control too."""
        derived = self.metric.phase == "derived" and self.metric.samples in ("per_launch", "per_block")
        return self.metric.phase in ("fresh", "block") or derived

    @property
    def relative(self) -> bool:
        """It is compared by ratio."""
        return self.metric.compare != "difference"

    @cached_property
    def measured(self) -> list[str]:
        """Cells that have samples of it."""
        series = self.recording.series.items()
        return [cell for cell, of in series if self.key in of and cell not in self.failed]

    def comparable(self, *cells: str) -> bool:
        """These cells have samples, and where it is compared by ratio they are positive.

        Of items the mean must be; and what is exact may be 0, which is less than anything.
        """
        return self._comparable.issuperset(cells)

    @cached_property
    def _comparable(self) -> frozenset[str]:
        if not self.relative:
            return frozenset(self.measured)
        fits: Mapping[str, Callable[[Floats], np.bool_]] = {
            "exact": lambda values: values[0] >= 0,
            "per_item": lambda values: values.mean() > 0,
            "per_set": lambda values: values[0] > 0,
        }
        fit = fits.get(self.metric.samples, _all_positive)
        return frozenset(cell for cell in self.measured if fit(self.values(cell)))

    def series(self, cell: str) -> Series:
        """What was recorded of a cell."""
        return self.recording.series[cell][self.key]

    def values(self, cell: str) -> Floats:
        """The raw samples of a cell."""
        return self.series(cell).values

    def is_exact(self, cell: str) -> bool:
        """Its value has no sampling error."""
        return on_items.is_exact(self.metric, self.series(cell))

    def identical(self, ours: str, theirs: str) -> bool:
        """Two cells are the same on every item that was evaluated."""
        outputs = self.recording.outputs.get(ours), self.recording.outputs.get(theirs)
        return on_items.identical(self.metric, self.series(ours), self.series(theirs), outputs)

    def of_waves(self, cell: str) -> Floats:
        """One value for each wave, ``[waves]``; NaN where the cell has no launch in it.

        Samples that do not tell their wave (derived ones) are taken as of one wave each.
        """
        series = self.recording.series[cell][self.key]
        waves = np.full(self.waves, np.nan)
        present = series.wave >= 0
        if not present.any():
            waves[: len(series.values)] = series.values
        of, values = series.wave[present], series.values[present]
        if len(np.unique(of)) == len(of):
            waves[of] = values
        else:
            for wave in np.unique(of):
                waves[wave] = np.median(values[of == wave])
        return waves

    def compared_waves(self, cells: Sequence[str], fewest: int | None = None) -> Floats:
        """One value of every cell for each wave, ``[waves, cells]``, as these comparable cells are compared.

        A log where the metric is compared by ratio. Of samples in blocks it is then what the cell has when
        nothing disturbs the machine; of others, that of ``of_waves``. ``fewest`` is how few samples in a
        wave any cell has that these are compared with; by default, any of these.
        """
        if self.relative and self.metric.samples == "per_block":
            few = min(self.fewest(cell) for cell in cells) if fewest is None else fewest
            return self._undisturbed(few)[:, [self._places[cell] for cell in cells]]
        waves = np.array([self.of_waves(cell) for cell in cells]).T
        return np.log(waves) if self.relative else waves

    def fewest(self, cell: str) -> int:
        """How few samples a cell has in any wave that it saw to its end; no more than ``FEW`` is told."""
        if self.metric.samples != "per_block" or not self.relative:
            return FEW
        whole = ~np.isnan(self._undisturbed(FEW)[:, self._places[cell]])
        waves = self.recording.series[cell][self.key].wave
        counts = np.bincount(waves[waves >= 0], minlength=self.waves)
        return int(np.where(whole, counts, FEW).min(initial=FEW))

    def _undisturbed(self, fewest: int) -> Floats:
        """Of all comparable cells, since a launch is held against the others of its wave; of others NaN."""
        if fewest not in self._reduced:
            self._reduced[fewest] = self._reduce(rank_of(fewest))
        return self._reduced[fewest]

    @cached_property
    def _places(self) -> dict[str, int]:
        return {cell: index for index, cell in enumerate(self.measured)}

    @cached_property
    def _reduced(self) -> dict[int, Floats]:
        return {}

    def _reduce(self, rank: float) -> Floats:
        series = [self.recording.series[cell][self.key] for cell in self.measured]
        cells = np.concatenate([np.full(len(one.values), index) for index, one in enumerate(series)])
        values, waves, rounds = (
            np.concatenate([getattr(one, what) for one in series]) for what in ("values", "wave", "round")
        )
        fit = np.isin(cells, [index for index, cell in enumerate(self.measured) if self.comparable(cell)])
        shape = (self.waves, len(self.measured))
        places = cells[fit], waves[fit], rounds[fit]
        return log_undisturbed(values[fit], *places, self.metric.better, shape, rank)

    @cached_property
    def waves(self) -> int:
        """How many waves any cell has."""
        series = [self.recording.series[cell][self.key] for cell in self.measured]
        return max(1 + int(one.wave.max()) if (one.wave >= 0).any() else len(one.values) for one in series)

    def advantage(self, ours: str, theirs: str) -> Floats:
        """How much more one cell has than another in every wave, ``[waves]``.

        A log ratio where the metric is compared by ratio, else a difference in its unit.
        """
        waves = self.compared_waves((ours, theirs))
        advantage: Floats = waves[:, 0] - waves[:, 1]
        return advantage

    def estimate(self, cell: str, level: float = 0.95) -> intervals.Estimate:
        """The value of a cell."""
        if self.metric.samples in OF_ITEMS:
            return on_items.estimate(self.metric, self.series(cell), level)
        waves = self.of_waves(cell)
        return intervals.between_launches(waves[~np.isnan(waves)], level)

    def compare(self, ours: str, theirs: str, level: float = 0.95) -> intervals.Difference | None:
        """How one cell compares with another; None where that cannot be said."""
        difference = self._difference(ours, theirs, level)
        return difference if difference is not None and difference.is_finite else None

    @far_apart()
    def _difference(self, ours: str, theirs: str, level: float) -> intervals.Difference | None:
        kind = self.metric.compare
        if not self.comparable(ours, theirs):
            return None
        if self.metric.samples in OF_ITEMS:
            compared = on_items.compare(self.metric, self.series(ours), self.series(theirs), level)
            without_interval = compared is not None and compared.ci is None
            return (
                intervals.no_difference(kind)
                if without_interval and self.identical(ours, theirs)
                else compared
            )
        advantage = self.advantage(ours, theirs)
        shared = np.count_nonzero(~np.isnan(advantage))
        if shared < 2 and self.baseline not in (ours, theirs) and self.comparable(self.baseline):
            # Two groups: another machine, as it were, but for the baseline of each.
            first, second = (self.advantage(cell, self.baseline) for cell in (ours, theirs))
            if not (np.isnan(first).all() or np.isnan(second).all()):
                return intervals.independent(first, second, kind, level, where="through the baseline")
        if not shared:
            return None
        if kind == "difference":
            return intervals.difference_interval(advantage, level)
        if self.metric.samples == "per_launch":
            return intervals.launch_ratio(self.of_waves(ours), self.of_waves(theirs), kind, level)
        return intervals.ratio_interval(advantage, level, kind)

    def details(self, cell: str) -> JsonObject:
        """What the metric told besides values, the median of what its launches told; and high quantiles."""
        told = _median_of(self.recording.series[cell][self.key].details)
        if self.metric.samples == "per_block":
            values = self.values(cell)
            # The worse end.
            ranks = (5, 1) if self.metric.better == "higher" else (95, 99)
            told |= {f"p{rank}": float(np.quantile(values, rank / 100)) for rank in ranks}
            told |= {
                "lowest": float(values.min()),
                "calls": len(values),
            }
            told |= {"in_rounds": self._in_rounds(cell)} if self.metric.phase == "block" else {}
        series = self.series(cell)
        if series.resampled:
            whole = series.resampled[0]
            told["resampled"] = {
                "items": whole.items,
                "groups": len(whole.influence),
                "draws": len(whole.draws),
                "step": whole.step,
            }
        if series.groups is not None or len(series.resampled) > 1:
            other = cell != self.baseline and self.comparable(self.baseline)
            told["groups"] = on_items.groups(
                self.metric, series, self.series(self.baseline) if other else None
            )
        plain: JsonObject = without_nan(told)
        return plain

    @far_apart()
    def _in_rounds(self, cell: str) -> JsonObject | None:
        """How the cell compares with the baseline by ratios in every round: of all calls, disturbed or not.

        It ``differs``, for the ``worse`` or the ``better``, where undisturbed calls of the same waves give
        another answer, at 99.9 % and by more than the margin.
        """
        kind, pair = self.metric.compare, (cell, self.baseline)
        if cell == self.baseline or kind == "difference" or self.metric.better == "neither":
            return None
        if not self.comparable(*pair):
            return None
        ours, theirs = (self.recording.series[one][self.key] for one in pair)
        undisturbed = self.advantage(*pair)
        # A wave that one of them did not see to its end is no wave of either.
        ratios = np.where(np.isnan(undisturbed), np.nan, log_ratios_in_rounds(ours, theirs, self.waves))
        apart = ratios - undisturbed
        if np.isnan(apart).all():
            return None
        compared = intervals.ratio_interval(ratios, kind=kind)
        if not compared.is_finite:
            return None
        more = float(np.nanmean(apart))
        differs = abs(more) > np.log1p(self.metric.margin) and intervals.control_alarm(
            intervals.difference_interval(apart)
        )
        worse = (more > 0) == (self.metric.better == "lower")
        return {
            "kind": kind,
            "value": compared.value,
            "ci": compared.ci,
            "differs": ("worse" if worse else "better") if differs else None,
        }

    @far_apart()
    def axis(self, cells: Sequence[str]) -> pareto.Axis:
        """How much better each of these cells is than each other, with its margin."""
        margin, count = self.metric.margin, len(cells)
        if self.metric.samples in OF_ITEMS:
            low, high = on_items.pairwise(self.metric, [self.series(cell) for cell in cells])
        else:
            # The baseline may be none of them, and is what cells of two groups are compared through.
            base = [self.baseline] if self.comparable(self.baseline) else []
            few = np.array([self.fewest(cell) for cell in cells])
            low, high = np.empty((2, count, count))
            for fewest in np.unique(few):
                waves = self.compared_waves([*cells, *base], int(fewest))
                ends = intervals.pairwise_over_waves(waves, count if base else None)
                # A pair is compared by the one that has fewer.
                pairs = np.minimum(few[:, None], few) == fewest
                for kept, end in zip((low, high), ends, strict=True):
                    np.copyto(kept, end[:count, :count], where=pairs)
        if self.metric.better == "lower":
            low, high = low.T, high.T
        return pareto.Axis(low, high, float(np.log1p(margin)) if self.relative else margin)

    def draws(self, cells: Sequence[str], waves: NDArray[np.intp], generator: np.random.Generator) -> Floats:
        """Values of these cells in resampled runs, ``[draws, cells]``, more is better.

        They are on the scale of ``axis``: logs where the metric is compared by ratio. ``waves`` are the
        waves drawn, ``[draws, waves]``, the same for every quantity of a run.
        """
        sign = 1.0 if self.metric.better == "higher" else -1.0
        if self.metric.samples in OF_ITEMS:
            rows = [self.series(cell) for cell in cells]
            return sign * on_items.drawn_values(self.metric, rows, DRAWS, generator)
        base = self.baseline if self.comparable(self.baseline) else cells[0]
        ratios = np.array([self.advantage(cell, base) for cell in cells])
        known = ~np.isnan(ratios)
        # A cell that shares no wave with the baseline is drawn as its equal: nothing else is known.
        means = np.where(known, ratios, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        drawn = ratios[:, waves % ratios.shape[1]]
        present = ~np.isnan(drawn)
        counts = present.sum(axis=2)
        sums = np.where(present, drawn, 0.0).sum(axis=2)
        drawn_means: Floats = sign * np.where(counts > 0, sums / np.maximum(counts, 1), means[:, None]).T
        return drawn_means


def _all_positive(values: Floats) -> np.bool_:
    return (values > 0).all()


def _median_of(details: Sequence[JsonMapping]) -> JsonObject:
    """The same nested mapping with the median in place of each number; of anything else the first.

    A whole number stays one where its median is.
    """
    if not details:
        return {}
    first = details[0]
    merged: JsonObject = {}
    for name, value in first.items():
        every = [one[name] for one in details if name in one]
        if all(isinstance(one, Mapping) for one in every):
            merged[name] = _median_of(every)
        elif all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in every):
            median = float(np.median(every))
            merged[name] = int(median) if isinstance(value, int) and median.is_integer() else median
        else:
            merged[name] = value
    return merged
