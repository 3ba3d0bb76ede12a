"""The configs of ExecuTorch: served by its binding, in 8 bits, with the predictions of torch.

Without the runtime the tests are skipped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
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
from attrs import evolve
from qx_plugins.runtimes.executorch.converting import MAX_BATCH, most_items
from runtimes import (
    InOrder,
    answer,
    check_any_number_of_inputs,
    check_likelihoods,
    convert,
    imported_host,
    ready,
    served,
)
from test_weight_counts import read_by_its_loader
from torch import nn

from qx import Context, Lengths, Unsupported

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


class Wide(nn.Module):
    """Two layers on images whose inputs groups of 32 divide, and one whose inputs they do not."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(768, 64), nn.ReLU(), nn.Linear(64, 40), nn.ReLU())
        self.head = nn.Linear(40, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(images))


@pytest.mark.parametrize("config", ready("executorch_weight_only"))
def test_weights_of_4_bits_are_in_groups_and_layers_stay_in_float(config: str, tmp_path: Path) -> None:
    """Layers that groups divide have 4 bits, unless they are named; the outputs are near to the model's."""
    torch.manual_seed(0)
    images = torch.randn(3, 3, 16, 16)
    model = Wide().eval()
    with torch.no_grad():
        expected = model(images).numpy()
    options = {"group_size": 32, "method": "rtn", "float_layers": "body.3"}
    artifact = convert(config, model, tmp_path, options=options)
    weights = read_by_its_loader(artifact).read_weights()
    bits = {weight.elements: weight.bits for weight in weights.layers.values()}
    assert bits == {768 * 64: 4, 64 * 40: 32, 40 * 5: 32}
    assert weights.kernels == {"FullyConnected qbint4": 1, "FullyConnected fp32": 2}
    error = np.abs(answer(served(artifact), images.numpy()) - expected).max()
    assert 0 < error < 0.1 * np.abs(expected).max()


@pytest.mark.parametrize("config", ready("executorch_weight_only"))
def test_a_model_without_a_layer_of_whole_groups_is_refused(config: str) -> None:
    """Before anything is built, and with the layer's size."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(40, 5))
    context = Context(options={"group_size": 32, "method": "rtn", "float_layers": ""})
    arguments = {"model": model, "example_inputs": (torch.zeros(1, 40),), "context": context}
    with pytest.raises(Unsupported, match=r"no nn\.Linear with inputs in multiples of 32: .* has 40 inputs"):
        imported_host().call(config, "check_model", **arguments)


@pytest.mark.parametrize(("highest", "expected"), [(None, MAX_BATCH), (64, 128), (512, 16), (20_000, 1)])
def test_memory_is_planned_for_as_many_items_as_are_short_enough(highest: int | None, expected: int) -> None:
    """A program for long texts takes fewer at once, since memory is planned for the longest."""
    lengths = highest and Lengths(lowest=1, highest=highest, dimensions=(1,))
    assert most_items(Context(lengths=lengths)) == expected


@pytest.mark.slow
@pytest.mark.parametrize("config", ready("executorch_weight_only"))
def test_a_decoder_is_lowered_for_any_batch(config: str, tmp_path: Path) -> None:
    """Its program gives what the model gives but for rounding, for one text and for several."""
    from qx_plugins.language_outputs import LOG_LIKELIHOODS, LOGITS
    from qx_plugins.networks.language_models import Scorer
    from qx_plugins.networks.llama import LlamaDecoder, LlamaShape

    torch.manual_seed(0)
    shape = LlamaShape(vocabulary=64, positions=64, width=64, hidden=96, layers=1, heads=4, key_value_heads=2)
    model = InOrder(Scorer(LlamaDecoder(shape))).eval()
    tokens = torch.randint(64, (3, 40))
    with torch.no_grad():
        expected = model(tokens)[0].numpy()
    artifact = convert(config, model, tmp_path, (tokens[:1],), {"group_size": 32, "method": "rtn"})
    assert artifact.details["most"] == MAX_BATCH
    subject = served(evolve(artifact, outputs=(LOGITS, LOG_LIKELIHOODS)))
    for count in (1, 3):
        native = subject.prepare({"tokens": tokens[:count].numpy()})
        scores = subject.outputs(subject.call(native))[LOGITS]
        # Weights are random, so that 4 bits change much; the build holds the program against torch's.
        assert np.linalg.norm(scores - expected[:count]) < 0.5 * np.linalg.norm(expected[:count])


@pytest.mark.slow
@pytest.mark.parametrize("config", ready("executorch_int8"))
def test_no_quantizer_rounds_the_likelihoods_of_a_decoder(config: str, tmp_path: Path) -> None:
    """What makes likelihoods of scores is no part of the network."""
    check_likelihoods(config, tmp_path)
