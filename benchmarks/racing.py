"""How often does a search end wrongly, and what does a race cost beside measuring everything whole?

Simulated, with the decisions and the intervals of ``qx search`` itself. Each space has candidates whose truth
is known: the quality that they lose, the share of answers that they change, their latency and their size.
Items are answered right or wrong in pairs with the baseline, and a wave gives the log of a ratio of latencies
with heavy tails. Counted are searches that end with nothing or with a recipe that is worse by more than the
margin, though a candidate meets all constraints by the margin (5 % are allowed), and returned recipes that
break a constraint (5 % of those returned are allowed). The cost is a number of seconds by what a build, an
item and a launch take, as a share of measuring all candidates whole. Nothing is timed here.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
from attrs import define, evolve, frozen

from benchmarks.common import keep
from qx.contract.records import Metric
from qx.results.constraints import bound_of, read_constraint
from qx.searching.figures import Figures, Limit, Seen
from qx.searching.race import (
    ERROR,
    EXCLUSION,
    FINALISTS,
    LOOKS,
    WAVES,
    Design,
    Race,
    choose_recipe,
    is_over,
)
from qx.statistics.over_items import ends_of_pairs
from qx.statistics.sequential import items_for_power

#: Most that a recipe may lose, as on the command line.
DROP = "0.5pt"
#: Share of answers that configs change, at most: the items are as many as that needs.
CHANGED = 0.04
#: Waves of the final, and of measuring a candidate whole.
FINAL_WAVES, WHOLE_WAVES = 8, LOOKS * WAVES
#: Deviation of a wave's log ratio of latencies, and degrees of freedom of its tails.
NOISE, TAILS = 0.015, 5
#: Seconds of a build, of an item and of a launch, by what dominates.
COSTS = {
    "a small network": (4.0, 0.0003, 4.0),
    "a network at 224 x 224": (12.0, 0.01, 6.0),
    "builds alone": (60.0, 0.0003, 4.0),
}

QUALITY = Metric(
    name="quality",
    summary="Share of right answers.",
    unit="fraction",
    better="higher",
    samples="per_item",
    compare="difference",
    phase="predictions",
    margin=0.005,
    axis=True,
)
SIZE = Metric(
    name="size",
    summary="Bytes.",
    unit="bytes",
    better="lower",
    samples="exact",
    compare="ratio",
    phase="artifact",
    margin=0.01,
    axis=True,
)
TIME = Metric(
    name="time",
    summary="Time of a call.",
    unit="ms",
    better="lower",
    samples="per_block",
    compare="speedup",
    phase="block",
    margin=0.02,
    axis=True,
)


@frozen
class Truth:
    """What a candidate really does, each against the baseline."""

    #: Share of items that it loses, and share of those whose answer it changes.
    drop: float
    changed: float
    #: Latency and size as shares of the baseline's.
    latency: float
    size: float


Space = Callable[["np.random.Generator", int], list[Truth]]


def mixed(generator: np.random.Generator, count: int) -> list[Truth]:
    """Return a space as sweeps over configs are: some collapse, some lose points, some lose nothing."""
    kinds = generator.choice(3, size=count, p=[0.25, 0.45, 0.3])
    kinds[0] = 2
    drops = np.choose(
        kinds,
        [
            generator.uniform(0.05, 0.6, count),
            generator.uniform(0.006, 0.03, count),
            generator.uniform(-0.002, 0.004, count),
        ],
    )
    # One meets the limit by the margin, at least.
    drops[0] = -0.0005
    return _space(generator, drops)


def near_the_limit(generator: np.random.Generator, count: int) -> list[Truth]:
    """Return a space within half a margin of the limit, but for one in ten that lose nothing."""
    drops = generator.uniform(0.0025, 0.0075, count)
    drops[:: max(1, count // 10)] = 0.0
    return _space(generator, drops)


def only_one(generator: np.random.Generator, count: int) -> list[Truth]:
    """Return a space in which one candidate meets the limit, by just the margin; the others are faster."""
    drops = generator.uniform(0.0055, 0.02, count)
    drops[0] = 0.0
    truths = _space(generator, drops)
    slowest = max(truth.latency for truth in truths)
    return [evolve(truths[0], latency=1.05 * slowest, size=1.0), *truths[1:]]


def one_among_many_at_the_limit(generator: np.random.Generator, count: int) -> list[Truth]:
    """Return a space made to deceive: one meets the limit, and all better ones break it by nothing."""
    drops = np.full(count, 0.005 + 1e-6)
    drops[0] = 0.0
    truths = _space(generator, drops)
    return [evolve(truths[0], latency=1.3, size=1.0), *truths[1:]]


def at_the_limit(generator: np.random.Generator, count: int) -> list[Truth]:
    """Return a space in which each candidate loses just more than the limit, so that none may be returned."""
    return _space(generator, np.full(count, 0.005 + 1e-6))


def _space(generator: np.random.Generator, drops: Any) -> list[Truth]:
    count = len(drops)
    changed = np.maximum(np.abs(drops), generator.uniform(0.2 * CHANGED, CHANGED, count))
    latencies = np.exp(generator.uniform(np.log(0.3), np.log(1.2), count))
    sizes = generator.uniform(0.26, 0.6, count)
    return [Truth(*map(float, values)) for values in zip(drops, changed, latencies, sizes, strict=True)]


SPACES: Mapping[str, Space] = {
    "mixed": mixed,
    "near the limit": near_the_limit,
    "only one": only_one,
    "one among many at the limit": one_among_many_at_the_limit,
    "at the limit": at_the_limit,
}


@frozen(kw_only=True)
class Outcome:
    """How one search ended, and what it took."""

    #: Whether it ended with nothing, or with a recipe that is worse by more than the margin.
    is_missed: bool
    #: Whether a candidate meets all constraints by the margin.
    has_best: bool
    is_returned: bool
    #: Whether what was returned breaks a constraint.
    is_broken: bool
    #: Items that were evaluated and launches that were timed, of all candidates.
    items: int
    launches: int


@define
class Counted(Figures):
    """A candidate of which answers are counted: those that it alone has right, and those of the baseline."""

    wins: int = 0
    losses: int = 0
    count: int = 0

    def seen(self, limit: Limit, error: float) -> Seen | None:
        """Return the difference from the baseline, with the interval that its pairs of answers have."""
        if limit.metric is not QUALITY or not self.count:
            return None
        ends = ends_of_pairs(self.wins, self.losses, self.count, 1 - 2 * error)
        return Seen.of((self.wins - self.losses) / self.count, ends)

    def add(self, truth: Truth, items: int, generator: Any) -> None:
        """Draw what a candidate answers on more items."""
        shares = (truth.changed - truth.drop) / 2, (truth.changed + truth.drop) / 2
        won, lost, _ = generator.multinomial(items, [*shares, 1 - sum(shares)])
        self.wins, self.losses, self.count = self.wins + int(won), self.losses + int(lost), self.count + items


@cache
def design_for(candidates: int) -> Design:
    """Return the design of a race with one constraint that has sampling error."""
    return Design.of(candidates, 1)


class Simulation:
    """One search over a space whose truth is known."""

    def __init__(self, truths: list[Truth], metric: Metric, items: int, generator: Any) -> None:
        self.truths = {f"candidate {index}": truth for index, truth in enumerate(truths)}
        self.metric, self.items, self.generator = metric, items, generator
        constraint = read_constraint("drop", DROP)
        self.limit = Limit(constraint=constraint, metric=QUALITY, bound=bound_of(constraint, QUALITY))
        self.evaluated = self.launched = 0

    def run(self) -> Outcome:
        """Run the race and the final."""
        race = Race(design_for(len(self.truths)), [self.limit], self.metric)
        figures = {name: Counted(exact=self._exact(name)) for name in self.truths}
        for look in range(LOOKS):
            for name in race.alive(figures):
                self._evaluate(figures[name], name, self.items // LOOKS)
            race.drop_breaking(look, figures)
            if self.metric is TIME:
                for name in race.alive(figures):
                    self._launch(figures[name], name, WAVES)
            race.drop_dominated(look, figures)
            if is_over(race, figures):
                break
        finalists = {}
        for name in race.finalists(figures, [self.limit]):
            finalists[name] = own = Counted(exact=self._exact(name))
            self._evaluate(own, name, self.items)
            self._launch(own, name, FINAL_WAVES)
        return self._outcome(choose_recipe(finalists, [self.limit], self.metric))

    def _exact(self, name: str) -> dict[str, tuple[float, float]]:
        return {SIZE.name: (self.truths[name].size, 1.0)}

    def _evaluate(self, figures: Counted, name: str, items: int) -> None:
        figures.add(self.truths[name], items, self.generator)
        self.evaluated += items

    def _launch(self, figures: Figures, name: str, waves: int) -> None:
        noise = NOISE * self.generator.standard_t(TAILS, size=waves) / np.sqrt(TAILS / (TAILS - 2))
        ratios = figures.log_ratios.setdefault(TIME.name, {})
        for value in np.log(self.truths[name].latency) + noise:
            ratios[len(ratios)] = float(value)
        self.launched += waves

    def _outcome(self, chosen: str | None) -> Outcome:
        limit = 0.005
        objective = {
            name: truth.size if self.metric is SIZE else truth.latency for name, truth in self.truths.items()
        }
        good = [name for name, truth in self.truths.items() if truth.drop <= limit - QUALITY.margin]
        best = min((objective[name] for name in good), default=None)
        is_worse = chosen is None or (
            best is not None and objective[chosen] > best * (1 + self.metric.margin)
        )
        return Outcome(
            is_missed=best is not None and is_worse,
            has_best=best is not None,
            is_returned=chosen is not None,
            is_broken=chosen is not None and self.truths[chosen].drop > limit,
            items=self.evaluated,
            launches=self.launched,
        )


def simulate(
    space: Space, count: int, metric: Metric, searches: int, items: int, seed: int
) -> dict[str, Any]:
    """Return how often searches over drawn spaces end wrongly, and their cost."""
    outcomes = []
    for search in range(searches):
        generator = np.random.default_rng([seed, search])
        outcomes.append(Simulation(space(generator, count), metric, items, generator).run())
    with_best = [outcome for outcome in outcomes if outcome.has_best]
    returned = [outcome for outcome in outcomes if outcome.is_returned]
    return {
        "searches": searches,
        "missed": _share(outcome.is_missed for outcome in with_best),
        "returned": len(returned),
        "broken": _share(outcome.is_broken for outcome in returned),
        "broken_of_all": _share(outcome.is_broken for outcome in outcomes),
        "cost": {name: _cost(outcomes, count, items, metric, *seconds) for name, seconds in COSTS.items()},
    }


def _share(flags: Any) -> float | None:
    values = list(flags)
    return round(float(np.mean(values)), 4) if values else None


def _cost(
    outcomes: list[Outcome], count: int, items: int, metric: Metric, build: float, item: float, launch: float
) -> dict[str, float]:
    """Return the seconds of a search as a share of measuring all whole, with builds and without."""
    waves = WHOLE_WAVES if metric is TIME else FINAL_WAVES * FINALISTS / count
    whole = count * (2 * items * item + waves * launch)
    spent = float(np.mean([outcome.items * item + outcome.launches * launch for outcome in outcomes]))
    builds = count * build
    return {
        "without builds": round(spent / whole, 3),
        "with builds": round((spent + builds) / (whole + builds), 3),
    }


def main() -> None:
    """Simulate all spaces, print a line for each, and keep the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--searches", type=int, default=1000, help="searches of each kind (default: 1000)")
    parser.add_argument("--counts", type=int, nargs="*", default=[20, 200], help="sizes of spaces")
    parser.add_argument("--out", default="racing", help="name of the results")
    arguments = parser.parse_args()
    items = items_for_power(CHANGED**0.5, QUALITY.margin, ERROR / FINALISTS, 0.98)
    cases: list[dict[str, Any]] = []
    for name, space in SPACES.items():
        for count in arguments.counts:
            for metric in (SIZE, TIME):
                case = simulate(space, count, metric, arguments.searches, items, seed=len(cases))
                cases.append({"space": name, "candidates": count, "minimized": metric.name, **case})
                print({key: value for key, value in cases[-1].items() if key != "cost"}, cases[-1]["cost"])
    facts = {
        "allowed_error": ERROR,
        "exclusion": EXCLUSION,
        "looks": LOOKS,
        "items_of_each_half": items,
        "costs_in_seconds_of_build_item_launch": COSTS,
    }
    keep(arguments.out, {**facts, "cases": cases})


if __name__ == "__main__":
    main()
