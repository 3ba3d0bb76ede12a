"""A model as a ``.pt2`` or an ``.onnx`` file: real runs, from the file to figures and to what is shipped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Qx = Callable[..., Any]
QUICK = ("--quick", "--budget", 0.01, "--batch-size", 1)


def save_onnx(path: Path, seed: int = 0, activation: str = "Relu") -> None:
    """Write an ONNX model of images with 3 channels and 6 x 6 pixels, which gives 4 scores."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, random = onnx.helper, np.random.default_rng(seed)
    values = {
        "kernel": random.standard_normal((8, 3, 3, 3)),
        "weight": random.standard_normal((8, 4)),
    }
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["convolution"], name="first"),
        helper.make_node(activation, ["convolution"], ["active"], name="second"),
        helper.make_node("GlobalAveragePool", ["active"], ["pooled"], name="third"),
        helper.make_node("Flatten", ["pooled"], ["features"], name="fourth"),
        helper.make_node("MatMul", ["features", "weight"], ["scores"], name="fifth"),
    ]
    value, kind = helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "net",
        [value("image", kind, ["batch", 3, 6, 6])],
        [value("scores", kind, ["batch", 4])],
        [onnx.numpy_helper.from_array(array.astype(np.float32), name) for name, array in values.items()],
    )
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)


def save_program(path: Path) -> None:
    """Write a program for batches of 2 of images as above."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = nn.Sequential(*layers, nn.Linear(8, 4)).eval()
    torch.export.save(torch.export.export(model, (torch.randn(2, 3, 6, 6),)), path)


def test_an_onnx_model_is_its_own_baseline(qx: Qx, tmp_path: Path) -> None:
    """The baseline is the file as it is, in ONNX Runtime; a config of torch is unsupported, and says why."""
    save_onnx(tmp_path / "net.onnx")
    configs = ("-c", "onnxruntime_static_int8_per_channel", "-c", "bf16")
    run = ("run", "net.onnx", *configs, "-m", "file_size", "-m", "sqnr", *QUICK, "--out", "out")
    done = qx(*run, cwd=tmp_path)
    assert done.code == 1, done.err
    size = (tmp_path / "net.onnx").stat().st_size
    assert done.measurement("fp32_baseline", "file_size")["value"] == size
    assert done.measurement("onnxruntime_static_int8_per_channel", "sqnr")["value"] > 20
    failure = done.cell("bf16")
    assert (failure["outcome"], failure["stage"]) == ("unsupported", "check_model")
    assert "the model is an ONNX model, and this config starts from a module of torch" in failure["cause"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "configs"),
    [
        ("net.onnx", ("onnxruntime_dynamic_int8", "openvino_fp32", "openvino_bf16", "openvino_int8")),
        (
            "net.pt2",
            (
                *("bf16", "onnxruntime_dynamic_int8", "onnxruntime_static_int8_per_tensor"),
                *("openvino_int8", "inductor_int8", "inductor_bf16", "executorch_int8", "ncnn_fp32"),
            ),
        ),
    ],
)
def test_configs_that_can_start_from_a_graph_give_its_outputs(
    qx: Qx, tmp_path: Path, name: str, configs: tuple[str, ...]
) -> None:
    """Every such config that is installed here ends well, and near the outputs of the file."""
    save_program(tmp_path / "net.pt2")
    save_onnx(tmp_path / "net.onnx")
    words = [word for config in configs for word in ("-c", config)]
    done = qx("run", name, *words, "-m", "sqnr", *QUICK, "--out", "out", cwd=tmp_path)
    for config in configs:
        cell = done.cell(config)
        assert cell["outcome"] in ("ok", "unavailable"), (config, cell["cause"])
        if cell["outcome"] == "ok":
            assert done.measurement(config, "sqnr")["value"] > 15, config
    if name == "net.pt2":
        notes = done.cell("fp32_baseline")["notes"]
        assert notes == ["the graph in net.pt2 is for batches of 2, and was changed to take any"]


@pytest.mark.slow
@pytest.mark.parametrize("save", [save_onnx, save_program])
def test_labels_judge_the_weights_of_the_file(qx: Qx, tmp_path: Path, save: Callable[[Path], None]) -> None:
    """The weights count as trained, so accuracy applies where the data have labels; others are refused."""
    from PIL import Image

    name = "net.onnx" if save is save_onnx else "net.pt2"
    save(tmp_path / name)
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        for label in "abcd":
            folder = tmp_path / "images" / split / label
            folder.mkdir(parents=True)
            for index in range(4):
                pixels = random.integers(0, 255, (6, 6, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")
    data = ("--data", "images", "--mean", "0,0,0", "--std", "1,1,1")
    done = qx(
        "run", name, "-c", "fp32_baseline", "-m", "accuracy", *data, *QUICK, "--out", "out", cwd=tmp_path
    )
    assert done.measurement("fp32_baseline", "accuracy")["n"] == 16
    (tmp_path / "weights.pt").touch()
    refused = qx("run", name, "--weights", "weights.pt", cwd=tmp_path)
    assert (refused.code, "holds its weights itself: leave --weights out" in refused.err) == (2, True)
    refused = qx("train", name, cwd=tmp_path)
    assert (refused.code, f"MODEL {name} cannot be trained" in refused.err) == (2, True)


@pytest.mark.slow
def test_a_changed_file_is_built_anew(qx: Qx, tmp_path: Path) -> None:
    """The content of the file decides about a build: its weights, and its operators."""
    quantize = ("quantize", "net.onnx", "-c", "onnxruntime_fp32")
    outputs = []
    for arguments in ((10, "Relu"), (11, "Relu"), (11, "Sigmoid")):
        save_onnx(tmp_path / "net.onnx", *arguments)
        done = qx(*quantize, cwd=tmp_path)
        assert ", built in " in done.err and "found in the cache" not in done.err
        assert "found in the cache" in qx(*quantize, cwd=tmp_path).err
        outputs.append(done.out)
    assert len(set(outputs)) == 3


@pytest.mark.slow
@pytest.mark.parametrize(("name", "config"), [("net.onnx", "fp32_baseline"), ("net.pt2", "fp32_baseline")])
def test_what_is_shipped_serves_without_qx(qx: Qx, tmp_path: Path, name: str, config: str) -> None:
    """``--to`` leaves a program that gives the outputs of the artifact."""
    save_program(tmp_path / "net.pt2")
    save_onnx(tmp_path / "net.onnx")
    done = qx("quantize", name, "-c", config, "--to", "place", cwd=tmp_path)
    assert done.code == 0 and "no serve.py" not in done.err, done.err
    assert (tmp_path / "place" / "serve.py").is_file()
