"""Models in ``.pt2`` and ``.onnx`` files: what is read and what is refused, by qx and by each config."""

from __future__ import annotations

import copy
import io
import re
import zipfile
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from qx_plugins.networks.graph_files import check_batches, described_by_graph, read_graph
from qx_plugins.recipes.graphs import GraphModel
from torch import nn
from torch.export import Dim, export

from qx import Context, Unsupported, UsageError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


class Net(nn.Module):
    """A small network of images and whole numbers that gives two outputs by name."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)
        self.table = nn.Embedding(9, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, image: torch.Tensor, place: torch.Tensor, scale: float = 1.0) -> Any:
        """Return a dict."""
        features = self.convolution(image).relu().mean((2, 3)).view(image.shape[0], 4)
        shift = torch.zeros(image.shape[0], 1)
        return {"scores": self.head(features + self.table(place)) * scale + shift, "features": features}


@pytest.fixture(scope="module")
def net() -> Net:
    """Return a network with seeded weights."""
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module")
def programs(net: Net, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the network as programs: for any batch, for batches of 2, and with open sizes."""
    folder = tmp_path_factory.mktemp("programs")
    arguments, named = (torch.randn(2, 3, 6, 6),), {"place": torch.tensor([3, 8]), "scale": 2.0}
    batch = Dim("batch")
    shapes = {"image": {0: batch}, "place": {0: batch}, "scale": None}
    wide = {"image": {0: batch, 3: Dim("width", min=4)}, "place": {0: batch}, "scale": None}
    for name, dynamic in (("any", shapes), ("two", None), ("wide", wide)):
        program = export(net, arguments, named, dynamic_shapes=dynamic)
        torch.export.save(program, folder / f"{name}.pt2")
    return folder


@pytest.mark.parametrize("name", ["any", "two"])
def test_a_program_gives_the_outputs_of_its_module_at_any_batch(net: Net, programs: Path, name: str) -> None:
    """Also one that was exported for one batch size, and copies of it; constants are part of the program."""
    model = read_graph(str(programs / f"{name}.pt2")).eval()
    image, place = torch.randn(5, 3, 6, 6), torch.arange(5)
    expected = net(image, place, scale=2.0)
    for graph in (model, copy.deepcopy(model).train()):
        outputs = graph(image, place)
        assert list(outputs) == ["scores", "features"]
        for output, right in outputs.items():
            torch.testing.assert_close(right, expected[output])
    changed = "the graph in two.pt2 is for batches of 2, and was changed to take any"
    assert model.notes == (() if name == "any" else (changed,))
    assert sum(parameter.numel() for parameter in model.parameters()) == 3 * 4 * 9 + 4 + 36 + 8 + 2


def test_the_inputs_of_a_program_are_those_of_its_signature(programs: Path) -> None:
    """Names, types and shapes come from the program, and the range of whole numbers from its example."""
    inputs = described_by_graph(str(programs / "any.pt2"))
    assert [(entry.name, entry.dtype, entry.shape, entry.extent) for entry in inputs] == [
        ("image", "float32", (3, 6, 6), None),
        ("place", "int64", (), (3, 8)),
    ]
    shown = re.escape("open: image:float32[1,3,6,SIZE]; place:int64[1]; give a number for each SIZE")
    with pytest.raises(UsageError, match=f"leaves sizes of its inputs {shown}"):
        described_by_graph(str(programs / "wide.pt2"))


def rewrite(source: Path, target: Path, change: Callable[[str, bytes], bytes]) -> None:
    """Copy an archive, and change its files by their names and contents."""
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w") as changed:
        for name in archive.namelist():
            changed.writestr(name, change(name, archive.read(name)))


