"""The built-in metrics that are computed from what was recorded, on data whose truth is known."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from attrs import evolve
from qx_plugins.loaders import torch_eager
from qx_plugins.metrics import accuracy, agreement, build_memory, quantized_share, startup, throughput

from qx import (
    Artifact,
    Building,
    BuildStep,
    Context,
    Figure,
    Fresh,
    Mark,
    Point,
    Predictions,
    Recorded,
    Unsupported,
)


def _recorded(outputs: np.ndarray, baseline: np.ndarray | None) -> Recorded:
    return Recorded(
        samples={},
        waves={},
        baseline={},
        outputs={"output": outputs},
        baseline_outputs=None if baseline is None else {"output": baseline},
    )


def test_accuracy_tells_every_item_and_its_class() -> None:
    """Accuracy is 1 for a right answer and 0 for a wrong one; top-5 counts a right one among five."""
    outputs = np.eye(6, dtype=np.float32)[[0, 1, 2, 2]]
    outputs[3, 3] = 0.5
    targets = {"labels": np.array([0, 1, 2, 3])}
    data = Predictions(outputs={"output": outputs}, targets=targets, classes=tuple("abcdef"))
    samples = accuracy.measure(data)
    assert samples.values.tolist() == [1, 1, 1, 0]
    assert samples.details["top5"] == 1.0
    assert samples.details["per_class"] == {"a": 1.0, "b": 1.0, "c": 1.0, "d": 0.0}
    assert samples.groups.tolist() == [0, 1, 2, 3]


def test_accuracy_does_not_apply_without_labels() -> None:
    """Where there are no right answers, or others than labels, accuracy gives None."""
    outputs = {"output": np.zeros((2, 3))}
    for targets in ({}, {"boxes": np.zeros((2, 4))}):
        assert accuracy.measure(Predictions(outputs=outputs, targets=targets, classes=())) is None


def test_agreement_counts_equal_predictions_right_or_wrong() -> None:
    """Agreement is the share of equal predictions, and noise of a tenth is a ratio of 20 dB."""
    baseline = np.array([[10.0, 0.0], [0.0, 10.0]])
    noisy = baseline + np.array([[1.0, 0.0], [0.0, 1.0]])
    same = agreement.measure(_recorded(noisy, baseline))
    assert same.values.tolist() == [1, 1]
    assert same.details["sqnr_db"] == pytest.approx(20)
    assert agreement.measure(_recorded(baseline[::-1], baseline)).values.tolist() == [0, 0]


def test_agreement_is_of_the_answers_that_postprocess_makes() -> None:
    """Scores or classes that ``postprocess`` made of the outputs are compared in place of the outputs."""
    baseline = np.array([[10.0, 0.0], [0.0, 10.0]])
    other = _recorded(baseline[::-1], baseline)
    scores = evolve(other, answers={"sum": baseline}, baseline_answers={"sum": baseline})
    assert agreement.measure(scores).values.tolist() == [1, 1]
    classes = evolve(other, answers={"of": np.array([4, 7])}, baseline_answers={"of": np.array([4, 8])})
    assert agreement.measure(classes).values.tolist() == [1, 0]
    boxes = {"boxes": np.zeros((2, 3, 4))}
    with pytest.raises(Unsupported, match=r"answers have shape \[2, 3, 4\] .* expected scores"):
        agreement.measure(evolve(other, answers=boxes, baseline_answers=boxes))


def test_agreement_without_a_baseline_gives_nothing() -> None:
    """Where the baseline has no outputs, agreement gives None, and not the agreement with itself."""
    assert agreement.measure(_recorded(np.eye(2), None)) is None


def test_what_derives_from_other_samples_says_so() -> None:
    """Throughput derives from the calls of latency, and agreement from the outputs."""
    assert throughput.describe().derived_from == ("latency",)
    assert agreement.describe().derived_from == ("outputs",)


def test_throughput_is_items_over_the_time_of_each_call() -> None:
    """Throughput gives a value for each call that latency timed, in the same wave and round."""
    key = Figure("latency", Point(8))
    data = Recorded(
        samples={key: np.array([2.0, 2.0, 9.0, 4.0])},
        waves={key: np.array([0, 0, 0, 2])},
        rounds={key: np.array([0, 0, 1, 1])},
        baseline={},
        point=Point(8),
    )
    samples = throughput.measure(data)
    assert samples.values == pytest.approx([4000.0, 4000.0, 8000 / 9, 2000.0])
    assert [*samples.waves] == [0, 0, 0, 2]
    assert [*samples.rounds] == [0, 0, 1, 1]


def test_startup_ends_with_the_first_answer() -> None:
    """Start-up is the time of the first answer, whatever marks other metrics took after it."""
    stages = {"spawn": 0.1, "imports": 1.1, "load": 1.2, "first_answer": 1.25, "served": 9.0}
    marks = [Mark(stage=stage, seconds=at, rss=1, peak=1) for stage, at in stages.items()]
    samples = startup.measure(Fresh(marks=marks, natives={}, mark=lambda stage: marks[0]))
    assert samples.values == 1.25
    assert samples.details["stages"]["imports"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("kernel", "narrow"),
    [
        *((name, True) for name in ("QLinearConv", "QGemm", "DynamicQuantizeMatMul", "MatMulIntegerToFloat")),
        *((name, True) for name in ("Convolution u8", "FullyConnected i8", "Conv2d qcint8", "int_mm_out")),
        *((name, True) for name in ("qconv_pointwise_tensor", "qlinear_pointwise_tensor")),
        *((name, True) for name in ("weight_int8pack_mm", "weight_int4pack_mm_cpu_tensor", "MatMulNBits")),
        *((name, False) for name in ("Conv", "FusedMatMul", "Gemm", "Convolution f32", "Convolution bf16")),
        *((name, False) for name in ("Conv2d fp32", "mkldnn__convolution_pointwise", "linear_pointwise")),
    ],
)
def test_kernels_in_8_bits_are_known_by_their_names(kernel: str, narrow: bool) -> None:
    """Kernels in 8 bits are recognized by the names that the runtimes gave them for built-in networks."""
    patterns = [
        import_module(f"qx_plugins.runtimes.{runtime}.weights").NARROW
        for runtime in ("aot_inductor", "onnxruntime", "openvino", "executorch")
    ]
    assert any(pattern.search(kernel) for pattern in patterns) is narrow


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor", "ignore:TypedStorage is deprecated")
def test_build_memory_is_the_most_of_any_step() -> None:
    """The value is the largest sum of all processes, and the details have it by step."""
    steps = [
        BuildStep(name="import", seconds=2.0, peak=400, peak_of_all=400),
        BuildStep(name="convert", seconds=9.0, peak=500, peak_of_all=1250),
    ]
    samples = build_memory.measure(Building(steps=steps))
    assert samples.values == 1250
    assert samples.details == {"stages": {"import": 400, "convert": 1250}, "build_process": 500}


# torch announces that its 8-bit tensors are to go.
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_quantized_share_counts_elements_in_8_bits(tmp_path: Path) -> None:
    """The share of weight elements in 8 bits counts no biases, and no files without tensors."""
    weight = torch.quantize_per_tensor(torch.ones(3, 4), 0.1, 0, torch.qint8)
    torch.save(
        {"a.weight": weight, "a.bias": torch.zeros(3), "b.weight": torch.zeros(4, 9)}, tmp_path / "m.pt"
    )
    reader = torch_eager.read_weights
    artifact = Artifact(folder=tmp_path, loader="any", files=["m.pt"], weight_reader=reader)
    samples = quantized_share.measure(artifact, Context())
    assert samples.values == 12 / 48
    assert samples.details["layers"]["a.weight"]["bits"] == 8
    (tmp_path / "m.pt").write_bytes(b"something else")
    assert quantized_share.measure(artifact, Context()) is None
