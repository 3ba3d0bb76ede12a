"""The configs that torch itself builds and serves, beyond the first four: on the digits, on small nets."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from qx_plugins.configs import (
    bf16,
    fx_static_int8,
    qat_int8,
    static_int8_histogram,
    static_int8_per_channel,
    static_int8_per_tensor,
)
from qx_plugins.networks.cifar_cnn import CifarCNN
from qx_plugins.recipes import finetuning
from qx_plugins.recipes.calibration import keep_calibration_batches, take_calibration_batches
from runtimes import check_busy_threads
from torch import nn
from torch.ao.quantization import DeQuantStub, QuantStub, fuse_modules

from qx import Batch, Context, QxError, Unsupported

INT8 = ("static_int8_histogram", "fx_static_int8", "qat_int8")
#: Without fine-tuning, which takes as long as all the others.
FAST = (*INT8[:2], "bf16")
#: An option of fine-tuning.
ONE_EPOCH = ("--set", "qat_int8.epochs=1")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Train with one thread: several that wait for each other are slow where other tests run beside them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def run(qx: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Run all of these configs on the digits, without launches."""
    names = (*INT8, "bf16") if os.environ.get("QX_SLOW") else FAST
    configs = [word for name in names for word in ("-c", name)]
    metrics = [word for name in ("accuracy", "file_size", "quantized_share") for word in ("-m", name)]
    home = tmp_path_factory.mktemp("torch")
    options = ONE_EPOCH if "qat_int8" in names else ()
    return qx("run", "--workload", "digits_cnn", *configs, *metrics, *options, "--out", "out", cwd=home)


