"""Read the weights in ``.onnx``, and the kernels of the graph that ONNX Runtime optimizes on loading."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from math import prod
from pathlib import Path
from typing import Any

from qx import Artifact, StoredWeight, Weights
from qx_plugins.recipes.weights import is_elementwise, is_matrix, matching_kernels

#: Operators that multiply by weights, before and after fusion.
WEIGHTED = re.compile(
    r"(QLinear|Fused|Nhwc|DynamicQuantize|Q|Transpose)?"
    r"(Conv|ConvTranspose|DeformConv|MatMul|Gemm|LSTM|GRU|RNN|Attention|MultiHeadAttention|Einsum)"
    r"(Integer\w*|NBits|Bnb4|Fpq4)?"
)
#: Operators that multiply by weights of 8 bits or fewer.
NARROW = re.compile(r"QLinear|DynamicQuantize|Q?(Gemm|MatMul)Integer|ConvInteger|NBits|QGemm")
#: Operators that look up entries of a table, their first input.
TABLES = re.compile(r"(Gather|GatherND|GatherBlockQuantized|Q?EmbedLayerNormalization)")
#: Types of constants that are indices or masks, not weights.
INDICES = ("INT32", "INT64", "UINT32", "UINT64", "BOOL", "STRING")
#: Recurrent operators, and the indices of their inputs that hold weights, of all directions ``[d, m, n]``.
#: Their other inputs are ``[d, n]`` and no weights, such as biases and scales.
RECURRENT, RECURRENT_WEIGHTS = ("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"), (1, 2)


def read(artifact: Artifact) -> Weights:
    """Return the constants of two or more dimensions, except those that are combined element by element.

    A constant of an operator that is unknown here is counted, and named with the operator.
    """
    import onnx

    path = artifact.folder / artifact.files[0]
    graph = onnx.load(path).graph
    constants = {constant.name: constant for constant in graph.initializer}
    users = _users(graph)
    layers, other_elements = {}, 0
    for name, constant in constants.items():
        kind = onnx.TensorProto.DataType.Name(constant.data_type)
        shape, operators = tuple(constant.dims), users.get(name, set())
        weighted = any(map(_takes_weights, operators))
        if kind in INDICES or len(shape) < 2 or not (weighted or is_matrix(shape)):
            continue
        if not weighted and all(map(is_elementwise, operators)):
            other_elements += prod(shape)
            continue
        unknown = "" if weighted else ", ".join(sorted(operators))
        layers[name] = StoredWeight(
            elements=prod(shape), bits=_bits(kind), type=kind.lower(), operator=unknown
        )
    kernels = _kernels(path, list(artifact.details.get("disabled_optimizers", [])))
    return Weights(
        layers=layers,
        kernels=kernels,
        narrow_kernels=matching_kernels(kernels, NARROW),
        other_elements=other_elements,
        engine="ONNX Runtime, with MLAS",
    )


def _users(graph: Any) -> dict[str, set[str]]:
    """Return the operators that use each constant, past operators whose result is constant, too."""
    fixed = {constant.name for constant in graph.initializer} | {""}
    for node in graph.node:
        if all(name in fixed for name in node.input):
            fixed.update(node.output)
    users: dict[str, set[str]] = {}
    # From the last node to the first: the users of a node's output are complete when the node is reached.
    for node in reversed(graph.node):
        passed_on = set().union(*(users.get(output, set()) for output in node.output))
        for index, name in enumerate(node.input):
            reached = passed_on if node.output[0] in fixed else {_use(node.op_type, index)}
            users.setdefault(name, set()).update(reached)
    return users


def _use(operator: str, index: int) -> str:
    """Return the operator that an input is used by: ``Add`` where this input of the operator is no weight."""
    is_bias = operator in RECURRENT and index not in RECURRENT_WEIGHTS
    is_index = bool(TABLES.fullmatch(operator)) and index > 0
    return "Add" if is_bias or is_index else operator


def _takes_weights(operator: str) -> bool:
    return bool(WEIGHTED.fullmatch(operator) or TABLES.fullmatch(operator))


def _bits(kind: str) -> int:
    """Return the bits of a type: ``INT8`` has 8, ``BFLOAT16`` 16, ``FLOAT`` 32."""
    digits = re.search(r"\d+", kind)
    return int(digits[0]) if digits else {"FLOAT": 32, "DOUBLE": 64}[kind]


def _kernels(path: Path, disabled_optimizers: list[str]) -> dict[str, int]:
    """Count the operators that multiply, in the graph that ONNX Runtime has fused for this CPU."""
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory(prefix="qx-") as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        onnxruntime.InferenceSession(
            str(path),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=disabled_optimizers,
        )
        optimized = onnx.load(options.optimized_model_filepath)
    return dict(Counter(node.op_type for node in optimized.graph.node if WEIGHTED.fullmatch(node.op_type)))
