"""Weights files: a checkpoint is taken where one reading fits, and a file of another kind is called that."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from qx.errors import UsageError
from qx.worker.weights import load_weights

STATE = {"weight": torch.ones(3, 4), "bias": torch.ones(3)}


def _torchscript(path: Path) -> None:
    with warnings.catch_warnings():
        # torch advises against TorchScript, which does not rid the world of its files.
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(torch.nn.Linear(4, 3)), path)


def _exported(path: Path) -> None:
    torch.export.save(torch.export.export(torch.nn.Linear(4, 3), (torch.ones(1, 4),)), path)


def _archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights.txt", "yes")


def _arrays(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, weight=np.ones((3, 4)))


def _bytes(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (_torchscript, "is a TorchScript program (torch.jit.save), which holds code"),
        (_exported, "is an exported program (torch.export.save), which holds a graph"),
        # As every ONNX file begins: the version of its format, and who produced it.
        (_bytes(b"\x08\x0a\x12\x07pytorch\x1a\x032.9:\x00"), "is an ONNX model"),
        (_arrays, "is an archive of NumPy arrays (.npz)"),
        (_archive, "is a zip archive that torch.save did not write"),
        (_bytes(b"GGUF\x03\x00\x00\x00"), "is a GGUF file"),
        (_bytes(b"\x20\x00\x00\x00TFL3"), "is a TensorFlow Lite model"),
        (_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "is a Git LFS pointer"),
        (_bytes(b"<!DOCTYPE html><title>Sign in</title>"), "is a web page: the download went wrong"),
        (_bytes(b"\x1f\x8b\x08\x00"), "is a gzip archive: unpack it first"),
        (lambda path: path.mkdir(), "is a folder, not a file"),
        (
            lambda path: torch.save({"epoch": 3}, path),
            "must hold a state dict (names to tensors), not a dict of",
        ),
        (
            lambda path: torch.save({"state_dict": {"fc.w": torch.ones(1)}}, path),
            "(in 'state_dict') does not fit Linear: missing weight, bias; unexpected fc.w",
        ),
    ],
)
def test_a_file_of_another_kind_is_called_what_it_is(
    tmp_path: Path, write: Callable[[Path], object], words: str
) -> None:
    """The file is not called damaged, and the line says how to save what can be read."""
    path = tmp_path / "w.pt"
    write(path)
    with pytest.raises(UsageError) as raised:
        load_weights(torch.nn.Linear(4, 3), path)
    assert words in str(raised.value)
    assert "damaged" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (STATE, ""),
        ({"state_dict": STATE, "epoch": 3}, "the weights are 'state_dict' of w.pt"),
        (
            {f"module.{name}": value for name, value in STATE.items()},
            "the weights of w.pt: names without the prefix 'module.'",
        ),
        (
            {"model": {f"module.net.{name}": value for name, value in STATE.items()}},
            "the weights are 'model' of w.pt, names without the prefix 'module.net.'",
        ),
    ],
    ids=["plain", "checkpoint", "parallel", "both"],
)
def test_a_checkpoint_is_taken_where_only_one_reading_fits(
    tmp_path: Path, content: dict[str, Any], note: str
) -> None:
    """The state dict in a checkpoint, without a prefix that all names share, fits, and a note says so."""
    torch.save(content, tmp_path / "w.pt")
    model = torch.nn.Linear(4, 3)
    assert load_weights(model, tmp_path / "w.pt") == note
    assert (model.weight == 1).all() and (model.bias == 1).all()


def test_safetensors_are_known_by_their_content(tmp_path: Path) -> None:
    """Safetensors are recognized whatever the file is called."""
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file(STATE, tmp_path / "w.bin")
    model = torch.nn.Linear(4, 3)
    load_weights(model, tmp_path / "w.bin")
    assert (model.weight == 1).all()
