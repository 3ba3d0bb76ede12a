"""``.param`` with its ``.bin``: the layers of an ncnn model, and what their weights take."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from qx import Artifact, StoredWeight, Weights

#: Layers that multiply by weights or look them up, and which of their parameters tells how many there are.
COUNTS = {
    **{
        f"{kind}{part}{dimensions}": "6"
        for kind in ("Convolution", "Deconvolution")
        for part in ("", "DepthWise")
        for dimensions in ("", "1D", "3D")
    },
    "InnerProduct": "2",
    "Embed": "3",
}
#: Recurrent layers, and how many rows of weights a hidden unit has in each.
RECURRENT = {"LSTM": 4, "GRU": 3, "RNN": 1}
#: Their parameter 2 where they run in both directions.
BOTH_WAYS = "2"
#: Layers that multiply what they are given: by weights, where that is ``MemoryData``, always in 32 bits.
PRODUCTS = {"MatMul", "Gemm", "Einsum"}


def read(artifact: Artifact) -> Weights:
    """Count the weights by the parameters of the layers.

    The file of weights has no index, and all layers store theirs in the same type: ``details`` says in which.
    """
    (path,) = (artifact.folder / name for name in artifact.files if name.endswith(".param"))
    bits = 16 if artifact.details["half"] else 32
    layers: dict[str, StoredWeight] = {}
    memory: dict[str, int] = {}
    for line in path.read_text().splitlines()[2:]:
        kind, name, ins, outs, *rest = line.split()
        blobs = int(ins) + int(outs)
        given = dict(one.split("=", 1) for one in rest[blobs:])
        if kind == "MemoryData":
            memory[rest[0]] = prod(int(given[key]) for key in ("0", "1", "2", "11") if key in given)
        counts = _counts(kind, given)
        layers |= {
            f"{name}{part}": StoredWeight(elements=count, bits=bits, type=f"float{bits}")
            for part, count in counts.items()
            if count
        }
        for blob in rest[: int(ins)]:
            if kind in PRODUCTS and blob in memory:
                layers[f"{name}.{blob}"] = StoredWeight(elements=memory[blob], bits=32, type="float32")
    return Weights(layers=layers, engine="ncnn")


def _counts(kind: str, given: Mapping[str, str]) -> dict[str, int]:
    """How many weights a layer has, by what is added to its name to call them."""
    if kind in COUNTS:
        return {"": int(given[COUNTS[kind]])}
    if kind in RECURRENT:
        outputs, of_inputs = int(given["0"]), int(given["1"])
        # An LSTM may have more hidden units than outputs, and a matrix that projects them then.
        hidden = int(given.get("3", "0")) or outputs
        ways = 2 if given.get("2") == BOTH_WAYS else 1
        projection = hidden * outputs * ways if hidden != outputs else 0
        of_state = RECURRENT[kind] * hidden * outputs * ways
        return {".input": of_inputs, ".state": of_state, ".projection": projection}
    if kind == "MultiHeadAttention":
        embed, of_query = int(given["0"]), int(given["2"])
        width = {name: int(given.get(key, embed)) for name, key in ((".key", "3"), (".value", "4"))}
        return {".query": of_query, **{name: embed * size for name, size in width.items()}, ".out": of_query}
    if kind == "Gemm":
        rows, columns, inner = (int(given.get(key, "0")) for key in ("7", "8", "9"))
        constant = [given.get(key, "0") == "1" for key in ("4", "5")]
        return {".a": constant[0] * rows * inner, ".b": constant[1] * columns * inner}
    return {}
