"""Quantize weights by group for the operator ``MatMulNBits``, whose activations stay in float."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy
import onnx
from attrs import evolve
from onnx import numpy_helper

from qx import StoredWeight
from qx_plugins.recipes.gptq import round_by_gptq

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
    items: Sequence[Sequence[numpy.ndarray]] = (),
) -> None:
    """Write a graph whose products with constant matrices have weights of so many bits.

    ``method`` is ``rtn`` (to the nearest), ``hqq`` (half-quadratic optimization, Badri & Shaji, 2023), or
    ``gptq`` (Frantar et al., 2023), which needs the inputs of the graph for each calibration item. The nodes
    ``in_float`` stay as they are.
    """
    from onnxruntime.quantization import matmul_nbits_quantizer as quantizers

    model = onnx.load(source)
    if method == "gptq":
        _round_by_gptq(model, in_float, items, bits=bits, group_size=group_size)
    algorithm = None
    if method == "hqq":
        algorithm = quantizers.HQQWeightOnlyQuantConfig(block_size=group_size, bits=bits)
    level = INT8 if in_int8 else FP32
    quantizer = quantizers.MatMulNBitsQuantizer(
        model,
        bits=bits,
        block_size=group_size,
        accuracy_level=level,
        nodes_to_exclude=in_float,
        algo_config=algorithm,
    )
    quantizer.process()
    quantized = quantizer.model.model
    for node in quantized.graph.node:
        if node.op_type == "MatMulNBits" and all(entry.name != "accuracy_level" for entry in node.attribute):
            node.attribute.append(onnx.helper.make_attribute("accuracy_level", level))
    onnx.save(quantized, target)


def _round_by_gptq(
    model: onnx.ModelProto,
    in_float: Sequence[str],
    items: Sequence[Sequence[numpy.ndarray]],
    *,
    bits: int,
    group_size: int,
) -> None:
    """Round the matrices of products in place by GPTQ, each to the levels of its groups.

    They stay in float: rounding to the nearest then finds the same levels where both ends of a group are in
    use. ONNX Runtime's own GPTQ spreads no errors: in 1.32 it takes the lower half of a matrix that has only
    an upper one, and gives what rounding to the nearest gives.
    """
    constants = {constant.name: constant for constant in model.graph.initializer}
    products = [
        node
        for node in model.graph.node
        if node.op_type == "MatMul"
        and node.name not in in_float
        and node.input[1] in constants
        and len(constants[node.input[1]].dims) == 2
    ]
    moments = _second_moments(model, {node.input[0] for node in products}, items)
    for matrix, source in {node.input[1]: node.input[0] for node in products}.items():
        weight = numpy_helper.to_array(constants[matrix])
        rounded = round_by_gptq(weight, moments[source], bits=bits, group_size=group_size)
        constants[matrix].CopyFrom(numpy_helper.from_array(rounded, matrix))


def _second_moments(
    model: onnx.ModelProto, names: set[str], items: Sequence[Sequence[numpy.ndarray]]
) -> dict[str, numpy.ndarray]:
    """Return for each value the sum over items of ``rows.T @ rows``, shape ``[width, width]``."""
    import onnxruntime

    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    # An input of the graph cannot be its output, too.
    wanted = sorted(names - {entry.name for entry in model.graph.input})
    del watched.graph.output[:]
    watched.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in wanted)
    session = onnxruntime.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    inputs = [entry.name for entry in session.get_inputs()]
    sums: dict[str, numpy.ndarray] = {}
    for item in items:
        feeds = dict(zip(inputs, item, strict=True))
        values = feeds | dict(zip(wanted, session.run(wanted, feeds), strict=True))
        for name in names:
            rows = values[name].reshape(-1, values[name].shape[-1]).astype(numpy.float64)
            sums[name] = sums.get(name, 0.0) + rows.T @ rows
    return sums


def count_inputs(path: Path) -> int:
    """Return the number of inputs of a graph."""
    return len(onnx.load(path, load_external_data=False).graph.input)


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
