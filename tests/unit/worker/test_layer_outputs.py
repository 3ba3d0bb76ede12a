"""What layers give inside of an artifact, beside the same in float: pairs of arrays from a loader."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from qx.errors import PluginError
from qx.worker import layer_outputs
from qx.worker.plugins import BoundPlugin
from qx.worker.ratios import Ratio

LOADER = cast(BoundPlugin, SimpleNamespace(name="acme"))


def test_errors_are_summed_over_batches() -> None:
    """A tenth of the signal as error is 20 dB, however the items come in batches."""
    ratios: dict[str, Ratio] = defaultdict(Ratio)
    for count in (16, 4):
        expected = np.ones((count, 3), dtype=np.float32)
        layer_outputs._add(ratios, {"head": (1.1 * expected, expected)}, LOADER)
    assert ratios["head"].decibels == pytest.approx(20.0, abs=1e-4)


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([1], "gave a list, expected a mapping"),
        ({"head": (np.ones(3), np.ones(4))}, r"gave \(3,\) and \(4,\) for layer 'head'"),
        ({"head": (np.ones(3),)}, "one of each artifact for layer 'head'"),
    ],
)
def test_anything_else_is_an_error_of_the_loader(pairs: Any, words: str) -> None:
    """What is no pair of arrays of one shape names the loader and the layer."""
    with pytest.raises(PluginError, match=f"acme: layer_outputs .*{words}"):
        layer_outputs._add({}, pairs, LOADER)
