"""The kind of a file, recognised by its first bytes and, in an archive, by the names of its files."""

from __future__ import annotations

import zipfile
from pathlib import Path

#: The first bytes of files of other kinds than weights, and what these are.
BEGINNINGS = {
    b"GGUF": "a GGUF file (llama.cpp)",
    b"\x89HDF": "an HDF5 file (Keras)",
    b"\x93NUMPY": "a NumPy array",
    b"version https://git-lfs": "a Git LFS pointer, and the file itself was not fetched (git lfs pull)",
    b"<!DOCTYPE": "a web page: the download went wrong",
    b"<html": "a web page: the download went wrong",
    b"<?xml": "an XML file (of an OpenVINO model, perhaps)",
    b"\x1f\x8b": "a gzip archive: unpack it first",
    b"\xfd7zXZ": "an xz archive: unpack it first",
}
#: Kinds that hold a model, in other forms than as a Python module.
TORCHSCRIPT = "a TorchScript program (torch.jit.save), which holds code"
EXPORTED_PROGRAM = "an exported program (torch.export.save), which holds a graph"
ONNX = "an ONNX model"
#: Number of bytes that are read of a file.
HEAD = 64


def read_head(path: Path) -> bytes:
    """Return the first bytes of a file."""
    with path.open("rb") as file:
        return file.read(HEAD)


def is_safetensors(head: bytes, path: Path) -> bool:
    """Return whether a file begins with the header of safetensors."""
    header = int.from_bytes(head[:8], "little")
    return head[8:9] == b"{" and 2 <= header <= path.stat().st_size - 8


def other_kind(head: bytes, path: Path) -> str:
    """Name the kind of a file that holds no state dict; empty if it may hold one."""
    if not head:
        return "empty"
    if head[4:8] == b"TFL3":
        return "a TensorFlow Lite model"
    if kind := next((kind for prefix, kind in BEGINNINGS.items() if head.startswith(prefix)), ""):
        return kind
    if zipfile.is_zipfile(path):
        return _kind_of_archive(path)
    return ONNX if _is_onnx(head, path) else ""


def _kind_of_archive(path: Path) -> str:
    """Name the content of a zip archive by the names of its files; empty if it may be that of torch.save."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    inner = {name.partition("/")[2] or name for name in names}
    if any(name.startswith("code/") or name == "constants.pkl" for name in inner):
        return TORCHSCRIPT
    if any("exported_program" in name or name.startswith("models/") for name in inner):
        return EXPORTED_PROGRAM
    if any(name.startswith("data/aotinductor") for name in inner):
        return "an AOTInductor package, which holds compiled code"
    if names and all(name.endswith(".npy") for name in names):
        return "an archive of NumPy arrays (.npz)"
    return "" if "data.pkl" in inner else "a zip archive that torch.save did not write"


def _is_onnx(head: bytes, path: Path) -> bool:
    """Return whether a file is a serialized ``onnx.ModelProto``, which has no magic number."""
    # Field 1 (ir_version), a small number, and then field 2 (producer_name) or another of its first fields.
    has_fields = (
        head[:1] == b"\x08" and head[1] < 64 and head[2:3] in (b"\x12", b"\x1a", b"\x22", b"\x3a", b"B")
    )
    return has_fields or path.suffix == ".onnx"
