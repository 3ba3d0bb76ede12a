"""The configs of ExecuTorch: served by its binding, in 8 bits, with the predictions of torch.

Without the runtime the tests are skipped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from any_runtime import (  # noqa: F401
    BUILDERS,
    RUNTIMES,
    test_a_model_that_cannot_be_exported_is_told_by_layer,
    test_as_many_threads_work_as_are_asked_for,
    test_it_is_measured_like_any_other,
    test_one_artifact_serves_every_batch_size,
    test_quantized_models_keep_the_predictions,
    test_serve_py_gives_the_recorded_outputs_without_qx,
    test_several_outputs_have_their_names,
    test_static_int8_stores_all_weights_in_8_bits,
    test_the_runtime_baselines_are_the_model,
    test_the_versions_of_a_runtime_are_recorded,
    test_threads_are_held,
    test_unquantized_weights_count_as_such,
    test_what_is_quantized_runs_in_8_bits,
)
from runtimes import check_any_number_of_inputs, convert, ready
from torch import nn

from qx import Unsupported

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


class Pooled(nn.Module):
    """A network over series, which pools before it normalises."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.MaxPool1d(2), nn.BatchNorm1d(48), nn.Conv1d(48, 8, 3))
        self.head = nn.Linear(48, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(images.flatten(1, 2)).flatten(1))


@pytest.mark.slow
@pytest.mark.parametrize("config", ready("executorch_int8"))
def test_a_program_that_does_not_run_is_reported_with_its_first_layer(config: str, tmp_path: Path) -> None:
    """The runtime says 'internal error' and no more; the layer is found by lowering parts of the program."""
    with pytest.raises(Unsupported, match=r"^layer '(body\.\d|head)': ExecuTorch cannot run"):
        convert(config, Pooled().eval(), tmp_path)
