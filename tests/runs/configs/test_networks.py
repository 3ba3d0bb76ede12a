"""Networks of shapes that converters go wrong on: a config gives what it should, or says what it cannot."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import networks
import numpy as np
import pytest
import torch
from runtimes import READY, imported_host
from torch import nn

from qx import Artifact, Batch, Context, Unsupported
from qx.worker.state import complete, save

# The exporters, the observers and torch's quantized tensors warn.
pytestmark = pytest.mark.filterwarnings("ignore")


#: Signal to noise in dB: at least this much is left after rounding to 8 bits, and to float32.
EIGHT_BITS, FLOAT32 = 20.0, 100.0
EXAMPLES = (torch.from_numpy(networks.images(1)),)


@pytest.fixture(autouse=True)
def outside_of_inference_mode() -> Iterator[None]:
    """Assert that no subject enters inference mode, which would last for all later tests of the process."""
    before = torch.is_inference_mode_enabled()
    yield
    assert torch.is_inference_mode_enabled() == before


def decibels(expected: Any, outputs: Any) -> float:
    noise = float(np.square(outputs - expected).sum())
    return math.inf if noise == 0 else 10 * math.log10(float(np.square(expected).sum()) / noise)


def built(config: str, name: str, folder: Path, *, seed: int = 0) -> Any:
    """Return what a config converts a network to, calibrated if the config calibrates."""
    return _convert(config, networks.network(name, seed), Context(folder=folder, engine="x86"), build=True)


def _convert(config: str, model: nn.Module, context: Context, *, build: bool) -> Any:
    arguments = {"example_inputs": EXAMPLES, "context": context}
    if imported_host().implements(config, "prepare_model"):
        model = imported_host().call(config, "prepare_model", model=model, **arguments)
    if build and imported_host().implements(config, "calibrate"):
        batches = [Batch(inputs={"image": networks.images(32, seed)}) for seed in range(3)]
        model = imported_host().call(config, "calibrate", model=model, batches=batches, context=context)
    return imported_host().call(config, "convert", model=model, **arguments)


def answers(model: nn.Module, inputs: Any) -> Any:
    with torch.no_grad():
        return model(torch.from_numpy(inputs)).numpy()


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_torch_fx_quantizes_it_and_a_launch_serves_the_same(name: str, tmp_path: Path) -> None:
    """In 8 bits it stays near the fp32 model, in large batches too; rebuilt from its state it is equal."""
    inputs = networks.images(128, seed=9)
    expected = answers(networks.network(name), inputs)
    module = complete(built("fx_static_int8", name, tmp_path)).eval()
    outputs = answers(module, inputs)
    assert decibels(expected, outputs) > EIGHT_BITS
    save(module, tmp_path / "model.pt")
    fresh = networks.network(name, seed=1)
    rebuilt = complete(_convert("fx_static_int8", fresh, Context(engine="x86"), build=False)).eval()
    rebuilt.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True), strict=True)
    assert np.array_equal(answers(rebuilt, inputs), outputs)


@pytest.mark.parametrize("name", ["NormOfOtherChannels", "GroupedTransposed"])
def test_a_rewritten_program_gives_the_same_and_has_nothing_to_fold_wrongly(name: str) -> None:
    """What backends would fold into the wrong dimension is removed before they see it."""
    from qx_plugins.recipes.exporting import prepare_program

    model = networks.network(name)
    program, original = prepare_program(model, EXAMPLES)
    normalizations = [
        [node for node in exported.graph.nodes if node.target is torch.ops.aten.batch_norm.default]
        for exported in (original, program)
    ]
    assert [len(nodes) for nodes in normalizations] == [1, 0]
    inputs = networks.images(40, seed=9)
    assert decibels(answers(model, inputs), answers(program.module(), inputs)) > FLOAT32


class Positions(torch.nn.Module):
    """A model that picks columns by positions that it computes, as masks of attention do."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return all columns but the first, doubled."""
        return 2.0 * values[:, torch.arange(values.shape[1] - 1) + 1]


def test_whole_numbers_stay_whole_where_a_quantizer_makes_floats_of_numbers() -> None:
    """XNNPACK's quantizer makes float tensors of the numbers in sums, and then nothing can be picked."""
    xnnpack = pytest.importorskip("executorch.backends.xnnpack.quantizer.xnnpack_quantizer")
    from qx_plugins.recipes.exporting import prepare_program
    from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e

    values = torch.randn(4, 6)
    program, original = prepare_program(Positions(), (values,))
    quantizer = xnnpack.XNNPACKQuantizer().set_global(xnnpack.get_symmetric_quantization_config())
    assert torch.equal(prepare_pt2e(program.module(), quantizer)(values), Positions()(values))
    with pytest.raises(IndexError, match="must be long"):
        prepare_pt2e(original.module(), quantizer)(values)


