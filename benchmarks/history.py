"""How often a series without a step seems to have one, and how often a step is seen (simulated)."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from benchmarks.common import keep
from qx.statistics.steps import LEVEL, PROMISED, find_steps
from qx.statistics.student_t import Floats

LENGTHS = (10, 20, 50, 100)
#: Steps in standard deviations of a value.
STEPS = (1.0, 2.0, 3.0, 5.0)
Noise = Callable[[np.random.Generator, Floats], Floats]


def _normal(generator: np.random.Generator, errors: Floats) -> Floats:
    noise: Floats = errors * generator.normal(size=len(errors))
    return noise


def _more_between_runs(generator: np.random.Generator, errors: Floats) -> Floats:
    """Vary between runs by as much again as the intervals say."""
    return _normal(generator, errors) + generator.normal(size=len(errors))


def _heavy_tails(generator: np.random.Generator, errors: Floats) -> Floats:
    noise: Floats = errors * generator.standard_t(3, size=len(errors)) / np.sqrt(3)
    return noise


def _drifting(generator: np.random.Generator, errors: Floats) -> Floats:
    """Follow the run before by 0.5 (first-order autoregression), which breaks what permutations assume."""
    noise = generator.normal(size=len(errors))
    for index in range(1, len(noise)):
        noise[index] = 0.5 * noise[index - 1] + np.sqrt(0.75) * noise[index]
    scaled: Floats = errors * noise
    return scaled


NOISES: dict[str, Noise] = {
    "normal": _normal,
    "more between runs": _more_between_runs,
    "heavy tails": _heavy_tails,
    "drifting": _drifting,
}


def main() -> None:
    """Print and keep the shares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    runs = parser.parse_args().runs
    generator = np.random.default_rng(11)
    alarms, detections = [], []
    for length in LENGTHS:
        for name, noise in NOISES.items():
            hits = 0
            for _ in range(runs):
                errors = np.exp(generator.normal(0, 0.5, length))
                hits += bool(
                    find_steps(noise(generator, errors), errors, seed=int(generator.integers(2**31)))
                )
            alarms.append({"length": length, "noise": name, "series_with_a_step": hits / runs})
            print(alarms[-1], flush=True)
        for step in STEPS:
            near = extra = 0
            for _ in range(runs // 4):
                errors = np.exp(generator.normal(0, 0.5, length))
                place = int(generator.integers(3, length - 2))
                values = _normal(generator, errors) + step * (np.arange(length) >= place)
                positions = [
                    item.position for item in find_steps(values, errors, seed=int(generator.integers(2**31)))
                ]
                near += any(abs(position - place) <= 1 for position in positions)
                extra += len(positions) > 1
            detections.append(
                {
                    "length": length,
                    "step": step,
                    "seen_within_1": near / (runs // 4),
                    "more_than_one": extra / (runs // 4),
                }
            )
            print(detections[-1], flush=True)
    keep(
        "history",
        {"runs": runs, "promised": PROMISED, "level": LEVEL, "false_alarms": alarms, "steps": detections},
    )


if __name__ == "__main__":
    main()
