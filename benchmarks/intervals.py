"""Do the intervals hold the truth as often as they claim? On simulated data, through the stopping rule."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from benchmarks.common import keep
from qx.statistics import intervals
from qx.statistics.undisturbed import log_undisturbed

Draw = Callable[[np.random.Generator], tuple[Any, float]]
#: Cells that are compared with the baseline at once; the waves end when the widest of them is narrow enough.
CELLS = 4


def waves(generator: np.random.Generator, count: int, rounds: int = 16, calls: int = 6) -> np.ndarray:
    """Logs of equal cells ``[waves, cells]``, from calls: drift, effects of launches, noise, other work.

    Another's work slows a third of all blocks by up to half, in some waves nearly all of them.
    """
    shape = (count, rounds, CELLS + 1, calls)
    drift = np.cumsum(generator.normal(0, 0.005, (count, rounds, 1, 1)), axis=1)
    wave = generator.normal(0, 0.03, (count, 1, 1, 1))
    launch = 0.01 * (generator.exponential(size=(count, 1, CELLS + 1, 1)) - 1)
    noise = generator.exponential(0.04, shape)
    busy = generator.beta(1, 2, (count, 1, 1, 1))
    of_blocks = (*shape[:3], 1)
    burst = generator.uniform(0.1, 0.4, of_blocks) * (generator.random(of_blocks) < busy)
    logs = drift + wave + launch + noise + burst
    where, at, cell, _ = (index.ravel() for index in np.indices(shape))
    return log_undisturbed(np.exp(logs).ravel(), cell, where, at)


def stopped(generator: np.random.Generator, truth: float = 0.0) -> np.ndarray:
    """The waves of a run that ends by its stopping rule, or after 20; the first cell takes ``truth`` more."""
    logs = waves(generator, 20)
    logs[:, 0] += truth
    ratios = logs[:, [0]] - logs[:, 1:]
    return logs[: next((n for n in range(6, 21) if intervals.enough(ratios[:n], 0.01)), 20)]


def speedup(generator: np.random.Generator) -> tuple[Any, float]:
    """A speedup of 1.3."""
    truth = 0.2623642644674911
    logs = stopped(generator, truth)
    return intervals.ratio_interval(logs[:, 1] - logs[:, 0], kind="speedup").ci, float(np.exp(truth))


@cache
def middle() -> float:
    """The median over launches of what is simulated."""
    return float(np.exp(np.median(waves(np.random.default_rng(1), 4000))))


def latency(generator: np.random.Generator) -> tuple[Any, float]:
    """The median over launches."""
    return intervals.between_launches(np.exp(stopped(generator)[:, 1])).ci, middle()


def memory(generator: np.random.Generator) -> tuple[Any, float]:
    """A ratio of values per launch, in pairs."""
    return intervals.launch_ratio(*np.exp(stopped(generator)[:, :2].T)).ci, 1.0


def between_runs(generator: np.random.Generator) -> tuple[Any, float]:
    """One run's speedup against another's, as ``qx compare`` tells it."""
    ours, base = (logs[:, 1] - logs[:, 0] for logs in (stopped(generator), stopped(generator)))
    return intervals.independent(ours, base, "speedup").ci, 1.0


def means(generator: np.random.Generator) -> tuple[Any, float]:
    """The ratio of two means over the same 1,000 items, skewed."""
    ours = generator.exponential(size=1000)
    theirs = ours * generator.uniform(0.5, 1.5, 1000)
    return intervals.ratio_of_means(ours, theirs).ci, 1.0


def a_class(generator: np.random.Generator) -> tuple[Any, float]:
    """All ten differences per class together, of 1,000 images each: a run where any misses has missed."""
    level, missed = 1 - 0.05 / 10, False
    for _ in range(10):
        kinds = generator.multinomial(1000, [0.864, 0.014, 0.014, 0.108])
        ours, theirs = np.repeat([1.0, 0.0, 1.0, 0.0], kinds), np.repeat([1.0, 1.0, 0.0, 0.0], kinds)
        low, high = intervals.paired_difference(ours, theirs, level).ci or (0.0, 0.0)
        missed |= not low <= 0 <= high
    return (1.0, 1.0) if missed else (-1.0, 1.0), 0.0


def two_groups(generator: np.random.Generator) -> tuple[Any, float]:
    """A ratio of cells that share no wave, through the baseline, which is in both groups."""
    first, second = (logs[:, 1] - logs[:, 0] for logs in (waves(generator, 8), waves(generator, 6)))
    return intervals.independent(first, second, "ratio").ci, 1.0


def accuracy(generator: np.random.Generator) -> tuple[Any, float]:
    """87 % of 10,000 images."""
    return intervals.wilson(int(generator.binomial(10_000, 0.87)), 10_000).ci, 0.87


def accuracy_difference(generator: np.random.Generator) -> tuple[Any, float]:
    """The same images: 0.8 % are lost and 0.6 % won."""
    kinds = generator.multinomial(10_000, [0.864, 0.008, 0.006, 0.122])
    ours = np.repeat([1.0, 0.0, 1.0, 0.0], kinds)
    theirs = np.repeat([1.0, 1.0, 0.0, 0.0], kinds)
    return intervals.paired_difference(ours, theirs).ci, -0.002


def control(generator: np.random.Generator) -> tuple[Any, float]:
    """The control's own 99.9 % interval: 'not to be trusted' must be rare where nothing is wrong."""
    logs = waves(generator, 8)
    alarm = intervals.control_alarm(intervals.ratio_interval(logs[:, 1] - logs[:, 0]))
    return (1.0, 1.0) if alarm else (0.0, 2.0), 0.5


def main() -> None:
    """Print and keep the coverage of each interval."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=4000)
    draws = parser.parse_args().draws
    kinds: dict[str, Draw] = {
        "speedup": speedup,
        "latency": latency,
        "memory, waves shared": memory,
        "two groups, through the baseline": two_groups,
        "between runs": between_runs,
        "ratio of means": means,
        "accuracy of ten classes at once": a_class,
        "accuracy": accuracy,
        "accuracy difference": accuracy_difference,
    }
    coverage = {}
    for name, draw in kinds.items():
        generator = np.random.default_rng(0)
        drawn = [draw(generator) for _ in range(draws)]
        coverage[name] = float(np.mean([low <= truth <= high for (low, high), truth in drawn]))
    generator = np.random.default_rng(0)
    false_alarms = float(np.mean([control(generator)[0] == (1.0, 1.0) for _ in range(draws)]))
    keep("intervals", {"draws": draws, "claimed": 0.95, "coverage": coverage, "false_alarms": false_alarms})


if __name__ == "__main__":
    main()
