"""A session's model and data on their way to workers: one form, a digest, one line where that cannot be."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import qx
from qx.api.session import hand_over_data, hand_over_model
from qx.contract.records import LABELS
from qx.storage.session_objects import REFERENCE, SESSION

IMAGES = np.zeros((12, 3, 4, 4))
DIGITS = np.arange(12) % 3


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a session, which this process may read as a worker of its run does."""
    monkeypatch.setenv(SESSION, str(tmp_path))
    return tmp_path


def parts(data: Any, folder: Path) -> Any:
    """Return what a worker loads of data."""
    return qx.session_object(hand_over_data(data, folder)["data"])


def test_a_model_arrives_as_it_was(folder: Path) -> None:
    """A model of a local class arrives with its weights; every call gives a copy of its own."""

    class Local(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 2)
            self.twice = lambda x: 2 * x

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.twice(self.layer(x))

    model = Local()
    reference = hand_over_model(model, {}, folder)
    first, second = (qx.session_object(reference) for _ in range(2))
    assert isinstance(first, Local) and first is not second
    x = torch.ones(3, 4)
    assert torch.equal(first(x), model(x))


def test_the_reference_names_the_content(folder: Path) -> None:
    """The same model has the same reference, another weight another one; only the user can read the file."""
    model = nn.Linear(4, 2)
    reference = hand_over_model(model, {}, folder)
    assert hand_over_model(model, {}, folder) == reference
    with torch.no_grad():
        model.bias[0] += 1
    assert hand_over_model(model, {}, folder) != reference
    match = REFERENCE.fullmatch(reference)
    assert match is not None and match["name"] == "Linear"
    assert stat.S_IMODE((folder / match["digest"]).stat().st_mode) == 0o600


def test_what_makes_a_model_takes_its_arguments_along(folder: Path) -> None:
    """A function or class is handed over with ``model_args``; a model has none."""
    factory = qx.session_object(hand_over_model(nn.Linear, {"in_features": 3, "out_features": 2}, folder))
    assert callable(factory) and factory().in_features == 3
    with pytest.raises(qx.UsageError, match="are for what makes a model"):
        hand_over_model(nn.Linear(3, 2), {"bias": False}, folder)
    with pytest.raises(qx.UsageError, match=r"model is of type int; expected an nn.Module"):
        hand_over_model(3, {}, folder)  # type: ignore[arg-type]


def test_what_cannot_be_pickled_is_one_error_with_the_way_out(folder: Path) -> None:
    """A model with a lock in it says what is wrong, and to put it into a file."""
    model = nn.Linear(4, 2)
    model.lock = threading.Lock()
    with pytest.raises(qx.UsageError) as caught:
        hand_over_model(model, {}, folder)
    text = str(caught.value)
    assert "model cannot be handed to the processes of the run" in text and "lock" in text
    assert "put what makes it into a file, and give model='FILE.py:FACTORY'" in text


@pytest.mark.parametrize("change", ["bytes", "gone", "link", "no run", "another name"])
def test_nothing_is_unpickled_that_the_session_did_not_write(
    folder: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """A file with another digest, a link, and an object of no run are errors before anything is loaded."""

    class Loud:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(folder / "was unpickled"),)

    reference = hand_over_data(IMAGES, folder)["data"]
    digest = reference.rpartition(":")[2]
    loud = folder / hand_over_model(Loud, {}, folder).rpartition(":")[2]
    import cloudpickle

    with loud.open("wb") as file:
        torch.save(Loud(), file, pickle_module=cloudpickle)
    place = folder / digest
    if change == "bytes":
        loud.replace(place)
    elif change == "gone":
        place.unlink()
    elif change == "link":
        place.unlink()
        place.symlink_to(loud)
    elif change == "no run":
        monkeypatch.setenv(SESSION, "")
    else:
        reference = "session:../../x:" + digest
    with pytest.raises(qx.UsageError):
        qx.session_object(reference)
    assert not (folder / "was unpickled").exists()


