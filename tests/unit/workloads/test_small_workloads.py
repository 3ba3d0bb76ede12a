"""The small workloads of several tasks: their data, their networks, their committed weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import import_module, resources
from typing import Any

import numpy as np
import pytest
import torch
from attrs import frozen
from qx_plugins.datasets import drawn_shapes
from qx_plugins.workloads import friedman_regressor, sensor_series, sentence_pairs, shapes_detector

from qx import Context, Data, Unsupported

#: Most parameters of a network, and most bytes of its weights.
PARAMETERS, BYTES = 300_000, 400_000


@frozen
class Expected:
    """What a workload promises."""

    task: str
    #: Beginning of the SHA-256 of its test split.
    digest: str
    #: Shapes of its outputs by name, without the batch.
    outputs: Mapping[str, tuple[int, ...]]


EXPECTED = {
    "digits_embedding": Expected("embedding", "ef06094fa7cf0a2f", {"output": (32,)}),
    "friedman_regressor": Expected("regression", "4664bc513ece7860", {"output": ()}),
    "sensor_series": Expected("classification", "447586807e6cea6f", {"output": (8,)}),
    "shapes_segmenter": Expected("segmentation", "8aa482edf431ae2c", {"output": (4, 32, 32)}),
    "shapes_detector": Expected(
        "detection", "7431454b5de457ab", {"scores": (3, 12, 12), "distances": (4, 12, 12)}
    ),
    "sentence_pairs": Expected("classification", "1e35ef1aa79a583d", {"output": (2,)}),
}
every_workload = pytest.mark.parametrize("name", EXPECTED)


def workload(name: str) -> Any:
    return import_module(f"qx_plugins.workloads.{name}")


@cache
def data_of(name: str) -> Data:
    """Return the test split, as a run with another seed than the default has it."""
    data: Data = workload(name).load_data("test", Context(seed=99))
    return data


@cache
def trained(name: str) -> Any:
    """Return the network with its committed weights."""
    package, _, file = str(workload(name).describe().weights).partition(":")
    model = workload(name).make_model(Context())
    with resources.as_file(resources.files(package) / file) as path:
        assert path.stat().st_size < BYTES
        state = torch.load(path, weights_only=True)
    assert {tensor.dtype for tensor in state.values() if tensor.is_floating_point()} == {torch.float16}
    model.load_state_dict(state, strict=True)
    return model.eval()


def answers(name: str, items: int) -> dict[str, np.ndarray]:
    """Return the outputs of the trained network for the first items of the test split, by name."""
    inputs = [torch.from_numpy(np.array(array[:items])) for array in data_of(name).inputs.values()]
    with torch.inference_mode():
        outputs = trained(name)(*inputs)
    named = {"output": outputs} if isinstance(outputs, torch.Tensor) else outputs
    return {key: tensor.numpy() for key, tensor in named.items()}


@every_workload
def test_the_data_stay_what_they_were(name: str) -> None:
    """The test split is the same on every machine and for every seed of a run, and says what it is."""
    data = data_of(name)
    digest = hashlib.sha256()
    for array in (*data.inputs.values(), *data.targets.values()):
        digest.update(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes())
    assert digest.hexdigest()[:16] == EXPECTED[name].digest
    assert data.task == EXPECTED[name].task
    assert 500 <= len(next(iter(data.inputs.values()))) <= 2000
    assert data.source and data.preprocessing


@every_workload
def test_the_network_is_as_its_summary_says(name: str) -> None:
    """It is small, takes its example inputs at any batch size, and its summary has its parameters."""
    module = workload(name)
    model = trained(name)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert f"{parameters:,} parameters" in module.describe().summary
    assert f"{len(next(iter(data_of(name).inputs.values()))):,} " in module.describe().summary
    assert parameters < PARAMETERS
    for size in (1, 3):
        examples = module.example_inputs(size, Context())
        assert size == 1 or _equal(examples, module.example_inputs(size, Context()))
        with torch.inference_mode():
            outputs = model(**examples) if isinstance(examples, dict) else model(*examples)
        named = {"output": outputs} if isinstance(outputs, torch.Tensor) else outputs
        assert {key: tensor.shape for key, tensor in named.items()} == {
            key: (size, *shape) for key, shape in EXPECTED[name].outputs.items()
        }


def _equal(first: Any, second: Any) -> bool:
    tensors = [list(item.values()) if isinstance(item, dict) else item for item in (first, second)]
    return all(map(torch.equal, *tensors))


@pytest.mark.parametrize("name", sorted(EXPECTED.keys() - {"shapes_segmenter"}))
def test_it_says_why_it_has_no_form_with_stubs(name: str) -> None:
    """The error names a layer of the network, and its type."""
    with pytest.raises(Unsupported, match="no form with quantize and dequantize stubs") as error:
        workload(name).make_model(Context(quantizable=True))
    layer, kind = str(error.value).rpartition("(")[2].rstrip(")").split(", ")
    assert type(trained(name).get_submodule(layer)).__name__ == kind


def test_gestures_are_classified_nearly_as_well_as_can_be() -> None:
    """The most probable gesture is the right one in 95 % of the series; the network comes near it."""
    data = data_of("sensor_series")
    labels = data.targets["labels"][:400]
    readings = (data.inputs["readings"][:400] * 64).astype(np.int64)
    possible = (sensor_series.most_probable(readings) == labels).mean()
    share = (answers("sensor_series", 400)["output"].argmax(axis=1) == labels).mean()
    assert 0.93 < possible < 0.98
    assert 0.88 < share < possible


def test_the_regression_leaves_little_but_the_noise() -> None:
    """The committed weights explain nearly as much of the targets as the function that they were made by."""
    _, targets, exact = friedman_regressor.generate_items()["test"]
    outputs = answers("friedman_regressor", len(targets))["output"]
    noise, error = (np.square(values - targets).mean() for values in (exact, outputs))
    assert 0.9 < noise < 1.1
    assert noise < error < 1.1 * noise


def test_no_sine_is_near_where_rounding_turns() -> None:
    """No library's sine is so wrong that a target would be another on another machine."""
    values = friedman_regressor.sines()
    assert (np.abs(values - np.floor(values) - 0.5)).min() > 1e-6


