"""Convert models to ONNX Runtime, shared by its configs."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import torch
from attrs import evolve
from torch import nn
from torch.export import ExportedProgram

from qx import Artifact, Batch, Context, FloatLayers, Lengths, Unsupported, float_layers
from qx_plugins.networks.decoder_graphs import ExportedDecoder, find_decoder_graph
from qx_plugins.recipes.bit_widths import USUAL, activation_bits, weight_bits
from qx_plugins.recipes.calibration import take_calibration_batches
from qx_plugins.recipes.exporting import QUANTIZER_FAULTS, explain_lowering, export_model
from qx_plugins.recipes.graphs import OnnxModel
from qx_plugins.recipes.layer_names import layers_of_graphs
from qx_plugins.recipes.layer_values import LAYER_OUTPUTS
from qx_plugins.recipes.naming import name_of_model
from qx_plugins.recipes.saturation import SEVEN_BITS, saturates
from qx_plugins.recipes.weight_scales import is_per_channel

FILE = "model.onnx"
#: Files of an export that several builds start from: the graph, and the layers of its values.
EXPORTED, LAYERS = "exported.onnx", "layers.json"
#: Operators that put a mask into scores; that compute it or scale scores; that change only shapes and types.
MASKING = ("Add", "Sub", "Where")
COMBINING = (*MASKING, "Mul", "Div")
RESHAPING = ("Reshape", "Expand", "Unsqueeze", "Squeeze", "Transpose", "Cast", "Identity", "Slice")
#: Key in the metadata of a node under which the exporter writes the modules that it is in, outermost first.
SCOPES = "pkg.torch.onnx.name_scopes"
#: Optimizer of ONNX Runtime that quantizes weights in float as it loads a graph, in one scale for each layer,
#: where they lie between layers in 8 bits.
REQUANTIZING = "WeightBiasQuantization"
#: Note for those who load an artifact with layers in float.
REQUANTIZED = (
    f"ONNX Runtime quantizes layers in float as it loads the graph, unless it is opened with "
    f"disabled_optimizers=[{REQUANTIZING!r}], as the loader and serve.py do"
)
#: Items of a call of the calibration.
READ_ITEMS = 4
#: Note about widths for which the runtime has no integer kernels.
IN_FLOAT = "ONNX Runtime rounds to these widths and computes in float: its integer kernels are for 8 bits"
#: Note about weights with one scale in a config that has a scale for each output channel.
PER_TENSOR = "one scale for all channels of grouped transposed convolutions, which ONNX Runtime cannot split"


def build_artifact(
    model: nn.Module,
    example_inputs: tuple[torch.Tensor, ...],
    context: Context,
    quantize: Callable[[Path, Path, list[str]], None] | None = None,
    *,
    reduces: bool = True,
    with_cache: bool = True,
) -> Artifact:
    """Export the model to ONNX, and preprocess and quantize the graph.

    ``quantize`` receives the file to read, the file to write, and the names of the nodes of layers that the
    option ``float_layers`` leaves in float. ``reduces`` says whether it leaves out a bit on CPUs whose
    instructions saturate, and ``with_cache`` whether a decoder becomes a graph with a cache. Raises
    ``Unsupported``.
    """
    assert context.folder is not None
    in_float = float_layers(model, context)
    decoder, no_cache = find_decoder_graph(model, context.lengths) if with_cache else (None, ())
    with tempfile.TemporaryDirectory(prefix="qx-") as name:
        plain, target = Path(name) / "exported.onnx", context.folder / FILE
        program, layers = _exported(model, example_inputs, plain, context, decoder)
        values: dict[str, str] = {}
        if quantize is None:
            shutil.copyfile(plain, target)
        else:
            with explain_lowering(program, "cannot be quantized by ONNX Runtime", unrelated=QUANTIZER_FAULTS):
                source = preprocess(plain)
                quantize(source, target, _nodes_of(source, layers, in_float))
            values = _outputs_of_layers(source, target, layers, layers_of_graphs(model))
    reduced = quantize is not None and reduces and saturates()
    return Artifact(
        folder=context.folder,
        loader="onnxruntime",
        files=[FILE],
        details={
            "reduced_range": reduced,
            **({"disabled_optimizers": [REQUANTIZING]} if in_float else {}),
            **({LAYER_OUTPUTS: values} if values and decoder is None else {}),
            **(decoder.details if decoder else {}),
        },
        notes=[*([SEVEN_BITS] if reduced else []), *([REQUANTIZED] if in_float else []), *no_cache],
    )


def _exported(
    model: nn.Module,
    example_inputs: tuple[torch.Tensor, ...],
    path: Path,
    context: Context,
    decoder: ExportedDecoder | None,
) -> tuple[ExportedProgram | Callable[[], ExportedProgram] | None, dict[str, str]]:
    """Write the model as ONNX, as ``_export`` does, from the export of another build where there is one.

    In place of the program it returns a function that makes it.
    """
    if isinstance(model, OnnxModel) or decoder is not None:
        return _export(model, example_inputs, path, context.lengths, decoder)

    def make(folder: Path) -> None:
        _, layers = _export(model, example_inputs, folder / EXPORTED, context.lengths)
        (folder / LAYERS).write_text(json.dumps(layers), encoding="utf-8")

    folder = context.once(f"ONNX of {name_of_model(model, example_inputs, context.lengths)}", make)
    shutil.copyfile(folder / EXPORTED, path)
    layers: dict[str, str] = json.loads((folder / LAYERS).read_text(encoding="utf-8"))
    return partial(export_model, model, example_inputs, lengths=context.lengths), layers


def _export(
    model: nn.Module,
    example_inputs: tuple[torch.Tensor, ...],
    path: Path,
    lengths: Lengths | None,
    decoder: ExportedDecoder | None = None,
) -> tuple[ExportedProgram | None, dict[str, str]]:
    """Write the model as ONNX, and return the program that it comes from; None if it is ONNX already.

    Beside it are the layers in which values of the graph are computed, by the names of the values.
    """
    if isinstance(model, OnnxModel):
        model.write(path)
        return None, {}
    program = decoder.program if decoder else export_model(model, example_inputs, lengths=lengths)
    names: dict[str, Any] = (
        {"input_names": decoder.inputs, "output_names": decoder.outputs} if decoder else {}
    )
    # The exporter prints its progress, which its errors repeat.
    with explain_lowering(program, "cannot be exported to ONNX"), contextlib.redirect_stdout(io.StringIO()):
        exported = torch.onnx.export(program, dynamo=True, verbose=False, **names)
        assert exported is not None
        exported.save(str(path), external_data=False)
    layers = _layers_of_values(path, model)
    _strip(path)
    return program, layers


def _layers_of_values(path: Path, model: nn.Module) -> dict[str, str]:
    """Return the layer that computes each value, by the scope that the exporter writes beside each node.

    Where batch normalization was folded into a layer the node has the scope of the normalization, and where a
    module computes with the weights of another one (as attention does) that of the former: there the name of
    the weight says which layer it is.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    layers: dict[str, str] = {}
    for node in onnx.load(path, load_external_data=False).graph.node:
        metadata = {entry.key: entry.value for entry in node.metadata_props}
        scopes = ast.literal_eval(metadata.get(SCOPES, "[]"))
        layer = next((name for name in reversed(scopes) if name and name in modules), "")
        owners = [name.rpartition(".")[0] for name in node.input[1:2]]
        for owner in owners:
            is_folded = isinstance(modules.get(layer), nn.modules.batchnorm._BatchNorm)
            if owner in modules and (is_folded or owner.startswith(f"{layer}.")):
                layer = owner
        layers |= dict.fromkeys(node.output, layer)
    return layers


