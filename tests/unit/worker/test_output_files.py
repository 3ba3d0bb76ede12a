"""Outputs are written batch by batch, and read as memory-mapped arrays."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qx.errors import PluginError, QxError
from qx.worker.output_files import OutputWriter, read_outputs

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
