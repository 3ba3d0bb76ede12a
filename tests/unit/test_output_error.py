"""Errors of outputs with known sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qx.statistics import output_error
from qx.statistics.output_error import OutputError

OUTPUTS = np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32)


@pytest.mark.parametrize("decibels", [30.0, 0.5, -0.5, -20.0])
def test_the_ratio_is_that_of_the_squares(decibels: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of some decibels below the signal has that ratio, however many numbers fit at a time."""
    noise = np.random.default_rng(1).normal(size=OUTPUTS.shape)
    noise *= np.sqrt(np.square(OUTPUTS).sum() / np.square(noise).sum() / 10 ** (decibels / 10))
    for at_once in (3, 1_000_000):
        monkeypatch.setattr(output_error, "CHUNK", at_once)
        error = output_error.output_error(OUTPUTS + noise, OUTPUTS)
        assert error.sqnr_db == pytest.approx(decibels, abs=1e-4)
        assert error.is_below_0_db == (decibels < 0)


@pytest.mark.parametrize(
    ("ours", "below"),
    [
        (OUTPUTS, False),
        (np.full_like(OUTPUTS, np.nan), True),
        (np.where(OUTPUTS > 2, np.inf, OUTPUTS), True),
        (OUTPUTS[:, :5], True),
        (OUTPUTS.reshape(7, 50), True),
    ],
    ids=["equal", "nan", "infinite", "narrower", "turned"],
)
def test_where_there_is_no_ratio(ours: Any, below: bool) -> None:
    """Equal outputs have no error; those that are not finite, or of another shape, are below 0 dB."""
    assert output_error.output_error(ours, OUTPUTS) == OutputError(None, is_below_0_db=below)


def test_what_the_baseline_does_not_know_is_left_out() -> None:
    """Where the baseline itself is not finite nothing is held against a cell, and integers count too."""
    baseline = OUTPUTS.copy()
    baseline[0] = np.nan
    assert output_error.output_error(OUTPUTS, baseline) == OutputError(None, is_below_0_db=False)
    assert output_error.output_error(np.array([[3]]), np.array([[1]])).is_below_0_db


def test_silence_that_becomes_noise_is_below_0_db() -> None:
    """Where the baseline gives only zeros, so must its copies."""
    silence = np.zeros((4, 2))
    assert output_error.output_error(silence, silence) == OutputError(None, is_below_0_db=False)
    assert output_error.output_error(silence + 1, silence) == OutputError(None, is_below_0_db=True)
