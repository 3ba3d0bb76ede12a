"""The kit's check of ``combine``, on statistics that are made here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qx.errors import QxError
from qx.testing.worker.combine import SHAPES, hold_to_single_sets
from qx.worker.combined import Combination


class Plugin:
    """Stands for a metric with this ``combine``."""

    name = "figure"

    def __init__(self, combine: Any) -> None:
        self._combine = combine

    def call(self, hook: str, *, statistics: Any) -> Any:
        """Combine statistics."""
        assert hook == "combine"
        return self._combine(statistics)


def hold(combine: Any) -> None:
    """Combine sets of every shape. Raises ``QxError``."""
    rows = np.random.default_rng(0).random((30, 3))
    combination = Combination(Plugin(combine), rows)  # type: ignore[arg-type]
    for shape in SHAPES:
        hold_to_single_sets(combination, shape, np.random.default_rng(1))


def test_a_value_over_the_last_axis_passes() -> None:
    """A quotient of columns, and a value of no number, are the same alone and among others."""
    hold(lambda statistics: statistics[..., 0] / statistics[..., 1])
    hold(lambda statistics: np.full(statistics.shape[:-1], np.nan))


@pytest.mark.parametrize(
    ("combine", "words"),
    [
        (lambda statistics: statistics.T[0], r"combine gave shape \[3, 2\] for statistics \[2, 3, 3\]"),
        (lambda statistics: statistics.max(axis=0), r"combine gave shape \[3\] for statistics \[1, 3\]"),
        (lambda statistics: statistics[..., 0] / statistics.max(), "it must work over the last axis alone"),
    ],
)
def test_a_value_of_other_axes_is_caught(combine: Any, words: str) -> None:
    """A combination that transposes its sets, mixes them or looks at all of them is one line."""
    with pytest.raises(QxError, match=words):
        hold(combine)
