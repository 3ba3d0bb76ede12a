"""``.param`` with its ``.bin``: the layers of an ncnn model, and what their weights take."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qx_plugins.readers import Weights, layer

#: Layers that multiply by weights or look them up, and which of their parameters tells how many there are.
COUNTS = {
    "Convolution": "6",
    "ConvolutionDepthWise": "6",
    "Convolution1D": "6",
    "Deconvolution": "6",
    "DeconvolutionDepthWise": "6",
    "InnerProduct": "2",
    "Embed": "3",
}
#: Those whose weights are not counted here.
RECURRENT = {"LSTM", "GRU", "RNN"}


def read(path: Path, details: Mapping[str, Any]) -> Weights | None:
    """None where a layer is a recurrent one.

    The file of weights has no index. All of them are stored alike, in 16 bits or in 32, and how large it is
    tells in which.
    """
    elements: dict[str, int] = {}
    for line in path.read_text().splitlines()[2:]:
        kind, name, ins, outs, *rest = line.split()
        if kind in RECURRENT:
            return None
        given = dict(one.split("=", 1) for one in rest[int(ins) + int(outs) :])
        elements |= {f"{name}{part}": count for part, count in _counts(kind, given).items() if count}
    stored = path.with_suffix(".bin").stat().st_size
    bits = 32 if stored >= 4 * sum(elements.values()) else 16
    return Weights({name: layer(count, bits, f"float{bits}") for name, count in elements.items()})


def _counts(kind: str, given: Mapping[str, str]) -> dict[str, int]:
    """How many weights a layer has, by what is added to its name to call them."""
    if kind in COUNTS:
        return {"": int(given[COUNTS[kind]])}
    if kind == "MultiHeadAttention":
        embed, of_query = int(given["0"]), int(given["2"])
        width = {name: int(given.get(key, embed)) for name, key in ((".key", "3"), (".value", "4"))}
        return {".query": of_query, **{name: embed * size for name, size in width.items()}, ".out": of_query}
    if kind == "Gemm":
        rows, columns, inner = (int(given.get(key, "0")) for key in ("7", "8", "9"))
        constant = [given.get(key, "0") == "1" for key in ("4", "5")]
        return {".a": constant[0] * rows * inner, ".b": constant[1] * columns * inner}
    return {}
