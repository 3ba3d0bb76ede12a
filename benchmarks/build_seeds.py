"""How large is the spread between builds, and does the interval over builds and items hold the truth?

``python -m benchmarks.build_seeds simulation`` simulates configs that change some answers of a baseline.
Builds of one config may differ in how many they change (an effect of the draw), and in which (luck of items,
which all builds may share). The truth is the mean over all items and builds. Beside the interval that qx
computes are three others: that of one build, which knows of no others; one that takes the luck with items off
the variance between builds, and so does not count it twice; and one with Satterthwaite's degrees of freedom.

``python -m benchmarks.build_seeds spread --workload NAME`` builds the static configs that can be built here
with several seeds, and compares the spread with the interval of one build.
"""

from __future__ import annotations

import argparse
from itertools import product
from typing import Any

import numpy as np
from attrs import frozen
from scipy.special import stdtrit
from scipy.stats import norm

from benchmarks.common import Lines, argument_parser, keep
from qx.analysis.builds import deviation
from qx.host.host import Host
from qx.runner import Request, run
from qx.statistics import items, over_builds

Rows = np.ndarray[Any, np.dtype[Any]]
#: Share of items that the baseline gets right.
ACCURACY = 0.9
#: Effects of the draw on the share of answers that change, and whether they are skewed.
EFFECTS = ((0.0, False), (0.3, False), (0.8, False), (0.3, True), (1.0, True))
#: Configs whose builds are compared, where they are installed.
CONFIGS = (
    *("static_int8_per_tensor", "static_int8_per_channel", "static_int8_histogram", "fx_static_int8"),
    *("onnxruntime_static_int8_per_tensor", "onnxruntime_static_int8_per_channel", "openvino_int8"),
    *("executorch_int8", "dynamic_int8"),
)


@frozen
class Case:
    """Sets of items and builds, and why builds differ."""

    items: int
    builds: int
    #: Share of right answers that a build loses on average; half as large a share of wrong ones is won.
    changed: float
    #: Standard deviation between builds of that share, as a part of it.
    effect: float
    #: Whether the share is log-normal over builds: most lose little, and some lose much. Else it is normal.
    is_skewed: bool
    #: Share of items on which all builds have the same luck.
    shared: float


def cases(counts: tuple[int, ...]) -> list[Case]:
    """Return all cases that are simulated, with sets of so many items."""
    return [
        Case(count, builds, changed, effect, is_skewed, shared)
        for count, builds, changed, (effect, is_skewed), shared in product(
            counts, (2, 3, 5, 10), (0.004, 0.02), EFFECTS, (0.0, 0.5, 0.9)
        )
    ]


def draw(case: Case, generator: np.random.Generator) -> Rows:
    """Draw the differences of builds from the baseline, ``[builds, items]``."""
    is_right = generator.random(case.items) < ACCURACY
    own, common = generator.random((case.builds, case.items)), generator.random(case.items)
    luck = np.where(generator.random(case.items) < case.shared, common, own)
    normal = generator.standard_normal((case.builds, 1))
    if case.is_skewed:
        # With the mean that it has without an effect.
        spread = np.sqrt(np.log1p(case.effect**2))
        rates = case.changed * np.exp(spread * normal - spread**2 / 2)
    else:
        rates = case.changed * np.maximum(0, 1 + case.effect * normal)
    lost, won = is_right & (luck < rates), ~is_right & (luck < rates / 2)
    return np.asarray(won.astype(float) - lost)


def halves(differences: Rows) -> dict[str, tuple[float, float]]:
    """Return mean and half width of the 95 % interval, by method."""
    count, size = differences.shape
    values, mean_of_items, step = differences.mean(axis=1), differences.mean(axis=0), 1 / size
    over_items = items.moments(mean_of_items)
    computed = over_builds.mean_over_builds(values, over_items, step)
    assert computed.ci is not None
    of_items = float(items.padded_error(over_items.error, step, 0.95)) ** 2
    of_builds = float(values.var(ddof=1)) / count
    residual = differences - values[:, None] - mean_of_items + values.mean()
    luck = float((residual**2).sum() / ((count - 1) * (size - 1)) / size) / count
    subtracted = max(0.0, of_builds - luck)
    freedom = (of_items + of_builds) ** 2 / (of_items**2 / (size - 1) + of_builds**2 / (count - 1))
    one = items.moments(differences[0])
    return {
        "qx": (computed.value, computed.ci[1] - computed.value),
        "less luck with items": (
            computed.value,
            float(np.hypot(t(size - 1) * of_items**0.5, t(count - 1) * subtracted**0.5)),
        ),
        "Satterthwaite": (computed.value, t(freedom) * (of_items + of_builds) ** 0.5),
        "one build": (float(one.mean), t(size - 1) * float(items.padded_error(one.error, step, 0.95))),
    }


def t(freedom: float) -> float:
    """Return the quantile of Student's t of a 95 % interval."""
    return float(stdtrit(freedom, 0.975))