class Print:
    """An object whose pickle runs code."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[Path]]:
        """Return what is called when the pickle is read."""
        return Path.touch, (Path("ran"),)


def test_a_program_that_could_run_code_is_not_loaded(programs: Path) -> None:
    """Neither a pickle nor an expression for a size is read that could be anything else."""
    buffer = io.BytesIO()
    torch.save((Print(),), buffer)
    code = b"__import__('pathlib').Path('ran').touch() or Symbol('s0')"

    def with_pickle(name: str, content: bytes) -> bytes:
        return buffer.getvalue() if name.endswith("sample_inputs/model.pt") else content

    def with_code(name: str, content: bytes) -> bytes:
        return (
            content.replace(b"\"Symbol('", b'"' + code + b" or Symbol('")
            if name.endswith(".json")
            else content
        )

    for change in (with_pickle, with_code):
        rewrite(programs / "any.pt2", Path("changed.pt2"), change)
        with pytest.raises(UsageError, match="more than a graph and tensors, and loading it could run code"):
            read_graph("changed.pt2")
    assert not Path("ran").exists()


def test_programs_that_are_no_trained_models_are_refused(programs: Path) -> None:
    """A damaged file, one in training mode, and one whose batch cannot be opened are each named in a line."""
    Path("torn.pt2").write_bytes((programs / "any.pt2").read_bytes()[:5000])
    with pytest.raises(UsageError, match=r"torn.pt2: torch .* cannot load .* damaged or of another version"):
        read_graph("torn.pt2")
    train = nn.Sequential(nn.Dropout(), nn.Linear(3, 2)).train()
    torch.export.save(export(train, (torch.randn(2, 3),)), "train.pt2")
    with pytest.raises(UsageError, match=r"exported in training mode \(dropout\): call eval\(\)"):
        read_graph("train.pt2")
    # The outputs of an item depend on the others.
    torch.export.save(export(nn.Softmax(dim=0), (torch.randn(2, 3),)), "mixed.pt2")
    with pytest.raises(
        UsageError, match=r"takes batches of 2 alone, and cannot be changed .* dynamic_shapes"
    ):
        check_batches("mixed.pt2")


# ONNX ---------------------------------------------------------------------------------------------


def make_onnx(batch: int | str = "batch", opset: int = 17, **constants: np.ndarray) -> Any:
    """Return an ONNX model: a convolution, flattened by a constant shape, and a product."""
    random = np.random.default_rng(0)
    values: Mapping[str, np.ndarray] = {
        "kernel": random.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "shape": np.array([batch if isinstance(batch, int) else 0, 64]),
        "weight": random.standard_normal((64, 2)).astype(np.float32),
        **constants,
    }
    helper = onnx.helper
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["convolution"], name="first"),
        helper.make_node("Reshape", ["convolution", "shape"], ["features"], name="second"),
        helper.make_node("MatMul", ["features", "weight"], ["scores"], name="third"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [batch, 3, 6, 6])],
        [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [batch, size])
            for name, size in (("scores", 2), ("features", 64))
        ],
        [onnx.numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@pytest.mark.parametrize("batch", ["batch", 1])
def test_an_onnx_model_gives_the_outputs_of_its_graph_at_any_batch(batch: int | str) -> None:
    """Outputs have the names of the graph's; a batch size that the file fixes is opened."""
    onnx.save(make_onnx(batch), "net.onnx")
    model = read_graph("net.onnx").eval()
    image = torch.randn(3, 3, 6, 6)
    kernel, weight = (model.state_dict()[f"constant/{name}"] for name in ("kernel", "weight"))
    features = nn.functional.conv2d(image, kernel).flatten(1)
    for graph in (model, copy.deepcopy(model)):
        outputs = graph(image)
        assert list(outputs) == ["scores", "features"]
        torch.testing.assert_close(outputs["scores"], features @ weight, rtol=1e-4, atol=1e-4)
    assert len(model.notes) == (batch == 1)
    assert [(entry.name, entry.shape) for entry in described_by_graph("net.onnx")] == [("image", (3, 6, 6))]


def test_weights_in_another_file_belong_to_the_model() -> None:
    """They are read from beside the model; where they are missing, a line says so."""
    onnx.save(make_onnx(), "net.onnx", save_as_external_data=True, location="net.onnx.data", size_threshold=0)
    assert read_graph("net.onnx").state_dict()["constant/weight"].shape == (64, 2)
    Path("net.onnx.data").unlink()
    with pytest.raises(
        UsageError, match=r"net.onnx: the file beside it that holds its weights cannot be read"
    ):
        read_graph("net.onnx")


def quantized() -> Any:
    """Return a model that has 8-bit weights."""
    model = make_onnx()
    model.graph.node.insert(0, onnx.helper.make_node("DequantizeLinear", ["w", "s"], ["v"]))
    return model


