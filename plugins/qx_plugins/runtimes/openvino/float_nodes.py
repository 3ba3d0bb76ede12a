"""Find the operators of converted models that belong to layers, to leave them in float or to look at them.

It imports torch: import it inside functions.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import fx
from torch.utils import _pytree as pytree

from qx import FloatLayers, Unsupported
from qx_plugins.recipes.exporting import layer_of

if TYPE_CHECKING:
    from torch.export import ExportedProgram

#: Operators that have weights, whose layer must be known.
WEIGHTED = (
    *("Convolution", "ConvolutionBackpropData", "GroupConvolution", "GroupConvolutionBackpropData"),
    "MatMul",
)


def names_of(model: Any, nodes: Mapping[str, fx.Node] | None, in_float: FloatLayers) -> list[str]:
    """Return the names of the operators of layers in a model that was converted from a program.

    ``nodes`` are those that OpenVINO converted, by name; None for an ONNX model. Raises ``Unsupported`` where
    a layer has no operator, or it is not known of which layer one is.
    """
    if not in_float:
        return []
    if nodes is None:
        raise Unsupported("float_layers: an ONNX model has no layers that OpenVINO knows by name")
    layers: dict[str, str] = {}
    for node in model.get_ordered_ops():
        if node.get_type_name() in ("Constant", "Parameter", "Result"):
            continue
        name = node.get_friendly_name()
        layer = _layer_of(node, nodes)
        if layer is None and node.get_type_name() in WEIGHTED:
            raise Unsupported(f"float_layers: it is not known of which layer {name!r} is in OpenVINO's graph")
        if layer is not None and layer in in_float:
            layers[name] = layer
    for name in in_float.without_any(layers.values()):
        raise Unsupported(f"float_layers: OpenVINO's graph has no operator of layer {name!r}")
    return list(layers)


def lookups_of(model: Any, nodes: Mapping[str, fx.Node] | None) -> list[str]:
    """Return the names of operators that look constants up and are no embedding, such as rotary positions.

    In an ONNX model it is not known which are embeddings: there are none.
    """
    return [
        node.get_friendly_name()
        for node in model.get_ordered_ops()
        if nodes is not None
        and node.get_type_name() == "Gather"
        and (own := nodes.get(node.get_friendly_name().partition("/")[0])) is not None
        and "embedding" not in str(own.target)
    ]


def outputs_of_layers(model: Any, nodes: Mapping[str, fx.Node], wanted: Sequence[str]) -> dict[str, str]:
    """Return the name of the operator that gives each layer's outputs, biases added, by the layer's name.

    Only operators whose names come from the program are meant: others are counted, and have another name in
    another conversion.
    """
    found: dict[str, str] = {}
    for node in model.get_ordered_ops():
        if node.get_type_name() not in WEIGHTED:
            continue
        layer, last = _layer_of(node, nodes), _with_bias(node)
        name = last.get_friendly_name()
        if layer in wanted and name.partition("/")[0] in nodes:
            found[str(layer)] = name
    return found


def _with_bias(node: Any) -> Any:
    """Return the sum of an operator's output with constants, if that alone uses the output."""
    targets = list(node.output(0).get_target_inputs())
    user = targets[0].get_node() if len(targets) == 1 else None
    if user is None or user.get_type_name() != "Add":
        return node
    others = [port.get_source_output().get_node().get_type_name() for port in user.inputs()]
    return user if "Constant" in others else node


def decoder_of(program: ExportedProgram) -> Any:
    """Return what OpenVINO converts of a program: its decoder of a graph of ``torch.fx``."""
    from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder

    return TorchFXPythonDecoder.from_exported_program(program)


def nodes_of(decoder: Any) -> dict[str, fx.Node]:
    """Return the nodes that OpenVINO converts, by the names with which those of its operators begin."""
    return {node.name: node for node in decoder.fx_gm.graph.nodes}


def _layer_of(node: Any, nodes: Mapping[str, fx.Node]) -> str | None:
    """Return the layer of an operator; None if that is not known.

    Where normalization was folded into a layer, its operator has lost its name: it is what computes an input
    of the operator that comes after it.
    """
    own = nodes.get(node.get_friendly_name().partition("/")[0])
    if own is not None:
        return layer_of(own)
    for target in node.output(0).get_target_inputs():
        user = nodes.get(target.get_node().get_friendly_name().partition("/")[0])
        inputs = [] if user is None else _tensors_of(user)
        if target.get_index() < len(inputs):
            return layer_of(_before_normalization(inputs[target.get_index()]))
    return None


def _tensors_of(node: fx.Node) -> list[fx.Node]:
    return [value for value in pytree.tree_leaves((node.args, node.kwargs)) if isinstance(value, fx.Node)]


def _before_normalization(node: fx.Node) -> fx.Node:
    """Return the node whose output is normalized, where a node normalizes; else the node itself."""
    while node.target is operator.getitem or "batch_norm" in str(node.target):
        node = _tensors_of(node)[0]
    return node
