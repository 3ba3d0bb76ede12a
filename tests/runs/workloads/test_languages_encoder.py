"""The workload of synthetic languages: its data, its committed weights, and what configs can make of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qx_plugins.workloads import languages_encoder

from qx import Context, Data, Unsupported

OFFLINE = Context(offline=True)


@pytest.fixture(scope="module")
def test() -> Data:
    return languages_encoder.load_data("test", OFFLINE)


@pytest.fixture(scope="module")
def model() -> Any:
    """Return the model with its committed weights."""
    import torch

    package, _, name = str(languages_encoder.describe().weights).partition(":")
    model = languages_encoder.make_model(OFFLINE)
    with resources.as_file(resources.files(package) / name) as path:
        model.load_state_dict(torch.load(path, weights_only=True), strict=True)
    return model.eval()


def best_possible(data: Data) -> Any:
    """Return the most probable language of each sentence; no model can be right more often."""
    habits = languages_encoder.transition_counts()
    logarithms = np.log(habits / habits.sum(axis=-1, keepdims=True))
    tokens = data.inputs["tokens"]
    return logarithms[:, tokens[:, :-1], tokens[:, 1:]].sum(axis=-1).argmax(axis=0)


def test_the_committed_weights_come_near_what_can_be_known(model: Any, test: Data) -> None:
    """The committed weights are right on 89 % of the test sentences, where the best possible is 98 %."""
    import torch

    with torch.inference_mode():
        answers = model(torch.from_numpy(test.inputs["tokens"])).argmax(1).numpy()
    possible = (best_possible(test) == test.targets["labels"]).mean()
    assert 0.97 < possible < 0.99
    assert 0.89 <= (answers == test.targets["labels"]).mean() < possible


def test_the_sentences_stay_what_they_were(test: Data) -> None:
    """The sentences are the same on every machine and for every seed of a run."""
    tokens = test.inputs["tokens"]
    assert tokens.shape == (5000, languages_encoder.LENGTH)
    assert tokens.dtype == test.targets["labels"].dtype == np.int64
    digest = hashlib.sha256(tokens.astype("<i8").tobytes() + test.targets["labels"].astype("<i8").tobytes())
    assert digest.hexdigest()[:16] == "251dd37717087320"
    other = languages_encoder.load_data("test", Context(seed=99))
    assert np.array_equal(tokens, other.inputs["tokens"])


def test_no_test_sentence_is_a_training_sentence(test: Data) -> None:
    """The splits share no sentence."""
    train = languages_encoder.load_data("train", OFFLINE)
    seen = {sentence.tobytes() for sentence in train.inputs["tokens"]}
    assert len(seen) == len(train.targets["labels"]) == 36_000
    assert not any(sentence.tobytes() in seen for sentence in test.inputs["tokens"])


def test_nearly_all_of_its_weights_are_in_linear_layers(model: Any) -> None:
    """Configs for linear layers can quantize nearly the whole network."""
    import torch

    linear = sum(layer.weight.numel() for layer in model.modules() if isinstance(layer, torch.nn.Linear))
    total = sum(parameter.numel() for parameter in model.parameters())
    assert linear / total > 0.95
    assert f"{total:,} parameters" in languages_encoder.describe().summary


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_dynamic_quantization_reaches_the_layers_that_run(model: Any, test: Data) -> None:
    """Every linear layer is replaced by an 8-bit one that answers go through: no fused path goes round it."""
    import copy

    import torch
    from torch.ao.nn.quantized import dynamic
    from torch.ao.quantization import quantize_dynamic

    quantized_model = quantize_dynamic(copy.deepcopy(model), {torch.nn.Linear}, dtype=torch.qint8)
    quantized = [layer for layer in quantized_model.modules() if isinstance(layer, dynamic.Linear)]
    assert len(quantized) == sum(isinstance(layer, torch.nn.Linear) for layer in model.modules()) == 10
    called: list[torch.nn.Module] = []
    for layer in quantized:
        layer.register_forward_hook(lambda layer, *_: called.append(layer))
    tokens = torch.from_numpy(test.inputs["tokens"][:500])
    with torch.inference_mode():
        agreement = (quantized_model(tokens).argmax(1) == model(tokens).argmax(1)).float().mean()
    assert called == quantized
    assert agreement > 0.97


def test_it_can_be_exported_for_any_batch(model: Any) -> None:
    """``torch.export`` takes the model with an open batch size, and the exported program answers the same."""
    import torch

    (example,) = languages_encoder.example_inputs(2, OFFLINE)
    exported = torch.export.export(
        model, (example,), dynamic_shapes={"tokens": {0: torch.export.Dim("batch", min=1, max=1024)}}
    )
    (other,) = languages_encoder.example_inputs(5, OFFLINE)
    with torch.inference_mode():
        assert torch.allclose(exported.module()(other), model(other), atol=1e-5)


def test_it_says_why_it_has_no_static_form() -> None:
    """There is no form with stubs, and the error says why."""
    with pytest.raises(Unsupported, match="8-bit attention"):
        languages_encoder.make_model(Context(quantizable=True))


@pytest.mark.slow
def test_a_config_that_wants_stubs_is_unsupported(qx: Callable[..., Any], tmp_path: Path) -> None:
    """In a run a static config is unsupported, with the reason, and the dynamic one is far smaller."""
    done = qx(
        *(
            "run",
            "--workload",
            "languages_encoder",
            "-m",
            "accuracy",
            "-m",
            "file_size",
            "-m",
            "quantized_share",
        ),
        *("-c", "dynamic_int8", "-c", "static_int8_per_tensor", "--out", "out"),
        cwd=tmp_path,
    )
    assert done.code == 1
    cell = done.cell("static_int8_per_tensor")
    assert (cell["outcome"], cell["stage"]) == ("unsupported", "make_model")
    assert "no form with quantize and dequantize stubs" in cell["cause"]
    assert done.cell("dynamic_int8")["outcome"] == "ok"
    assert done.measurement("dynamic_int8", "quantized_share")["value"] > 0.95
    assert done.measurement("dynamic_int8", "file_size")["vs_baseline"]["value"] < 0.35


@pytest.mark.slow
def test_one_epoch_of_training_learns(test: Data) -> None:
    """The train hook reports its progress to the end, does better than chance, and gives half precision."""
    import torch

    shares: list[float] = []
    few = Data(
        inputs={"tokens": test.inputs["tokens"][:2560]}, targets={"labels": test.targets["labels"][:2560]}
    )
    from qx_plugins.networks.training import train_token_classifier

    torch.manual_seed(0)
    model = train_token_classifier(
        languages_encoder.make_model(OFFLINE),
        few.inputs["tokens"],
        few.targets["labels"],
        epochs=1,
        seed=0,
        progress=lambda done, text: shares.append(done),
    )
    assert shares[-1] == 1.0
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float16}
    with torch.inference_mode():
        answers = model.float()(torch.from_numpy(test.inputs["tokens"][2560:])).argmax(1).numpy()
    assert (answers == test.targets["labels"][2560:]).mean() > 0.2
