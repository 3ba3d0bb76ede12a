"""What is timed and measured where the user names nothing, and for which kinds of call."""

from __future__ import annotations

import pytest

from qx import Metric, Point, Workload
from qx.host.host import Host
from qx.results.quality_precision import read_quality_precision
from qx.runner.request import Request, choose, items_to_evaluate, with_points

DECODE = {
    "name": "tokens",
    "summary": "Tokens.",
    "unit": "tokens",
    "better": "lower",
    "samples": "per_block",
    "compare": "ratio",
    "phase": "derived",
}


@pytest.fixture(scope="module")
def host() -> Host:
    """Return the plugins that are installed."""
    return Host.discover()


def completed(host: Host, *workloads: str, **fields: object) -> Request:
    """Return the request of a run of these workloads, with what they say."""
    request = Request(workloads=workloads, configs=("fp32_baseline",), **fields)  # type: ignore[arg-type]
    return with_points(request, choose(host, request))


def sizes(host: Host, *workloads: str, **fields: object) -> tuple[int, ...]:
    """Return the batch sizes of a run of these workloads."""
    return completed(host, *workloads, **fields).batch_sizes


def test_a_workload_says_its_batch_sizes(host: Host) -> None:
    """Of several those that all have; what the user names stands."""
    assert sizes(host, "stdlib_lm", is_default_batch_sizes=True) == (1,)
    assert sizes(host, "digits_cnn", is_default_batch_sizes=True) == (1, 32)
    assert sizes(host, "digits_cnn", "stdlib_lm", is_default_batch_sizes=True) == (1,)
    assert sizes(host, "stdlib_lm", batch_sizes=(4, 8)) == (4, 8)


def test_a_workload_says_its_lengths(host: Host) -> None:
    """Of several those that all have; what the user names stands."""
    assert completed(host, "stdlib_lm").lengths == (128,)
    assert completed(host, "digits_cnn", "stdlib_lm").lengths == ()
    assert completed(host, "stdlib_lm", lengths=(512, 64)).lengths == (512, 64)


@pytest.mark.parametrize(("lengths", "words"), [((0,), "from 1, not 0"), ((8, 8), "a number twice: 8, 8")])
def test_lengths_of_a_workload_are_whole_numbers(lengths: tuple[int, ...], words: str) -> None:
    """Anything else is refused where the plugin describes itself."""
    with pytest.raises(ValueError, match=words):
        Workload(name="texts", summary="Texts.", lengths=lengths)


def test_a_workload_says_how_much_a_quick_look_evaluates(host: Host) -> None:
    """What the user asks for stands, and other runs evaluate all items."""

    def items(workload: str, **fields: object) -> int | None:
        request = Request(workload=workload, **fields)  # type: ignore[arg-type]
        return items_to_evaluate(request, choose(host, request).workloads[0])

    assert items("stdlib_lm", quick=True) == 32
    assert items("stdlib_lm") is None
    assert items("digits_cnn", quick=True) is None
    assert items("stdlib_lm", quick=True, eval_n=0) == 0
    assert items("stdlib_lm", quick=True, quality_precision=read_quality_precision("0.01")) is None


@pytest.mark.parametrize("count", [0, True, 1.5, "8"])
def test_items_of_a_quick_look_are_a_whole_number(count: object) -> None:
    """Anything else is refused where the plugin describes itself."""
    with pytest.raises(ValueError, match="'quick_items' must be a whole number from 1, or None, not"):
        Workload(name="texts", summary="Texts.", quick_items=count)  # type: ignore[arg-type]


def test_a_workload_names_metrics_of_its_own(host: Host) -> None:
    """They are measured by default there, and on request elsewhere."""

    def metrics(workload: str, *named: str) -> set[str]:
        request = Request(workload=workload, configs=("fp32_baseline",), metrics=named)
        return {entry.name for entry in choose(host, request).metrics}

    assert "kl_divergence" in metrics("stdlib_lm")
    assert "kl_divergence" not in metrics("digits_cnn")
    assert metrics("stdlib_lm", "perplexity") == {"perplexity"}


def test_what_a_metric_is_derived_from_is_measured_with_it(host: Host) -> None:
    """Without its samples there would be no value; metrics that are named stay in their order."""

    def metrics(*named: str) -> list[str]:
        request = Request(workload="stdlib_lm", configs=("fp32_baseline",), metrics=named)
        return [entry.name for entry in choose(host, request).metrics]

    assert metrics("decode_latency", "file_size") == ["decode_latency", "file_size", "latency"]
    assert metrics("throughput", "latency") == ["throughput", "latency"]
    # Outputs are no metric.
    assert metrics("kl_divergence") == ["kl_divergence"]


def test_a_metric_of_one_kind_of_call_has_no_other_points() -> None:
    """Of a run in which no subject has that kind it has none."""
    points = (Point(1, 64), Point(1, 64, "prefill"), Point(1, 64, "decode"))
    metric = Metric(**DECODE, per_point=True, calls=("decode",))  # type: ignore[arg-type]
    assert metric.points(points) == (Point(1, 64, "decode"),)
    assert metric.points(points[:1]) == ()
    assert Metric(**DECODE, per_point=True).points(points) == points  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must be measured at each point"):
        Metric(**DECODE, calls=("decode",))  # type: ignore[arg-type]
