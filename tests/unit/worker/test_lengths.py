"""Inputs with a free dimension: found in example inputs, cut or drawn, and held to what the model gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from qx import Lengths, UsageError
from qx.worker.arrays import Split
from qx.worker.lengths import check_lengths, find_lengths, of_length, refused_lengths
from qx.worker.probe import REFERENCE, write_probe

LENGTHS = Lengths(lowest=4, highest=32, dimensions=(1, None))


def _workload(
    extent: object, make: Callable[[int, int], tuple[torch.Tensor, ...]], hook: str = "input_lengths"
) -> Any:
    """Return a workload whose hooks give these lengths, and these example inputs."""

    def call(name: str, **arguments: Any) -> object:
        return extent if name == hook else make(arguments["batch_size"], arguments["length"] or 32)

    return SimpleNamespace(name="mine", implements=lambda name: name == hook, call=call)


def _examples(batch_size: int, length: int) -> tuple[torch.Tensor, ...]:
    return torch.zeros(batch_size, length, 3), torch.ones(batch_size, 5)


def test_the_free_dimension_is_where_example_inputs_differ() -> None:
    """It is found in each input by itself, and nothing is free where the hook is missing or gives None."""
    assert find_lengths(_workload((4, 32), _examples)) == LENGTHS
    assert find_lengths(_workload(None, _examples)) is None
    assert find_lengths(_workload((4, 32), _examples, hook="score")) is None


@pytest.mark.parametrize(
    ("extent", "make", "words"),
    [
        (
            (32, 4),
            _examples,
            r"the lengths of its inputs are \(32, 4\); expected the smallest and the largest",
        ),
        ((4, 32.0), _examples, "expected the smallest and the largest one"),
        ((4, 32), lambda size, length: (torch.zeros(size, 5),), "no example input has another shape"),
        ((4, 32), lambda size, length: (torch.zeros(size, 2 * length),), "to be the length"),
        ((4, 32), lambda size, length: (torch.zeros(size, length, length),), "expected one dimension"),
        ((4, 32), lambda size, length: (torch.zeros(length, size),), "dimension after the batch"),
    ],
)
def test_lengths_that_examples_do_not_show_are_refused(extent: Any, make: Any, words: str) -> None:
    """One line says what the hook or the example inputs gave."""
    with pytest.raises(UsageError, match=words):
        find_lengths(_workload(extent, make))


def test_a_length_that_no_input_has_is_refused_in_one_line() -> None:
    """``--length`` beyond the range, or of a model whose inputs have one shape."""
    assert check_lengths(LENGTHS, (4, 32)) is LENGTHS
    with pytest.raises(UsageError, match=r"^--length 33: inputs of the model have lengths from 4 to 32$"):
        check_lengths(LENGTHS, (4, 33))
    with pytest.raises(UsageError, match=r"^--length 8: no input .* as in --example 'ids:int64\[1,16..512\]"):
        check_lengths(None, (8,))


def test_inputs_are_cut_or_drawn() -> None:
    """Data that are long enough are cut along the free dimension; shorter ones give way to example inputs."""
    inputs = {"series": np.arange(3 * 16 * 3.0).reshape(3, 16, 3), "level": np.ones((3, 5))}
    split, workload = Split(inputs, {}, (), "three"), _workload((4, 32), _examples)
    short = of_length(workload, split, LENGTHS, 7)
    assert np.array_equal(short.inputs["series"], inputs["series"][:, :7])
    assert np.array_equal(short.inputs["level"], inputs["level"])
    assert short.source == "three, cut to length 7"
    drawn = of_length(workload, split, LENGTHS, 20)
    assert list(drawn.inputs) == ["series", "level"]
    assert drawn.inputs["series"].shape == (3, 20, 3)
    assert drawn.source == "inputs of length 20, drawn"


class Summed:
    """Serves the sum over the free dimension; ``wrong`` and ``refused`` are lengths that it gets wrong."""

    def __init__(self, wrong: int | None = None, refused: int | None = None) -> None:
        self.wrong, self.refused = wrong, refused

    def prepare(self, arrays: Any) -> Any:
        return arrays

    def call(self, native: Any) -> np.ndarray:
        (series,) = native.values()
        if series.shape[1] == self.refused:
            raise ValueError("got a length that it does not take")
        return series.sum(1) * (-1 if series.shape[1] == self.wrong else 1)

    def outputs(self, native: np.ndarray) -> dict[str, np.ndarray]:
        return {"output": native}


@pytest.mark.parametrize(
    ("subject", "reasons"),
    [
        (Summed(), {}),
        (Summed(refused=8), {8: "ValueError: got a length that it does not take"}),
        (Summed(wrong=4), {8: "at length 4 it gives another network's outputs"}),
        (
            Summed(wrong=32),
            {
                8: "at length 32 it gives another network's outputs",
                32: "at length 32 it gives another network's outputs",
            },
        ),
    ],
)
def test_a_length_that_an_artifact_does_not_serve_is_refused(
    subject: Summed, reasons: dict[int, str], tmp_path: Path
) -> None:
    """Reasons are an error at that length, and wrong outputs at an end, but not at the length of the data."""
    lengths = Lengths(lowest=4, highest=32, dimensions=(1,))
    random, folders = np.random.default_rng(0), {}
    module = torch.nn.Module()
    module.forward = lambda series: series.sum(1)
    for length in (4, 32):
        inputs = random.standard_normal((2, length, 3), dtype=np.float32)
        write_probe(module, [inputs], ["output"], {}, tmp_path / REFERENCE.format(length=length))
    for length in (8, 9, 32):
        folder = tmp_path / str(length)
        folder.mkdir()
        Split({"series": np.ones((2, length, 3), np.float32)}, {}, (), "").write(folder)
        folders[length] = str(folder)
    data = Split({"series": np.ones((2, 9, 3), np.float32)}, {}, (), "")
    assert refused_lengths(subject, lengths, folders, home=tmp_path, data=data, loader="mine") == reasons
    assert refused_lengths(subject, None, folders, home=tmp_path, data=data, loader="mine") == {}