def in_tiers(*names: str) -> list[Any]:
    """Return the configs as parameters; those that take long are marked slow."""
    return [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("config", in_tiers(*INT8, "bf16"))
def test_it_is_served_as_it_was_built(run: Any, config: str) -> None:
    """The outcome is ok, so it gave the converted module's outputs, and it is as accurate as fp32."""
    assert run.cell(config)["outcome"] == "ok", run.cell(config)["cause"]
    delta = run.measurement(config, "accuracy")["vs_baseline"]["value"]
    assert abs(delta) < 0.01


@pytest.mark.parametrize("config", in_tiers(*INT8))
def test_every_layer_is_in_8_bits(run: Any, config: str) -> None:
    """The six convolutions and the linear layer hold qint8 weights, the type that only int8 kernels take."""
    share = run.measurement(config, "quantized_share")
    assert share["value"] == 1.0
    assert [layer["type"] for layer in share["details"]["layers"].values()] == ["torch.qint8"] * 7


def test_bfloat16_halves_the_file(run: Any) -> None:
    """Nothing is in 8 bits, and the artifact takes half of the baseline's bytes."""
    assert run.measurement("bf16", "quantized_share")["value"] == 0.0
    assert run.measurement("bf16", "file_size")["vs_baseline"]["value"] == pytest.approx(0.5, abs=0.02)


@pytest.mark.slow
def test_a_build_with_fine_tuning_is_the_same_for_a_seed(
    run: Any, qx: Callable[..., Any], cache: Path
) -> None:
    """Built again with the same seed, the fine-tuned weights are the same bit for bit."""
    build = cache / "builds" / run.cell("qat_int8")["build"]
    before = hashlib.sha256((build / "artifact" / "model.pt").read_bytes()).hexdigest()
    done = qx("quantize", "-c", "qat_int8", "--workload", "digits_cnn", "--rebuild", *ONE_EPOCH)
    assert done.code == 0, done.err
    assert str(build) in done.out
    assert hashlib.sha256((build / "artifact" / "model.pt").read_bytes()).hexdigest() == before


# Fine-tuning, on random images --------------------------------------------------------------------

OPTIONS = {"epochs": 1, "learning_rate": 1e-3, "loss": "teacher"}
#: Example inputs for tracing.
IMAGES = (torch.zeros(1, 3, 32, 32),)


def _prepared() -> nn.Module:
    torch.manual_seed(0)
    return qat_int8.prepare_model(CifarCNN(quantizable=True).eval(), IMAGES, Context())


def _batches(count: int, labels: bool = True) -> list[Batch]:
    random = np.random.default_rng(0)
    batches = []
    for _ in range(count):
        images = random.standard_normal((8, 3, 32, 32), dtype=np.float32)
        targets = {"labels": random.integers(0, 10, 8)} if labels else {}
        batches.append(Batch(inputs={"image": images}, targets=targets))
    return batches


def _ranges(model: nn.Module) -> list[torch.Tensor]:
    return [
        module.activation_post_process.max_val.clone()
        for module in model.modules()
        if hasattr(module, "disable_fake_quant") and module.activation_post_process.max_val.numel() == 1
    ]


def test_the_teacher_gives_what_fp32_gives() -> None:
    """A prepared model that neither rounds nor observes gives what it gave before that."""
    torch.manual_seed(0)
    model = CifarCNN(quantizable=True).eval()
    images = torch.randn(4, 3, 32, 32)
    teacher = finetuning.unquantized_copy(
        qat_int8.prepare_model(copy.deepcopy(model), IMAGES, Context()), nn.Module.eval
    )
    with torch.no_grad():
        assert torch.allclose(teacher(images), model(images), atol=1e-5)


def test_normalisation_and_ranges_stand_still_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 8 steps normalisation learns in 3 and ranges in 4, and the weights are trained to the end."""
    model, seen = _prepared(), []
    first = model.features[0]

    def record(done: float, text: str) -> None:
        state = (first.bn.running_mean, _ranges(model)[0], first.weight)
        seen.append([tensor.detach().clone() for tensor in state])

    finetuning.fine_tune(model, _batches(8), Context(options=OPTIONS, progress=record))
    changed = [
        [not torch.equal(now, before) for now, before in zip(*states, strict=True)]
        for states in zip(seen[1:], seen[:-1], strict=True)
    ]
    normalisation, ranges, weights = (list(column) for column in zip(*changed, strict=True))
    assert normalisation == [True, True, False, False, False, False, False]
    assert ranges[3:] == [False] * 4
    assert any(ranges[:3])
    assert all(weights)
    assert not model.training


def test_fine_tuning_is_the_same_each_time() -> None:
    """The same model, batches and options give the same weights and ranges, bit for bit."""
    states = []
    for _ in range(2):
        model = _prepared()
        finetuning.fine_tune(model, _batches(4), Context(options=OPTIONS))
        states.append(model.state_dict())
    first, again = states
    before = _prepared().state_dict()
    assert first.keys() == again.keys()
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    assert not all(torch.equal(tensor, before[name]) for name, tensor in first.items())


def test_it_learns_from_the_teacher_or_from_labels() -> None:
    """With either loss it falls over a few epochs on the same batches; the teacher needs no labels."""
    for loss, labels in (("teacher", False), ("labels", True)):
        messages: list[str] = []
        options = OPTIONS | {"epochs": 6, "loss": loss, "learning_rate": 1e-2}
        context = Context(options=options, progress=lambda done, text: messages.append(text))  # noqa: B023
        finetuning.fine_tune(_prepared(), _batches(3, labels), context)
        losses = [float(text.rpartition(" ")[2]) for text in messages]
        assert np.mean(losses[-3:]) < np.mean(losses[:3]), loss


@pytest.mark.parametrize(
    ("options", "kind", "cause"),
    [
        ({"loss": "labels"}, Unsupported, "loss=labels needs a workload with labels"),
        ({"epochs": 0}, QxError, "epochs must be at least 1"),
        ({"learning_rate": 1e38}, QxError, "try a lower learning_rate"),
    ],
)
def test_what_cannot_be_trained_is_told(options: dict[str, Any], kind: type, cause: str) -> None:
    """Missing labels, no epochs, and a loss that is not a number are errors of one line."""
    with pytest.raises(kind, match=cause):
        finetuning.fine_tune(_prepared(), _batches(8, labels=False), Context(options=OPTIONS | options))


def test_a_model_that_cannot_be_fused_is_unsupported() -> None:
    """A model without ``fuse_model`` is unsupported in eager-mode fine-tuning, with the reason."""
    with pytest.raises(Unsupported, match=r"Linear has no fuse_model\(\)"):
        qat_int8.prepare_model(nn.Linear(2, 2), (torch.zeros(1, 2),), Context())


class Blocks(nn.Module):
    """A convolution within a block, between stubs; ``fuse`` and ``added`` choose what goes wrong."""

    def __init__(self, fuse: list[str] | None = None, added: bool = False) -> None:
        super().__init__()
        self.quant, self.dequant, self.fuse = QuantStub(), DeQuantStub(), fuse
        self.block = nn.Module()
        self.block.conv, self.block.relu = nn.Conv2d(3, 4, 1), nn.ReLU()
        self.sum = Sum() if added else nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.dequant(self.sum(self.block.relu(self.block.conv(self.quant(images)))))

    def fuse_model(self) -> None:
        if self.fuse is None:
            raise ValueError("not today")
        fuse_modules(self.block, self.fuse, inplace=True)


class Sum(nn.Module):
    """Adds as in fp32, where 8 bits need ``FloatFunctional``."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values + values


@pytest.mark.parametrize("config", [static_int8_per_channel, qat_int8])
@pytest.mark.parametrize(
    ("fuse", "words"),
    [
        (None, r"fuse_model\(\): Blocks, test_torch\.py:\d+: not today"),
        (["relu", "conv"], r"fuse_model\(\): modules 'block\.relu', 'block\.conv'; .*\bReLU'"),
        (["conv", "bn"], r"fuse_model\(\): modules 'block\.conv', 'block\.bn'; .*no attribute 'bn'"),
    ],
)
def test_a_model_whose_fusion_fails_is_unsupported(config: Any, fuse: list[str] | None, words: str) -> None:
    """The modules that were to be fused are named, or the line that raised, with the reason."""
    with pytest.raises(Unsupported, match=words):
        config.prepare_model(Blocks(fuse).eval(), IMAGES, Context())


# torch warns of observers that have seen nothing, as those of a model that is only rebuilt.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "config", [static_int8_per_tensor, static_int8_per_channel, static_int8_histogram, qat_int8]
)
def test_an_operation_without_a_kernel_for_8_bits_is_unsupported(config: Any) -> None:
    """The build names the layer, its line and the operation; rebuilding the model does not try it."""
    images = np.zeros((4, 3, 8, 8), dtype=np.float32)
    batch = Batch(inputs={"image": images}, targets={"labels": np.zeros(4, dtype=np.int64)})
    prepared = config.prepare_model(Blocks(["conv", "relu"], added=True).eval(), IMAGES, Context())
    if config is not qat_int8:
        prepared = config.calibrate(prepared, [batch])
    else:
        prepared = keep_calibration_batches(prepared.eval(), [batch])
    words = (
        r"does not run in 8 bits: layer 'sum' \(Sum\), test_torch\.py:\d+: aten::add\S* has no kernel for Q"
    )
    with pytest.raises(Unsupported, match=words):
        config.convert(prepared)
    config.convert(config.prepare_model(Blocks(["conv", "relu"], added=True).eval(), IMAGES, Context()))


