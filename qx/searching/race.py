"""Decide at each look which candidates leave a race, and which of those that are left go to the final.

The error of a search is 5 %, shared in advance:

- 1 % that the race drops the best candidate because it seems to break a constraint, at any look;
- 1 % that it drops it because another one, which seems to meet all constraints, seems to be no worse;
- what is left that the final does not show what is true.

The looks are group-sequential with the spending of Pocock's test, which drops hopeless candidates early
(``qx.statistics.sequential``). All tests are of differences and ratios to the baseline on the same items and
in the same waves, or of exact values: a latency in milliseconds drifts with the machine, and is judged in
the final alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from attrs import define, field, frozen

from qx.contract.records import Metric
from qx.searching.figures import Figures, Limit, Seen
from qx.statistics.sequential import levels, pocock

#: Error of a search: that a recipe which is returned breaks a constraint.
ERROR = 0.05
#: Errors of dropping the best candidate: as one that breaks a constraint, and as one that is no better.
EXCLUSION, DOMINATION = 0.01, 0.01
#: Number of looks at a candidate, at equal shares of the items, and of waves at each of them.
LOOKS, WAVES = 4, 3
#: Largest number of candidates in the final, which share the error.
FINALISTS = 3
#: Error of the tests by which finalists are chosen, the strictest first.
CHOICE = (0.01, 0.05)
#: Why a candidate left.
BREAKS, DOMINATED, FAILED = "breaks", "no better", "failed"


@frozen(kw_only=True)
class Design:
    """The looks of a race, and the one-sided error that each test may have at each of them."""

    #: Share of the items at each look.
    shares: tuple[float, ...]
    #: Error of a test that a candidate breaks one constraint.
    exclusion: tuple[float, ...]
    #: Error of a test that a candidate meets one constraint, before others may be held against it.
    meeting: tuple[float, ...]
    #: Error of a test that one candidate is better than another.
    domination: tuple[float, ...]

    @classmethod
    def of(cls, candidates: int, limits: int, looks: int = LOOKS) -> Design:
        """Return the design for a number of candidates and of constraints with sampling error.

        A candidate is tested against each constraint, so these share their error. Any of the candidates may
        seem to lead, so all of them share that of domination.
        """
        shares = tuple((look + 1) / looks for look in range(looks))
        # Meeting and domination have half of one error each.
        half = tuple(levels(shares, DOMINATION / 2 / max(1, candidates), pocock))
        exclusion = tuple(levels(shares, EXCLUSION / max(1, limits), pocock))
        return cls(shares=shares, exclusion=exclusion, meeting=half, domination=half)


@frozen(kw_only=True)
class Exit:
    """Why a candidate left the race, and at which look, from 1."""

    look: int
    reason: str
    #: Words of the constraint that it breaks, name of the candidate that is no worse, or the failure.
    by: str


@define
class Race:
    """The state of a race: which candidates are in it, and why the others left."""

    design: Design
    #: Constraints that are judged in the race: those on exact or paired quantities.
    limits: Sequence[Limit]
    #: Metric of the quantity that is minimized.
    metric: Metric
    exits: dict[str, Exit] = field(factory=dict)

    def alive(self, names: Iterable[str]) -> list[str]:
        """Return those of the candidates that are still in the race."""
        return [name for name in names if name not in self.exits]

    def drop_breaking(self, look: int, figures: Mapping[str, Figures]) -> None:
        """Drop candidates that are shown to break a constraint. ``look`` counts from 0."""
        error = self.design.exclusion[look]
        for name in self.alive(figures):
            for limit in self.limits:
                seen = figures[name].seen(limit, error)
                if seen is not None and is_shown_to_break(limit, seen):
                    self.exits[name] = Exit(look=look + 1, reason=BREAKS, by=limit.constraint.words)
                    break

    def drop_dominated(self, look: int, figures: Mapping[str, Figures]) -> None:
        """Drop candidates that are no better than the best of those that are shown to meet all constraints.

        One that is not shown to meet them leaves where it is not better by more than the margin, and one that
        is where it is worse: a chain of candidates within the margin never leads far away.
        """
        meeting = [name for name in self.alive(figures) if self._meets(figures[name], look)]
        if not meeting:
            return
        leader = min(meeting, key=lambda name: figures[name].objective(self.metric))
        margin, error = math.log1p(self.metric.margin), self.design.domination[look]
        for name in self.alive(figures):
            least = 0.0 if name in meeting else -margin
            is_other = name != leader
            if is_other and figures[leader].advantage(figures[name], self.metric, error) > least:
                self.exits[name] = Exit(look=look + 1, reason=DOMINATED, by=leader)

    def _meets(self, figures: Figures, look: int) -> bool:
        return meets_all(figures, self.limits, self.design.meeting[look])

    def finalists(self, figures: Mapping[str, Figures], limits: Sequence[Limit]) -> list[str]:
        """Return the candidates of the final, in the order in which they share its error.

        Those come first that are shown to meet the constraints of the race, by ever weaker tests, then those
        that seem to meet all ``limits``, then those that seem to miss them by least; among equals the best.
        """

        def rank(name: str) -> tuple[int, float, float]:
            own = figures[name]
            distance = excess(own, limits)
            shown = [error for error in CHOICE if meets_all(own, self.limits, error)]
            objective = own.objective(self.metric)
            if distance > 0:
                return len(CHOICE) + 1, distance, objective
            return CHOICE.index(shown[0]) if shown else len(CHOICE), objective, distance

        return sorted(self.alive(figures), key=rank)[:FINALISTS]


def is_shown_to_break(limit: Limit, seen: Seen) -> bool:
    """Return whether the whole interval is beyond the bound."""
    return not limit.bound.holds(seen.low) and not limit.bound.holds(seen.high)


def is_shown_to_meet(limit: Limit, seen: Seen) -> bool:
    """Return whether the whole interval is within the bound."""
    return limit.bound.holds(seen.low) and limit.bound.holds(seen.high)


def meets_all(figures: Figures, limits: Sequence[Limit], error: float) -> bool:
    """Return whether a candidate is shown to meet all limits, each by a test with this error.

    All of them have to be shown, so the error needs no correction for their number (Berger, 1982).
    """
    seen = [figures.seen(limit, error) for limit in limits]
    return all(
        figure is not None and is_shown_to_meet(limit, figure)
        for limit, figure in zip(limits, seen, strict=True)
    )


def excess(figures: Figures, limits: Sequence[Limit]) -> float:
    """Return by how much a candidate seems to miss its worst limit; 0 or less where it seems to meet all.

    A miss is a share of the limit, so that points and bytes can be compared; of a limit of 0 it is the miss.
    """
    misses = [-math.inf]
    for limit in limits:
        seen = figures.seen(limit, 0.025)
        scale = abs(limit.bound.edge) or 1.0
        misses.append(math.inf if seen is None else limit.bound.excess(seen.value) / scale)
    return max(misses)


def is_over(race: Race, figures: Mapping[str, Figures]) -> bool:
    """Return whether no candidate has to be dropped any more: the final has room for all that are left."""
    alive = race.alive(figures)
    has_objective = all(math.isfinite(figures[name].objective(race.metric)) for name in alive)
    return len(alive) <= FINALISTS and has_objective


def choose_recipe(finalists: Mapping[str, Figures], limits: Sequence[Limit], metric: Metric) -> str | None:
    """Return the best of the finalists that are shown to meet all limits; None where none is.

    Each is tested with its share of the error, so what is returned breaks a constraint in at most 5 % of
    searches, whichever of them is chosen.
    """
    error = ERROR / max(1, len(finalists))
    meeting = [name for name, own in finalists.items() if meets_all(own, limits, error)]
    return min(meeting, key=lambda name: finalists[name].objective(metric), default=None)
