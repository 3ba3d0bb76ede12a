"""The configs of other runtimes: served by that runtime alone, in 8 bits, with the predictions of torch.

What is not installed is left out: the rows of a run say what to install, and the tests are skipped.
"""

from __future__ import annotations

import configparser
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

import numpy as np
import pytest
import torch
from attrs import evolve
from torch import nn

from qx import Artifact, Batch, Context, Unsupported
from qx.environment import cpu_numbers
from qx.host.host import Host
from qx.processes.jobs import StoredArtifact
from qx.processes.workers import Processes
from qx.results.recording import Recording
from qx.storage.manifest import Manifest
from qx.testing.jobs import ServeJob
from qx.worker.arrays import Split

# The exporters warn of their own insides.
pytestmark = pytest.mark.filterwarnings("ignore")

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


@pytest.fixture(scope="module")
def runtimes(qx: Callable[..., Any], loaded_modules: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Run every config that is installed on the digits."""
    chosen = [word for name in EVERY if name in READY for word in ("-c", name)]
    metrics = ("accuracy", "agreement", "quantized_share", "latency", "loaded_modules")
    return qx(
        *("run", "--workload", "digits_cnn", "-p", loaded_modules, *chosen),
        *(word for name in metrics for word in ("-m", name)),
        *("--quick", "--budget", 0.01, "--batch-size", 1, "--batch-size", 3, "--out", "out"),
        cwd=tmp_path_factory.mktemp("runtimes"),
    )


@pytest.fixture(scope="module")
def outputs(runtimes: Any) -> dict[str, np.ndarray]:
    """Return the outputs of each config for all images."""
    recording = Recording.read(runtimes.folder / runtimes.results["run"]["samples"])
    return {cell.rpartition("/")[2]: arrays["output"] for cell, arrays in recording.outputs.items()}


@pytest.mark.parametrize("config", ready(*EVERY))
def test_it_is_measured_like_any_other(runtimes: Any, config: str) -> None:
    """Every config of a runtime that is installed ends well, with a latency at each batch size."""
    cell = runtimes.cell(config)
    assert (cell["outcome"], cell["cause"]) == ("ok", None)
    latencies = runtimes.measurements(config, "latency")
    assert [latency["params"]["batch_size"] for latency in latencies] == [1, 3]
    assert all(latency["vs_baseline"]["value"] > 0 for latency in latencies)


@pytest.mark.parametrize("config", ready(*EVERY))
def test_the_versions_of_a_runtime_are_recorded(runtimes: Any, config: str) -> None:
    """Whatever a config of the run needs is among the versions of its results."""
    assert config.partition("_")[0] in runtimes.results["environment"]["distributions"]


@pytest.mark.parametrize("config", ready(*FP32))
def test_the_runtime_baselines_are_the_model(outputs: dict[str, np.ndarray], config: str) -> None:
    """In single precision every runtime gives torch's outputs, up to rounding, and the same predictions."""
    np.testing.assert_allclose(outputs[config], outputs["fp32_baseline"], atol=1e-4)
    assert (outputs[config].argmax(axis=1) == outputs["fp32_baseline"].argmax(axis=1)).all()


@pytest.mark.parametrize("config", ready(*(name for name in EVERY if name not in FP32)))
def test_quantized_models_keep_the_predictions(runtimes: Any, config: str) -> None:
    """Whatever the runtime, a quantized model agrees with the baseline on nearly all images."""
    assert runtimes.measurement(config, "agreement")["value"] >= 0.97


@pytest.mark.parametrize("config", ready(*ONNX, *OPENVINO, *NCNN))
def test_a_launch_imports_the_runtime_and_not_torch(runtimes: Any, config: str) -> None:
    """A config that is served without torch has no torch in its process, nor anything of another runtime."""
    packages = set(runtimes.measurement(config, "loaded_modules")["details"]["packages"])
    runtime = config.partition("_")[0]
    assert runtime in packages
    assert not packages & ({"torch", "torchvision", "PIL", *BUILDERS, *RUNTIMES} - {runtime})


@pytest.mark.parametrize("config", ready(*EXECUTORCH))
def test_executorch_imports_torch_and_no_exporter(runtimes: Any, config: str) -> None:
    """ExecuTorch's binding needs torch in its launch; no exporter is there, nor another runtime."""
    packages = set(runtimes.measurement(config, "loaded_modules")["details"]["packages"])
    assert {"torch", "executorch"} <= packages
    assert not packages & ({"torchvision", *BUILDERS, *RUNTIMES} - {"executorch"})


@pytest.mark.parametrize("config", ready(*STATIC))
def test_static_int8_stores_all_weights_in_8_bits(runtimes: Any, config: str) -> None:
    """All 287,840 weights of six convolutions and a linear layer are stored in 8 bits, and nothing else."""
    share = runtimes.measurement(config, "quantized_share")
    assert share["value"] == 1.0
    layers = share["details"]["layers"].values()
    assert len(layers) == 7
    assert sum(layer["elements"] for layer in layers) == 287_840
    assert {layer["bits"] for layer in layers} == {8}


@pytest.mark.parametrize("config", ready(*FP32, "openvino_bf16", "ncnn_fp16"))
def test_unquantized_weights_count_as_such(runtimes: Any, config: str) -> None:
    """Configs in 32 and 16 bits have no weight in 8 bits, and the same seven weights are counted."""
    share = runtimes.measurement(config, "quantized_share")
    assert share["value"] == 0.0
    layers = share["details"]["layers"].values()
    assert {layer["bits"] for layer in layers} == {32 if config in FP32 else 16}
    assert sum(layer["elements"] for layer in layers) == 287_840


@pytest.mark.parametrize("config", ready(ONNX[1]))
def test_dynamic_int8_treats_linear_layers_only(runtimes: Any, config: str) -> None:
    """As in torch, the 1,280 weights of the only linear layer are quantized, with an integer kernel."""
    share = runtimes.measurement(config, "quantized_share")
    assert share["value"] == pytest.approx(1280 / 287_840)
    kernels = share["details"]["kernels"]
    assert sum(count for name, count in kernels.items() if "Quantize" in name or "Integer" in name) == 1
    assert kernels["Conv"] == 6


@pytest.mark.parametrize("config", ready(*STATIC))
def test_what_is_quantized_runs_in_8_bits(runtimes: Any, config: str) -> None:
    """The graph that the runtime makes at load has an integer kernel for each of the seven layers."""
    kernels = runtimes.measurement(config, "quantized_share")["details"]["kernels"]
    integer = {
        "onnxruntime": ("QLinear", "QGemm"),
        "openvino": ("Convolution u8", "Convolution i8", "FullyConnected u8", "FullyConnected i8"),
        "executorch": ("Conv2d qcint8", "FullyConnected qcint8"),
    }[config.partition("_")[0]]
    assert sum(kernels.values()) == 7, kernels
    assert all(name.startswith(integer) for name in kernels), kernels


@pytest.mark.parametrize("config", ready("openvino_bf16"))
def test_bf16_runs_in_bf16(runtimes: Any, config: str) -> None:
    """Every layer of the bf16 config is computed in bfloat16, and its weights take half the bytes."""
    kernels = runtimes.measurement(config, "quantized_share")["details"]["kernels"]
    assert {name.rpartition(" ")[2] for name in kernels} == {"bf16"}
    sizes = {name: runtimes.cell(name)["artifact"]["model.bin"] for name in (config, "openvino_fp32")}
    assert 0.49 < sizes[config] / sizes["openvino_fp32"] < 0.52


@pytest.mark.parametrize("config", ready(*ONNX[1:]))
def test_a_recipe_in_two_runtimes_is_a_pair_where_both_run(runtimes: Any, config: str) -> None:
    """Only counterparts that take part make pairs: here that of fp32, and none of the others."""
    pairs = {pair["cell"].rpartition("/")[2]: pair for pair in runtimes.results["pairs"]}
    assert pairs[ONNX[0]]["counterpart"] == "digits_cnn/fp32_baseline"
    assert pairs[ONNX[0]]["agreement"] == 1.0
    assert config not in pairs


# Records ------------------------------------------------------------------------------------------


def configs_with_extras() -> list[str]:
    """Return the built-in configs that need packages which qx does not bring."""
    configs = [entry for entry in Host.discover().entries if entry.kind == "config"]
    return [entry.name for entry in configs if entry.record is not None and entry.record.extra]


@pytest.mark.parametrize("name", configs_with_extras())
def test_the_extra_installs_what_the_record_asks_for(name: str) -> None:
    """What a config says it needs is what its extra of the distribution installs."""
    setup = configparser.ConfigParser()
    setup.read(TOP / "setup.cfg")
    record = Host.discover().get("config", name).record
    assert record is not None and record.extra is not None
    assert set(record.requires) <= set(setup["options.extras_require"][record.extra].split())


# One artifact, without a run ----------------------------------------------------------------------


class Net(nn.Module):
    """A convolution and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.head = nn.Linear(64, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(images))


IMAGES = (torch.zeros(1, 3, 16, 16),)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Artifact, Net]]:
    """Return a function that builds an artifact of a small network once for each config."""
    artifacts: dict[str, tuple[Artifact, Net]] = {}

    def build(name: str) -> tuple[Artifact, Net]:
        if name not in artifacts:
            torch.manual_seed(0)
            net = Net().eval()
            artifacts[name] = (convert(name, net, tmp_path_factory.mktemp(name)), net)
        return artifacts[name]

    return build


def imported_host() -> Host:
    """Return a host of the plugins that are ready, imported into this process as into a worker."""
    entries = Host.discover().entries
    return Host.of([entry.reference for entry in entries if entry.state == "ready" and entry.reference])


def convert(name: str, model: nn.Module, folder: Path, images: tuple[torch.Tensor, ...] = IMAGES) -> Artifact:
    """Return the artifact that a config makes of a model, calibrated with noise if it calibrates."""
    host = imported_host()
    if host.implements(name, "calibrate"):
        noise = np.random.default_rng(0).standard_normal((8, 3, 16, 16), dtype=np.float32)
        batches = [Batch(inputs={"image": noise})]
        model = host.call(name, "calibrate", model=model, batches=batches, context=Context())
    arguments = {"model": model, "example_inputs": images, "context": Context(folder=folder)}
    artifact: Artifact = host.call(name, "convert", **arguments)
    return artifact


def served(artifact: Artifact, threads: int = 1) -> Any:
    """Return the subject that its loader makes of an artifact."""
    context = Context(threads=threads, folder=artifact.folder)
    return imported_host().call(artifact.loader, "load", artifact=artifact, context=context)


def answer(subject: Any, images: np.ndarray) -> np.ndarray:
    return np.array(subject.outputs(subject.call(subject.prepare({"image": images})))["output"])


@pytest.mark.parametrize("config", ready(*FP32))
def test_one_artifact_serves_every_batch_size(built: Callable[..., Any], config: str) -> None:
    """The batch size is open, in whatever order sizes come; ExecuTorch takes large batches in parts."""
    artifact, net = built(config)
    subject = served(artifact)
    for size in (5, 1, 32, 300, 1):
        images = np.random.default_rng(size).standard_normal((size, 3, 16, 16), dtype=np.float32)
        with torch.no_grad():
            expected = net(torch.from_numpy(images)).numpy()
        np.testing.assert_allclose(answer(subject, images), expected, atol=1e-4)


@pytest.mark.parametrize("config", ready(*FP32))
def test_threads_are_held(built: Callable[..., Any], config: str) -> None:
    """With one thread a call takes no more processor time than wall time."""
    subject = served(built(config)[0])
    native = subject.prepare({"image": np.zeros((128, 3, 16, 16), dtype=np.float32)})
    subject.call(native)
    processor_start, start = process_time(), perf_counter()
    while perf_counter() - start < 0.3:
        subject.call(native)
    assert (process_time() - processor_start) / (perf_counter() - start) < 1.15


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "config", [*ready("fp32_baseline", *FP32), pytest.param("inductor_fp32", marks=pytest.mark.slow)]
)
def test_as_many_threads_work_as_are_asked_for(
    qx: Callable[..., Any], config: str, threads: int, tmp_path: Path
) -> None:
    """In a process like a launch, with two threads both compute, and no third, whatever the build had."""
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


@pytest.mark.parametrize("config", ready(*FP32, "executorch_int8"))
def test_a_forward_may_take_any_number_of_inputs(config: str, tmp_path: Path) -> None:
    """``forward(self, *inputs)`` is exported as any other, and the batch is left open."""

    class Loose(Net):
        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            return super().forward(inputs[0])

    subject = served(convert(config, Loose().eval(), tmp_path))
    assert answer(subject, np.zeros((3, 3, 16, 16), dtype=np.float32)).shape == (3, 5)


def test_weights_are_rounded_to_the_nearest_bfloat16() -> None:
    """Weights are rounded as torch does, bit for bit: ties to even, and too large values to infinity."""
    pytest.importorskip("openvino")
    from qx_plugins.runtimes.openvino.converting import bfloat16_bits

    generator = np.random.default_rng(0)
    any_bits = generator.integers(0, 2**32, 100_000, dtype=np.uint32)
    ties = (any_bits & 0xFFFF0000) | 0x8000
    few = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 3.4e38, 1e-40], dtype=np.float32)
    values = np.concatenate([any_bits.view(np.float32), ties.view(np.float32), few]).reshape(-1, 1)
    expected = torch.from_numpy(values).to(torch.bfloat16)
    rounded = torch.from_numpy(bfloat16_bits(values).view(np.int16)).view(torch.bfloat16)
    assert rounded.shape == expected.shape
    is_number = ~torch.isnan(expected)
    assert torch.equal(torch.isnan(rounded), ~is_number)
    assert torch.equal(rounded.view(torch.int16)[is_number], expected.view(torch.int16)[is_number])


@pytest.mark.parametrize("config", ready("openvino_bf16"))
def test_what_is_stored_in_bfloat16_is_what_was_rounded(built: Callable[..., Any], config: str) -> None:
    """The weights are stored as torch rounds them, and nothing else is in bfloat16: no bias is."""
    import openvino

    artifact, net = built(config)
    nodes = openvino.Core().read_model(artifact.folder / artifact.files[0]).get_ordered_ops()
    stored = [node.get_data(dtype=np.float32) for node in nodes if str(node.get_element_type()) == BF16]
    weights = [layer.weight.detach().to(torch.bfloat16).float() for layer in (net.head, net.body[0])]
    assert len(stored) == len(weights)
    for expected in (weight.numpy().ravel() for weight in weights):
        assert any(np.array_equal(array.ravel(), expected) for array in stored)


@pytest.mark.parametrize("config", ready("onnxruntime_fp32", "openvino_fp32", "executorch_fp32"))
def test_a_model_that_cannot_be_exported_is_told_by_layer(config: str, tmp_path: Path) -> None:
    """The layer where the export fails and the reason stand in one line."""

    class Choosy(nn.Module):
        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return values if values.sum() > 0 else 2 * values

    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.ReLU(), Choosy())).eval()
    with pytest.raises(
        Unsupported, match=r"^cannot be exported: layer '1\.1' \(Choosy\), .*data-dependent"
    ) as error:
        convert(config, model, tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("config", ready("onnxruntime_fp32"))
def test_an_operator_that_the_runtime_lacks_is_told_by_layer(config: str, tmp_path: Path) -> None:
    """A layer that ONNX has no operator for is named, with the operator."""

    class Bessel(nn.Module):
        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return torch.special.bessel_j0(values)

    model = nn.Sequential(nn.Conv2d(3, 4, 1), Bessel()).eval()
    with pytest.raises(Unsupported, match=r"^cannot be exported to ONNX: layer '1': .*bessel_j0"):
        convert(config, model, tmp_path)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            ValueError("no scale for aten.relu.default"),
            "cannot be quantized: layer '1': ValueError: no scale",
        ),
        (RuntimeError("odd graph"), "cannot be quantized: RuntimeError: odd graph"),
        (TypeError("quantize() takes 2 arguments"), None),
        (MemoryError("80 GB"), None),
        (OSError("no space left"), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_quantizer_cannot_do_is_unsupported(error: Exception, message: str | None) -> None:
    """The layer is named where the error names its node; an error that no model causes stays as it is."""
    from qx_plugins.recipes.exporting import QUANTIZER_FAULTS, explain_lowering, export_model

    program = export_model(nn.Sequential(nn.Linear(4, 4), nn.ReLU()).eval(), (torch.zeros(1, 4),))
    with (
        pytest.raises(Unsupported if message else type(error)) as raised,
        explain_lowering(program, "cannot be quantized", unrelated=QUANTIZER_FAULTS),
    ):
        raise error
    assert str(raised.value).startswith(message or str(error))


@pytest.mark.parametrize("config", ready("onnxruntime_fp32", "openvino_fp32"))
def test_tables_are_weights_and_what_is_added_is_none(config: str, tmp_path: Path) -> None:
    """An embedding counts by its elements; a constant that is added does not, whatever its shape."""
    from qx_plugins.metrics import quantized_share

    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(7, 6), nn.Linear(6, 3)
            self.places = nn.Parameter(torch.randn(4, 6))

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.head((self.table(tokens) + self.places).mean(1))

    artifact = convert(config, Words().eval(), tmp_path, (torch.zeros(1, 4, dtype=torch.long),))
    artifact = evolve(
        artifact, weight_reader=import_module(f"qx_plugins.loaders.{artifact.loader}").read_weights
    )
    samples = quantized_share.measure(artifact, Context())
    assert sorted(layer["elements"] for layer in samples.details["layers"].values()) == [18, 42]
    assert {layer["bits"] for layer in samples.details["layers"].values()} == {32}


@pytest.mark.parametrize("config", ready("onnxruntime_fp32"))
def test_nothing_of_this_machine_is_shipped(built: Callable[..., Any], config: str) -> None:
    """The exporter's notes for debugging, with paths of the sources, are not in the file."""
    artifact, _ = built(config)
    content = (artifact.folder / artifact.files[0]).read_bytes()
    assert str(Path(torch.__file__).parent).encode() not in content
    assert Path(__file__).name.encode() not in content


@pytest.mark.parametrize("config", ready("onnxruntime_static_int8_per_channel", "openvino_int8"))
def test_without_vnni_weights_have_7_bits_and_it_is_told(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without VNNI, 8-bit products are added in 16 bits: the range is halved, and the notes say so."""
    from qx_plugins.recipes import saturation

    assert saturation.saturates() is False or convert(config, Net().eval(), tmp_path).notes
    monkeypatch.setattr(saturation, "cpu_flags", lambda: frozenset({"avx2"}))
    artifact = convert(config, Net().eval(), tmp_path)
    assert any("7 bits" in note for note in artifact.notes)
    assert 32 < np.abs(narrow_weights(artifact)).max() <= 64


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


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"avx2"}, True),
        ({"avx2", "avx512f", "avx512bw"}, True),
        ({"avx2", "avx512_vnni"}, False),
        ({"avx2", "avx_vnni"}, False),
        ({"asimd"}, False),
        (set(), False),
    ],
)
def test_saturation_goes_by_the_flags(
    flags: set[str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """x86 without VNNI saturates, and a system that reports no flags is not guessed about."""
    from qx_plugins.recipes import saturation

    monkeypatch.setattr(saturation, "cpu_flags", lambda: frozenset(flags))
    assert saturation.saturates() is expected


@pytest.mark.parametrize("config", ready("openvino_fp32"))
def test_nothing_is_reported_to_anybody(config: str) -> None:
    """OpenVINO's telemetry is off in a build, where it would be sent unasked."""
    import subprocess
    import sys

    program = (
        "from qx_plugins.runtimes.openvino.converting import silence_telemetry; silence_telemetry();"
        "import openvino.tools.ovc.telemetry_utils as u; print(u.tm.__name__)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout.strip().endswith("telemetry_stub")


@pytest.mark.parametrize("config", ready(*NCNN))
def test_weights_of_ncnn_are_stored_as_the_config_says(built: Callable[..., Any], config: str) -> None:
    """Weights are in 32 bits or in 16, and a note says that the items of a batch are served one by one."""
    artifact, net = built(config)
    weights = net.body[0].weight.numel() + net.head.weight.numel()
    assert (artifact.folder / "model.bin").stat().st_size // weights == (4 if config == "ncnn_fp32" else 2)
    assert "one after another" in artifact.notes[0]


@pytest.mark.parametrize("config", ready(NCNN[0]))
def test_what_ncnn_has_no_layer_for_is_refused_at_once(config: str) -> None:
    """A model is refused before anything is built, and the layer that pnnx left as it was is named."""

    class Heads(nn.Module):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            query, key, value = rows.reshape(-1, 8, 3, 2, 4, 2).permute(2, 0, 3, 4, 1, 5).unbind(0)
            return (query * key + value).flatten(1)

    arguments = {"model": Heads().eval(), "example_inputs": (torch.zeros(1, 8, 48),), "context": Context()}
    for _ in range(2):
        with pytest.raises(Unsupported, match=r"for ncnn, which has no \w+"):
            imported_host().call(config, "check_model", **arguments)


@pytest.mark.parametrize("config", ready(NCNN[0]))
def test_a_network_that_ncnn_computes_wrongly_is_refused(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A converter that goes wrong silently is noticed by running its output: here it is another network's."""
    from qx_plugins.runtimes.ncnn import converting as ncnn

    convert_ncnn = ncnn.convert_with_pnnx

    def convert_other(model: nn.Module, *rest: Any) -> Any:
        torch.manual_seed(1)
        return convert_ncnn(Net().eval(), *rest)

    torch.manual_seed(0)
    monkeypatch.setattr(ncnn, "convert_with_pnnx", convert_other)
    with pytest.raises(Unsupported, match="not what the model does"):
        convert(config, Net().eval(), tmp_path)


@pytest.mark.parametrize("config", ready(*NCNN))
def test_ncnn_takes_rows_and_planes_of_any_size(config: str, tmp_path: Path) -> None:
    """Planes of 15 by 13, which ncnn pads in memory, two inputs, and outputs that are no vector work."""

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 5, 3)

        def forward(self, planes: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
            return self.conv(planes) * rows[:, :5, None, None]

    net = Both().eval()
    inputs = (torch.zeros(1, 3, 15, 13), torch.zeros(1, 5))
    subject = served(convert(config, net, tmp_path, inputs))
    generator = torch.Generator().manual_seed(0)
    planes, rows = (torch.randn(4, *example.shape[1:], generator=generator) for example in inputs)
    arrays = {"planes": planes.numpy(), "rows": rows.numpy()}
    outputs = subject.outputs(subject.call(subject.prepare(arrays)))["output"]
    with torch.no_grad():
        expected = net(planes, rows).numpy()
    assert outputs.shape == expected.shape
    np.testing.assert_allclose(outputs, expected, atol=2e-3)


class Attention(nn.Module):
    """Attention over rows, with a layer after it that ncnn turns into a matrix product."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.head = nn.Linear(16, 7)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.head(self.attention(rows, rows, rows, need_weights=False)[0])


class Words(nn.Module):
    """A table, and the mean of the rows that are looked up in it."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(30, 8), nn.Linear(8, 4)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        return self.head(self.table(words).mean(1))


WEIGHTED = {
    "attention": (Attention(), torch.zeros(1, 9, 16)),
    "words": (Words(), torch.arange(12).reshape(1, 12)),
    "grouped and transposed": (
        nn.Sequential(nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3, groups=6), nn.ConvTranspose2d(6, 4, 3)),
        torch.zeros(1, 3, 9, 9),
    ),
    "one dimension": (
        nn.Sequential(nn.Conv1d(3, 6, 3), nn.Flatten(), nn.Linear(42, 3)),
        torch.zeros(1, 3, 9),
    ),
}


@pytest.mark.parametrize("kind", WEIGHTED)
@pytest.mark.parametrize("config", ready(*NCNN))
def test_every_weight_of_ncnn_is_counted(config: str, kind: str, tmp_path: Path) -> None:
    """Every weight of every kind of layer is counted, in the bits that the config stores."""
    net, example = WEIGHTED[kind]
    artifact = convert(config, net.eval(), tmp_path, (example,))
    artifact = evolve(artifact, weight_reader=import_module("qx_plugins.loaders.ncnn").read_weights)
    share = imported_host().call("quantized_share", "measure", data=artifact, context=Context())
    layers = share.details["layers"].values()
    assert sum(layer["elements"] for layer in layers) == sum(
        weight.numel() for weight in net.parameters() if weight.dim() > 1
    )
    assert {layer["bits"] for layer in layers} == {32 if config == "ncnn_fp32" else 16}
    assert share.values == 0.0


class WithLayer(nn.Module):
    """A linear layer of eight, with something before and after it."""

    def __init__(self, forward: Callable[..., torch.Tensor], width: int = 8) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.how = nn.Linear(width, 4), forward

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.how(self.layer, *inputs)


ROWS, TOKENS = torch.zeros(1, 8), torch.zeros(1, 8, dtype=torch.long)
#: Models that ncnn gets wrong, each with an example that hides it from a glance.
MISUNDERSTOOD = {
    "integers": (lambda layer, x: layer(x * 0.5), (TOKENS,)),
    "two inputs, alike": (
        lambda layer, x, y: (nn.functional.normalize(layer(x)) - nn.functional.normalize(layer(y))).abs(),
        (ROWS, ROWS),
    ),
    "items that know of each other": (lambda layer, x: layer(x / x.norm()), (ROWS,)),
    "a constant on top": (
        lambda layer, x: layer(nn.functional.normalize(layer(x).repeat(1, 2))) + 290,
        (ROWS,),
    ),
    "infinity": (lambda layer, x: torch.exp(layer(x) * 1000 + 5000), (ROWS,)),
    "no batch": (lambda layer, x: layer(x).mean(), (ROWS,)),
}


@pytest.mark.parametrize("kind", MISUNDERSTOOD)
@pytest.mark.parametrize("config", ready(NCNN[0]))
def test_what_ncnn_would_get_wrong_is_refused(config: str, kind: str, tmp_path: Path) -> None:
    """A model is tried on two items, with other noise in each input, and judged by how answers differ."""
    forward, inputs = MISUNDERSTOOD[kind]
    with pytest.raises(Unsupported):
        convert(config, WithLayer(forward).eval(), tmp_path, inputs)


#: Models that ncnn gets right, with something in them that must not confuse the check.
UNDERSTOOD = {
    "a part that nobody takes": (lambda layer, x: layer(x.chunk(2, 1)[0]), (torch.zeros(1, 16),)),
    "an input that nobody takes": (lambda layer, x, y: layer(x), (ROWS, ROWS)),
    "in place": (lambda layer, x: layer(x.add_(1).relu_()), (ROWS,)),
    "no answer to noise": (lambda layer, x: layer(torch.log(x)), (torch.ones(1, 8),)),
    "answers of nothing": (lambda layer, x: layer(x) * 0.0, (ROWS,)),
}


@pytest.mark.parametrize("kind", UNDERSTOOD)
@pytest.mark.parametrize("config", ready(NCNN[0]))
def test_what_ncnn_gets_right_is_taken(config: str, kind: str, tmp_path: Path) -> None:
    """Its answers to other items are the model's, in whatever order an array lies in memory."""
    forward, inputs = UNDERSTOOD[kind]
    model = WithLayer(forward).eval()
    subject = served(convert(config, model, tmp_path, inputs))
    generator = np.random.default_rng(3)
    values = [generator.random((3, example.shape[1]), dtype=np.float32) + 0.5 for example in inputs]
    with torch.no_grad():
        expected = model(*(torch.from_numpy(array.copy()) for array in values)).numpy()
    arrays = {str(index): np.asfortranarray(array) for index, array in enumerate(values)}
    answer = subject.outputs(subject.call(subject.prepare(arrays)))["output"]
    np.testing.assert_allclose(answer, expected, atol=1e-4)
    with pytest.raises(ValueError, match="takes items of"):
        subject.prepare({name: array[:, :3] for name, array in arrays.items()})


@pytest.mark.parametrize("config", ready(NCNN[0]))
def test_whether_ncnn_can_treat_a_model_leaves_all_alone(config: str) -> None:
    """``check_model`` changes neither the example inputs nor the buffers of the model."""

    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(10, 4)
            self.register_buffer("count", torch.zeros(1))

        def forward(self, words: torch.Tensor) -> torch.Tensor:
            self.count += 1
            return self.table(words.clamp_(1, 9)).mean(1)

    model, words = Counting().eval(), torch.zeros(1, 8, dtype=torch.long)
    ncnn = pytest.importorskip("qx_plugins.runtimes.ncnn.converting")
    inputs, _ = ncnn.run_two_items(model, (words,))
    kept = [tensor.clone() for tensor in inputs]
    with TemporaryDirectory() as folder:
        ncnn.convert_with_pnnx(model, inputs, Path(folder))
    assert model.count == 0
    assert words.sum() == 0
    assert all(torch.equal(after, before) for after, before in zip(inputs, kept, strict=True))


@pytest.mark.parametrize(
    ("script", "raised", "words"),
    [
        ("kill -9 $$", MemoryError, "killed"),
        ("echo one; echo two; exit 3", Unsupported, "ended with 3; it last said: two"),
        ("kill -11 $$", Unsupported, "was ended by SIGSEGV"),
        ("exit 0", Unsupported, "ended with 0"),
    ],
)
@pytest.mark.parametrize("config", ready(NCNN[0]))
def test_however_pnnx_ends_it_is_told(
    config: str,
    script: str,
    raised: type[Exception],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A converter that is killed for want of memory is not the model's fault, and one that crashes may be."""
    pnnx = pytest.importorskip("pnnx")
    program = tmp_path / "pnnx"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(pnnx, "EXEC_PATH", str(program))
    with pytest.raises(raised, match=words):
        convert(config, Net().eval(), tmp_path)


@pytest.mark.parametrize("config", ready(*NCNN))
def test_items_that_differ_by_little_are_told_from_rounding(config: str, tmp_path: Path) -> None:
    """Where all answers are nearly the same, half precision rounds more than what tells them apart."""
    model = WithLayer(lambda layer, x: layer(x * 1e-3 + 1)).eval()
    assert convert(config, model, tmp_path, (ROWS,)).loader == "ncnn"
