"""What a search gave: its path look by look, the final, and the recipe."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import Factory, define, field, frozen

from qx.results.constraints import Verdict
from qx.searching.recipe import Recipe


@frozen(kw_only=True)
class Departure:
    """A candidate that left the race."""

    row: str
    reason: str
    #: Words of the constraint that it breaks, row of the candidate that is no worse, or the failure.
    by: str


@frozen(kw_only=True)
class Step:
    """One look of the race."""

    #: Number of the look, from 1.
    look: int
    #: Items and waves that the candidates of this look have been seen in.
    items: int
    waves: int
    #: Candidates at this look, those that left at it, and the row of the best of those that are left.
    entered: int
    left: tuple[Departure, ...]
    best: str | None


@frozen(kw_only=True)
class Held:
    """A figure of a finalist, held against a constraint in the final."""

    constraint: str
    metric: str
    unit: str
    #: ``value``, ``difference`` or ``ratio`` to the baseline, with the ends of its interval.
    kind: str
    value: float
    ci: tuple[float, float] | None
    verdict: Verdict


@frozen(kw_only=True)
class Finalist:
    """A candidate in the final, or the candidate that is nearest to the constraints."""

    row: str
    #: The quantity that is minimized, as a ratio to the baseline's.
    objective: float | None
    #: Its figures of the final; of the race where there was no final.
    held: tuple[Held, ...]
    #: The SHA-256 of each file of the artifact.
    files: Mapping[str, str] = Factory(dict)

    @property
    def is_within(self) -> bool:
        """Whether it is shown to meet all constraints."""
        return bool(self.held) and all(figure.verdict == "surely" for figure in self.held)


@define(kw_only=True)
class SearchReport:
    """A search, as far as it has come."""

    #: Constraints as they were written, and what is minimized with its metric.
    constraints: tuple[str, ...]
    minimized: str
    metric: str = ""
    workload: str = ""
    baseline: str = ""
    #: Largest number of candidates that the search was planned for, and those that took part.
    planned: int = 0
    candidates: int = 0
    #: Items that chose, and those that were held out to verify the choice.
    choosing_items: int = 0
    held_out_items: int = 0
    path: list[Step] = field(factory=list)
    notes: list[str] = field(factory=list)
    finalists: list[Finalist] = field(factory=list)
    #: What seems best so far; of a search that was stopped it has not been verified.
    best_so_far: Recipe | None = None
    recipe: Recipe | None = None
    #: Row of the recipe.
    row: str | None = None
    #: The candidate that misses the constraints by least, where none meets them.
    nearest: Finalist | None = None
    #: Why the search ended before its end; empty where it did not.
    stopped: str = ""
    #: Rules of ``qx gate`` that hold the recipe to the constraints.
    rules: list[dict[str, str | float]] = field(factory=list)
    seconds: float = 0.0

    @property
    def is_verified(self) -> bool:
        """Whether there is a recipe that the final has shown to meet all constraints."""
        return self.recipe is not None
