"""A run on a real cluster of Ray: three nodes on this machine, one of which is killed in each phase."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")
TOP = Path(__file__).parents[3]

pytestmark = pytest.mark.slow


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The benchmark, as ``python -m`` finds it in the root of the checkout."""
    monkeypatch.syspath_prepend(TOP)
    return importlib.import_module("benchmarks.cluster_faults")


@pytest.mark.parametrize("phase", [None, "build", "evaluate", "measure"])
def test_a_node_that_dies_costs_no_result(faults: Any, tmp_path: Path, phase: str | None) -> None:
    """Whatever phase a node is killed in, results are complete, nothing is in them twice, and they say so."""
    words = ["digits_cnn", "--quick", "--budget", "1", "--rebuild", "--batch-size", "1", "-c", "dynamic_int8"]
    words += ["-c", "static_int8_per_tensor", "-m", "latency", "-m", "accuracy"]
    with faults.three_nodes() as cluster:
        row = faults.run_with_kill(cluster, words, phase, tmp_path / "out")
    assert (row["code"], row["cells"], row["ok"], row["failures"]) == (0, 3, 3, [])
    assert row["waves"] == {"digits_cnn": 3}
    assert row["launches_as_waves"]
    assert row["jobs"] == 6
    assert len(row["lost"]) == (phase is not None)
