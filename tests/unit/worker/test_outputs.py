"""What a loader returns is checked in one place, joined over batches, and packed into files by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qx import Arrays, Figure, PluginError, Point
from qx.worker.arrays import Split
from qx.worker.derive import CellRecord, TrackedArrays, read_recorded
from qx.worker.evaluate import predict
from qx.worker.output_files import OutputWriter, read_outputs
from qx.worker.outputs import checked_outputs, pack, unpack

ARRAY = np.zeros((2, 3), dtype=np.float32)


class Detector:
    """A subject with two outputs, which a test can rename in some of its calls."""

    def __init__(self, names: tuple[tuple[str, str], ...] = (("scores", "boxes"),)) -> None:
        self.names, self.calls = names, 0

    def prepare(self, arrays: Arrays) -> Any:
        return arrays["point"]

    def call(self, native: Any) -> Any:
        self.calls += 1
        return native

    def outputs(self, native: Any) -> Arrays:
        scores, boxes = self.names[(self.calls - 1) % len(self.names)]
        outputs = {scores: native * 2, boxes: np.stack([native, -native], axis=1).astype(int)}
        # Names may come in another order in another call.
        return dict(reversed(outputs.items())) if self.calls % 2 == 0 else outputs


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (ARRAY, 'outputs gave an array; since contract 2.0 it gives named arrays, {"output": array}'),
        ([ARRAY], 'outputs gave a list; expected named arrays, {"output": array}'),
        (None, 'outputs gave a NoneType; expected named arrays, {"output": array}'),
        ({}, "outputs gave no arrays"),
        ({0: ARRAY}, "outputs gave an array with the name 0; expected printable text"),
        ({"": ARRAY}, "outputs gave an array with the name ''"),
        ({"a|b": ARRAY}, "outputs gave an array with the name 'a|b'"),
        ({"a\nb": ARRAY}, r"outputs gave an array with the name 'a\nb'"),
        ({"a" * 201: ARRAY}, "of at most 200 characters"),
        ({"output": ARRAY[:1]}, "outputs gave 'output' of shape [1, 3] for 2 items; expected [2, ...]"),
        ({"output": np.float32(1)}, "outputs gave 'output' of shape [] for 2 items"),
        ({"output": np.array(["x", "y"])}, "outputs gave 'output' with values of type <U1"),
        ({"output": ARRAY, "more": np.array([None, {}])}, "outputs gave 'more' with values of type object"),
    ],
)
def test_what_is_no_mapping_of_names_to_arrays_is_refused_in_a_line(returned: Any, words: str) -> None:
    """Anything but named arrays of numbers is refused with the loader, what it gave and what is expected."""
    with pytest.raises(PluginError) as caught:
        checked_outputs(returned, "detector", items=2)
    assert str(caught.value).startswith("detector: outputs gave ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_array_is_told_where_the_change_is_described() -> None:
    """The message about the array of contract 1 names the page that says how a plugin is changed."""
    with pytest.raises(PluginError, match=r"docs/migration\.md"):
        checked_outputs(ARRAY, "old", items=2)


def test_checked_outputs_are_copies() -> None:
    """A runtime may overwrite its memory in the next call."""
    memory = np.ones((2, 1))
    outputs = checked_outputs({"output": memory}, "loader", items=2)
    memory[:] = 0
    assert outputs["output"].tolist() == [[1], [1]]


def _split(items: int) -> Split:
    return Split({"point": np.arange(items, dtype=np.float32)}, {}, (), "points")


def test_all_outputs_of_all_items_are_kept_by_name(tmp_path: Path) -> None:
    """Two outputs are evaluated in batches, in the order of the first call; the last batch is cut."""
    done: list[float] = []
    predict(Detector(), _split(7), 3, "detector", lambda share, _: done.append(share), tmp_path / "outputs")
    outputs = read_outputs(tmp_path / "outputs")
    assert list(outputs) == ["scores", "boxes"]
    assert outputs["scores"].tolist() == [0, 2, 4, 6, 8, 10, 12]
    assert outputs["boxes"].tolist() == [[value, -value] for value in range(7)]
    assert outputs["boxes"].dtype == int
    assert done[-1] == 1.0


def test_outputs_must_keep_their_names(tmp_path: Path) -> None:
    """A loader that gives other names in another batch is refused with both."""
    subject = Detector((("scores", "boxes"), ("scores", "places")))
    words = r"detector: outputs gave 'scores', 'boxes' for one batch and 'places', 'scores' for another"
    with pytest.raises(PluginError, match=words):
        predict(subject, _split(7), 3, "detector", lambda share, text: None, tmp_path / "outputs")


NAMED = {
    "output": np.arange(6.0).reshape(3, 2),
    "file": np.array([True, False, True]),
    "x": np.zeros((3, 0)),
    "x.npy": np.arange(3),
    "../ünï code": np.ones(3, dtype=np.float16),
}


def test_packed_outputs_are_read_back_whatever_their_names(tmp_path: Path) -> None:
    """Outputs lie in a file beside other arrays, and no name stands in for another or for an option."""
    arrays: dict[str, Any] = pack(NAMED) | {"rounding": np.array(0.5)}
    np.savez(tmp_path / "outputs.npz", **arrays)
    with np.load(tmp_path / "outputs.npz") as file:
        read = unpack(file)
    assert list(read) == list(NAMED)
    for name, array in NAMED.items():
        assert read[name].dtype == array.dtype
        assert np.array_equal(read[name], array)
    assert unpack({"latency|1|values": np.ones(3)}) == {}


def test_what_was_recorded_of_a_cell_is_read_back(tmp_path: Path) -> None:
    """Samples, waves and rounds are read by figure, and outputs by name."""
    latency, accuracy = Figure("latency", Point(32)), Figure("accuracy")
    record = CellRecord(
        values={latency: np.array([1.5, 2.5]), accuracy: np.array([1.0])},
        wave={latency: np.array([0, 1]), accuracy: np.array([-1])},
        round={latency: np.array([3, 4]), accuracy: np.array([-1])},
    )
    with OutputWriter(tmp_path / "outputs", 3, "loader") as writer:
        writer.add(NAMED)
    arrays: dict[str, Any] = record.to_arrays()
    assert {"latency|32|values", "accuracy||wave"} <= arrays.keys()
    np.savez(tmp_path / "samples.npz", **arrays)
    read = read_recorded(tmp_path / "samples.npz", str(tmp_path / "outputs"))
    assert list(read.values) == [latency, accuracy]
    assert read.values[latency].tolist() == [1.5, 2.5]
    assert (read.wave[latency].tolist(), read.round[latency].tolist()) == ([0, 1], [3, 4])
    assert list(read.outputs) == list(NAMED)


def test_what_is_looked_up_is_noted() -> None:
    """Looking at names reads nothing; looking up an array, or going over all of them, does."""
    read: set[str] = set()
    samples = TrackedArrays({Figure("accuracy"): np.ones(2)}, lambda figure: figure.metric, read)
    outputs = TrackedArrays({"scores": np.ones(2)}, lambda _: "outputs", read)
    assert list(samples) == [Figure("accuracy")]
    assert Figure("latency") not in samples
    assert samples.get(Figure("latency")) is None
    assert (len(outputs), read) == (1, set())
    assert samples[Figure("accuracy")].tolist() == [1, 1]
    assert read == {"accuracy"}
    assert [array.tolist() for array in outputs.values()] == [[1, 1]]
    assert read == {"accuracy", "outputs"}
