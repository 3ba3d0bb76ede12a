"""What the ONNX Runtime configs share."""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from attrs import evolve
from torch import nn
from torch.export import ExportedProgram

from qx import Arrays, Artifact, Context
from qx_plugins.recipes.calibration import take_calibration_batches
from qx_plugins.recipes.exporting import QUANTIZER_FAULTS, explain_lowering, export_model
from qx_plugins.recipes.saturation import SEVEN_BITS, saturates

FILE = "model.onnx"
#: Said of weights that have one scale where the config gives each output channel one.
PER_TENSOR = "one scale for all channels of grouped transposed convolutions, which ONNX Runtime cannot split"


def build_artifact(
    model: nn.Module,
    example_inputs: tuple[torch.Tensor, ...],
    context: Context,
    quantize: Callable[[Path, Path], None] | None = None,
) -> Artifact:
    """Export the model, prepare the graph and have it quantized from one file into another.

    ``quantize`` is given a file to read and the file to write. Raises ``Unsupported``.
    """
    assert context.folder is not None
    with tempfile.TemporaryDirectory(prefix="qx-") as name:
        plain, target = Path(name) / "exported.onnx", context.folder / FILE
        program = _export(model, example_inputs, plain)
        if quantize is None:
            shutil.copyfile(plain, target)
        else:
            with explain_lowering(program, "cannot be quantized by ONNX Runtime", unrelated=QUANTIZER_FAULTS):
                quantize(preprocess(plain), target)
    reduced = quantize is not None and saturates()
    return Artifact(
        folder=context.folder,
        loader="onnxruntime",
        files=[FILE],
        details={"reduced_range": reduced},
        notes=[SEVEN_BITS] if reduced else [],
    )


def _export(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], path: Path) -> ExportedProgram:
    program = export_model(model, example_inputs)
    # It tells its progress on standard output, and again in its errors.
    with explain_lowering(program, "cannot be exported to ONNX"), contextlib.redirect_stdout(io.StringIO()):
        made = torch.onnx.export(program, dynamo=True, verbose=False)
        assert made is not None
        made.save(str(path), external_data=False)
    _strip(path)
    return program


def _strip(path: Path) -> None:
    """Take out what the exporter wrote for debugging: lines of source with the paths of this machine."""
    model = onnx.load(path)
    graph = model.graph
    for part in (
        model,
        graph,
        *graph.node,
        *graph.input,
        *graph.output,
        *graph.value_info,
        *graph.initializer,
    ):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    for function in model.functions:
        function.ClearField("metadata_props")
        for node in function.node:
            node.ClearField("metadata_props")
    onnx.save(model, path)


def preprocess(path: Path) -> Path:
    """The graph with shapes inferred, and folded as the runtime would fold it when it loads it."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    target = path.with_name("preprocess.onnx")
    try:
        quant_pre_process(str(path), str(target))
    except Exception:
        # Symbolic shapes fail for operators that it does not know, and are not needed to fold.
        quant_pre_process(str(path), str(target), skip_symbolic_shape=True)
    _flatten_biases(target)
    return target


def _flatten_biases(path: Path) -> None:
    """Write biases of ``Gemm`` of shape ``[1, n]`` as ``[n]``, the only shape that the quantizer can take."""
    model = onnx.load(path)
    constants = {constant.name: constant for constant in model.graph.initializer}
    users = Counter(name for node in model.graph.node for name in node.input)
    for node in model.graph.node:
        bias = constants.get(node.input[2]) if node.op_type == "Gemm" and len(node.input) > 2 else None
        if bias is not None and len(bias.dims) == 2 and bias.dims[0] == 1 and users[bias.name] == 1:
            del bias.dims[0]
    onnx.save(model, path)


def _average_pools(path: Path) -> list[str]:
    """The average pools of a graph, by name.

    The quantizer gives the output of one the range of its input, of which means fill a small part only: a
    pool over the whole image costs the layer behind it two or three bits. Left in float, its output has a
    range of its own.
    """
    graph = onnx.load(path, load_external_data=False).graph
    return [node.name for node in graph.node if node.op_type in ("AveragePool", "GlobalAveragePool")]


def _per_tensor_weights(path: Path) -> dict[str, str]:
    """The weights that the quantizer cannot give a scale for each output channel, by the name of their layer.

    Those of a grouped ``ConvTranspose`` are ``[inputs, outputs / groups, ...]``: the groups share the second
    dimension, along which scales would go.
    """
    graph = onnx.load(path, load_external_data=False).graph
    constants = {constant.name for constant in graph.initializer}
    grouped = (
        node
        for node in graph.node
        if node.op_type == "ConvTranspose"
        and any(attribute.name == "group" and attribute.i > 1 for attribute in node.attribute)
    )
    return {node.input[1]: node.name for node in grouped if node.input[1] in constants}


def build_static_artifact(
    model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context, *, per_channel: bool
) -> Artifact:
    """Activations uint8 and weights int8 between the extremes that calibration has seen, as QDQ."""
    batches = take_calibration_batches(model)
    notes: list[str] = []

    def quantize(source: Path, target: Path) -> None:
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

        whole = _per_tensor_weights(source) if per_channel else {}
        if whole:
            notes.append(f"{PER_TENSOR}: {', '.join(whole.values())}")
        quantize_static(
            str(source),
            str(target),
            _CalibrationReader(_input_names(source), batches),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=per_channel,
            reduce_range=saturates(),
            nodes_to_exclude=_average_pools(source),
            extra_options={
                "TensorQuantOverrides": {name: [{"quant_type": QuantType.QInt8}] for name in whole}
            },
        )

    made = build_artifact(model, example_inputs, context, quantize)
    return evolve(made, notes=[*made.notes, *notes])


def _input_names(path: Path) -> list[str]:
    model = onnx.load(path, load_external_data=False)
    constants = {one.name for one in model.graph.initializer}
    return [one.name for one in model.graph.input if one.name not in constants]


class _CalibrationReader:
    """The calibration batches as ONNX Runtime reads them."""

    def __init__(self, names: Sequence[str], batches: Sequence[Arrays]) -> None:
        self._batches = (dict(zip(names, batch.values(), strict=True)) for batch in batches)

    def get_next(self) -> Any:
        return next(self._batches, None)
