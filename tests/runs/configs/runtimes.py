"""What tests of runtimes share: a small network, and its artifacts, built and served in this process."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from attrs import evolve
from qx_plugins.workloads import digits_cnn
from torch import nn

from qx import Artifact, Batch, Context
from qx.environment import cpu_numbers
from qx.host.host import Host
from qx.processes.jobs import StoredArtifact
from qx.processes.workers import Processes
from qx.runner.evaluation import BATCH_SIZE
from qx.shipping.npz import write_arrays
from qx.storage.manifest import Manifest
from qx.testing.jobs import ServeJob
from qx.worker.arrays import Split

TOP = Path(__file__).parents[3]
#: Configs by runtime; all but those of ExecuTorch are served without torch.
ONNX = (
    "onnxruntime_fp32",
    "onnxruntime_dynamic_int8",
    "onnxruntime_static_int8_per_tensor",
    "onnxruntime_static_int8_per_channel",
)
OPENVINO = ("openvino_fp32", "openvino_bf16", "openvino_int8")
EXECUTORCH = ("executorch_fp32", "executorch_int8")
NCNN = ("ncnn_fp32", "ncnn_fp16")
EVERY = (*ONNX, *OPENVINO, *EXECUTORCH, *NCNN)
FP32 = tuple(name for name in EVERY if name.endswith("fp32"))
STATIC = tuple(name for name in EVERY if "int8" in name and "dynamic" not in name)
#: Packages that build artifacts, and packages that serve them.
BUILDERS = ("nncf", "onnx", "onnxscript", "pnnx", "torchao")
RUNTIMES = ("onnxruntime", "openvino", "executorch", "ncnn")
BF16 = "<Type: 'bfloat16'>"
READY = {entry.name for entry in Host.discover().ready("config")}


def ready(*names: str) -> list[Any]:
    """Return the configs that can run here, or the first of them as a skipped parameter if none can."""
    missing = pytest.mark.skip(reason=f"the packages of {', '.join(names)} are missing")
    return [name for name in names if name in READY] or [pytest.param(names[0], marks=missing)]


class Net(nn.Module):
    """A convolution and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.head = nn.Linear(64, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(images))


IMAGES = (torch.zeros(1, 3, 16, 16),)


@cache
def imported_host() -> Host:
    """Return a host of the plugins that are ready, imported into this process as into a worker."""
    entries = Host.discover().entries
    return Host.of([entry.reference for entry in entries if entry.state == "ready" and entry.reference])


def convert(
    name: str,
    model: nn.Module,
    folder: Path,
    images: tuple[torch.Tensor, ...] = IMAGES,
    options: dict[str, Any] | None = None,
    *,
    calibrates: bool = True,
) -> Artifact:
    """Return the artifact that a config makes of a model, calibrated with noise if it calibrates.

    Without ``calibrates`` the model is calibrated already.
    """
    host = imported_host()
    if calibrates and host.implements(name, "calibrate"):
        noise = np.random.default_rng(0).standard_normal((8, 3, 16, 16), dtype=np.float32)
        batches = [Batch(inputs={"image": noise})]
        model = host.call(name, "calibrate", model=model, batches=batches, context=Context())
    context = Context(folder=folder, options=options or {})
    arguments = {"model": model, "example_inputs": images, "context": context}
    artifact: Artifact = host.call(name, "convert", **arguments)
    return artifact


def served(artifact: Artifact, threads: int = 1) -> Any:
    """Return the subject that its loader makes of an artifact."""
    context = Context(threads=threads, folder=artifact.folder)
    return imported_host().call(artifact.loader, "load", artifact=artifact, context=context)


def answer(subject: Any, images: np.ndarray) -> np.ndarray:
    return np.array(subject.outputs(subject.call(subject.prepare({"image": images})))["output"])


def narrow_weights(artifact: Artifact) -> np.ndarray:
    """Return all weights of an artifact that are stored in 8 bits."""
    path = artifact.folder / artifact.files[0]
    if path.suffix == ".onnx":
        import onnx

        arrays = [onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer]
    else:
        import openvino

        nodes = openvino.Core().read_model(path).get_ordered_ops()
        arrays = [node.data for node in nodes if node.get_type_name() == "Constant"]
    narrow = [array.ravel().astype(int) for array in arrays if array.dtype == np.int8 and array.ndim >= 2]
    assert narrow
    return np.concatenate(narrow)