def renamed() -> Any:
    """Return a model with an operator that nobody has."""
    model = make_onnx()
    model.graph.node[1].op_type = "Unheard"
    return model


def mixed() -> Any:
    """Return a model for batches of 2, whose outputs depend on other items of the batch."""
    model = make_onnx(2)
    model.graph.node.append(onnx.helper.make_node("Softmax", ["scores"], ["shares"], axis=0))
    model.graph.output[0].name = "shares"
    return model


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: make_onnx(opset=99),
            r"\(opset ai.onnx 99\): ONNX Runtime \S+ cannot load it: ONNX Runtime only",
        ),
        (renamed, r"\(opset ai.onnx 17\): ONNX Runtime .* Unheard"),
        (quantized, r"is quantized already \(it has DequantizeLinear\): give the model in float32"),
        (mixed, r"takes batches of 2 alone, and cannot be changed to take others: export it with a batch"),
    ],
)
def test_onnx_models_that_cannot_be_run_are_refused(make: Callable[[], Any], words: str) -> None:
    """A line says what is wrong with the model."""
    onnx.save(make(), "net.onnx")
    with pytest.raises(UsageError, match=f"MODEL net.onnx.*{words}"):
        read_graph("net.onnx")


def test_a_damaged_onnx_file_is_named() -> None:
    """A torn file and one that holds something else are no models."""
    onnx.save(make_onnx(), "net.onnx")
    for content in (Path("net.onnx").read_bytes()[:700], b"\x08\x08"):
        Path("net.onnx").write_bytes(content)
        with pytest.raises(UsageError, match=r"MODEL net.onnx is damaged, or no ONNX model"):
            read_graph("net.onnx")


# Configs ------------------------------------------------------------------------------------------

#: Configs that replace layers, that fine-tune, and that start from a model of torch.
LAYERS = ("dynamic_int8", "dynamic_int8_recurrent", "fx_static_int8", "torchao_int8_weight_only")
TRAINING = ("inductor_int8_qat",)
TORCH = ("bf16", "inductor_int8", "executorch_int8", "ncnn_fp32")


def refusal(config: str, model: GraphModel, *example: torch.Tensor) -> str:
    """Return why a config says at once that it cannot quantize a model; empty where it does not."""
    plugin = import_module(f"qx_plugins.configs.{config}")
    arguments = {"model": model, "example_inputs": example, "context": Context()}
    names = plugin.check_model.__code__.co_varnames[: plugin.check_model.__code__.co_argcount]
    try:
        plugin.check_model(**{name: arguments[name] for name in names})
    except Unsupported as error:
        return str(error)
    return ""


def test_each_config_says_at_once_whether_it_can_start_from_a_graph(programs: Path) -> None:
    """Of a program those that export can, of ONNX those that start from it; all others name the way out."""
    onnx.save(make_onnx(), "net.onnx")
    graph, image = read_graph("net.onnx"), torch.zeros(1, 3, 6, 6)
    program, place = read_graph(str(programs / "any.pt2")), torch.zeros(1, dtype=torch.int64)
    for config in LAYERS:
        assert "which has no layers, and this config replaces layers; give its Python module" in refusal(
            config, program, image, place
        )
    for config in TRAINING:
        assert "this config fine-tunes; give its Python module" in refusal(config, program, image, place)
    for config in (*LAYERS, *TRAINING, *TORCH):
        assert "the model is an ONNX model" in refusal(config, graph, image)
    for config in ("onnxruntime_dynamic_int8", "openvino_int8", "inductor_int8"):
        assert refusal(config, program, image, place) == ""
    for config in ("onnxruntime_dynamic_int8", "onnxruntime_static_int8_per_channel", "openvino_int8"):
        assert refusal(config, graph, image) == ""
    assert "without an LSTM" in refusal("onnxruntime_dynamic_int8_recurrent", graph, image)


def test_the_content_of_the_file_decides_about_a_build() -> None:
    """The key of a build follows from the file of the graph, whose weights count as trained."""
    file = Path("net.onnx")
    onnx.save(make_onnx(), file)
    before = read_graph(str(file)).qx_facts
    # A field of the model without a value, which changes nothing of what it computes.
    file.write_bytes(file.read_bytes() + b"\x22\x00")
    after = read_graph(str(file)).qx_facts
    assert before.trained
    assert after.trained
    assert before.identity != after.identity