def _served(artifact: Artifact) -> Any:
    """Return the subject that serves an artifact, without what a process does once in its life."""
    if artifact.loader == "executorch":
        return imported_host().call(
            "executorch", "load", artifact=artifact, context=Context(folder=artifact.folder)
        )
    from qx_plugins.loaders.aot_inductor import open_package

    class Package:
        model = open_package(artifact.folder / artifact.files[0])

        def prepare(self, arrays: Any) -> Any:
            return [torch.from_numpy(array) for array in arrays.values()]

        def call(self, native: Any) -> Any:
            return self.model.run(native)

        def outputs(self, native: Any) -> Any:
            return {"output": native[0].detach().numpy()}

    return Package()


#: Compiling takes a minute a network, so the fast tier has these networks only.
QUICK = {
    "executorch_fp32": {"TiedWeights", "GroupedTransposed", "ChannelsLast"},
    "executorch_int8": {"SharedByTwoNorms", "TiedBiases", "NormAndBranch"},
}
COMPILED = ("executorch_fp32", "executorch_int8", "inductor_fp32", "inductor_int8")


#: The reason that a config gives for a network that it cannot quantize.
REASONS = {
    ("inductor_int8", "StatisticsOfTheBatch"): r"layer 'norm' \(BatchNorm2d\): it keeps no running statistics"
}


def _cases() -> list[Any]:
    compiler = any(map(shutil.which, ("g++", "clang++")))
    cases = []
    for config in COMPILED:
        is_available = config in READY and (compiler or "inductor" not in config)
        missing = pytest.mark.skipif(not is_available, reason=f"what {config} needs is missing")
        for name in networks.NETWORKS:
            marks = [missing] if name in QUICK.get(config, ()) else [missing, pytest.mark.slow]
            cases.append(pytest.param(config, name, marks=marks))
    return cases


@pytest.mark.parametrize(("config", "name"), _cases())
def test_a_compiled_config_gives_what_it_should(config: str, name: str, tmp_path: Path) -> None:
    """In float32 it gives the model's outputs, and in 8 bits it stays near them, for one item and many."""
    if (reason := REASONS.get((config, name))) is not None:
        with pytest.raises(Unsupported, match=reason):
            built(config, name, tmp_path)
        return
    subject = _served(built(config, name, tmp_path))
    model = networks.network(name)
    for count in (1, 40):
        inputs = networks.images(count, seed=9)
        outputs = np.array(subject.outputs(subject.call(subject.prepare({"image": inputs})))["output"])
        minimum = FLOAT32 if config.endswith("fp32") else EIGHT_BITS
        assert decibels(answers(model, inputs), outputs) > minimum


# What cannot be done is said ----------------------------------------------------------------------


class Recurrent(nn.Module):
    """A GRU over the rows of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.GRU(36, 4, batch_first=True)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.rows(images.permute(0, 2, 1, 3).flatten(2))[0][:, -1]


class Circular(nn.Sequential):
    """A convolution with circular padding."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"))


@pytest.mark.skipif("executorch_fp32" not in READY, reason="ExecuTorch is missing")
@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Recurrent, r"layer 'rows' \(GRU\): ExecuTorch can lower it for a single batch size only"),
        (Circular, r"layer '0': torch.export fixes the batch size where padding is circular"),
    ],
)
def test_a_layer_that_fixes_the_batch_size_is_named_in_the_build(
    model: type[nn.Module], words: str, tmp_path: Path
) -> None:
    """A program that would fail at other batch sizes than that of its examples is never written."""
    context = Context(folder=tmp_path)
    with pytest.raises(Unsupported, match=words):
        _convert("executorch_fp32", model().eval(), context, build=True)


class Stubbed(nn.Module):
    """A layer on the rows of an image, between stubs, with nothing to fuse."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.rows = layer
        self.quant, self.dequant = torch.ao.quantization.QuantStub(), torch.ao.quantization.DeQuantStub()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rows = self.rows(self.quant(images.permute(0, 2, 1, 3).flatten(2)))
        return self.dequant((rows[0] if isinstance(rows, tuple) else rows)[:, -1])

    def fuse_model(self) -> None:
        """Fuse nothing."""


def encoder_layer() -> nn.Module:
    torch.manual_seed(0)
    return nn.TransformerEncoderLayer(36, 4, 48, batch_first=True)


@pytest.mark.parametrize(
    ("config", "layer", "words"),
    [
        ("static_int8_per_channel", nn.GRU(36, 4), r"cannot be calibrated: layer 'rows' \(GRU\), .*tuple"),
        ("qat_int8", nn.GRU(36, 4), r"does not run: layer 'rows' \(GRU\), .*must be Tensor"),
        ("qat_int8", encoder_layer(), r"cannot be prepared .*: layer 'rows.self_attn.out_proj'"),
    ],
    ids=["gru", "gru-qat", "attention-qat"],
)
def test_a_layer_that_cannot_be_observed_is_named(
    config: str, layer: nn.Module, words: str, tmp_path: Path
) -> None:
    """What eager mode has no observers for is unsupported, with the layer, and no error of torch's own."""
    context = Context(folder=tmp_path, engine="x86", options={"epochs": 1, "learning_rate": 1e-3})
    with pytest.raises(Unsupported, match=words):
        _convert(config, Stubbed(layer).eval(), context, build=True)


