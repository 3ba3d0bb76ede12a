"""The user's own score: what functions may give, and what is said of those that give anything else."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
import torch
from qx_plugins.metrics import score

from qx import Context, Predictions, UsageError

FILES = count()
OUTPUTS = {"output": np.arange(12.0).reshape(6, 2)}
TARGETS = {"labels": np.array([0, 1, 0, 1, 0, 1])}


def measured(source: str) -> Any:
    """Measure the outputs by the function ``judge`` of a file with this source."""
    file = Path(f"judge{next(FILES)}.py").resolve()
    file.write_text("import numpy\n" + dedent(source))
    return score.measure(
        Predictions(outputs=OUTPUTS, targets=TARGETS, classes=()),
        Context(options={"function": f"{file}:judge"}),
    )


def test_a_function_gives_a_value_for_each_item() -> None:
    """An array, a list or a tensor of them becomes one statistic of each item, of which qx takes the mean."""
    for form in ("{}", "list({})", "__import__('torch').from_numpy({})"):
        values = form.format("(outputs['output'][:, 0] - targets['labels'])")
        samples = measured(f"def judge(outputs, targets):\n    return {values}")
        assert not torch.is_tensor(samples.values)
        np.testing.assert_array_equal(samples.values[:, 0], OUTPUTS["output"][:, 0] - TARGETS["labels"])
    combined = score.combine(samples.values.mean(axis=0))
    assert combined == samples.values.mean()


def test_a_function_gives_one_value_for_all_items() -> None:
    """It is called again for other items, which it may change, since they are copies."""
    function: Callable[..., Any] = lambda outputs, targets: outputs["output"].max() * 2  # noqa: E731
    assert score.measure(
        Predictions(outputs=OUTPUTS, targets=TARGETS, classes=(), score=function),
        Context(options={"function": ""}),
    ) == score.Samples(22.0, details={"values": "one for all items"})
    some = score.statistic(OUTPUTS, TARGETS, np.array([0, 2]), function, Context(options={"function": ""}))
    assert some == 10.0


def test_a_model_without_a_score_has_no_value() -> None:
    """The metric does not apply where neither the workload nor the user has a function."""
    options = Context(options={"function": ""})
    for function in (None, lambda outputs, targets: None):
        data = Predictions(outputs=OUTPUTS, targets=TARGETS, classes=(), score=function)
        assert score.measure(data, options) is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return numpy.zeros(4)", r"judge gave \[4\] values for 6 items; expected a number, or \[6\]"),
        ("return numpy.zeros((6, 2))", r"gave \[6, 2\] values for 6 items"),
        ("return numpy.where(numpy.arange(6) == 3, numpy.nan, 1)", "gave item 3 the value nan"),
        ("return float('inf')", "gave the value inf; expected finite numbers"),
        ("return 'good'", "gave a str; expected a number, or one for each item"),
        ("pass", "gave None; expected a number"),
    ],
)
def test_anything_else_is_refused_in_one_line(body: str, words: str) -> None:
    """The line names the function, what it gave and what is expected."""
    with pytest.raises(UsageError, match=words):
        measured(f"def judge(outputs, targets):\n    {body}")


def test_a_file_without_the_function_is_told_what_it_has() -> None:
    """So is one that cannot be imported."""
    with pytest.raises(UsageError, match=r"has no function judge \(it has other\)"):
        measured("def other(outputs, targets): ...")
    with pytest.raises(UsageError, match=r"judge\d+\.py cannot be imported: ZeroDivisionError"):
        measured("1 / 0")