def _nodes_of(path: Path, layers: Mapping[str, str], in_float: FloatLayers) -> list[str]:
    """Return the names of the nodes of layers that stay in float; values keep their names in preprocessing.

    Raises ``Unsupported`` where a layer has no node.
    """
    nodes: dict[str, str] = {}
    for node in onnx.load(path, load_external_data=False).graph.node:
        found = [layers[value] for value in node.output if layers.get(value, "") in in_float]
        nodes |= dict.fromkeys([node.name] if found else [], found[0] if found else "")
    for name in in_float.without_any(nodes.values()):
        raise Unsupported(f"float_layers: the ONNX graph has no node of layer {name!r}")
    return list(nodes)


def _outputs_of_layers(
    source: Path, target: Path, layers: Mapping[str, str], wanted: Sequence[str]
) -> dict[str, str]:
    """Return the value of the quantized graph that each of the wanted layers gives, by the layer's name.

    A layer's last node before quantization may give a value of another name after it, such as that of an
    activation function that went into its range.
    """
    last: dict[str, Any] = {}
    for node in onnx.load(source, load_external_data=False).graph.node:
        last |= {layer: node for value in node.output if (layer := layers.get(value, "")) in wanted}
    quantized = onnx.load(target, load_external_data=False).graph.node
    nodes = {node.name: node for node in quantized if node.name}
    values = {value for node in quantized for value in node.output}
    found = {layer: nodes.get(node.name, node).output[0] for layer, node in last.items()}
    return {layer: value for layer, value in found.items() if value in values}