def test_neighbours_are_of_the_same_digit() -> None:
    """The nearest other vector is of the same digit for 97 % of the items, and all have length 1."""
    labels = data_of("digits_embedding").targets["labels"]
    vectors = answers("digits_embedding", len(labels))["output"]
    np.testing.assert_allclose(np.square(vectors).sum(axis=1), 1, rtol=1e-4)
    similarities = vectors @ vectors.T - 2 * np.eye(len(vectors))
    assert (labels[similarities.argmax(axis=1)] == labels).mean() > 0.97


def test_pixels_are_segmented() -> None:
    """Of what a class has in the pictures or in the answers, most is in both, class by class."""
    labels = data_of("shapes_segmenter").targets["labels"][:200]
    classes = answers("shapes_segmenter", 200)["output"].argmax(axis=1)
    for number in range(4):
        ours, right = classes == number, labels == number
        assert (ours & right).sum() / (ours | right).sum() > 0.6


# Pictures -----------------------------------------------------------------------------------------


def test_boxes_are_around_the_pixels_of_shapes() -> None:
    """A picture with a single shape has its class in each pixel, and a box that fits around it."""
    pictures = drawn_shapes.draw_pictures(200, 48, seed=3)
    numbers = (pictures.kinds >= 0).sum(axis=1)
    assert np.unique(numbers).tolist() == [1, 2, 3, 4]
    for pixels, boxes, kinds in zip(
        *(array[numbers == 1] for array in (pictures.pixels, pictures.boxes, pictures.kinds)), strict=True
    ):
        rows, columns = np.nonzero(pixels)
        assert set(pixels[rows, columns]) == {kinds[0] + 1}
        assert boxes[0].tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert (boxes[1:] == -1).all() and (kinds[1:] == -1).all()


def test_shapes_differ_from_the_background_by_what_is_promised() -> None:
    """A shape has the least contrast or more in each channel: a mean over its pixels shows it."""
    pictures = drawn_shapes.draw_pictures(200, 48, seed=3)
    alone = (pictures.kinds >= 0).sum(axis=1) == 1
    for image, pixels in zip(pictures.images[alone], pictures.pixels[alone], strict=True):
        inside, outside = (image[:, mask].mean(axis=1) for mask in (pixels > 0, pixels == 0))
        assert (np.abs(inside - outside) > drawn_shapes.CONTRAST[0] / 2).all()