def simulate(case: Case, sets: int) -> dict[str, tuple[float, float]]:
    """Return how often each interval holds the truth, and half of its mean width, by method."""
    generator = np.random.default_rng(0)
    # The mean of the share, which is never below 0.
    mean = 1.0
    if case.effect and not case.is_skewed:
        mean = norm.cdf(1 / case.effect) + case.effect * norm.pdf(1 / case.effect)
    truth = case.changed * mean * ((1 - ACCURACY) / 2 - ACCURACY)
    held: dict[str, list[bool]] = {}
    widths: dict[str, list[float]] = {}
    for _ in range(sets):
        for name, (value, half) in halves(draw(case, generator)).items():
            held.setdefault(name, []).append(abs(value - truth) <= half)
            widths.setdefault(name, []).append(half)
    return {name: (round(float(np.mean(held[name])), 4), float(np.mean(widths[name]))) for name in held}


def simulation(arguments: argparse.Namespace) -> None:
    """Simulate the coverage and keep it."""
    counts = tuple(arguments.items)
    by_case = {}
    for case in cases(counts):
        sets = max(100, arguments.draws * min(500, case.items) // case.items)
        key = (
            f"{case.items} items, {case.builds} builds, {case.changed:.1%} changed, effect {case.effect:g}"
            f"{' skewed' if case.is_skewed else ''}, {case.shared:g} shared"
        )
        by_case[key] = simulate(case, sets)
        print(key, by_case[key], flush=True)
    figures = {"draws": arguments.draws, "coverage": coverage(by_case), "cases": by_case}
    keep("build_seeds_simulation", figures)


def coverage(by_case: dict[str, dict[str, tuple[float, float]]]) -> dict[str, dict[str, dict[str, float]]]:
    """Return how often intervals hold the truth by method, number of builds and kind of effect."""
    methods = list(next(iter(by_case.values())))
    return {
        method: {
            f"{builds} builds, {kind}": summary(
                [
                    figures[method][0]
                    for key, figures in by_case.items()
                    if f" {builds} builds" in key and ("effect 1 skewed" in key) == is_large
                ]
            )
            for builds in (2, 3, 5, 10)
            for kind, is_large in (("effects up to 0.8", False), ("skewed effect of 1", True))
        }
        for method in methods
    }


def summary(shares: list[float]) -> dict[str, float]:
    """Return the lowest, the mean and the highest of several shares."""
    return {
        "lowest": min(shares),
        "mean": round(float(np.mean(shares)), 4),
        "highest": max(shares),
    }


def spread(arguments: argparse.Namespace) -> None:
    """Build configs with several seeds, and keep how their accuracies differ."""
    host = Host.discover()
    ready = {entry.name for entry in host.ready("config")}
    request = Request(
        workload=arguments.workload,
        data=arguments.data,
        configs=tuple(arguments.configs or (name for name in CONFIGS if name in ready)),
        metrics=("accuracy",),
        build_seeds=arguments.runs,
        calibration_n=arguments.calibration_n,
        offline=True,
    )
    results, _ = run(host, request, Lines())
    figures = {}
    for measured in results.measurements:
        built, compared = measured.builds, measured.vs_baseline
        if built is None or compared is None or measured.cell == results.run.baseline:
            continue
        between = deviation(results.metrics[measured.metric], built)
        assert between is not None
        assert compared.ci is not None
        mean = built.vs_baseline
        half = (compared.ci[1] - compared.ci[0]) / 2
        figures[measured.config] = {
            "depends on the seed": results.cells[measured.cell].depends_on_seed,
            "points by seed": {seed: round(100 * value, 3) for seed, value in built.values.items()},
            "standard deviation": round(100 * built.deviation, 3),
            "half of one build's interval": round(100 * half, 3),
            "95 % of two builds differ by at most": round(
                100 * over_builds.reach_of([over_builds.between_two(between)]), 3
            ),
            "change of one build": [round(100 * value, 3) for value in (compared.value, *compared.ci)],
            "change of the mean over builds": None
            if mean is None or mean.ci is None
            else [round(100 * value, 3) for value in (mean.value, *mean.ci)],
        }
    count = "" if arguments.calibration_n is None else f"_{arguments.calibration_n}"
    keep(
        f"build_seeds_{arguments.workload}{count}", {"builds": arguments.runs, "accuracy, in points": figures}
    )


def main() -> None:
    """Simulate, or build."""
    parser = argument_parser(__doc__, runs=5)
    parser.add_argument("what", choices=("simulation", "spread"))
    parser.add_argument("--draws", type=int, default=4000, help="sets of 500 items; fewer of larger ones")
    parser.add_argument("--items", type=int, nargs="+", default=[500, 10_000])
    parser.add_argument(
        "--configs", nargs="+", help="with spread: configs to build (default: all static ones)"
    )
    parser.add_argument("--calibration-n", type=int, help="with spread: calibration items of every config")
    arguments = parser.parse_args()
    {"simulation": simulation, "spread": spread}[arguments.what](arguments)


if __name__ == "__main__":
    main()