@pytest.mark.parametrize("whole", [False, True], ids=["layer", "encoder"])
def test_the_layers_of_a_transformer_are_the_ones_that_run(whole: bool, tmp_path: Path) -> None:
    """The fused kernel of torch, which would take no int8 weights, is not used where these are quantized."""
    layer = nn.TransformerEncoder(encoder_layer(), 2) if whole else encoder_layer()
    model = Stubbed(layer).eval()
    inputs = networks.images(40, seed=9)
    expected = answers(model, inputs)
    quantized = _convert("dynamic_int8", model, Context(folder=tmp_path), build=True)
    kinds = {type(part) for part in quantized.modules()}
    assert torch.ao.nn.quantized.dynamic.Linear in kinds
    assert FLOAT32 > decibels(expected, answers(quantized, inputs)) > EIGHT_BITS


class Causal(nn.Module):
    """Attention of each row of an image to the rows before it, by a mask that is added to sharp scores."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(36, 16) for _ in range(3))
        nn.init.normal_(self.query.weight, std=0.5)
        nn.init.normal_(self.key.weight, std=0.5)
        self.register_buffer("mask", -1e4 * torch.ones(12, 12).triu(1))
        self.head, self.softmax = nn.Linear(16, 5), nn.Softmax(-1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rows = images.permute(0, 2, 1, 3).flatten(2)
        scores = self.query(rows) @ self.key(rows).transpose(1, 2)
        return self.head((self.softmax(scores / 4 + self.mask) @ self.value(rows)).mean(1))


def _masking_configs() -> list[Any]:
    configs = {"fx_static_int8": (), "onnxruntime_static_int8_per_channel": (), "executorch_int8": ("slow",)}
    return [
        pytest.param(
            config,
            marks=[
                pytest.mark.skipif(config not in READY, reason=f"what {config} needs is missing"),
                *(getattr(pytest.mark, mark) for mark in marks),
            ],
        )
        for config, marks in configs.items()
    ]


@pytest.mark.parametrize("config", _masking_configs())
def test_a_mask_leaves_the_scores_their_bits(config: str, tmp_path: Path) -> None:
    """Scores are not rounded by a scale for the range of the mask, which would make all steps count alike."""
    torch.manual_seed(0)
    model = Causal().eval()
    inputs = networks.images(40, seed=9)
    expected = answers(model, inputs)
    result = _convert(config, model, Context(folder=tmp_path, engine="x86"), build=True)
    if isinstance(result, nn.Module):
        outputs = answers(result, inputs)
    else:
        subject = imported_host().call(
            result.loader, "load", artifact=result, context=Context(folder=result.folder)
        )
        outputs = subject.outputs(subject.call(subject.prepare({"image": inputs})))["output"]
    assert decibels(expected, np.array(outputs)) > EIGHT_BITS


class FusedByItself(networks.SharedByTwoNorms):
    """Fuses a convolution that it calls twice with one of the normalizations."""

    def fuse_model(self) -> None:
        torch.ao.quantization.fuse_modules(self, ["first", "norm"], inplace=True)


@pytest.mark.parametrize("config", ["static_int8_per_channel", "qat_int8"])
def test_a_fusion_that_changes_the_model_is_unsupported(config: str, tmp_path: Path) -> None:
    """A model's own ``fuse_model`` is tried in the build, and layers called more than once are named."""
    torch.manual_seed(0)
    context = Context(folder=tmp_path, engine="x86")
    words = r"fuse_model\(\) changes the outputs of the model \(SQNR .* dB\); .* more than once: 'first'"
    with pytest.raises(Unsupported, match=words):
        imported_host().call(
            config,
            "prepare_model",
            model=FusedByItself().eval(),
            example_inputs=EXAMPLES,
            context=context,
        )


def test_a_package_with_other_numbers_is_unsupported(tmp_path: Path) -> None:
    """What was compiled is run in the build, on one item and on several, and compared with its program."""
    from qx_plugins.recipes.fidelity import compute_reference, verify_compiled

    model = networks.network("NormAndBranch")
    expected = compute_reference(model, EXAMPLES)
    verify_compiled(expected, model, model, "compiled, it")
    with pytest.raises(Unsupported, match=r"compiled, it gives wrong outputs: SQNR 20\.0 dB"):
        verify_compiled(expected, model, lambda *inputs: 1.1 * model(*inputs), "compiled, it")
