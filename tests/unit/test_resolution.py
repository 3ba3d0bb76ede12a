"""What ``qx doctor`` says that a machine can resolve, from waves whose variance is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t

from qx.cli.commands.doctor import describe_resolution
from qx.doctor.resolution import Goal, Resolution, goal_of, variance_factors


@pytest.mark.parametrize("precision", [0.02, 0.01, 0.002])
def test_a_goal_has_the_fewest_waves_that_reach_it(precision: float) -> None:
    """With as many waves of that variance the interval is narrow enough, and with one less it is not."""
    ratios = np.array([-1.0, 1.0, -1.0, 1.0, -1.0, 1.0]) * 0.01
    goal = goal_of(precision, ratios, wave_seconds=3.0)
    deviation = np.std(ratios, ddof=1)

    def half(waves: int) -> float:
        return float(np.expm1(t.ppf(0.975, waves - 1) * deviation / np.sqrt(waves)))

    assert goal.waves is not None
    assert half(goal.waves) <= precision * 1.02
    assert goal.waves == 6 or half(goal.waves - 1) > precision * 0.98
    assert goal.seconds == pytest.approx(3.0 * goal.waves)


def test_what_needs_too_many_waves_has_no_seconds() -> None:
    """A machine whose waves differ by half is told nothing that nobody would wait for."""
    goal = goal_of(0.001, np.array([-0.5, 0.5, -0.4, 0.4, -0.5, 0.5]), wave_seconds=3.0)
    assert goal == Goal(precision=0.001, waves=None, seconds=None)


def test_the_true_variance_lies_between_the_factors() -> None:
    """In 95 of 100 simulated machines the true variance is between the factors of what six waves show."""
    low, high = variance_factors(6)
    shown = np.random.default_rng(0).standard_normal((20_000, 6)).var(axis=1, ddof=1)
    assert np.mean((low * shown < 1) & (high * shown > 1)) == pytest.approx(0.95, abs=0.006)


def test_it_is_said_with_what_is_assumed() -> None:
    """The seconds come with the configs, the batch size and the waves that they are for."""
    resolution = Resolution(
        workload="digits_cnn", config="fp32_baseline", batch_size=1, waves=6, wave_seconds=3.5,
        deviation=0.0123, configs=5, wave_seconds_of_configs=10.5, factors=(0.39, 6.02),
        goals=(
            Goal(precision=0.02, waves=8, seconds=84.0), Goal(precision=0.01, waves=None, seconds=None),
        ),
    )  # fmt: skip
    text = describe_resolution(resolution)
    for part in (
        "±2 % in 84 s, ±1 % in no time that can be said", "5 configs of digits_cnn", "a batch of 1",
        "waves of 10 s", "1.23% from wave to wave (6 waves of 3.5 s)", "may be 0.4 to 6 times",
    ):  # fmt: skip
        assert part in text
    assert describe_resolution("no.") == "What this machine can resolve was not measured: no."