def _strip(path: Path) -> None:
    """Remove the exporter's data for debugging: lines of source with paths of this machine."""
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
    """Infer shapes and fold constants as the runtime does when it loads a graph; return the new file."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    target = path.with_name("preprocessed.onnx")
    try:
        # Where the inference of symbolic shapes fails, it leaves files in the current folder.
        with _working_in(path.parent):
            quant_pre_process(str(path), str(target))
    except Exception:
        # Inference of symbolic shapes fails for unknown operators, and folding does not need it.
        quant_pre_process(str(path), str(target), skip_symbolic_shape=True)
    _flatten_biases(target)
    return target


@contextlib.contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    """Make a folder the current one for a while."""
    former = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(former)


def _flatten_biases(path: Path) -> None:
    """Reshape biases of ``Gemm`` from ``[1, n]`` to ``[n]``, the only shape that the quantizer takes."""
    model = onnx.load(path)
    constants = {constant.name: constant for constant in model.graph.initializer}
    users = Counter(name for node in model.graph.node for name in node.input)
    for node in model.graph.node:
        bias = constants.get(node.input[2]) if node.op_type == "Gemm" and len(node.input) > 2 else None
        if bias is not None and len(bias.dims) == 2 and bias.dims[0] == 1 and users[bias.name] == 1:
            del bias.dims[0]
    onnx.save(model, path)


def _average_pools(path: Path) -> list[str]:
    """Return the names of the average pools of a graph.

    The quantizer gives the output of an average pool the range of its input, of which means use only a small
    part: a pool over the whole image costs the layer after it two or three bits. In float its output has a
    range of its own.
    """
    graph = onnx.load(path, load_external_data=False).graph
    return [node.name for node in graph.node if node.op_type in ("AveragePool", "GlobalAveragePool")]


def _masked_softmaxes(path: Path) -> list[str]:
    """Return the names of the softmaxes of scores with a mask, and of what puts the mask in.

    A mask is added as 0 or as a large negative number: a scale for that range makes one number of all scores.
    """
    graph = onnx.load(path, load_external_data=False).graph
    producers = {output: node for node in graph.node for output in node.output}
    vectors = {constant.name for constant in graph.initializer if len(constant.dims) < 2}

    def found(name: str, seen: set[str]) -> Iterator[Any]:
        """Yield the operators that a tensor comes from, as far back as the layer that computes the scores."""
        node = producers.get(name)
        # A sum with a vector is the bias of a layer.
        if name in seen or node is None or (node.op_type == "Add" and vectors & set(node.input)):
            return
        # What several operators use is looked at once.
        seen.add(name)
        if node.op_type in COMBINING or node.op_type in RESHAPING:
            yield node
            for source in node.input:
                yield from found(source, seen)

    names: list[str] = []
    for softmax in graph.node:
        if softmax.op_type == "Softmax":
            sources = list(found(softmax.input[0], set()))
            if any(node.op_type in MASKING for node in sources):
                names += [softmax.name, *(node.name for node in sources)]
    return list(dict.fromkeys(names))


def _per_tensor_weights(path: Path) -> dict[str, str]:
    """Return weights for which the quantizer has no scale per output channel, with the names of their layers.

    Weights of a grouped ``ConvTranspose`` are ``[inputs, outputs / groups, ...]``: the groups share the
    second dimension, along which the quantizer would put scales.
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


