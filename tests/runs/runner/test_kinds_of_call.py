"""A subject with a state and further kinds of call, in a run: each kind is measured, from its own state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

LOADER = """
    from qx import Loader, hookimpl
    from qx.testing.stateful import Stateful

    @hookimpl
    def describe():
        return Loader(name="toy_stateful", summary="A matrix product with a cache.", imports=["numpy"])

    @hookimpl
    def load(artifact):
        import numpy
        with numpy.load(artifact.folder / artifact.files[0]) as arrays:
            weight, bias = arrays["weight"], arrays["bias"]
        return Stateful(lambda points: points @ weight.T + bias)
"""
CACHE = """
    from qx import Metric, hookimpl

    @hookimpl
    def describe():
        return Metric(
            name="cache", summary="Inputs in the cache after a call.", unit="inputs", better="lower",
            samples="per_block", compare="ratio", phase="block", per_point=True,
        )

    @hookimpl
    def measure(subject, data):
        if not hasattr(subject, "cache"):
            return None
        lengths = []
        for _ in range(data.calls):
            subject.call(data.native)
            lengths.append(len(subject.cache))
        return lengths
"""


@pytest.fixture(scope="module")
def run(
    qx: Callable[..., Any],
    toy: Any,
    write_plugin: Callable[[str, str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:
    """Run the toy with a config whose loader keeps a state."""
    plugins = [
        write_plugin("toy_stateful", LOADER),
        write_plugin("cache", CACHE),
        toy.config("stateful", loader="toy_stateful"),
    ]
    metrics = [word for name in ("latency", "throughput", "cache", "accuracy") for word in ("-m", name)]
    return qx(
        *("run", *toy.arguments(*plugins), *metrics, "--out", "out"),
        *("--quick", "--budget", 0.01, "--batch-size", 1),
        cwd=tmp_path_factory.mktemp("kinds"),
    )


def _values(run: Any, config: str, metric: str) -> dict[str, float]:
    """Return the values of a metric in a cell, by kind of call."""
    return {
        measurement["point"].get("call", "call"): measurement["value"]
        for measurement in run.measurements(config, metric)
    }


def test_further_kinds_are_measured_beside_the_batch_sizes(run: Any) -> None:
    """Latency has a column for each kind, throughput follows, and cells without a kind show nothing."""
    assert run.code == 0, (run.err, run.results["run"]["failures"])
    assert run.results["run"]["points"] == [{"batch_size": 1}, {"batch_size": 1, "call": "decode"}]
    for metric in ("latency", "throughput"):
        assert _values(run, "stateful", metric).keys() == {"call", "decode"}
        assert None not in _values(run, "stateful", metric).values()
        assert _values(run, "toy_fp32", metric)["decode"] is None
    headings = run.table.replace("\u00a0", " ")
    assert "`latency`<br>batch 1, decode |" in headings


def test_all_calls_of_a_kind_begin_from_one_state(run: Any) -> None:
    """A metric that knows of no reset sees as many inputs in the cache after every call of every launch."""
    assert _values(run, "stateful", "cache") == {"call": 1.0, "decode": 4.0}
    accuracies = [run.measurement(config, "accuracy")["value"] for config in ("stateful", "toy_fp32")]
    assert accuracies[0] == accuracies[1]
