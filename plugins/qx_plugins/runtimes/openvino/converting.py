"""What the OpenVINO configs share."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from qx import Artifact, Context
from qx_plugins.recipes.exporting import explain_lowering, export_model

if TYPE_CHECKING:
    import numpy
    import openvino

FILES = ("model.xml", "model.bin")


def silence_telemetry() -> None:
    """Have OpenVINO and NNCF report to nobody: without this module they count on stubs of their own."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


def build_artifact(
    model: nn.Module,
    example_inputs: tuple[torch.Tensor, ...],
    context: Context,
    treat: Callable[[Any], Any] | None = None,
    *,
    precision: str = "f32",
    notes: tuple[str, ...] = (),
) -> Artifact:
    """Convert the model, have it treated, and write it.

    ``treat`` is given an ``openvino.Model`` and gives one; ``precision`` is what layers that are not
    quantized are computed in. Raises ``Unsupported``.
    """
    silence_telemetry()
    import openvino

    assert context.folder is not None
    converted = _convert(model, example_inputs)
    if treat is not None:
        converted = treat(converted)
    openvino.save_model(converted, context.folder / FILES[0], compress_to_fp16=False)
    return Artifact(
        folder=context.folder,
        loader="openvino",
        files=FILES,
        details={"precision": precision},
        notes=notes,
    )


def _convert(model: nn.Module, example_inputs: tuple[torch.Tensor, ...]) -> openvino.Model:
    import openvino

    program = export_model(model, example_inputs)
    with explain_lowering(program, "cannot be converted for OpenVINO"):
        converted = openvino.convert_model(program)
        # Only the batch is left open: with other dimensions unknown, layers could not be prepared for theirs.
        converted.reshape({index: [-1, *tensor.shape[1:]] for index, tensor in enumerate(example_inputs)})
    return converted


def bfloat16_bits(values: numpy.ndarray) -> numpy.ndarray:
    """The upper halves of float32 numbers, uint16: rounded to the nearest bfloat16, ties to even."""
    import numpy

    bits = numpy.ascontiguousarray(values, dtype=numpy.float32).view(numpy.uint32)
    # Carries into the upper half above one half of its last place; at one half, where that is odd.
    rounded = ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(numpy.uint16)
    return numpy.where(numpy.isnan(values), numpy.uint16(0x7FC0), rounded)


def _is_bias(node: Any) -> bool:
    """A vector that is only added: biases of convolutions come as ``[1, channels, 1, 1]``."""
    shape = node.get_output_shape(0)
    users = {target.get_node().get_type_name() for target in node.output(0).get_target_inputs()}
    return max(shape) == math.prod(shape) and users == {"Add"}


def store_weights_in_bfloat16(model: openvino.Model) -> openvino.Model:
    """The same model with its float weights stored in bfloat16, as they are computed with."""
    import openvino
    from openvino import opset13

    for node in model.get_ordered_ops():
        if node.get_type_name() != "Constant" or node.get_element_type() != openvino.Type.f32:
            continue
        shape = node.get_output_shape(0)
        if len(shape) < 2 or _is_bias(node):
            continue
        bits = openvino.Tensor(bfloat16_bits(node.data), shape, openvino.Type.bf16)
        narrow = openvino.op.Constant(bits, shared_memory=False)
        narrow.set_friendly_name(f"{node.get_friendly_name()}/bf16")
        wide = opset13.convert(narrow, "f32")
        wide.set_friendly_name(node.get_friendly_name())
        for target in list(node.output(0).get_target_inputs()):
            target.replace_source_output(wide.output(0))
    return model