def check_busy_threads(qx: Callable[..., Any], config: str, threads: int, tmp_path: Path) -> None:
    """Assert that as many threads compute as are asked for, in a process like a launch."""
    if len(cpu_numbers() or range(threads)) < threads:
        pytest.skip("needs as many CPUs")
    done = qx("quantize", "-c", config, "--workload", "digits_cnn")
    assert done.code == 0, done.err
    (folder,) = (word for word in done.out.split() if (Path(word) / "manifest.json").is_file())
    noise = np.random.default_rng(0).standard_normal((256, 3, 32, 32), dtype=np.float32)
    Split({"image": noise}, {}, (), "noise").write(tmp_path)
    host, manifest = Host.discover(), Manifest.read(Path(folder))
    loader = host.get("loader", manifest.loader)
    stored = StoredArtifact(
        folder=folder,
        files=tuple(manifest.files),
        details=manifest.details,
        loader=loader.reference,
        imports=loader.record.imports,
        config=host.get("config", config).reference,
        workload=host.get("workload", "digits_cnn").reference,
    )
    job = ServeJob(
        threads=threads,
        artifact=stored,
        inputs=str(tmp_path),
        batch_sizes=(1,),
        outputs=str(tmp_path / "outputs.npz"),
    )
    with Processes(tmp_path) as processes:
        busy = np.array(processes.run(job, "serve", timeout=300).busy_threads)
    shares = busy / busy.sum()
    assert shares[:threads].min() > 0.08, shares
    assert shares[threads:].sum() < 0.1, shares


def check_serving(
    qx: Callable[..., Any], without_qx: Callable[..., Any], config: str, recorded: np.ndarray
) -> None:
    """Assert that ``serve.py`` gives the recorded outputs of the first digits where there is no qx."""
    done = qx("quantize", "-c", config, "--workload", "digits_cnn", "--to", "shipped")
    assert done.code == 0, done.err
    assert "no serve.py" not in done.err
    # As many as the evaluation serves at once: other batches may take other kernels.
    digits = digits_cnn.load_data("test", Context()).inputs["image"][:BATCH_SIZE]
    write_arrays(Path("in.npz"), {"image": digits})
    served = without_qx("shipped/serve.py", "in.npz", "out.npz")
    assert served.returncode == 0, served.stderr
    np.testing.assert_array_equal(np.load("out.npz")["output"], recorded[: len(digits)])


def check_any_number_of_inputs(config: str, tmp_path: Path) -> None:
    """Assert that a model with ``forward(self, *inputs)`` is exported, and its batch is left open."""

    class Loose(Net):
        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            return super().forward(inputs[0])

    subject = served(convert(config, Loose().eval(), tmp_path))
    assert answer(subject, np.zeros((3, 3, 16, 16), dtype=np.float32)).shape == (3, 5)


def check_7_bits_without_vnni(config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Assert that without VNNI the range of weights is halved, and that the notes say so."""
    from qx_plugins.recipes import saturation

    assert saturation.saturates() is False or convert(config, Net().eval(), tmp_path).notes
    monkeypatch.setattr(saturation, "cpu_flags", lambda: frozenset({"avx2"}))
    artifact = convert(config, Net().eval(), tmp_path)
    assert any("7 bits" in note for note in artifact.notes)
    assert 32 < np.abs(narrow_weights(artifact)).max() <= 64


class InOrder(nn.Module):
    """A decoder's outputs in their order, as a build gets them."""

    def __init__(self, scorer: nn.Module) -> None:
        super().__init__()
        self.scorer = scorer

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(self.scorer(tokens).values())


def check_likelihoods(config: str, folder: Path) -> None:
    """Check that the likelihoods of a decoder are those of its scores: no quantizer rounds between them."""
    from qx_plugins.language_outputs import KEPT_EVERY, KEPT_FROM, LOG_LIKELIHOODS, LOGITS
    from qx_plugins.networks.language_models import Scorer
    from qx_plugins.networks.llama import LlamaDecoder, LlamaShape

    torch.manual_seed(0)
    shape = LlamaShape(vocabulary=64, positions=64, width=64, hidden=96, layers=1, heads=4, key_value_heads=2)
    model: nn.Module = InOrder(Scorer(LlamaDecoder(shape))).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(5)
    tokens = torch.randint(64, (8, 40)).numpy()
    host = imported_host()
    options = {option.name: option.default for option in host.get("config", config).record.options}
    batches = [Batch(inputs={"tokens": tokens})]
    model = host.call(config, "calibrate", model=model, batches=batches, context=Context(options=options))
    artifact = convert(config, model, folder, (torch.from_numpy(tokens[:1]),), options, calibrates=False)
    subject = served(evolve(artifact, outputs=(LOGITS, LOG_LIKELIHOODS)))
    outputs = subject.outputs(subject.call(subject.prepare({"tokens": tokens})))
    scores, kept = outputs[LOGITS].astype(np.float64), slice(KEPT_FROM, None, KEPT_EVERY)
    following = np.roll(tokens, -1, axis=1)[:, kept, None]
    expected = np.take_along_axis(scores, following, axis=2)[..., 0] - np.log(np.exp(scores).sum(axis=2))
    # Rounding to 8 bits would be a two hundredth of the largest score.
    assert np.allclose(outputs[LOG_LIKELIHOODS][:, kept], expected, atol=1e-4 * np.abs(scores).max())
