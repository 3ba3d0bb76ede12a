"""What ``measure`` returns is checked: values within range, waves and rounds that exist, JSON details."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from qx.contract.records import Context
from qx.errors import QxError
from qx.host.host import Host
from qx.processes.answers import PlainSamples
from qx.worker.plugins import BoundPlugin
from qx.worker.samples import samples_of

METRIC = """
    from qx import Metric, Samples, hookimpl

    @hookimpl
    def describe():
        return Metric(
            name="odd", summary="Odd.", unit="ms", better="lower", samples="{samples}", compare="{compare}",
            phase="{phase}",
        )

    @hookimpl
    def measure():
        details = {{}}
        for _ in range({depth}):
            details = {{"inner": details}}
        return {result}
"""


def measured(write_plugin: Callable[[str, str], str], result: str, **fields: Any) -> PlainSamples | None:
    """Return the samples that the host gets from a metric whose ``measure`` returns this."""
    record = {"samples": "per_launch", "compare": "ratio", "phase": "derived", "depth": 1, **fields}
    plugin = write_plugin("odd", METRIC.format(result=result, **record))
    # A worker's host, which has imported the plugin.
    host = Host.of([Host.discover([plugin]).get("metric", "odd").reference])
    return samples_of(BoundPlugin(host, "odd", Context()), None, None)


@pytest.mark.parametrize(
    ("result", "fields", "message"),
    [
        ("[1.0, 1e75]", {}, "values too large to compute with"),
        ("[1.0, -1e80]", {"compare": "difference"}, "values too large to compute with"),
        ("[1.0, 1e-80]", {}, "values too small to compute with"),
        ("[1.0, 0.0]", {"compare": "speedup"}, "the value 0, but is compared by speedup"),
        ("[1.0, -2.5]", {"compare": "speedup"}, "the value -2.5, but is compared by speedup"),
        ("Samples([1.0, 2.0], waves=[0, -5])", {}, "waves that are not from -1 to 9,999"),
        ("Samples([1.0, 2.0], waves=[0, 2**40])", {}, "waves that are not from -1 to 9,999"),
        ("Samples([1.0, 2.0], waves=[0, -1])", {}, "a wave for some values and none for others"),
        (
            "Samples([1.0, 2.0], waves=[0, 1], rounds=[0, -2])",
            {},
            "rounds that are not from -1 to 2,147,483,647",
        ),
        ("Samples([1.0, 2.0], waves=[0])", {}, "gave 2 values and 1 waves"),
        (
            "Samples([1.0], groups=[1], group_names=['a'])",
            {"samples": "per_item"},
            "groups that are not from 0 to 0",
        ),
        (
            "Samples([1.0], details=details)",
            {"depth": 40},
            "details of which inner.inner.inner is nested deeper than 32",
        ),
        ("Samples([1.0], details=details)", {"depth": 5000}, "details that are not JSON"),
        (
            "Samples([1.0], details={'n': 10**400})",
            {},
            "details of which n must be a whole number of at most 64 bits",
        ),
    ],
)
def test_what_cannot_be_kept_is_reported(
    write_plugin: Callable[[str, str], str], result: str, fields: dict[str, Any], message: str
) -> None:
    """Values, waves and details that no results can hold fail the metric, not the run."""
    with pytest.raises(QxError, match="odd: measure gave ") as caught:
        measured(write_plugin, result, **fields)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("result", "fields"),
    [
        ("[1.0, 0.0, -3.0]", {}),
        ("[1e-300]", {"compare": "difference"}),
        ("[1e-300, 0.0]", {"samples": "per_item"}),
        ("0.0", {"samples": "exact", "compare": "speedup"}),
        ("Samples([1.0, 2.0], waves=[-1, -1])", {}),
        ("Samples([1.0, 2.0], waves=[9_999, 0], rounds=[2**31 - 1, 0])", {}),
        ("Samples([1.0], details={'n': 2**64 - 1, 'x': float('nan')})", {}),
        ("Samples([1.0], details=details)", {"depth": 31}),
    ],
)
def test_what_can_be_kept_is(
    write_plugin: Callable[[str, str], str], result: str, fields: dict[str, Any]
) -> None:
    """Values and details at the limits are accepted."""
    samples = measured(write_plugin, result, **fields)
    assert samples is not None and samples.values
