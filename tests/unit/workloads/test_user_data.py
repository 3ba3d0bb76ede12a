"""Data as a user's function gives them: every form becomes named arrays, and mistakes are named."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from qx_plugins.datasets.user_data import to_data
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from qx import LABELS, Data, DataError

X, Y = np.arange(24.0).reshape(6, 4), np.array([0, 1, 2, 0, 1, 2])


def read(value: Any, limit: int = 100) -> Data:
    """Return what a function gave as data."""
    return to_data(value, where="load_data()", source="net.py", limit=limit, progress=lambda *_: None)


class Named(Dataset[Any]):
    """Items with two inputs and two targets by name."""

    classes = ("a", "b", "c")

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Any:
        if index >= 6:
            raise IndexError(index)
        return {"left": X[index], "right": X[index, :2]}, {"labels": int(Y[index]), "weight": 0.5}


class Endless(IterableDataset[Any]):
    """Items without an end."""

    def __iter__(self) -> Iterator[Any]:
        return ((torch.full((4,), float(index)), index % 3) for index in itertools.count())


def pairs() -> Iterator[Any]:
    return zip(X, Y, strict=True)


def tensors() -> TensorDataset:
    return TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))


@pytest.mark.parametrize(
    "make",
    [
        lambda: (X, Y),
        lambda: (torch.from_numpy(X), Y.tolist()),
        lambda: ({"input": X}, {"labels": Y}),
        lambda: Data(inputs={"input": torch.from_numpy(X).float()}, targets={LABELS: torch.from_numpy(Y)}),
        tensors,
        lambda: DataLoader(tensors(), batch_size=4),
        lambda: DataLoader(tensors(), batch_size=None),
        pairs,
        lambda: list(pairs()),
    ],
    ids=["arrays", "tensors", "dicts", "qx.Data", "Dataset", "batches", "items", "generator", "list"],
)
def test_every_form_gives_the_same_arrays(make: Callable[[], Any]) -> None:
    """Inputs become float32 arrays by name, and targets labels."""
    data = read(make())
    inputs, labels = np.asarray(data.inputs["input"]), np.asarray(data.targets[LABELS])
    assert inputs.dtype == np.float32 and np.array_equal(inputs, X)
    assert np.array_equal(labels, Y)
    assert data.source.startswith("net.py")


def test_inputs_without_targets_have_none() -> None:
    """An array, a dict of arrays and a list of items are inputs alone."""
    for value in (X, {"input": X}, [(row,) for row in X]):
        data = read(value)
        assert np.array_equal(data.inputs["input"], X) and not data.targets


def test_several_inputs_keep_their_names() -> None:
    """Dicts have names, tuples numbers; classes of a Dataset are taken over."""
    data = read(Named())
    assert {name: array.shape for name, array in data.inputs.items()} == {"left": (6, 4), "right": (6, 2)}
    assert data.targets["weight"].tolist() == [0.5] * 6 and data.classes == ("a", "b", "c")
    assert list(read(((X, X[:, :2]), Y)).inputs) == ["input_0", "input_1"]


def test_what_never_ends_is_ended() -> None:
    """At most so many items are read, and results say it, unless there are no more."""
    for value in (Endless(), DataLoader(Endless(), batch_size=8)):
        data = read(value, limit=20)
        assert data.inputs["input"].shape == (20, 4) and data.total is None
        assert data.source == "net.py, the first 20 items"
    assert read(pairs(), limit=20).source == "net.py"


def test_of_a_large_dataset_some_items_are_drawn() -> None:
    """They are spread over it, the same each time, and results can say how many of how many they are."""
    dataset = TensorDataset(torch.arange(1000.0).reshape(-1, 1), torch.arange(1000))
    data = read(dataset, limit=50)
    labels = data.targets[LABELS]
    assert len(labels) == 50 and labels.max() > 800 and data.total == 1000
    assert np.array_equal(data.inputs["input"][:, 0], labels)
    assert np.array_equal(read(dataset, limit=50).inputs["input"], data.inputs["input"])
    assert read(DataLoader(dataset, batch_size=9), limit=50).total == 1000


def test_of_a_dataset_that_has_its_labels_each_class_keeps_its_share() -> None:
    """Those of torchvision have them in ``targets``, so that no item has to be read to draw."""

    class Rare(Named):
        targets = tuple(int(index % 50 == 0) for index in range(1000))

        def __len__(self) -> int:
            return 1000

        def __getitem__(self, index: int) -> Any:
            return np.zeros(2), self.targets[index]

    assert np.bincount(read(Rare(), limit=100).targets[LABELS]).tolist() == [98, 2]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "gives None; expected qx.Data"),
        (5, "gives int; expected qx.Data"),
        ([], "gives no items"),
        (iter(()), "gives no items"),
        ((X[:0], Y[:0]), "gives no items"),
        ((X, Y[:5]), r"targets 'labels' have shape \[5\] and the inputs 'input' \[6, 4\]"),
        (({"a": X, "b": X[:3]}, Y), r"inputs 'b' have shape \[3, 4\] and the inputs 'a' \[6, 4\]"),
        (([X, X], ["a"] * 6), "expected an array or a tensor of numbers"),
        ([(X[0], 0), (X[0, :2], 1)], r"item 1 is float32 \[2\], and of item 0 float32 \[4\]"),
        (Data(inputs={"a": X}, targets={"labels": Y[:5]}), r"'labels' have shape \[5\] and the inputs 'a'"),
        (Data(inputs={}), "gives no inputs"),
        ([(X[0], 0), X[0]], r"1 of 2 items have 'labels'"),
        ([("text", 0)], "is of type str; expected numbers"),
    ],
)
def test_a_mistake_is_named(value: Any, words: str) -> None:
    """One line says what was wrong, with both shapes where two do not fit."""
    with pytest.raises(DataError, match=words):
        read(value)
