"""The configs of ExecuTorch: served by its binding, in 8 bits, with the predictions of torch.

Without the runtime the tests are skipped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from any_runtime import (  # noqa: F401
    BUILDERS,
    RUNTIMES,
    test_a_model_that_cannot_be_exported_is_told_by_layer,
    test_as_many_threads_work_as_are_asked_for,
    test_it_is_measured_like_any_other,
    test_one_artifact_serves_every_batch_size,
    test_quantized_models_keep_the_predictions,
    test_static_int8_stores_all_weights_in_8_bits,
    test_the_runtime_baselines_are_the_model,
    test_the_versions_of_a_runtime_are_recorded,
    test_threads_are_held,
    test_unquantized_weights_count_as_such,
    test_what_is_quantized_runs_in_8_bits,
)
from runtimes import check_any_number_of_inputs, ready

# The exporters warn of their own insides.
pytestmark = pytest.mark.filterwarnings("ignore")

CONFIGS = ("executorch_fp32", "executorch_int8")


@pytest.mark.parametrize("config", ready(*CONFIGS))
def test_executorch_imports_torch_and_no_exporter(run: Any, config: str) -> None:
    """ExecuTorch's binding needs torch in its launch; no exporter is there, nor another runtime."""
    packages = set(run.measurement(config, "loaded_modules")["details"]["packages"])
    assert {"torch", "executorch"} <= packages
    assert not packages & ({"torchvision", *BUILDERS, *RUNTIMES} - {"executorch"})


@pytest.mark.parametrize("config", ready(*CONFIGS))
def test_a_forward_may_take_any_number_of_inputs(config: str, tmp_path: Path) -> None:
    """``forward(self, *inputs)`` is exported as any other, and the batch is left open."""
    check_any_number_of_inputs(config, tmp_path)
