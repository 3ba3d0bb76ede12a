"""One metric, at one batch size, over all cells: values, comparisons, and what the front wants of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from attrs import frozen

from qx import pareto, stats
from qx.in_rounds import log_ratios_in_rounds
from qx.recording import Key, Recording
from qx.records import Metric
from qx.results import without_nan
from qx.undisturbed import log_undisturbed

#: Resamplings of waves and items for the probability of being on the front.
DRAWS = 1000


@frozen(eq=False, slots=False)
class Quantity:
    """A metric, at one batch size where it has one, over all cells."""

    metric: Metric
    batch_size: int | None
    recording: Recording
    baseline: str

    @property
    def key(self) -> Key:
        """Where its samples lie in the recording."""
        return self.metric.name, self.batch_size

    @property
    def params(self) -> dict[str, Any]:
        """What tells it from the same metric at another batch size."""
        return {} if self.batch_size is None else {"batch_size": self.batch_size}

    @property
    def in_launches(self) -> bool:
        """It is measured in launches, or derived from them, so of the control too."""
        derived = self.metric.phase == "derived" and self.metric.samples in ("per_launch", "per_block")
        return self.metric.phase in ("fresh", "block") or derived

    def relative(self, cells: Sequence[str]) -> bool:
        """It is compared by ratio, and every sample of these cells has a logarithm."""
        return self.metric.compare != "difference" and all((self.values(cell) > 0).all() for cell in cells)

    @cached_property
    def measured(self) -> list[str]:
        """Cells that have samples of it."""
        return [cell for cell, series in self.recording.series.items() if self.key in series]

    def values(self, cell: str) -> Any:
        """The raw samples of a cell."""
        return self.recording.series[cell][self.key].values

    def of_waves(self, cell: str) -> Any:
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

    def of_waves_undisturbed(self, cells: Sequence[str]) -> Any:
        """One value of every cell for each wave, ``[waves, cells]``, as it is compared.

        A log where the metric is compared by ratio. Of samples in blocks it is then what the cell has when
        nothing disturbs the machine; of others, that of ``of_waves``.
        """
        relative = self.relative(cells)
        if relative and self.metric.samples == "per_block":
            place = {cell: index for index, cell in enumerate(self.measured)}
            return self._undisturbed[:, [place[cell] for cell in cells]]
        waves = np.array([self.of_waves(cell) for cell in cells]).T
        return np.log(waves) if relative else waves

    @cached_property
    def _undisturbed(self) -> Any:
        """Of all cells that have samples, since a launch is held against the others of its wave; else NaN."""
        series = [self.recording.series[cell][self.key] for cell in self.measured]
        cells = np.concatenate([np.full(len(one.values), index) for index, one in enumerate(series)])
        values, waves, rounds = (
            np.concatenate([getattr(one, what) for one in series]) for what in ("values", "wave", "round")
        )
        fit = np.isin(cells, [index for index, cell in enumerate(self.measured) if self.relative([cell])])
        shape = (self.waves, len(self.measured))
        return log_undisturbed(values[fit], cells[fit], waves[fit], rounds[fit], self.metric.better, shape)

    @cached_property
    def waves(self) -> int:
        """How many waves any cell has."""
        series = [self.recording.series[cell][self.key] for cell in self.measured]
        return max(1 + int(one.wave.max()) if (one.wave >= 0).any() else len(one.values) for one in series)

    def advantage(self, ours: str, theirs: str) -> Any:
        """How much more one cell has than another in every wave, ``[waves]``.

        A log ratio where the metric is compared by ratio, else a difference in its unit.
        """
        first, second = self.of_waves_undisturbed((ours, theirs)).T
        return first - second

    def estimate(self, cell: str, level: float = 0.95) -> stats.Estimate:
        """The value of a cell."""
        values = self.values(cell)
        match self.metric.samples:
            case "exact":
                return stats.Estimate(float(values[0]), (float(values[0]), float(values[0])), 1)
            case "per_item":
                return stats.item_mean(values, level)
            case _:
                waves = self.of_waves(cell)
                return stats.between_launches(waves[~np.isnan(waves)], level)

    def compare(self, ours: str, theirs: str, level: float = 0.95) -> stats.Difference | None:
        """How one cell compares with another; None where that cannot be said."""
        kind = self.metric.compare
        if ours not in self.measured or theirs not in self.measured:
            return None
        if kind != "difference" and not self.relative((ours, theirs)):
            return None
        match self.metric.samples:
            case "exact":
                return stats.exact(float(self.values(ours)[0]), float(self.values(theirs)[0]), kind)
            case "per_item":
                pair = self.values(ours), self.values(theirs)
                if kind == "difference":
                    return stats.paired_difference(*pair, level)
                return stats.ratio_of_means(*pair, kind, level)
        if kind == "difference":
            waves = np.array([self.of_waves(ours), self.of_waves(theirs)])
            shared = waves[:, ~np.isnan(waves).any(axis=0)]
            return stats.paired_difference(shared[0], shared[1], level) if shared.shape[1] else None
        if self.metric.samples == "per_launch":
            return stats.unpaired_ratio(self.of_waves(ours), self.of_waves(theirs), kind, level)
        ratios = self.advantage(ours, theirs)
        if not np.isnan(ratios).all():
            return stats.ratio_interval(ratios, level, kind)
        return None

    def details(self, cell: str) -> dict[str, Any]:
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
        if self.recording.series[cell][self.key].groups is not None:
            told["groups"] = self._groups(cell)
        plain: dict[str, Any] = without_nan(told)
        return plain

    def _in_rounds(self, cell: str) -> dict[str, Any] | None:
        """How the cell compares with the baseline by ratios in every round: of all calls, disturbed or not.

        It ``differs``, for the ``worse`` or the ``better``, where undisturbed calls of the same waves give
        another answer, at 99.9 % and by more than the margin.
        """
        kind, pair = self.metric.compare, (cell, self.baseline)
        if cell == self.baseline or self.baseline not in self.measured:
            return None
        if kind == "difference" or self.metric.better == "neither" or not self.relative(pair):
            return None
        ours, theirs = (self.recording.series[one][self.key] for one in pair)
        undisturbed = self.advantage(*pair)
        # A wave that one of them did not see to its end is no wave of either.
        ratios = np.where(np.isnan(undisturbed), np.nan, log_ratios_in_rounds(ours, theirs, self.waves))
        apart = ratios - undisturbed
        if np.isnan(apart).all():
            return None
        compared = stats.ratio_interval(ratios, kind=kind)
        more = float(np.nanmean(apart))
        differs = abs(more) > np.log1p(self.metric.margin) and stats.control_alarm(apart)
        worse = (more > 0) == (self.metric.better == "lower")
        return {
            "kind": kind,
            "value": compared.value,
            "ci": compared.ci,
            "differs": ("worse" if worse else "better") if differs else None,
        }

    def _groups(self, cell: str) -> dict[str, Any]:
        """Value and paired difference of each group of items, corrected for looking at all of them."""
        own, base = self.recording.series[cell][self.key], self.recording.get(self.baseline, self.key)
        told: dict[str, Any] = {}
        # Bonferroni: all intervals of differences together hold with 95 %.
        level = 1 - 0.05 / max(1, len(own.group_names))
        for index, name in enumerate(own.group_names):
            members = own.groups == index
            if not members.any():
                continue
            estimate = stats.item_mean(own.values[members])
            told[name] = {"value": estimate.value, "ci": estimate.ci, "n": estimate.n}
            if base is not None and cell != self.baseline and self.metric.compare == "difference":
                difference = stats.paired_difference(own.values[members], base.values[members], level)
                told[name]["vs_baseline"] = {
                    "kind": difference.kind,
                    "value": difference.value,
                    "ci": difference.ci,
                    "level": level,
                    "p": difference.p,
                }
        compared = [one["vs_baseline"] for one in told.values() if "vs_baseline" in one]
        adjusted = stats.holm([one["p"] for one in compared if one["p"] is not None])
        for one, p in zip((one for one in compared if one["p"] is not None), adjusted, strict=True):
            one["p_adjusted"] = p
        return told

    def axis(self, cells: Sequence[str]) -> pareto.Axis:
        """How much better each of these cells is than each other, with its margin."""
        margin, relative = self.metric.margin, self.relative(cells)
        if self.metric.samples in ("exact", "per_item"):
            low, high = self._over_items(cells, relative)
        else:
            base = cells.index(self.baseline) if self.baseline in cells else None
            low, high = stats.pairwise_over_waves(self.of_waves_undisturbed(cells), base)
        if self.metric.better == "lower":
            low, high = low.T, high.T
        return pareto.Axis(low, high, float(np.log1p(margin)) if relative else margin)

    def _over_items(self, cells: Sequence[str], relative: bool) -> tuple[Any, Any]:
        """Intervals of all pairs, ``[cells, cells]`` each, of a metric that no launch is needed for."""
        rows = [self.values(cell) for cell in cells]
        if self.metric.samples == "per_item" and not relative:
            return stats.pairwise_differences(rows)
        items = np.array(rows)
        means = items.mean(axis=1)
        values = np.log(means) if relative else means
        apart = values[:, None] - values[None, :]
        if self.metric.samples == "exact":
            return apart, apart
        # As in `stats.ratio_of_means`: its error is that of the differences of what is left of each item.
        low, high = stats.pairwise_differences(items / means[:, None])
        return apart + low, apart + high

    def draws(self, cells: Sequence[str], waves: Any, generator: np.random.Generator) -> Any:
        """Values of these cells in resampled runs, ``[draws, cells]``, more is better.

        They are on the scale of ``axis``: logs where the metric is compared by ratio. ``waves`` are the
        waves drawn, ``[draws, waves]``, the same for every quantity of a run.
        """
        sign = 1.0 if self.metric.better == "higher" else -1.0
        if self.metric.samples in ("exact", "per_item"):
            if self.metric.samples == "exact":
                means = np.array([self.estimate(cell).value for cell in cells])
            else:
                means = _drawn_means(np.array([self.values(cell) for cell in cells]), generator)
            return sign * (np.log(means) if self.relative(cells) else means)
        base = self.baseline if self.baseline in self.measured else cells[0]
        waves_of = self.of_waves_undisturbed([base, *cells])
        ratios = (waves_of[:, 1:] - waves_of[:, :1]).T
        known = ~np.isnan(ratios)
        # A cell that shares no wave with the baseline is drawn as its equal: nothing else is known.
        means = np.where(known, ratios, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        drawn = ratios[:, waves % ratios.shape[1]]
        present = ~np.isnan(drawn)
        counts = present.sum(axis=2)
        sums = np.where(present, drawn, 0.0).sum(axis=2)
        return sign * np.where(counts > 0, sums / np.maximum(counts, 1), means[:, None]).T


def _drawn_means(items: Any, generator: np.random.Generator) -> Any:
    """Means of items ``[cells, n]`` drawn with replacement, the same items for all cells: ``[draws, cells]``.

    Items that are alike in all cells are drawn together: where values are 0 and 1 they are of few kinds.
    """
    kinds, counts = np.unique(items, axis=1, return_counts=True)
    total = counts.sum()
    return generator.multinomial(total, counts / total, size=DRAWS) @ kinds.T / total


def _median_of(details: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The same nested mapping with the median in place of each number; of anything else the first."""
    if not details:
        return {}
    first = details[0]
    merged: dict[str, Any] = {}
    for name, value in first.items():
        every = [one[name] for one in details if name in one]
        if all(isinstance(one, Mapping) for one in every):
            merged[name] = _median_of(every)
        elif isinstance(value, float) and all(isinstance(one, (int, float)) for one in every):
            merged[name] = float(np.median(every))
        else:
            merged[name] = value
    return merged
