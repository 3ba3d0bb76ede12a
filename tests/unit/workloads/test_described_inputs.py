"""Inputs that a text describes: ``--example``, and what is drawn from it."""

from __future__ import annotations

import numpy as np
import pytest
from qx_plugins.datasets.described_inputs import (
    DescribedInput,
    draw_examples,
    draw_split,
    draw_with,
    lengths_of,
    parse_inputs,
)

from qx import UsageError


def test_inputs_are_drawn_as_they_are_described() -> None:
    """Each has its name, type, shape and range, in the order of the text."""
    text = "ids:int64[1,16]=0..999; mask:bool[1,16]=1; image:float32[2,3,4]; level:float64[1]=-2..-1"
    inputs = parse_inputs(text)
    assert inputs[0] == DescribedInput("ids", "int64", (16,), (0, 999))
    arrays = dict(zip(["ids", "mask", "image", "level"], draw_examples(inputs, 50), strict=True))
    assert {name: (array.dtype.name, array.shape) for name, array in arrays.items()} == {
        "ids": ("int64", (50, 16)),
        "mask": ("bool", (50, 16)),
        "image": ("float32", (50, 3, 4)),
        "level": ("float64", (50,)),
    }
    assert 0 <= arrays["ids"].min() < 100 and 900 < arrays["ids"].max() <= 999
    assert arrays["mask"].all()
    assert abs(arrays["image"].mean()) < 0.3 and 0.8 < arrays["image"].std() < 1.2
    assert arrays["level"].min() >= -2 and arrays["level"].max() <= -1


def test_integers_without_a_range_are_positions_that_any_table_has() -> None:
    """They are 0 or 1."""
    (ids,) = draw_examples(parse_inputs("ids:int32[1,64]"), 2)
    assert set(ids.reshape(-1).tolist()) == {0, 1}


def test_a_size_that_is_a_range_is_drawn_at_every_length() -> None:
    """Inputs have the length that is asked for, all the same one, and the largest where none is."""
    inputs = parse_inputs("ids:int64[1,16..512]=0..999; image:float32[1,3,16..512,4]; level:float32[1]")
    assert lengths_of(inputs) == (16, 512)
    assert lengths_of(inputs[2:]) is None
    for length, size in ((16, 16), (33, 33), (None, 512)):
        shapes = [array.shape for array in draw_examples(inputs, 2, length)]
        assert shapes == [(2, size), (2, 3, size, 4), (2,)]
    assert draw_split(inputs, "test")["ids"].shape[1:] == (512,)


def test_the_splits_are_two_draws() -> None:
    """No item of one is in the other, an item is the same however it is indexed, and there are enough."""
    splits = {split: draw_split(parse_inputs("x:float32[1,8]"), split)["x"] for split in ("train", "test")}
    assert len(splits["train"]) >= 256
    rows = {split: {row.tobytes() for row in items[:]} for split, items in splits.items()}
    assert not rows["train"] & rows["test"]
    items = splits["test"]
    assert np.array_equal(items[np.array([5, 2])], np.stack([items[5], items[2]]))
    assert items.shape == (len(items), 8) and np.asarray(items).shape == items.shape


def test_a_function_that_draws_is_called_for_the_items() -> None:
    """What it gives are the items; where it gives the same each time, others like them are drawn."""

    def draws(batch_size: int, seed: int) -> dict[str, np.ndarray]:
        return {"x": np.random.default_rng(seed).integers(7, 9, (batch_size, 4))}

    def constant(batch_size: int, seed: int) -> dict[str, np.ndarray]:
        return {"x": np.ones((batch_size, 4), np.float32), "mask": np.ones((batch_size, 4), np.int64)}

    train, test = (np.asarray(draw_with(draws, split)["x"]) for split in ("train", "test"))
    assert set(np.unique(train)) == {7, 8}
    assert len(train) >= 256 and not np.array_equal(train[: len(test)], test)
    drawn = draw_with(constant, "test")
    assert np.asarray(drawn["x"]).std() > 0.5
    assert np.asarray(drawn["mask"]).all()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("images", r"expected NAME:TYPE\[BATCH,...\]"),
        ("", r"expected NAME:TYPE\[BATCH,...\]"),
        ("x:float32", r"expected NAME:TYPE"),
        ("x:real[1,2]", "no type 'real'; choose from float32"),
        ("x:float32[]", "whole numbers above 0"),
        ("x:float32[1,0]", "whole numbers above 0"),
        ("x:float32[1,-3]", "whole numbers above 0"),
        ("x:float32[1..8,16]", "the batch is free whatever its number is"),
        ("x:float32[1,16..512,1..2]", "expected one size after the batch to be a range"),
        ("x:float32[1,512..16]", "a range from a smaller to a larger length, such as"),
        ("x:float32[1,0..16]", "a range from a smaller to a larger length"),
        ("x:int64[1,2..8];y:int64[1,2..9]", r"lengths of 2\.\.8 and 2\.\.9; expected one range"),
        ("x:int64[1]=a", "expected LOW..HIGH or one value of int64"),
        ("x:int64[1]=9..0", "expected LOW..HIGH or one value of int64"),
        ("x:int64[1]=0.5..1", "expected LOW..HIGH or one value of int64"),
        ("x:uint8[1]=0..256", "expected LOW..HIGH or one value of uint8"),
        ("x:bool[1]=2", "expected LOW..HIGH or one value of bool"),
        ("x:float32[1]=nan", "expected LOW..HIGH or one value of float32"),
        ("x:float32[1,99999,99999]", "more than 1,073,741,824 values"),
        ("x:float32[1];x:float32[1]", "--example x: this input is given twice"),
    ],
)
def test_a_mistake_is_named(text: str, words: str) -> None:
    """One line says which part is wrong, and what is expected."""
    with pytest.raises(UsageError, match=words):
        parse_inputs(text)
