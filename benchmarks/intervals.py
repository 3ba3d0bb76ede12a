"""Do the intervals hold the truth as often as they claim? Simulated, with the stopping rule of runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from benchmarks.common import keep
from qx.statistics import intervals, over_items, over_waves
from qx.statistics.undisturbed import log_undisturbed

Draw = Callable[[np.random.Generator], tuple[Any, float]]
#: Number of cells that are compared with the baseline; waves end when the widest interval is narrow enough.
CELLS = 4


def simulate_waves(
    generator: np.random.Generator, count: int, rounds: int = 16, calls: int = 6
) -> np.ndarray:
    """Simulate ``count`` waves of equal cells, and return the logs that qx estimates, ``[waves, cells]``.

    Calls have drift, effects of waves and of launches, and noise. Other processes slow a third of all blocks
    by up to half, in some waves nearly all of them.
    """
    shape = (count, rounds, CELLS + 1, calls)
    drift = np.cumsum(generator.normal(0, 0.005, (count, rounds, 1, 1)), axis=1)
    wave = generator.normal(0, 0.03, (count, 1, 1, 1))
    launch = 0.01 * (generator.exponential(size=(count, 1, CELLS + 1, 1)) - 1)
    noise = generator.exponential(0.04, shape)
    busy = generator.beta(1, 2, (count, 1, 1, 1))
    block_shape = (*shape[:3], 1)
    burst = generator.uniform(0.1, 0.4, block_shape) * (generator.random(block_shape) < busy)
    logs = drift + wave + launch + noise + burst
    waves, numbers, cells, _ = (index.ravel() for index in np.indices(shape))
    return log_undisturbed(np.exp(logs).ravel(), cells, waves, numbers)


def simulate_run(generator: np.random.Generator, truth: float = 0.0) -> np.ndarray:
    """Simulate the waves of a run that ends by its stopping rule, or after 20 waves.

    ``truth`` is the log of the ratio of the first cell's time to those of the others.
    """
    logs = simulate_waves(generator, 20)
    logs[:, 0] += truth
    ratios = logs[:, [0]] - logs[:, 1:]
    return logs[: next((n for n in range(6, 21) if over_waves.enough(ratios[:n], 0.01)), 20)]


def speedup(generator: np.random.Generator) -> tuple[Any, float]:
    """Return the interval of a speedup whose true value is 1.3, and that value."""
    truth = 0.2623642644674911
    logs = simulate_run(generator, truth)
    return over_waves.ratio_interval(logs[:, 1] - logs[:, 0], kind="speedup").ci, float(np.exp(truth))


@cache
def true_latency() -> float:
    """Return the median latency over the simulated launches."""
    return float(np.exp(np.median(simulate_waves(np.random.default_rng(1), 4000))))


def latency(generator: np.random.Generator) -> tuple[Any, float]:
    """Return the interval of a median over launches, and the true value."""
    return over_waves.between_launches(np.exp(simulate_run(generator)[:, 1])).ci, true_latency()


def memory(generator: np.random.Generator) -> tuple[Any, float]:
    """Return the interval of a ratio of values per launch, in pairs, and the true value."""
    return over_waves.launch_ratio(*np.exp(simulate_run(generator)[:, :2].T)).ci, 1.0


def between_runs(generator: np.random.Generator) -> tuple[Any, float]:
    """Return the interval of one run's speedup over another's, as in ``qx compare``, and the true value."""
    ours, base = (logs[:, 1] - logs[:, 0] for logs in (simulate_run(generator), simulate_run(generator)))
    return over_waves.independent(ours, base, "speedup").ci, 1.0


def means(generator: np.random.Generator) -> tuple[Any, float]:
    """Return the interval of a ratio of means over the same 1,000 skewed items, and the true value."""
    ours = generator.exponential(size=1000)
    theirs = ours * generator.uniform(0.5, 1.5, 1000)
    return over_items.ratio_of_means(ours, theirs).ci, 1.0


def ten_classes(generator: np.random.Generator) -> tuple[Any, float]:
    """Return an interval that holds the returned value unless any of ten classes' intervals misses.

    Each class has 1,000 images, and its interval is that of a difference of accuracies.
    """
    level, is_missed = 1 - 0.05 / 10, False
    for _ in range(10):
        kinds = generator.multinomial(1000, [0.864, 0.014, 0.014, 0.108])
        ours, theirs = np.repeat([1.0, 0.0, 1.0, 0.0], kinds), np.repeat([1.0, 1.0, 0.0, 0.0], kinds)
        low, high = over_items.paired_difference(ours, theirs, level).ci or (0.0, 0.0)
        is_missed |= not low <= 0 <= high
    return (1.0, 1.0) if is_missed else (-1.0, 1.0), 0.0


def two_groups(generator: np.random.Generator) -> tuple[Any, float]:
    """Return the interval of a ratio of cells of two groups, through the baseline, and the true value."""
    first, second = (
        logs[:, 1] - logs[:, 0] for logs in (simulate_waves(generator, 8), simulate_waves(generator, 6))
    )
    return over_waves.independent(first, second, "ratio").ci, 1.0


def accuracy(generator: np.random.Generator) -> tuple[Any, float]:
    """Return the interval of an accuracy of 87 % on 10,000 images, and the true value."""
    return over_items.wilson(int(generator.binomial(10_000, 0.87)), 10_000).ci, 0.87


def accuracy_difference(generator: np.random.Generator) -> tuple[Any, float]:
    """Return the interval of a paired difference, 0.8 % lost and 0.6 % won, and the true value."""
    kinds = generator.multinomial(10_000, [0.864, 0.008, 0.006, 0.122])
    ours = np.repeat([1.0, 0.0, 1.0, 0.0], kinds)
    theirs = np.repeat([1.0, 1.0, 0.0, 0.0], kinds)
    return over_items.paired_difference(ours, theirs).ci, -0.002


def control(generator: np.random.Generator) -> tuple[Any, float]:
    """Return an interval that misses the returned value where the control raises a false alarm (99.9 %)."""
    logs = simulate_waves(generator, 8)
    alarm = intervals.control_alarm(over_waves.ratio_interval(logs[:, 1] - logs[:, 0]))
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
        "accuracy of ten classes at once": ten_classes,
        "accuracy": accuracy,
        "accuracy difference": accuracy_difference,
    }
    coverage = {}
    for name, draw in kinds.items():
        generator = np.random.default_rng(0)
        intervals_and_truths = [draw(generator) for _ in range(draws)]
        coverage[name] = float(np.mean([low <= truth <= high for (low, high), truth in intervals_and_truths]))
    generator = np.random.default_rng(0)
    false_alarms = float(np.mean([control(generator)[0] == (1.0, 1.0) for _ in range(draws)]))
    keep("intervals", {"draws": draws, "claimed": 0.95, "coverage": coverage, "false_alarms": false_alarms})


if __name__ == "__main__":
    main()
