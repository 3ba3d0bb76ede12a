"""Compare one metric of one cell in two runs, by each basis that applies."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from attrs import frozen

from qx.analysis import builds, on_items
from qx.analysis.quantity import OF_ITEMS
from qx.comparison.records import Basis, Side
from qx.comparison.sources import Source
from qx.contract.figures import Figure
from qx.contract.records import Metric, as_word
from qx.results.recording import Floats, have_equal_outputs
from qx.statistics import intervals, over_builds, over_waves
from qx.statistics.undisturbed import MIN_SAMPLES

NO_SAMPLES = "its raw samples are not beside the results"


class NotComparable(Exception):
    """The figures cannot be compared; the message says why."""


class NotInBase(NotComparable):
    """The base has no such cell, or no figure of it."""


@frozen(eq=False)
class Pair:
    """A cell of the base and the same cell of another run."""

    base: Source
    ours: Source
    base_cell: str
    our_cell: str

    def bases(self, figure: Figure) -> Iterator[Basis]:
        """Yield the bases by which a metric of this cell is compared."""
        if (basis := self.basis_without_launches(figure)) is not None:
            yield basis
        else:
            if not self.is_baseline:
                yield "own baseline"
            if self.is_same_machine or self.is_baseline:
                yield "direct"

    def basis_without_launches(self, figure: Figure) -> Basis | None:
        """Return the basis for a metric that is not measured in launches. None for one that is."""
        if self.ours.metric(figure).samples not in OF_ITEMS:
            return None
        return "exact" if all(source.is_exact(cell, figure) for source, cell in self._sides) else "items"

    @property
    def is_baseline(self) -> bool:
        """Whether the cell is its own baseline in both runs."""
        return self.base.baseline(self.base_cell) == self.base_cell and (
            self.ours.baseline(self.our_cell) == self.our_cell
        )

    @property
    def is_same_machine(self) -> bool:
        """Whether both runs are known to come from one machine, with launches held to the same CPUs."""
        cpus = [source.cpus for source in (self.base, self.ours)]
        return self.base.fingerprint is not None and (
            (self.base.fingerprint, cpus[0]) == (self.ours.fingerprint, cpus[1])
        )

    def compared(self, figure: Figure, basis: Basis, level: float = 0.95) -> intervals.Difference:
        """Compare ours with the base. Raises ``NotComparable``."""
        metric = self._metric(figure)
        for source, cell in self._sides:
            if source.recording is None:
                raise NotComparable(f"{source.name}: {NO_SAMPLES}")
            # A control has no metrics of outputs.
            if cell not in source.quantity(cell, figure).measured:
                raise NotComparable(f"{source.name} has no samples of it")
        if basis in ("exact", "items"):
            return self._on_items(figure, metric, level)
        first, second = self._waves(figure, basis)
        return over_waves.independent(first, second, metric.compare, level)

    def floor(self, figure: Figure, basis: Basis) -> intervals.Difference | None:
        """Return the difference that the noise of the two runs shows, in the same terms.

        It is the change of the control against its baseline. For a direct comparison with the same
        software it is the change of the baseline itself: nothing but the machine can have caused it.
        None where there is no such figure.
        """
        if basis not in ("own baseline", "direct"):
            return None
        if basis == "direct" and self.base.software == self.ours.software and not self.is_baseline:
            cells = self.base.baseline(self.base_cell), self.ours.baseline(self.our_cell)
        else:
            basis = "own baseline"
            cells = self.base.control(self.base_cell), self.ours.control(self.our_cell)
        if cells[0] is None or cells[1] is None:
            return None
        try:
            return Pair(self.base, self.ours, cells[0], cells[1]).compared(figure, basis)
        except NotComparable:
            return None

    def deviations(self, figure: Figure) -> tuple[over_builds.Deviation, ...]:
        """Return the spread between builds of ours and of the base, on the scale of comparisons.

        That of the other run stands for a run with one build. Empty where both have one.
        """
        metric = self.ours.metric(figure)
        spreads = [source.measurements[cell, figure].builds for source, cell in self._sides]
        known = [builds.deviation(metric, spread) for spread in spreads if spread is not None]
        deviations = [deviation for deviation in known if deviation is not None]
        if len(deviations) == 1:
            return (over_builds.between_two(deviations[0]),)
        return tuple(deviations)

    def widened(
        self, figure: Figure, difference: intervals.Difference, level: float = 0.95
    ) -> intervals.Difference | None:
        """Return a difference with an interval that holds for any two builds; None where that is not known.

        It is not known where both runs have one build, and does not matter where there is no difference.
        """
        is_equal = difference.ci is not None and set(difference.ci) == {difference.neutral}
        deviations = () if is_equal else self.deviations(figure)
        return over_builds.widened(difference, deviations, level) if deviations else None

    def sides(self, figure: Figure, basis: Basis) -> tuple[Side | None, Side | None]:
        """Return the figures of the base and of ours."""
        ours, base = (_side(source, cell, figure, basis) for source, cell in self._sides)
        return base, ours

    def have_equal_outputs(self) -> bool:
        """Return whether the cell is known to have the same outputs in both runs, number by number."""
        ours, base = self.ours.recording, self.base.recording
        if ours is None or base is None:
            return False
        return have_equal_outputs(ours, self.our_cell, base, self.base_cell)

    def _on_items(self, figure: Figure, metric: Metric, level: float) -> intervals.Difference:
        ours, theirs = (source.quantity(cell, figure).series(cell) for source, cell in self._sides)
        if on_items.are_identical(metric, ours, theirs, self.have_equal_outputs):
            return intervals.no_difference(metric.compare)
        try:
            compared = on_items.compare(metric, ours, theirs, level)
        except ValueError as error:
            raise NotComparable(str(error)) from error
        if compared is None:
            values = f"{float(ours.values[0]):g} and {float(theirs.values[0]):g}"
            raise NotComparable(f"a ratio needs positive values, not {values}")
        if compared.reason:
            raise NotComparable(compared.reason)
        return compared

    @property
    def _sides(self) -> tuple[tuple[Source, str], tuple[Source, str]]:
        return (self.ours, self.our_cell), (self.base, self.base_cell)

    def _metric(self, figure: Figure) -> Metric:
        ours, base = self.ours.metric(figure), self.base.metric(figure)
        for field in ("unit", "better", "samples", "compare", "phase"):
            if getattr(ours, field) != getattr(base, field):
                raise NotComparable(f"the definition of the metric differs: it has another {field}")
        if differing := self._differing_options(figure):
            raise NotComparable(f"it was measured with other options: {', '.join(differing)}")
        return ours

    def _differing_options(self, figure: Figure) -> list[str]:
        """Say which options differ between the runs. One that a run does not know has its default."""
        defaults = self.ours.default_options(figure) | self.base.default_options(figure)
        ours, base = (defaults | source.options(figure) for source in (self.ours, self.base))
        runs = self.ours.name, self.base.name
        return [
            f"{name} is {as_word(ours[name])} in {runs[0]} and {as_word(base[name])} in {runs[1]}"
            for name in sorted({*ours} & {*base})
            if ours[name] != base[name]
        ]

    def _waves(self, figure: Figure, basis: Basis) -> list[Floats]:
        """Return one value per wave of ours and of the base, logs for a metric compared by ratio."""
        if basis == "direct":
            if not self.is_same_machine:
                baseline = ", and a baseline has no ratio to itself" if self.is_baseline else ""
                raise NotComparable(f"the runs are not known to come from one machine{baseline}")
            groups = [[cell] for _, cell in self._sides]
        else:
            groups = [[cell, self._own_baseline(source, cell)] for source, cell in self._sides]
        waves = []
        min_samples = min(self._min_samples(source, cell, figure) for source, cell in self._sides)
        for (source, cell), group in zip(self._sides, groups, strict=True):
            quantity = source.quantity(cell, figure)
            if not set(group) <= set(quantity.measured):
                raise NotComparable(f"{source.name} has no figures of its baseline")
            if not quantity.are_comparable(*group):
                raise NotComparable("values that are not positive have no ratio")
            if basis == "direct":
                waves.append(quantity.by_wave.values([cell], min_samples)[:, 0])
            else:
                waves.append(quantity.by_wave.advantage(group[0], group[1]))
            if np.isnan(waves[-1]).all():
                raise NotComparable(f"{source.name}: no wave has both it and its baseline")
        return waves

    def _min_samples(self, source: Source, cell: str, figure: Figure) -> int:
        """Return the smallest number of samples in any wave of a cell."""
        quantity = source.quantity(cell, figure)
        return quantity.by_wave.min_samples(cell) if quantity.are_comparable(cell) else MIN_SAMPLES

    def _own_baseline(self, source: Source, cell: str) -> str:
        """Return the baseline of a cell. Raises ``NotComparable`` unless it has one config in both runs."""
        baselines = [side.baseline(name) for side, name in self._sides]
        configs = [
            None if name is None else side.results.cells[name].config
            for (side, _), name in zip(self._sides, baselines, strict=True)
        ]
        if None in configs:
            raise NotComparable("a baseline did not end well")
        if configs[0] != configs[1]:
            raise NotComparable(f"the runs have different baselines, {configs[0]} and {configs[1]}")
        own = source.baseline(cell)
        assert own is not None
        return own


def _side(source: Source, cell: str, figure: Figure, basis: Basis) -> Side | None:
    measured = source.measurements.get((cell, figure))
    if measured is None or measured.value is None:
        return None
    if basis == "own baseline":
        compared = measured.vs_baseline
        return None if compared is None else Side(value=compared.value, ci=compared.ci)
    return Side(value=measured.value, ci=measured.ci)
