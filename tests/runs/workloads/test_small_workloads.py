"""Runs of the small workloads of several tasks: a config of every kind works, or names the layer."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

WORKLOADS = (
    "digits_embedding",
    "friedman_regressor",
    "sensor_series",
    "sentence_pairs",
    "shapes_detector",
    "shapes_segmenter",
)
#: Configs by how they convert: replaced layers, traced, stubs, and exported.
CONFIGS = ("dynamic_int8", "fx_static_int8", "static_int8_per_channel", "onnxruntime_static_int8_per_channel")
#: Workloads whose network has a form with stubs.
WITH_STUBS = {"shapes_segmenter"}


@pytest.mark.slow
@pytest.mark.parametrize("workload", WORKLOADS)
def test_a_config_works_or_names_the_layer(workload: str, qx: Callable[..., Any], tmp_path: Path) -> None:
    """No config fails; what works stays near the fp32 outputs, and what cannot work names a layer."""
    chosen = [word for name in CONFIGS for word in ("-c", name)]
    done = qx(
        *("run", "--workload", workload, *chosen, "-m", "sqnr", "-m", "file_size"),
        *("--quick", "--budget", 0.01, "--batch-size", 1, "--out", "out"),
        cwd=tmp_path,
    )
    for name in CONFIGS:
        cell = done.cell(name)
        if cell["outcome"] == "unsupported":
            assert re.search(r"layer|has no linear layer|\(\S+, \w+\)", cell["cause"]), cell["cause"]
            assert name != "static_int8_per_channel" or workload not in WITH_STUBS
        else:
            assert (cell["outcome"], cell["cause"]) == ("ok", None)
            assert done.measurement(name, "sqnr")["value"] > 10
