"""Read the weights in ``.param`` and ``.bin``: the layers of an ncnn model and their numbers of weights."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from qx import Artifact, StoredWeight, Weights

#: Layers that multiply by or look up weights, with the parameter that holds the number of weights.
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
#: Recurrent layers, with the number of rows of weights for each hidden unit.
RECURRENT = {"LSTM": 4, "GRU": 3, "RNN": 1}
#: Value of parameter 2 of recurrent layers that run in both directions.
BOTH_WAYS = "2"
#: Layers that multiply their inputs. An input from ``MemoryData`` is a weight, always in 32 bits.
PRODUCTS = {"MatMul", "Gemm", "Einsum"}


def read(artifact: Artifact) -> Weights:
    """Return the weights, counted by the parameters of the layers.

    The file of weights has no index. All layers store their weights in the type that ``details`` names.
    """
    (path,) = (artifact.folder / name for name in artifact.files if name.endswith(".param"))
    bits = 16 if artifact.details["half"] else 32
    layers: dict[str, StoredWeight] = {}
    memory: dict[str, int] = {}
    for line in path.read_text().splitlines()[2:]:
        kind, name, ins, outs, *rest = line.split()
        blobs = int(ins) + int(outs)
        parameters = dict(text.split("=", 1) for text in rest[blobs:])
        if kind == "MemoryData":
            memory[rest[0]] = prod(int(parameters[key]) for key in ("0", "1", "2", "11") if key in parameters)
        counts = _counts(kind, parameters)
        layers |= {
            f"{name}{part}": StoredWeight(elements=count, bits=bits, type=f"float{bits}")
            for part, count in counts.items()
            if count
        }
        for blob in rest[: int(ins)]:
            if kind in PRODUCTS and blob in memory:
                layers[f"{name}.{blob}"] = StoredWeight(elements=memory[blob], bits=32, type="float32")
    return Weights(layers=layers, engine="ncnn")


def _counts(kind: str, parameters: Mapping[str, str]) -> dict[str, int]:
    """Return the number of weights of each tensor of a layer, by the suffix of its name."""
    if kind in COUNTS:
        return {"": int(parameters[COUNTS[kind]])}
    if kind in RECURRENT:
        outputs, input_weights = int(parameters["0"]), int(parameters["1"])
        # An LSTM may have more hidden units than outputs, and a matrix that projects them then.
        hidden = int(parameters.get("3", "0")) or outputs
        directions = 2 if parameters.get("2") == BOTH_WAYS else 1
        projection = hidden * outputs * directions if hidden != outputs else 0
        state_weights = RECURRENT[kind] * hidden * outputs * directions
        return {".input": input_weights, ".state": state_weights, ".projection": projection}
    if kind == "MultiHeadAttention":
        embed, query_weights = int(parameters["0"]), int(parameters["2"])
        width = {name: int(parameters.get(key, embed)) for name, key in ((".key", "3"), (".value", "4"))}
        others = {name: embed * size for name, size in width.items()}
        return {".query": query_weights, **others, ".out": query_weights}
    if kind == "Gemm":
        rows, columns, inner = (int(parameters.get(key, "0")) for key in ("7", "8", "9"))
        constant = [parameters.get(key, "0") == "1" for key in ("4", "5")]
        return {".a": constant[0] * rows * inner, ".b": constant[1] * columns * inner}
    return {}
