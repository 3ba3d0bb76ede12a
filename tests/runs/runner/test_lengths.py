"""Inputs that vary in length, in a run: each named length is measured, of whatever serves it."""

from __future__ import annotations

import re
from collections.abc import Callable
from textwrap import dedent
from typing import Any

import pytest

WORKLOAD = """
    from qx import Data, Workload, hookimpl

    @hookimpl
    def describe():
        return Workload(name="series", summary="Means of series.", random_weights=True)

    @hookimpl
    def make_model():
        import torch

        class Means(torch.nn.Linear):
            def forward(self, series):
                return super().forward(series.mean(1))

        return Means(3, 2)

    @hookimpl
    def load_data(split):
        import numpy
        series = numpy.random.RandomState(len(split)).randn(40, 16, 3)
        return Data(inputs={"series": series.astype("float32")}, source="series")

    @hookimpl
    def input_lengths():
        return 4, 32

    @hookimpl
    def example_inputs(batch_size, length):
        import torch
        return (torch.randn(batch_size, length or 32, 3),)
"""
#: A loader for each of three ways to meet a length that is not that of the data.
LOADER = """
    from qx import Loader, hookimpl

    @hookimpl
    def describe():
        return Loader(name="{name}_loader", summary="Means in numpy.", imports=["numpy"])

    @hookimpl
    def load(artifact):
        import numpy
        with numpy.load(artifact.folder / artifact.files[0]) as arrays:
            return Subject(arrays["weight"], arrays["bias"])

    class Subject:
        def __init__(self, weight, bias):
            self.weight, self.bias = weight, bias

        def prepare(self, arrays):
            return arrays["series"]

        def call(self, native):
            sign = 1
            if native.shape[1] != 16:
                {otherwise}
            return sign * (native.mean(1) @ self.weight.T + self.bias)

        def outputs(self, native):
            return {{"output": native}}
"""
CONFIG = """
    from qx import Artifact, Config, hookimpl

    @hookimpl
    def describe():
        return Config(name="{name}", summary="Means."{record})

    @hookimpl
    def convert(model, context):
        import numpy
        assert (context.lengths.lowest, context.lengths.highest, context.lengths.dimensions) == (4, 32, (1,))
        weight, bias = (tensor.detach().numpy() for tensor in (model.weight, model.bias))
        numpy.savez(context.folder / "model.npz", weight=weight, bias=bias)
        return Artifact(folder=context.folder, files=["model.npz"], loader="{name}_loader")
"""
OTHERWISE = {
    "free": "pass",
    "fixed": "raise ValueError(f'a length of {native.shape[1]}, expected 16')",
    "swayed": "sign = -1",
}


@pytest.fixture(scope="module")
def arguments(write_plugin: Callable[[str, str], str], toy: Any) -> list[str]:
    """Return the arguments of ``qx run`` for the series and a config of each kind."""
    plugins = [write_plugin("series", WORKLOAD)]
    for name, otherwise in OTHERWISE.items():
        record = ", reference=True" if name == "free" else ""
        plugins.append(write_plugin(name, CONFIG.format(name=name, record=record)))
        plugins.append(write_plugin(f"{name}_loader", LOADER.format(name=name, otherwise=otherwise)))
    built_in = [plugin for plugin in toy.plugins if plugin.startswith("no:")]
    return [
        "run",
        "--workload",
        "series",
        *(word for plugin in (*plugins, *built_in) for word in ("-p", plugin)),
    ]


