"""Read the weights in ``.xml`` and ``.bin``, and the precision in which OpenVINO runs each layer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

from qx import Artifact, StoredWeight, Weights
from qx_plugins.recipes.weights import is_elementwise, is_matrix, matching_kernels

#: Operators that multiply by weights.
WEIGHTED = (
    "Convolution",
    "ConvolutionBackpropData",
    "GroupConvolution",
    "GroupConvolutionBackpropData",
    "DeformableConvolution",
    "MatMul",
    *(f"{kind}{form}" for kind in ("LSTM", "GRU", "RNN") for form in ("Cell", "Sequence")),
    "EmbeddingBagOffsets",
    "EmbeddingBagPacked",
    "EmbeddingSegmentsSum",
)
#: Operators that look up entries of a table, their first input.
TABLES = ("Gather", "GatherND", "EmbeddingBagOffsetsSum", "EmbeddingBagPackedSum")
#: Operators that may stand between a weight and the operator that multiplies by it.
BETWEEN = ("Convert", "Multiply", "Subtract", "Reshape", "Transpose", "FakeQuantize", "Unsqueeze", "Squeeze")
#: Operators that change only the type or the shape of a constant.
PASSING = ("Convert", "Reshape", "Transpose", "Unsqueeze", "Squeeze")
#: End of the name of a kernel with its precision, where that is 8 bits or fewer.
NARROW = re.compile(r" [iu][48]$")
#: Names of the operators that multiply by weights in a compiled model.
COMPILED = ("Convolution", "Deconvolution", "FullyConnected", "MatMul", "RNNCell", "RNNSeq")


def _candidates(node: Any) -> Sequence[Any]:
    """Return the inputs of a node that may be weights."""
    if node.get_type_name() in TABLES:
        return [node.input(0)]
    return node.inputs() if node.get_type_name() in WEIGHTED else ()


def read(artifact: Artifact) -> Weights:
    """Return the constants of two or more dimensions, except those that are combined element by element.

    A constant of an operator that is unknown here is counted, and named with the operator.
    """
    import openvino

    (path,) = (artifact.folder / name for name in artifact.files if name.endswith(".xml"))
    details = artifact.details
    core = openvino.Core()
    nodes = core.read_model(path).get_ordered_ops()
    weights = {name for node in nodes for name in _constants_of(node)}
    layers, other_elements = {}, 0
    for node in nodes:
        if node.get_type_name() != "Constant" or not _may_be_weights(node):
            continue
        name, shape, kind = node.get_friendly_name(), tuple(node.get_output_shape(0)), node.get_element_type()
        weighted = name in weights
        if len(shape) < 2 or not (weighted or is_matrix(shape)):
            continue
        operators = _users(node)
        if not weighted and all(map(is_elementwise, operators)):
            other_elements += prod(shape)
            continue
        unknown = "" if weighted else ", ".join(sorted(operators))
        layers[name] = StoredWeight(
            elements=prod(shape), bits=kind.bitwidth, type=kind.get_type_name(), operator=unknown
        )
    properties = {"INFERENCE_PRECISION_HINT": details["precision"]} if "precision" in details else {}
    compiled = core.compile_model(path, "CPU", properties).get_runtime_model()
    layer_infos = (node.get_rt_info() for node in compiled.get_ordered_ops())
    kernels = Counter(
        f"{info['layerType'].astype(str)} {info['runtimePrecision'].astype(str)}"
        for info in layer_infos
        if info["layerType"].astype(str) in COMPILED
    )
    return Weights(
        layers=layers,
        kernels=dict(kernels),
        narrow_kernels=matching_kernels(kernels, NARROW),
        other_elements=other_elements,
        engine="OpenVINO, with oneDNN",
    )


def _constants_of(node: Any) -> Iterator[str]:
    """Yield the names of constants that a node multiplies by or looks up, past the operators between."""
    for port in _candidates(node):
        source = port.get_source_output().get_node()
        while source.get_type_name() in BETWEEN:
            source = source.input(0).get_source_output().get_node()
        if source.get_type_name() == "Constant":
            yield source.get_friendly_name()


def _may_be_weights(constant: Any) -> bool:
    """Whether a constant has a type of weights: a float, or an integer of 8 bits or fewer."""
    kind = constant.get_element_type()
    return bool(kind.is_real() or (kind.bitwidth <= 8 and kind.get_type_name() != "boolean"))


def _users(node: Any) -> set[str]:
    """Return the operators that use a constant, past conversions and changes of shape."""
    operators: set[str] = set()
    for target in node.output(0).get_target_inputs():
        user = target.get_node()
        kind = user.get_type_name()
        operators |= _users(user) if kind in PASSING else {kind}
    return operators
