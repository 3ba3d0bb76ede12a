"""``.onnx``: the graph as it is shipped, and the one that ONNX Runtime makes of it when it loads it."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

from qx_plugins.readers import Weights, layer

#: Operators that multiply by weights, before and after fusion.
WEIGHTED = re.compile(
    r"(QLinear|Fused|Nhwc|DynamicQuantize|Q)?(Conv|ConvTranspose|MatMul|Gemm)(Integer\w*|NBits)?"
)
#: What may stand between a weight and the operator that multiplies by it.
BETWEEN = ("DequantizeLinear", "QuantizeLinear", "Transpose", "Cast", "Identity", "Reshape")


def read(path: Path, details: Mapping[str, Any]) -> Weights:
    """The constants of two or more dimensions that operators multiply by, or look up as a table."""
    import onnx

    graph = onnx.load(path).graph
    producers = {output: node for node in graph.node for output in node.output}
    constants = {one.name: one for one in graph.initializer}
    layers = {}
    for node in graph.node:
        for name in _candidates(node):
            while name in producers and producers[name].op_type in BETWEEN:
                name = producers[name].input[0]
            if name in constants and len(constants[name].dims) >= 2:
                kind = onnx.TensorProto.DataType.Name(constants[name].data_type)
                layers[name] = layer(prod(constants[name].dims), _bits(kind), kind.lower())
    return Weights(layers, _kernels(path))


def _candidates(node: Any) -> Sequence[str]:
    """The inputs of a node that may be weights."""
    if node.op_type == "Gather":
        return [node.input[0]]
    return tuple(node.input) if WEIGHTED.fullmatch(node.op_type) else ()


def _bits(kind: str) -> int:
    """``INT8`` has 8, ``BFLOAT16`` 16, ``FLOAT`` 32."""
    digits = re.search(r"\d+", kind)
    return int(digits[0]) if digits else {"FLOAT": 32, "DOUBLE": 64}[kind]


def _kernels(path: Path) -> dict[str, int]:
    """The operators that multiply, in the graph that ONNX Runtime has fused for this CPU."""
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory(prefix="qx-") as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        optimized = onnx.load(options.optimized_model_filepath)
    return dict(Counter(one.op_type for one in optimized.graph.node if WEIGHTED.fullmatch(one.op_type)))
