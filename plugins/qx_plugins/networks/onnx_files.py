"""Models in ``.onnx`` files: read with the files of their weights, with any batch size."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from qx import UsageError, one_line
from qx_plugins.networks.graph_files import (
    Run,
    any_batch_note,
    check_input,
    fixed_batch,
    is_same_at_any_batch,
)
from qx_plugins.recipes.graphs import MOST_BYTES, GraphInput, OnnxModel, open_session

#: Operators of networks that are quantized already.
QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulNBits")
#: Beginnings and ends of the names of others.
QUANTIZED_PARTS = ("QLinear", "Integer")

#: The place in ONNX Runtime's own source, in its messages.
PLACE = re.compile(r"^\w+: \[ONNXRuntimeError\].*?\.(h|cc):\d+ .*?\) (?=[A-Z])")


def read_onnx(target: str) -> OnnxModel:
    """Read a model from an ``.onnx`` file. Raises ``UsageError`` where it cannot be used."""
    proto = _load(target)
    _check_graph(target, proto)
    session = _open(target, proto)
    for output in session.get_outputs():
        if not output.type.startswith("tensor("):
            raise UsageError(f"MODEL {target}: the output {output.name!r} is no tensor, but {output.type}")
    inputs = tuple(_graph_input(target, value) for value in _inputs(proto))
    if not inputs:
        raise UsageError(f"MODEL {target} takes no input")
    fixed = sorted({size for value in _inputs(proto) if isinstance(size := _sizes(value)[0], int)})
    if not fixed:
        return OnnxModel(proto, inputs)
    changed = _take_any_batch(proto, session, inputs, fixed[0]) if len(fixed) == 1 else None
    if changed is None:
        raise UsageError(fixed_batch(target, fixed, "as dynamic_shapes of torch.onnx.export says"))
    return OnnxModel(changed, inputs, [any_batch_note(target, fixed[0])])


# Reading ------------------------------------------------------------------------------------------


def _load(target: str) -> Any:
    """Return the ``onnx.ModelProto`` of a file, with all weights in it."""
    try:
        import onnx
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"MODEL {target}: reading it takes the packages onnx and onnxruntime: "
            f"pip install 'quant-explorer[onnxruntime]'"
        ) from error
    try:
        proto = onnx.load(target, load_external_data=False)
    # protobuf raises an error of its own, which depends on its implementation.
    except Exception as error:
        raise UsageError(f"MODEL {target} is damaged, or no ONNX model: {one_line(error)}") from error
    if not proto.graph.node:
        raise UsageError(f"MODEL {target} is damaged, or no ONNX model: it has no operators")
    try:
        onnx.load_external_data_for_model(proto, str(Path(target).resolve().parent))
    except Exception as error:
        raise UsageError(
            f"MODEL {target}: the file beside it that holds its weights cannot be read: {one_line(error)}"
        ) from error
    if proto.ByteSize() > MOST_BYTES:
        raise UsageError(f"MODEL {target}: more than 2 GB are not taken")
    return proto


def _check_graph(target: str, proto: Any) -> None:
    """Raise ``UsageError`` for a network that is quantized already."""
    for node in proto.graph.node:
        kind = node.op_type
        if kind in QUANTIZED or any(part in kind for part in QUANTIZED_PARTS):
            raise UsageError(
                f"MODEL {target} is quantized already (it has {kind}): give the model in float32"
            )


def _open(target: str, proto: Any) -> Any:
    """Return a session, which also shows that ONNX Runtime knows the operators of the model."""
    try:
        return open_session(proto)
    # ONNX Runtime has an error of its own for each cause, without a common class.
    except Exception as error:
        import onnxruntime

        versions = ", ".join(f"{entry.domain or 'ai.onnx'} {entry.version}" for entry in proto.opset_import)
        raise UsageError(
            f"MODEL {target} (opset {versions}): ONNX Runtime {onnxruntime.__version__} cannot load it: "
            f"{PLACE.sub('', one_line(error, 600))}"
        ) from error


def _inputs(proto: Any) -> Iterator[Any]:
    """Yield the inputs of the graph, without weights, which old files list among them."""
    constants = {constant.name for constant in proto.graph.initializer}
    yield from (value for value in proto.graph.input if value.name not in constants)


def _sizes(value: Any) -> list[int | None]:
    """Return the sizes of an input, the batch first; None for those that the graph leaves open."""
    dimensions = value.type.tensor_type.shape.dim
    return [dimension.dim_value if dimension.dim_value > 0 else None for dimension in dimensions]


def _graph_input(target: str, value: Any) -> GraphInput:
    import onnx

    kind = value.type.tensor_type.elem_type
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind)).name if kind else "no tensor"
    check_input(target, value.name, dtype, len(_sizes(value)))
    return GraphInput(value.name, dtype, tuple(_sizes(value)[1:]))


# Batch sizes --------------------------------------------------------------------------------------


def _take_any_batch(proto: Any, session: Any, inputs: tuple[GraphInput, ...], size: int) -> Any:
    """Return a copy of a graph that takes batches of one size, changed to take any.

    Shapes of inputs and outputs leave the batch open, and where a constant gives a shape that begins with
    its size, the first size is kept as it comes. None where the outputs are then not the same.
    """
    changed = type(proto)()
    changed.CopyFrom(proto)
    for value in (*_inputs(changed), *changed.graph.output):
        dimensions = value.type.tensor_type.shape.dim
        if dimensions and dimensions[0].dim_value == size:
            dimensions[0].dim_param = "batch"
    del changed.graph.value_info[:]
    _keep_first_sizes(changed, size)
    try:
        is_equal = is_same_at_any_batch(inputs, size, _runner(session), _runner(open_session(changed)))
    # ONNX Runtime has an error of its own for sizes that do not fit.
    except Exception:
        return None
    return changed if is_equal else None


def _runner(session: Any) -> Run:
    names = [entry.name for entry in session.get_inputs()]
    return lambda arrays: tuple(session.run(None, dict(zip(names, arrays, strict=True))))


def _keep_first_sizes(proto: Any, size: int) -> None:
    """Have each ``Reshape`` to a constant shape ``[size, ...]`` keep the first size of what it reshapes."""
    from onnx import numpy_helper

    constants = {constant.name: constant for constant in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "Constant":
            constants.update(
                (node.output[0], attribute.t) for attribute in node.attribute if attribute.name == "value"
            )
    for number, node in enumerate(proto.graph.node):
        constant = constants.get(node.input[1]) if node.op_type == "Reshape" else None
        if constant is None or node.input[0] in constants:
            continue
        shape = numpy_helper.to_array(constant)
        if not (shape.size and shape[0] == size and all(shape[1:])):
            continue
        # 0 stands for the size of the input, unless this says that it is a size.
        del node.attribute[:]
        # Several operators may share the constant.
        shape = np.concatenate([np.zeros(1, shape.dtype), shape[1:]])
        name = f"{node.input[1]}_of_any_batch_{number}"
        proto.graph.initializer.append(numpy_helper.from_array(shape, name))
        node.input[1] = name
