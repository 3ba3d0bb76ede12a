"""Do the intervals hold the truth as often as they claim? On simulated data, through the stopping rule."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.common import keep
from qx import stats
from qx.undisturbed import log_undisturbed

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


def speedup(generator: np.random.Generator) -> tuple[Any, float]:
    """A speedup of 1.3, stopped as a run is, after at most 20 waves."""
    truth = 0.2623642644674911
    logs = waves(generator, 20)
    ratios = logs[:, [0]] + truth - logs[:, 1:]
    count = next((n for n in range(6, 21) if stats.enough(ratios[:n], 0.01)), 20)
    return stats.ratio_interval(-ratios[:count, 0], kind="speedup").ci, float(np.exp(truth))


def latency(generator: np.random.Generator) -> tuple[Any, float]:
    """The median over 8 launches of a latency with skewed effects of launches."""
    return stats.between_launches(np.exp(0.03 * generator.exponential(size=8))).ci, float(2**0.03)


def memory(generator: np.random.Generator) -> tuple[Any, float]:
    """A ratio of values per launch, 8 waves in pairs."""
    logs = generator.normal(0, 0.004, (2, 8)) + generator.normal(0, 0.01, 8)
    return stats.unpaired_ratio(*np.exp(logs)).ci, 1.0


def unpaired(generator: np.random.Generator) -> tuple[Any, float]:
    """The same, where the cells share no wave."""
    values = np.full((2, 14), np.nan)
    values[0, :8], values[1, 8:] = (
        np.exp(generator.normal(0, 0.004, 8)),
        np.exp(generator.normal(0, 0.008, 6)),
    )
    return stats.unpaired_ratio(*values).ci, 1.0


def accuracy(generator: np.random.Generator) -> tuple[Any, float]:
    """87 % of 10,000 images."""
    return stats.wilson(int(generator.binomial(10_000, 0.87)), 10_000).ci, 0.87


def accuracy_difference(generator: np.random.Generator) -> tuple[Any, float]:
    """The same images: 0.8 % are lost and 0.6 % won."""
    kinds = generator.multinomial(10_000, [0.864, 0.008, 0.006, 0.122])
    ours = np.repeat([1.0, 0.0, 1.0, 0.0], kinds)
    theirs = np.repeat([1.0, 1.0, 0.0, 0.0], kinds)
    return stats.paired_difference(ours, theirs).ci, -0.002


def control(generator: np.random.Generator) -> tuple[Any, float]:
    """The control's own 99.9 % interval: 'not to be trusted' must be rare where nothing is wrong."""
    logs = waves(generator, 8)
    return (1.0, 1.0) if stats.control_alarm(logs[:, 1] - logs[:, 0]) else (0.0, 2.0), 0.5


def main() -> None:
    """Print and keep the coverage of each interval."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=4000)
    draws = parser.parse_args().draws
    kinds: dict[str, Draw] = {
        "speedup": speedup,
        "latency": latency,
        "memory, waves shared": memory,
        "memory, waves not shared": unpaired,
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