def test_a_users_own_attribute_is_left_alone() -> None:
    """A model may have an attribute ``calibration``: batches are kept beside it, and removed again."""
    model, batches = nn.Linear(2, 2), [Batch(inputs={"x": np.zeros((1, 2), dtype=np.float32)})]
    model.calibration = 3
    assert take_calibration_batches(keep_calibration_batches(model, batches)) is batches
    assert (model.calibration, take_calibration_batches(model)) == (3, ())


# Other models -------------------------------------------------------------------------------------


class Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


def test_a_model_that_cannot_be_traced_is_unsupported() -> None:
    """The layer whose code depends on data is named, with its kind, its line and the reason."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(Branching()))
    with pytest.raises(
        Unsupported, match=r"torch\.fx: layer '1\.0' \(Branching\), test_torch\.py:\d+: .*control flow"
    ):
        fx_static_int8.prepare_model(model, (torch.zeros(1, 4),), Context(engine="x86"))


def test_bfloat16_leaves_integers_alone() -> None:
    """Tokens go into the model as integers, and its outputs are float32."""
    model = bf16.convert(nn.Embedding(10, 4))
    outputs = model(torch.tensor([[1, 2]]))
    assert outputs.dtype == torch.float32
    assert next(model.parameters()).dtype == torch.bfloat16


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("config", ["fp32_baseline"])
def test_as_many_threads_work_as_are_asked_for(
    qx: Callable[..., Any], config: str, threads: int, tmp_path: Path
) -> None:
    """In a process like a launch, with two threads both compute, and no third, whatever the build had."""
    check_busy_threads(qx, config, threads, tmp_path)