def test_arrays_tensors_and_pairs_have_one_form(folder: Path) -> None:
    """Arrays, tensors, inputs by name and labels arrive as ``qx.Data`` of arrays; floats as float32."""
    only = parts(IMAGES, folder)["all"]
    assert only.inputs["input"].dtype == np.float32 and not only.targets
    pair = parts((torch.ones(12, 2, requires_grad=True), torch.tensor(DIGITS)), folder)["all"]
    assert pair.inputs["input"].shape == (12, 2) and np.array_equal(pair.targets[LABELS], DIGITS)
    named = parts(({"left": IMAGES, "right": np.ones((12, 5), dtype=np.int64)}, DIGITS), folder)["all"]
    assert list(named.inputs) == ["left", "right"] and named.inputs["right"].dtype == np.int64
    splits = parts({"train": (IMAGES, DIGITS), "test": (IMAGES[:4], DIGITS[:4])}, folder)
    assert {name: len(part.targets[LABELS]) for name, part in splits.items()} == {"train": 12, "test": 4}
    own = qx.Data(inputs={"x": IMAGES}, classes=("a", "b"), source="mine")
    assert parts(own, folder)["all"].source == "mine"
    examples = qx.session_object(hand_over_data(IMAGES, folder)["examples"])
    assert isinstance(examples, dict) and examples["input"].shape == (8, 3, 4, 4)


class Items(Dataset[Any]):
    """Three items, with the names of their classes."""

    classes = ("even", "odd")

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        return torch.full((2,), float(index)), index % 2


class Stream(IterableDataset[Any]):
    """Items without a length."""

    def __iter__(self) -> Any:
        return iter(())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((IMAGES, DIGITS[:3]), "the same number of items in each array, not input 12, labels 3"),
        ((IMAGES, DIGITS, DIGITS), "has 3 parts; expected two, the inputs and the labels"),
        ({"train": IMAGES}, "data has no 'test'"),
        (IMAGES[:0], "the same number of items in each array, not input 0"),
        (["a", "b"], "expected an array or a tensor of numbers"),
        (3.0, "expected an array or a tensor of numbers"),
        (torch.ones(3, 2, dtype=torch.bfloat16), "BFloat16"),
        (DataLoader(Items()), "data is a DataLoader: give its Dataset"),
        (Stream(), "data is an IterableDataset"),
        (TensorDataset(torch.ones(0, 2)), "is an empty Dataset"),
        ({}, "the same number of items in each array, not none"),
    ],
)
def test_data_of_another_form_is_one_error(folder: Path, data: Any, message: str) -> None:
    """What does not fit says what is expected."""
    with pytest.raises(qx.UsageError, match="data") as caught:
        hand_over_data(data, folder)
    assert message in str(caught.value)


def test_the_workload_reads_datasets_and_sets_items_aside(folder: Path) -> None:
    """A Dataset is read with labels and classes; of items together some calibrate, of each class its share.

    No item is in both splits.
    """
    from qx_plugins.datasets.session_data import example_arrays, load_session_data

    references = hand_over_data(Items(), folder)
    seen: list[str] = []
    context = qx.Context(progress=lambda done, text: seen.append(text))
    splits = {name: load_session_data(references["data"], name, context) for name in ("train", "test")}
    assert {name: len(split.inputs["input"]) for name, split in splits.items()} == {"train": 1, "test": 2}
    assert splits["test"].classes == ("even", "odd") and splits["test"].inputs["input"].dtype == np.float32
    assert "1 of 3 items set aside for calibration" in splits["test"].source
    assert seen == ["reading item 1 of 3"]
    (examples,) = example_arrays(references["examples"], 5)
    assert examples[:, 0].tolist() == [0, 1, 2, 0, 1]

    items = np.arange(1200, dtype=np.float32)[:, np.newaxis]
    labels = (np.arange(1200) % 10 == 0).astype(np.int64)
    data = hand_over_data((items, labels), folder)["data"]
    splits = {name: load_session_data(data, name, context) for name in ("train", "test")}
    values = {name: set(split.inputs["input"][:, 0].tolist()) for name, split in splits.items()}
    assert len(values["train"]) == 256 and values["train"] | values["test"] == set(range(1200))
    assert not values["train"] & values["test"]
    assert np.bincount(splits["train"].targets[LABELS]).tolist() == [231, 25]
    again = load_session_data(data, "train", context)
    assert np.array_equal(again.inputs["input"], splits["train"].inputs["input"])


def test_items_of_different_shapes_are_an_error(folder: Path) -> None:
    """A Dataset whose items differ in shape says which item, and both shapes."""
    from qx_plugins.datasets.session_data import load_session_data

    class Varied(Dataset[Any]):
        def __len__(self) -> int:
            return 20

        def __getitem__(self, index: int) -> Any:
            return torch.zeros(3 if index == 15 else 2)

    reference = hand_over_data(Varied(), folder)["data"]
    with pytest.raises(qx.DataError, match=r"item 15 is float32 \[3\], and of item \d+ float32 \[2\]"):
        load_session_data(reference, "test", qx.Context())