@pytest.fixture(scope="module")
def run(qx: Callable[..., Any], arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Run them at the length of the data and at two others."""
    metrics = [word for name in ("latency", "throughput", "file_size") for word in ("-m", name)]
    return qx(
        *(*arguments, *metrics, "--length", 16, "--length", 4, "--length", 20, "--batch-size", 1),
        *("--batch-size", 3, "--quick", "--budget", 0.01, "--out", "out"),
        cwd=tmp_path_factory.mktemp("lengths"),
    )


def _measured(run: Any, config: str, metric: str = "latency") -> list[tuple[int, int]]:
    """Return the batch size and the length of each point at which a metric has a value."""
    return [
        (measurement["point"]["batch_size"], measurement["point"]["length"])
        for measurement in run.measurements(config, metric)
        if measurement["value"] is not None
    ]


def test_every_batch_size_is_measured_at_every_length(run: Any) -> None:
    """Latency and what is derived from it have a column for each, those of the first length first."""
    assert run.code == 0, (run.err, run.results["run"]["failures"])
    points = [(size, length) for length in (16, 4, 20) for size in (1, 3)]
    for metric in ("latency", "throughput"):
        assert _measured(run, "free", metric) == points
    assert "latency (batch 3, length 20)" in run.table


def test_a_length_that_is_not_served_is_left_out_with_a_note(run: Any) -> None:
    """An artifact for one shape, and one that gives other outputs at other lengths, have the rest."""
    notes = {config: run.cell(config)["notes"] for config in OTHERWISE}
    assert notes["free"] == []
    for config in ("fixed", "swayed"):
        assert run.cell(config)["outcome"] == "ok"
    assert _measured(run, "fixed") == [(1, 16), (3, 16)]
    assert notes["fixed"] == [
        f"not measured at length {length}: ValueError: a length of {length}, expected 16"
        for length in (4, 20)
    ]
    assert _measured(run, "swayed") == [(1, 16), (3, 16)]
    assert notes["swayed"] == [
        f"not measured at length {length}: at length 4 and 32 it gives another network's outputs"
        for length in (4, 20)
    ]
    assert notes["fixed"][0] in run.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--length", 33), "--length 33: inputs of the model have lengths from 4 to 32"),
        (("--length", 0), "--length must be at least 1, not 0"),
    ],
)
def test_a_length_out_of_range_is_one_line(
    qx: Callable[..., Any], arguments: list[str], words: Any, message: str
) -> None:
    """It says what lengths there are, and ends with exit code 2."""
    done = qx(*arguments, *words)
    assert (done.code, re.findall(r"^qx: error: (.*)$", done.err, re.MULTILINE)[-1]) == (2, message)


def test_a_length_of_inputs_that_have_none_is_one_line(qx: Callable[..., Any], toy: Any) -> None:
    """A workload without ``input_lengths`` says how one describes a free dimension."""
    done = qx("run", *toy.arguments(), "--length", 8)
    assert done.code == 2
    assert "--length 8: no input of the model has a free dimension; describe one as in --example" in done.err


TAGGER = """
    import torch
    from torch import nn

    LENGTHS = (4, 24)

    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.mix = nn.Embedding(50, 16), nn.Conv1d(16, 16, 3, padding=1)
            self.out = nn.Linear(16, 4)

        def forward(self, ids):
            x = self.embedding(ids)
            x = x + torch.relu(self.mix(x.transpose(1, 2))).transpose(1, 2)
            return self.out(x + (x @ x.transpose(1, 2)).softmax(-1) @ x)

    def make_model():
        return Tagger()

    def example_inputs(batch_size, length):
        return {"ids": torch.randint(50, (batch_size, length))}
"""
#: A config of each runtime that takes inputs of any length, and what it needs.
RUNTIMES = {
    "dynamic_int8": "torch",
    "fx_static_int8": "torch",
    "onnxruntime_fp32": "onnxruntime",
    "onnxruntime_static_int8_per_channel": "onnxruntime",
    "openvino_int8": "nncf",
    "inductor_fp32": "torch",
}


@pytest.mark.slow
@pytest.mark.parametrize("config", RUNTIMES)
def test_every_runtime_serves_what_varies_in_length(qx: Callable[..., Any], config: str) -> None:
    """A model with attention and a convolution is measured at all lengths by configs that export it."""
    pytest.importorskip(RUNTIMES[config])
    with open("tagger.py", "w", encoding="utf-8") as file:
        file.write(dedent(TAGGER))
    done = qx(
        *("run", "tagger.py", "-c", config, "-m", "latency", "-m", "sqnr", "--length", 4, "--length", 9),
        *("--length", 24, "--batch-size", 1, "--quick", "--budget", 0.01, "--out", "out"),
    )
    assert done.code == 0, done.err
    assert done.cell(config)["notes"] == [] or "not measured" not in str(done.cell(config)["notes"])
    assert _measured(done, config) == [(1, 4), (1, 9), (1, 24)]


@pytest.mark.slow
def test_what_a_runtime_cannot_leave_free_is_said(qx: Callable[..., Any]) -> None:
    """XNNPACK cannot reshape where batch and length are both free, as attention does: the config says so."""
    pytest.importorskip("executorch")
    with open("tagger.py", "w", encoding="utf-8") as file:
        file.write(dedent(TAGGER))
    done = qx(
        *("run", "tagger.py", "-c", "executorch_int8", "-m", "sqnr", "--length", 4, "--quick"),
        *("--budget", 0.01, "--out", "out"),
    )
    cell = done.cell("executorch_int8")
    assert cell["outcome"] == "unsupported"
    assert "cannot be lowered to XNNPACK" in cell["cause"]
    assert "only supports 1 dynamic dimension" in cell["cause"]
