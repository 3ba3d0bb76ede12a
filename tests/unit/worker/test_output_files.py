"""Outputs are written batch by batch, and read as memory-mapped arrays."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qx.errors import PluginError, QxError
from qx.worker.output_files import NOTE, OutputWriter, read_outputs

GENERATOR = np.random.default_rng(0)
BATCHES = [GENERATOR.normal(size=(4, 3, 2)).astype(np.float32) for _ in range(3)]


def written(folder: Path, batches: list[Any], items: int = 10) -> dict[str, np.ndarray]:
    """Write batches of an output called ``scores``, and read it."""
    with OutputWriter(folder / "outputs", items, "loader") as writer:
        for batch in batches:
            writer.add({"scores": batch})
    return read_outputs(folder / "outputs")


def test_batches_become_one_array_on_the_disk(tmp_path: Path) -> None:
    """The array is that of all batches, cut after the last item; it is mapped, and cannot be changed."""
    scores = written(tmp_path, BATCHES)["scores"]
    expected = np.concatenate(BATCHES)[:10]
    assert (scores.dtype, scores.tobytes()) == (expected.dtype, expected.tobytes())
    assert type(scores) is np.ndarray
    assert isinstance(scores.base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        scores[0] = 0


def test_outputs_stay_readable_when_their_files_are_removed(tmp_path: Path) -> None:
    """The results of a run are written after its folder is gone."""
    scores = written(tmp_path, BATCHES)["scores"]
    shutil.rmtree(tmp_path / "outputs")
    assert np.array_equal(scores, np.concatenate(BATCHES)[:10])


@pytest.mark.parametrize(
    "types", [("i4", "i4", "f8"), ("f8", "f4", "i8"), ("?", "u1", "f2"), ("i8", "f4", "i8")]
)
def test_an_output_has_the_type_that_holds_all_batches(tmp_path: Path, types: tuple[str, ...]) -> None:
    """Batches of several types are joined as numpy joins them."""
    batches = [(batch > 0).astype(kind) for batch, kind in zip(BATCHES, types, strict=True)]
    scores, expected = written(tmp_path, batches)["scores"], np.concatenate(batches)[:10]
    assert scores.dtype == expected.dtype
    assert np.array_equal(scores, expected)


def test_an_output_keeps_its_shape(tmp_path: Path) -> None:
    """Batches of two shapes are refused with both, and what to do."""
    words = (
        r"loader: outputs gave scores \[batch, 3, 2\] and scores \[batch, 3\]; expected the same for every"
    )
    with pytest.raises(PluginError, match=words):
        written(tmp_path, [BATCHES[0], BATCHES[1][:, :, 0]])


def test_the_disk_is_checked_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is too little room, one line says how much is needed, how much there is, and what to do."""
    free = shutil.disk_usage(tmp_path)._replace(free=12_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    words = "the outputs of 1,000,000 items take 24.0 MB on the disk, and 12.0 MB are free: name a folder"
    with pytest.raises(QxError, match=words):
        written(tmp_path, BATCHES, items=1_000_000)
    assert list((tmp_path / "outputs").iterdir()) == []
    assert written(tmp_path, BATCHES)["scores"].shape == (10, 3, 2)


# Chunk by chunk -----------------------------------------------------------------------------------


def write_batches(folder: Path, batches: Sequence[dict[str, np.ndarray]], items: int, last: bool) -> int:
    """Write batches as a process does that is killed behind the last of them, or ends; return ``written``."""
    writer = OutputWriter(folder, items, "plugin", chunk=0.0)
    start = writer.written
    for batch in batches:
        writer.add(batch)
    if last:
        writer.__exit__(None, None, None)
    writer._stack.close()
    return start


def numbered(number: int, dtype: str = "float32") -> dict[str, np.ndarray]:
    """Return a batch of ten items with two outputs."""
    values = np.arange(30).reshape(10, 3) + 100 * number
    return {"a": values.astype(dtype), "b": values[:, :1].astype("int64")}


def test_another_process_goes_on_behind_what_is_on_the_disk(tmp_path: Path) -> None:
    """Outputs of a process that was killed are kept, the last batch is cut off, and none is written twice."""
    assert write_batches(tmp_path / "outputs", [numbered(0), numbered(1)], 28, last=False) == 0
    with (tmp_path / "outputs" / "output_0.npy").open("ab") as file:
        file.write(b"torn")
    assert write_batches(tmp_path / "outputs", [numbered(2)], 28, last=True) == 20
    expected = {name: np.concatenate([numbered(n)[name] for n in range(3)])[:28] for name in ("a", "b")}
    outputs = read_outputs(tmp_path / "outputs")
    assert outputs.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(outputs[name], array)
    assert not (tmp_path / "outputs" / NOTE).exists()


def test_a_wider_type_keeps_what_is_noted(tmp_path: Path) -> None:
    """Outputs that turned out to need another type are gone on with in that type."""
    write_batches(tmp_path / "outputs", [numbered(0), numbered(1, "float64")], 30, last=False)
    assert write_batches(tmp_path / "outputs", [numbered(2)], 30, last=True) == 20
    assert read_outputs(tmp_path / "outputs")["a"].dtype == np.float64
    np.testing.assert_array_equal(read_outputs(tmp_path / "outputs")["a"][20:], numbered(2)["a"])


@pytest.mark.parametrize("damage", ["changed", "short", "note", "items", "missing"])
def test_what_is_not_as_it_was_noted_is_written_anew(tmp_path: Path, damage: str) -> None:
    """A changed byte, a file that is too short or missing, a strange note: the outputs begin again."""
    folder = tmp_path / "outputs"
    write_batches(folder, [numbered(0), numbered(1)], 30, last=False)
    file = folder / "output_1.npy"
    if damage == "changed":
        content = bytearray(file.read_bytes())
        content[-20] ^= 1
        file.write_bytes(bytes(content))
    elif damage == "short":
        file.write_bytes(file.read_bytes()[:-8])
    elif damage == "note":
        (folder / NOTE).write_text('{"written": 20}')
    elif damage == "missing":
        file.unlink()
    assert write_batches(folder, [numbered(0)], 31 if damage == "items" else 30, last=False) == 0


def test_outputs_of_more_items_follow_behind_those_of_fewer(tmp_path: Path) -> None:
    """What is written is whole after each part; items that are written are not written again."""
    expected, folder = np.concatenate(BATCHES), tmp_path / "outputs"
    for items, batches in ((4, BATCHES[:1]), (10, BATCHES[1:])):
        with OutputWriter(folder, items, "loader", chunk=1000.0, grows=True) as writer:
            assert writer.written == (0 if items == 4 else 4)
            for batch in batches:
                writer.add({"scores": batch})
        np.testing.assert_array_equal(read_outputs(folder)["scores"], expected[:items])


def test_outputs_of_fewer_items_that_were_changed_are_written_anew(tmp_path: Path) -> None:
    """As are those that were cut off, and those of more items."""
    folder = tmp_path / "outputs"
    for damage in ("changed", "cut", "more"):
        with OutputWriter(folder, 8, "loader", chunk=1000.0, grows=True) as writer:
            for batch in BATCHES[writer.written // 4 : 2]:
                writer.add({"scores": batch})
        content = bytearray((folder / "output_0.npy").read_bytes())
        content[-1] ^= 1
        if damage != "more":
            (folder / "output_0.npy").write_bytes(content if damage == "changed" else content[:-9])
        with OutputWriter(
            folder, 4 if damage == "more" else 10, "loader", chunk=1000.0, grows=True
        ) as writer:
            assert writer.written == 0
            writer.add({"scores": BATCHES[0]})