def build_dynamic_artifact(
    model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context, operators: Sequence[str]
) -> Artifact:
    """Quantize the weights of these operators to int8, and their inputs at each call by the batch's range."""

    def quantize(source: Path, target: Path, in_float: list[str]) -> None:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(
            str(source),
            str(target),
            op_types_to_quantize=list(operators),
            # A Gemm is first replaced by a product and a sum.
            nodes_to_exclude=[*in_float, *(f"{name}_MatMul" for name in in_float)],
            weight_type=QuantType.QInt8,
            per_channel=is_per_channel(context),
            reduce_range=saturates(),
        )

    return build_artifact(model, example_inputs, context, quantize)


def build_static_artifact(
    model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context, *, per_channel: bool
) -> Artifact:
    """Quantize activations to uint8 and weights to int8 in QDQ form, by the extremes seen in calibration.

    Options may say other widths, in which no layer has an integer kernel: a note says so.
    """
    batches = take_calibration_batches(model)
    is_usual = weight_bits(context) == activation_bits(context) == USUAL
    notes: list[str] = [] if is_usual else [IN_FLOAT]

    def quantize(source: Path, target: Path, in_float: list[str]) -> None:
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

        weight_type = QuantType.QInt8 if weight_bits(context) == USUAL else QuantType.QInt4
        per_tensor = _per_tensor_weights(source) if per_channel else {}
        if per_tensor:
            notes.append(f"{PER_TENSOR}: {', '.join(per_tensor.values())}")
        quantize_static(
            str(source),
            str(target),
            CalibrationReader(_input_names(source), batches),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8 if activation_bits(context) == USUAL else QuantType.QUInt16,
            weight_type=weight_type,
            per_channel=per_channel,
            reduce_range=is_usual and saturates(),
            nodes_to_exclude=[*_average_pools(source), *_masked_softmaxes(source), *in_float],
            extra_options={
                "TensorQuantOverrides": {name: [{"quant_type": weight_type}] for name in per_tensor},
                # Opsets before 21 have no other widths.
                "UseQDQContribOps": not is_usual,
            },
        )

    artifact = build_artifact(model, example_inputs, context, quantize, reduces=is_usual, with_cache=False)
    return evolve(artifact, notes=[*artifact.notes, *notes])


def _input_names(path: Path) -> list[str]:
    model = onnx.load(path, load_external_data=False)
    constants = {constant.name for constant in model.graph.initializer}
    return [entry.name for entry in model.graph.input if entry.name not in constants]


class CalibrationReader:
    """Calibration batches behind the interface ``CalibrationDataReader`` of ONNX Runtime, in smaller ones.

    Its graph computes all extremes after everything else, so that all activations of a call are in memory
    at once (19 GB of 32 texts with 512 tokens, in a decoder of 6 million parameters). The extremes of all
    calls are the same however items are divided among them.
    """

    def __init__(self, names: Sequence[str], batches: Sequence[Batch]) -> None:
        self._calls = (
            dict(zip(names, (array[start : start + READ_ITEMS] for array in arrays), strict=True))
            for arrays in (tuple(batch.inputs.values()) for batch in batches)
            for start in range(0, len(arrays[0]), READ_ITEMS)
        )

    def get_next(self) -> Any:
        return next(self._calls, None)
