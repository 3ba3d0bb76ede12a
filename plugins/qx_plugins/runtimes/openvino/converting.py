"""Convert models to OpenVINO, shared by its configs."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from qx import Artifact, Context, Lengths, float_layers
from qx_plugins.networks.decoder_graphs import ExportedDecoder, find_decoder_graph
from qx_plugins.recipes.exporting import explain_lowering, export_model
from qx_plugins.recipes.graphs import OnnxModel
from qx_plugins.recipes.layer_names import layers_of_graphs
from qx_plugins.recipes.layer_values import LAYER_OUTPUTS
from qx_plugins.runtimes.openvino import CACHE
from qx_plugins.runtimes.openvino.float_nodes import (
    decoder_of,
    lookups_of,
    names_of,
    nodes_of,
    outputs_of_layers,
)
from qx_plugins.runtimes.openvino.stateful import make_stateful

if TYPE_CHECKING:
    import numpy
    import openvino
    from torch import fx

FILES = ("model.xml", "model.bin")


def silence_telemetry() -> None:
    """Keep OpenVINO and NNCF from reporting usage: without this module they use empty stubs."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


def build_artifact(
    model: nn.Module,
    example_inputs: tuple[torch.Tensor, ...],
    context: Context,
    transform: Callable[[Any, list[str]], Any] | None = None,
    *,
    precision: str = "f32",
    notes: tuple[str, ...] = (),
    with_cache: bool = True,
) -> Artifact:
    """Convert the model, transform it, and write it.

    ``transform`` maps an ``openvino.Model`` to another, such as a quantized one, and receives the names of
    operators that stay in float, too: those of layers that the option ``float_layers`` names, and those that
    look up tables which are no weights. ``precision`` is the type
    of arithmetic in layers that are not quantized. ``with_cache`` says whether a decoder becomes a graph with
    a cache. Raises ``Unsupported``.
    """
    silence_telemetry()
    import openvino

    assert context.folder is not None
    in_float = float_layers(model, context)
    decoder, no_cache = find_decoder_graph(model, context.lengths) if with_cache else (None, ())
    converted, nodes = (
        _convert_decoder(decoder) if decoder else _convert(model, example_inputs, context.lengths)
    )
    values: dict[str, str] = {}
    if transform is not None:
        in_float_names = [*names_of(converted, nodes, in_float), *lookups_of(converted, nodes)]
        if nodes is not None and decoder is None:
            values = outputs_of_layers(converted, nodes, layers_of_graphs(model))
        converted = transform(converted, in_float_names)
    wants_state = context.options.get(CACHE.name) == "state"
    is_stateful = decoder is not None and wants_state
    if is_stateful:
        converted = make_stateful(converted)
    elif wants_state:
        notes += ("the graph has no cache, so cache=state changes nothing",)
    openvino.save_model(converted, context.folder / FILES[0], compress_to_fp16=False)
    return Artifact(
        folder=context.folder,
        loader="openvino",
        files=FILES,
        details={
            "precision": precision,
            **({LAYER_OUTPUTS: values} if values else {}),
            **(_decoder_details(decoder, is_stateful) if decoder else {}),
        },
        notes=(*notes, *no_cache),
    )


def _decoder_details(decoder: ExportedDecoder, is_stateful: bool) -> dict[str, Any]:
    """Return what the loader must know of a decoder."""
    details = decoder.details
    return {"decoder": {**details["decoder"], "state": True}} if is_stateful else details


def _convert(
    model: nn.Module, example_inputs: tuple[torch.Tensor, ...], lengths: Lengths | None
) -> tuple[openvino.Model, dict[str, fx.Node] | None]:
    """Return the converted model, and the nodes of the program that it comes from; None for an ONNX model."""
    import openvino

    is_onnx = isinstance(model, OnnxModel)
    program = None if is_onnx else export_model(model, example_inputs, lengths=lengths)
    with explain_lowering(program, "cannot be converted for OpenVINO"):
        decoder = None if program is None else decoder_of(program)
        converted = _read_onnx(model) if isinstance(model, OnnxModel) else openvino.convert_model(decoder)
        # Only the batch size and the length stay open: layers are prepared for the other dimensions.
        shapes: list[list[Any]] = [[-1, *tensor.shape[1:]] for tensor in example_inputs]
        for shape, place in zip(shapes, lengths.dimensions if lengths else (), strict=False):
            if lengths is not None and place is not None:
                shape[place] = openvino.Dimension(lengths.lowest, lengths.highest)
        converted.reshape({index: openvino.PartialShape(shape) for index, shape in enumerate(shapes)})
    return converted, None if decoder is None else nodes_of(decoder)


def _convert_decoder(decoder: ExportedDecoder) -> tuple[openvino.Model, dict[str, fx.Node]]:
    """Return the converted graph of a decoder, which takes any batch size and numbers of tokens.

    Beside it are the nodes of the program that it comes from.
    """
    import openvino

    _, heads, width = decoder.cache_shape
    with explain_lowering(decoder.program, "cannot be converted for OpenVINO"):
        graph = decoder_of(decoder.program)
        converted = openvino.convert_model(graph)
        shapes = [[-1, -1], [-1], *([[-1, heads, -1, width]] * (len(decoder.inputs) - 2))]
        converted.reshape({index: openvino.PartialShape(shape) for index, shape in enumerate(shapes)})
    return converted, nodes_of(graph)


def _read_onnx(model: OnnxModel) -> openvino.Model:
    import openvino

    with TemporaryDirectory(prefix="qx-") as folder:
        path = Path(folder) / "model.onnx"
        model.write(path)
        return openvino.convert_model(path)


def bfloat16_bits(values: numpy.ndarray) -> numpy.ndarray:
    """Return float32 numbers as bits of the nearest bfloat16, uint16 of the same shape; ties go to even."""
    import numpy

    bits = numpy.ascontiguousarray(values, dtype=numpy.float32).view(numpy.uint32)
    # The sum carries into the upper half where the lower half is above 0.5 of its last place, or at 0.5 where
    # the last place is odd.
    rounded = ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(numpy.uint16)
    return numpy.where(numpy.isnan(values), numpy.uint16(0x7FC0), rounded)


def _is_bias(node: Any) -> bool:
    """Whether a constant is a vector that is only added: convolutions have biases ``[1, channels, 1, 1]``."""
    shape = node.get_output_shape(0)
    users = {target.get_node().get_type_name() for target in node.output(0).get_target_inputs()}
    return max(shape) == math.prod(shape) and users == {"Add"}


def store_weights_in_bfloat16(model: openvino.Model) -> openvino.Model:
    """Store the float weights of the model in bfloat16, in place, and return the model."""
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
