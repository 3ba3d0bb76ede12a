"""One figure over all cells: its samples, its values and how cells compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from functools import cached_property, partial

import numpy as np
from attrs import evolve, frozen
from numpy.typing import NDArray

from qx.analysis import on_items
from qx.analysis.wave_values import WaveValues, is_relative
from qx.contract.figures import Figure, Point
from qx.contract.records import Metric
from qx.results.recording import Floats, Recording, Series, have_equal_outputs
from qx.statistics import intervals, over_sittings, over_waves

#: Kinds of samples that are not taken in launches.
OF_ITEMS = ("exact", "per_item", "per_set")
#: Kinds of samples that are taken in launches, or derived from such.
OF_LAUNCHES = ("per_launch", "per_block", "per_round")
#: Ignores overflow: values of a plugin's metric may be 1e149 and 1e-300, and infinite ratios are handled.
ignore_overflow = partial(np.errstate, over="ignore", divide="ignore", invalid="ignore")


@frozen(eq=False, slots=False)
class Quantity:
    """One figure, a metric at its point, over the cells of a workload, which share their waves."""

    metric: Metric
    #: Point that the metric is measured at; None for a metric that is not measured at each point.
    point: Point | None
    #: Samples of the cells of this workload alone.
    recording: Recording
    baseline: str
    #: Cells whose samples are not used: the cell did not end well, or this metric failed in it.
    failed: Set[str] = frozenset()
    #: Sitting of each wave; empty where all are of one.
    sittings: Sequence[int] = ()

    @property
    def figure(self) -> Figure:
        """The metric with its point, under which its samples are recorded."""
        return Figure(self.metric.name, self.point)

    @property
    def is_from_launches(self) -> bool:
        """Whether it is measured in launches or derived from them, and so measured of the control too."""
        is_derived = self.metric.phase == "derived" and self.metric.samples in OF_LAUNCHES
        return self.metric.phase in ("fresh", "block") or is_derived

    @property
    def is_relative(self) -> bool:
        """Whether it is compared by ratio."""
        return is_relative(self.metric)

    @cached_property
    def measured(self) -> list[str]:
        """Names of the cells with samples of this figure, except for cells that failed."""
        return [
            cell
            for cell, series_by_figure in self.recording.series.items()
            if self.figure in series_by_figure and cell not in self.failed
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
        return self.recording.series[cell][self.figure]

    def values(self, cell: str) -> Floats:
        """Return the raw samples of a cell."""
        return self.series(cell).values

    def is_exact(self, cell: str) -> bool:
        """Return whether the value of a cell has no sampling error."""
        return on_items.is_exact(self.metric, self.series(cell))

    def are_identical(self, ours: str, theirs: str) -> bool:
        """Return whether two cells are the same on every item that was evaluated."""
        have_equal = partial(have_equal_outputs, self.recording, ours, self.recording, theirs)
        return on_items.are_identical(self.metric, self.series(ours), self.series(theirs), have_equal)

    @cached_property
    def by_wave(self) -> WaveValues:
        """The values of the cells in every wave, for a metric that is measured in launches."""
        series = {cell: self.series(cell) for cell in self.measured}
        return WaveValues(self.metric, series, frozenset(filter(self.are_comparable, self.measured)))

    def estimate(self, cell: str, level: float = 0.95) -> intervals.Estimate:
        """Estimate the value of a cell."""
        if self.metric.samples in OF_ITEMS:
            return on_items.estimate(self.metric, self.series(cell), level)
        medians = self.by_wave.medians(cell)
        if self.differs_by_sitting(cell):
            return self._over_sittings(medians, level)
        return over_waves.between_launches(medians[~np.isnan(medians)], level)

    def differs_by_sitting(self, cell: str) -> bool:
        """Return whether the launches of a cell differ between sittings by more than within them."""
        if not self.sittings or self.metric.samples in OF_ITEMS:
            return False
        medians = self.by_wave.medians(cell)
        is_positive = bool(np.all(medians[~np.isnan(medians)] > 0))
        sittings = self._sittings_of(medians)
        return sittings is not None and over_sittings.differ(
            np.log(medians) if is_positive else medians, sittings
        )

    def ratio_differs_by_sitting(self, ours: str, theirs: str) -> bool:
        """Return whether what one cell exceeds another by differs between sittings by more than waves do."""
        if not self.sittings or ours == theirs or not self.are_comparable(ours, theirs):
            return False
        advantage = self.by_wave.advantage(ours, theirs)
        sittings = self._sittings_of(advantage)
        return sittings is not None and over_sittings.differ(advantage, sittings)

    def mean_over_sittings(
        self, ours: str, theirs: str, level: float = 0.95
    ) -> tuple[Floats, Floats, Floats]:
        """Estimate over sittings by what one cell exceeds another: mean, half of the interval, and p."""
        advantage = self.by_wave.advantage(ours, theirs)
        sittings = self._sittings_of(advantage)
        assert sittings is not None
        return over_sittings.mean_over_sittings(advantage, sittings, level)

    def by_sitting(self, cell: str, level: float = 0.95) -> list[intervals.Estimate]:
        """Estimate the value of a cell from each sitting by itself."""
        medians = self.by_wave.medians(cell)
        sittings = self._sittings_of(medians)
        parts = [] if sittings is None else over_sittings.by_sitting(medians, sittings)
        return [over_waves.between_launches(part, level) for part in parts]

    def _over_sittings(self, medians: Floats, level: float) -> intervals.Estimate:
        """Estimate a value that differs by sitting: the median, with an interval that holds those of all."""
        whole = over_waves.between_launches(medians[~np.isnan(medians)], level)
        sittings = self._sittings_of(medians)
        assert sittings is not None
        parts = [
            over_waves.between_launches(part, level) for part in over_sittings.by_sitting(medians, sittings)
        ]
        ends = [end for part in (whole, *parts) for end in (part.ci or (part.value, part.value))]
        return evolve(whole, ci=(min(ends), max(ends)))

    def _sittings_of(self, by_wave: Floats) -> NDArray[np.int64] | None:
        """Return the sitting of each value; None where values are not those of waves."""
        if len(by_wave) > len(self.sittings):
            return None
        return np.asarray(self.sittings[: len(by_wave)], dtype=np.int64)

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
        advantage = self.by_wave.advantage(ours, theirs)
        shared = np.count_nonzero(~np.isnan(advantage))
        if shared < 2 and self.baseline not in (ours, theirs) and self.are_comparable(self.baseline):
            # Cells of two groups share no waves, so each is compared with the baseline of its own.
            first, second = (self.by_wave.advantage(cell, self.baseline) for cell in (ours, theirs))
            if not (np.isnan(first).all() or np.isnan(second).all()):
                return over_waves.independent(first, second, kind, level, where="through the baseline")
        if not shared:
            return None
        if self.ratio_differs_by_sitting(ours, theirs):
            return over_waves.between_sittings(advantage, self.sittings[: len(advantage)], kind, level)
        if kind == "difference":
            return over_waves.difference_interval(advantage, level)
        if self.metric.samples in ("per_launch", "per_round"):
            return over_waves.launch_ratio(
                self.by_wave.medians(ours), self.by_wave.medians(theirs), kind, level
            )
        return over_waves.ratio_interval(advantage, level, kind)


def _all_positive(values: Floats) -> np.bool_:
    return (values > 0).all()
