"""What the OpenVINO configs share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from qx_plugins.runtimes.exporting import exported, lowering_error
from torch import nn

from qx import Artifact, Context

if TYPE_CHECKING:
    import openvino

FILES = ("model.xml", "model.bin")


def silence_telemetry() -> None:
    """Have OpenVINO and NNCF report to nobody: without this module they count on stubs of their own."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


def artifact(
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
    converted = _converted(model, example_inputs)
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


def _converted(model: nn.Module, example_inputs: tuple[torch.Tensor, ...]) -> openvino.Model:
    import openvino

    program = exported(model, example_inputs)
    try:
        converted = openvino.convert_model(program)
        # Only the batch is left open: with other dimensions unknown, layers could not be prepared for theirs.
        converted.reshape({index: [-1, *tensor.shape[1:]] for index, tensor in enumerate(example_inputs)})
    except Exception as error:
        raise lowering_error(program, error, "cannot be converted for OpenVINO") from error
    return converted


def halved(model: openvino.Model) -> openvino.Model:
    """The same model with its float weights stored in bfloat16, as they are computed with."""
    import numpy
    import openvino
    from openvino import opset13

    for node in model.get_ordered_ops():
        if node.get_type_name() != "Constant" or node.get_element_type() != openvino.Type.f32:
            continue
        if len(node.get_output_shape(0)) < 2:
            continue
        narrow = openvino.op.Constant(
            openvino.Type.bf16, node.get_output_shape(0), node.data.ravel().astype(numpy.float32).tolist()
        )
        narrow.set_friendly_name(f"{node.get_friendly_name()}/bf16")
        wide = opset13.convert(narrow, "f32")
        wide.set_friendly_name(node.get_friendly_name())
        for target in list(node.output(0).get_target_inputs()):
            target.replace_source_output(wide.output(0))
    return model
