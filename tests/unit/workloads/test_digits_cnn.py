"""The digits workload: its committed weights, its splits and its images."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from qx_plugins.workloads import cifar10_cnn, digits_cnn
from torch.nn import functional

from qx import Context, Data

OFFLINE = Context(offline=True)


@pytest.fixture(scope="module")
def train() -> Data:
    return digits_cnn.load_data("train", OFFLINE)


@pytest.fixture(scope="module")
def test() -> Data:
    return digits_cnn.load_data("test", OFFLINE)


def test_the_committed_weights_reach_98_percent(test: Data) -> None:
    """The committed weights load strictly, without running code, and are right on 98 % of the test digits."""
    package, _, name = str(digits_cnn.describe().weights).partition(":")
    model = digits_cnn.make_model(OFFLINE)
    with resources.as_file(resources.files(package) / name) as path:
        model.load_state_dict(torch.load(path, weights_only=True), strict=True)
    with torch.inference_mode():
        answers = model.eval()(torch.from_numpy(test.inputs["image"])).argmax(1).numpy()
    assert (answers == test.targets["labels"]).mean() >= 0.98


def test_both_forms_of_the_model_share_a_state_dict() -> None:
    """The quantizable form takes the plain form's state dict, and so does the network of cifar10_cnn."""
    state = digits_cnn.make_model(OFFLINE).state_dict()
    digits_cnn.make_model(Context(quantizable=True)).load_state_dict(state, strict=True)
    cifar10_cnn.make_model(OFFLINE).load_state_dict(state, strict=True)


def test_every_digit_is_in_one_split(train: Data, test: Data) -> None:
    """The 1,797 images are divided into 1,297 and 500, none in both, 50 of each digit in the test split."""
    from sklearn.datasets import load_digits

    labels = load_digits().target
    indices = digits_cnn.split_indices(labels)
    assert np.array_equal(np.sort(np.concatenate([indices["train"], indices["test"]])), np.arange(1797))
    assert (len(train.targets["labels"]), len(test.targets["labels"])) == (1297, 500)
    assert np.bincount(test.targets["labels"]).tolist() == [50] * 10
    assert np.array_equal(test.targets["labels"], labels[indices["test"]])


def test_the_split_stays_what_it_was() -> None:
    """The first images of the test split, which the committed weights have not seen, stay the same."""
    from sklearn.datasets import load_digits

    indices = digits_cnn.split_indices(load_digits().target)["test"]
    assert indices[:10].tolist() == [3, 7, 13, 16, 19, 22, 26, 36, 38, 43]
    assert int(indices.sum()) == 435_759


def test_images_are_as_the_network_takes_them(train: Data, test: Data) -> None:
    """Images are contiguous float32 ``[n, 3, 32, 32]`` of three equal channels, about normalised."""
    for data in (train, test):
        images = data.inputs["image"]
        assert images.shape == (len(data.targets["labels"]), 3, 32, 32)
        assert images.dtype == np.float32
        assert images.flags.c_contiguous
        assert np.array_equal(images, np.repeat(images[:, :1], 3, axis=1))
        assert abs(images.mean()) < 0.05
        assert abs(images.std() - 1) < 0.05


def test_the_data_say_what_they_are(train: Data, test: Data) -> None:
    """The source, the classes and the type of the labels are stated."""
    for data in (train, test):
        assert data.source == "scikit-learn digits"
        assert data.classes == tuple("0123456789")
        assert data.targets["labels"].dtype == np.int64


def test_the_data_do_not_depend_on_the_seed(test: Data) -> None:
    """Another seed of the run gives the same images in the same order."""
    other = digits_cnn.load_data("test", Context(offline=True, seed=99))
    assert np.array_equal(test.inputs["image"], other.inputs["image"])
    assert np.array_equal(test.targets["labels"], other.targets["labels"])


def test_enlarging_is_bilinear_and_exact() -> None:
    """Images are enlarged as torch's bilinear interpolation does it, bit for bit."""
    images = np.random.default_rng(0).integers(0, 17, (5, 8, 8)).astype(np.float64)
    expected = functional.interpolate(
        torch.from_numpy(images)[:, None], scale_factor=4, mode="bilinear", align_corners=False
    )
    assert np.array_equal(digits_cnn.enlarge(images), expected[:, 0].numpy().astype(np.float32))


def test_example_inputs_have_the_batch_size() -> None:
    """Example inputs are ``[batch, 3, 32, 32]``, the same for a seed."""
    (first,), (second,) = (digits_cnn.example_inputs(2, OFFLINE) for _ in range(2))
    assert first.shape == (2, 3, 32, 32)
    assert torch.equal(first, second)


def test_one_epoch_of_training_learns(test: Data, tmp_path: Path) -> None:
    """The train hook reports its progress to the end, and after one epoch does far better than chance."""
    shares: list[float] = []
    torch.manual_seed(0)
    context = Context(offline=True, options={"epochs": 1}, progress=lambda done, text: shares.append(done))
    model = digits_cnn.train(digits_cnn.make_model(context), context)
    with torch.inference_mode():
        answers = model(torch.from_numpy(test.inputs["image"])).argmax(1).numpy()
    assert shares[-1] == 1.0
    assert (answers == test.targets["labels"]).mean() > 0.3
