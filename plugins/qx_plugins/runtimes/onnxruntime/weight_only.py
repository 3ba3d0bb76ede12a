"""Quantize weights by group for the operator ``MatMulNBits``, whose activations stay in float."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
from attrs import evolve

from qx import StoredWeight, Unsupported

#: Ending of the name of a weight of 4 bits, of which a byte has two.
PACKED = "_Q4"
#: Endings of the names of what weights are multiplied by and begin from, which are no weights.
SCALES = ("_scales", "_scale", "_zero_points", "_zp")
#: Levels of the operator's attribute ``accuracy_level``: activations in fp32, and rounded to int8.
FP32, INT8 = 1, 4


def quantize_weights(
    source: Path,
    target: Path,
    in_float: list[str],
    *,
    bits: int,
    group_size: int,
    method: str,
    in_int8: bool,
) -> None:
    """Write a graph whose products with constant matrices have weights of so many bits.

    ``method`` is ``rtn`` (to the nearest) or ``hqq`` (half-quadratic optimization, Badri & Shaji, 2023). The
    nodes ``in_float`` stay as they are. Raises ``Unsupported``.
    """
    from onnxruntime.quantization import matmul_nbits_quantizer as quantizers

    if method == "hqq" and bits != 4:
        raise Unsupported("ONNX Runtime has half-quadratic optimization for 4 bits alone: choose method=rtn")
    algorithm = None
    if method == "hqq":
        algorithm = quantizers.HQQWeightOnlyQuantConfig(block_size=group_size, bits=bits)
    level = INT8 if in_int8 else FP32
    quantizer = quantizers.MatMulNBitsQuantizer(
        onnx.load(source),
        bits=bits,
        block_size=group_size,
        accuracy_level=level,
        nodes_to_exclude=in_float,
        algo_config=algorithm,
    )
    quantizer.process()
    model = quantizer.model.model
    for node in model.graph.node:
        if node.op_type == "MatMulNBits" and all(entry.name != "accuracy_level" for entry in node.attribute):
            node.attribute.append(onnx.helper.make_attribute("accuracy_level", level))
    onnx.save(model, target)


def uneven_groups(path: Path, size: int, in_float: list[str]) -> list[str]:
    """Return the products whose matrices have a number of inputs that groups of this size do not divide."""
    graph = onnx.load(path, load_external_data=False).graph
    inputs = {constant.name: constant.dims[0] for constant in graph.initializer if len(constant.dims) == 2}
    return [
        node.name
        for node in graph.node
        if node.op_type == "MatMul" and node.name not in in_float and inputs.get(node.input[1], 0) % size
    ]


def unpacked(layers: Mapping[str, StoredWeight]) -> dict[str, StoredWeight]:
    """Return weights without their scales, those of 4 bits counted singly: the file has two in a byte."""
    return {
        name: evolve(weight, elements=2 * weight.elements, bits=4, type="uint4")
        if name.endswith(PACKED) and weight.type == "uint8"
        else weight
        for name, weight in layers.items()
        if not name.endswith(SCALES)
    }