def test_shapes_are_detected() -> None:
    """Nearly all shapes have an answer of their class, and most answers with a high score lie on a shape."""
    data = data_of("shapes_detector")
    results = shapes_detector.postprocess(answers("shapes_detector", 200), Context())
    matched = hits = shapes = boxes = 0
    for boxes_of, scores, labels, right, kinds in zip(
        *(results[key] for key in ("boxes", "scores", "labels")),
        *(data.targets[key][:200] for key in ("boxes", "labels")),
        strict=True,
    ):
        middles = boxes_of[:, :2] + boxes_of[:, 2:]
        near = (np.abs(middles[:, None] - right[:, :2] - right[:, 2:]) < 4).all(axis=2)
        pairs = near & (labels[:, None] == kinds)
        matched += pairs[scores > 0.3].any(axis=0)[kinds >= 0].sum()
        hits += pairs[scores > 0.5].any(axis=0)[kinds >= 0].sum()
        shapes += (kinds >= 0).sum()
        boxes += (scores > 0.5).sum()
    assert matched / shapes > 0.9
    assert hits / boxes > 0.7


# Boxes --------------------------------------------------------------------------------------------


def heads(places: Mapping[tuple[int, int, int], tuple[float, tuple[float, ...]]]) -> dict[str, np.ndarray]:
    """Return raw outputs for one picture with a score and distances at (class, row, column)."""
    scores = np.full((1, 3, 12, 12), -9, dtype=np.float32)
    distances = np.zeros((1, 4, 12, 12), dtype=np.float32)
    for (kind, row, column), (score, values) in places.items():
        scores[0, kind, row, column] = score
        distances[0, :, row, column] = values
    return {"scores": scores, "distances": distances}


def test_a_box_is_as_far_from_its_place_as_the_distances_say() -> None:
    """Distances are in strides of four pixels from the middle of a place: left, up, right, down."""
    results = shapes_detector.postprocess(heads({(1, 2, 5): (0.0, (1, 0.5, 2, 1.5))}), Context())
    assert results["boxes"][0, 0].tolist() == [22 - 4, 10 - 2, 22 + 8, 10 + 6]
    assert (results["scores"][0, 0], results["labels"][0, 0]) == (0.5, 1)
    assert {key: array.shape for key, array in results.items()} == {
        "boxes": (1, 12, 4),
        "scores": (1, 12),
        "labels": (1, 12),
    }
    assert all((array[0, 1:] == -1).all() for array in results.values())


def test_what_overlaps_a_better_box_of_its_class_is_left_out() -> None:
    """It stays where it is of another class, or where the better one is left out itself."""
    same = (2, 2, 2, 2)
    results = shapes_detector.postprocess(
        heads(
            {
                (0, 5, 3): (4, same),
                (0, 5, 4): (3, same),
                # It overlaps the second, which is left out, by 60 %, and the first by a third.
                (0, 5, 5): (2, same),
                (1, 6, 3): (1, same),
            }
        ),
        Context(),
    )
    np.testing.assert_allclose(results["scores"][0, :3], 1 / (1 + np.exp([-4.0, -2.0, -1.0])), rtol=1e-6)
    assert results["labels"][0, :4].tolist() == [0, 0, 1, -1]


def test_outputs_that_are_no_numbers_make_no_boxes() -> None:
    """A network that quantization broke has answers, too: none, where its scores are not numbers."""
    outputs = {name: np.full_like(array, np.nan) for name, array in heads({}).items()}
    results = shapes_detector.postprocess(outputs, Context())
    assert all((array == -1).all() for array in results.values())


def test_pairs_are_judged_nearly_as_well_as_can_be() -> None:
    """No model can be right on more than 96 % of the pairs, and the committed weights come near it."""
    data = data_of("sentence_pairs")
    labels = data.targets["labels"]
    possible = (sentence_pairs.most_probable(*data.inputs.values()) == labels).mean()
    share = (answers("sentence_pairs", len(labels))["output"].argmax(axis=1) == labels).mean()
    assert 0.955 < possible < 0.965
    assert 0.85 < share < possible


# Training -----------------------------------------------------------------------------------------


@every_workload
@pytest.mark.slow
def test_one_epoch_of_training_learns(name: str) -> None:
    """The train hook reports its progress to the end, the loss falls, and weights are in half precision."""
    shares, losses = [], []

    def progress(done: float, text: str) -> None:
        shares.append(done)
        losses.append(float(text.rpartition(" ")[2]))

    torch.manual_seed(0)
    context = Context(options={"epochs": 1}, progress=progress)
    model = workload(name).train(workload(name).make_model(context), context)
    assert shares[-1] == 1.0
    assert losses[-1] < losses[0]
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float16}
