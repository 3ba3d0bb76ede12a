"""``.xml`` with its ``.bin``: the model as it is shipped, and in which precision OpenVINO runs its layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

from qx_plugins.readers import Weights, layer

#: Operators that multiply by weights.
WEIGHTED = (
    "Convolution",
    "ConvolutionBackpropData",
    "GroupConvolution",
    "GroupConvolutionBackpropData",
    "MatMul",
)
#: What may stand between a weight and the operator that multiplies by it.
BETWEEN = ("Convert", "Multiply", "Subtract", "Reshape", "Transpose", "FakeQuantize", "Unsqueeze", "Squeeze")
#: The same operators, as they are called once compiled.
COMPILED = ("Convolution", "Deconvolution", "FullyConnected", "MatMul")


def _candidates(node: Any) -> Sequence[Any]:
    """The inputs of a node that may be weights."""
    if node.get_type_name() == "Gather":
        return [node.input(0)]
    return node.inputs() if node.get_type_name() in WEIGHTED else ()


def read(path: Path, details: Mapping[str, Any]) -> Weights:
    """The constants that operators multiply by, and the tables that they look up."""
    import openvino

    core = openvino.Core()
    layers = {}
    for node in core.read_model(path).get_ordered_ops():
        for port in _candidates(node):
            source = port.get_source_output().get_node()
            while source.get_type_name() in BETWEEN:
                source = source.input(0).get_source_output().get_node()
            if source.get_type_name() == "Constant" and len(source.get_output_shape(0)) >= 2:
                kind, shape = source.get_element_type(), source.get_output_shape(0)
                layers[source.get_friendly_name()] = layer(prod(shape), kind.bitwidth, kind.get_type_name())
    properties = {"INFERENCE_PRECISION_HINT": details["precision"]} if "precision" in details else {}
    compiled = core.compile_model(path, "CPU", properties).get_runtime_model()
    told = (node.get_rt_info() for node in compiled.get_ordered_ops())
    kernels = Counter(
        f"{info['layerType'].astype(str)} {info['runtimePrecision'].astype(str)}"
        for info in told
        if info["layerType"].astype(str) in COMPILED
    )
    return Weights(layers, dict(kernels))
