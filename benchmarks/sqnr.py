"""Do the intervals of SQNR, and of the difference of two configs, hold the truth? Simulated.

Two configs answer the same items with noise, and the second has 1 dB less. The truth is the ratio, in dB, of
the expected signal and the expected noise of an item. Sets have 500 and 10,000 items with ten outputs each.
An interval must hold the truth in 93 % of sets or more where 95 % are claimed, and at the gate's levels
either tail must miss it no more often than promised; where few items have nearly all of the noise it is shown
what is left of that. Beside the metric's own way, which leaves each item out: the linear one, which does not.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from qx_plugins.metrics.sqnr import contributions, most_db

from benchmarks.common import keep
from benchmarks.few_items import GATE
from qx.statistics import items, over_items

Rows: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"
OUTPUTS = 10
#: Ratio of the first config, and by how much less noise the second has, in dB.
RATIO, GAIN = 30.0, 1.0
MOST = most_db(np.dtype(np.float32))


def draw_even(generator: np.random.Generator, count: int) -> tuple[Rows, float]:
    """Draw the standard deviation of each item's noise, and the mean of its square: the same for all."""
    return np.ones(count), 1.0


def draw_skewed(generator: np.random.Generator, count: int) -> tuple[Rows, float]:
    """Draw standard deviations of which one in twenty is more than five times the median."""
    return np.exp(generator.standard_normal(count)), float(np.exp(2))


def draw_saturated(generator: np.random.Generator, count: int) -> tuple[Rows, float]:
    """Draw standard deviations that are ten times as large for 2 % of the items."""
    return np.where(generator.random(count) < 0.02, 10.0, 1.0), 0.98 + 0.02 * 100


def draw_broken(generator: np.random.Generator, count: int) -> tuple[Rows, float]:
    """Draw standard deviations that are a hundred times as large for 0.4 % of the items."""
    return np.where(generator.random(count) < 0.004, 100.0, 1.0), 0.996 + 0.004 * 10_000


#: How noise is spread over the items, by its name.
SPREADS: dict[str, Callable[[np.random.Generator, int], tuple[Rows, float]]] = {
    "the same in every item": draw_even,
    "log-normal": draw_skewed,
    "ten times in 2 % of the items": draw_saturated,
    "a hundred times in 0.4 % of the items": draw_broken,
}


def draw_set(generator: np.random.Generator, spread: str, count: int) -> tuple[Rows, list[Rows], float]:
    """Draw the signal of each item, its noise in both configs, and the true ratio of the first config."""
    scale = np.exp(0.5 * generator.standard_normal(count))
    signal = scale**2 * np.square(generator.standard_normal((count, OUTPUTS))).sum(axis=1)
    deviations, mean_square = SPREADS[spread](generator, count)
    power = 10 ** (-RATIO / 10)
    noises = [
        factor * power * deviations**2 * np.square(generator.standard_normal((count, OUTPUTS))).sum(axis=1)
        for factor in (1.0, 10 ** (-GAIN / 10))
    ]
    return signal, noises, RATIO + 10 * float(np.log10(np.exp(0.5) / mean_square))


def linear(signal: Rows, noise: Rows) -> Rows:
    """Return n times the influence of each item (the infinitesimal jackknife: Jaeckel, 1972)."""
    ratio = 10 * np.log10(signal.mean() / noise.mean())
    moved = signal / signal.mean() - noise / noise.mean()
    return np.asarray(ratio + 10 / np.log(10) * moved)


def of_metric(signal: Rows, noise: Rows) -> Rows:
    """Return the values that the metric gives."""
    return contributions(signal, noise, MOST)


WAYS: dict[str, Callable[[Rows, Rows], Rows]] = {"sqnr": of_metric, "linear": linear}


def tails(spread: str, count: int, sets: int) -> dict[str, dict[str, tuple[float, float]]]:
    """Return how often intervals lie above and below the truth, by way and quantity, then by level."""
    generator = np.random.default_rng(0)
    levels = (items.JOINT_LEVEL, *GATE)
    missed = {
        f"{way}, {quantity}": {f"{level:g}": [0, 0] for level in levels}
        for way in WAYS
        for quantity in ("ratio", "difference")
    }
    for _ in range(sets):
        signal, noises, truth = draw_set(generator, spread, count)
        for way, values_of in WAYS.items():
            first, second = (values_of(signal, noise) for noise in noises)
            for level in levels:
                ratio = over_items.item_mean(first, level).ci
                difference = over_items.paired_difference(second, first, level).ci
                for quantity, ci, expected in (("ratio", ratio, truth), ("difference", difference, GAIN)):
                    low, high = ci or (-np.inf, np.inf)
                    counts = missed[f"{way}, {quantity}"][f"{level:g}"]
                    counts[0] += low > expected
                    counts[1] += high < expected
    return {
        key: {level: (above / sets, below / sets) for level, (above, below) in by_level.items()}
        for key, by_level in missed.items()
    }


def main() -> None:
    """Print and keep how often each interval misses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=4000, help="sets of 500 items; a tenth of 10,000")
    draws = parser.parse_args().draws
    results: dict[str, Any] = {}
    for count, sets in ((500, draws), (10_000, draws // 10)):
        for spread in SPREADS:
            results[f"{count} items, noise {spread}"] = tails(spread, count, sets)
            print(count, spread, results[f"{count} items, noise {spread}"], flush=True)
    coverage = {
        case: {key: round(1 - sum(by_level["0.95"]), 4) for key, by_level in by_key.items()}
        for case, by_key in results.items()
    }
    promised = {f"{level:g}": round((1 - level) / 2, 5) for level in GATE}
    keep(
        "sqnr", {"draws": draws, "promised": promised, "coverage_at_95": coverage, "above_and_below": results}
    )


if __name__ == "__main__":
    main()
