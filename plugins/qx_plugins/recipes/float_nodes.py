"""Find the nodes of exported graphs that belong to layers, to leave them in float.

It imports torch: import it inside functions.
"""

from __future__ import annotations

import re
from typing import Any

from torch import fx

from qx import FloatLayers, Unsupported
from qx_plugins.recipes.exporting import layer_of
from qx_plugins.recipes.rewriting import LAYERS

#: Key in the metadata of a node under which quantizers of PT2E leave what is to be done with it.
ANNOTATION = "quantization_annotation"
#: Number of a call in the name of a layer that is called more than once.
_CALL = re.compile(r"@\d+")


def leave_in_float(graph: fx.GraphModule, layers: FloatLayers, annotation: Any) -> None:
    """Mark the nodes of layers as annotated with nothing, before a quantizer annotates the graph.

    ``annotation`` makes such an annotation. Quantizers of PT2E pass over what is annotated. Raises
    ``Unsupported`` where a layer has no node.
    """
    seen: list[str] = []
    for node in graph.graph.nodes:
        if node.op != "call_function":
            continue
        names = [name for name in layers_of(node) if name in layers]
        if names:
            node.meta[ANNOTATION] = annotation(_annotated=True)
            seen += names
    for name in layers.without_any(seen):
        raise Unsupported(f"float_layers: the exported graph has no node of layer {name!r}")


def layers_of(node: fx.Node) -> list[str]:
    """Return the layers that a node may be of: the one that was running, and the one that has the weights.

    The latter is known where the graph was rewritten and exported again, too.
    """
    names = [_CALL.sub("", layer_of(node))]
    if node.target in LAYERS and len(node.args) > 1:
        weight = node.args[1]
        # Fake quantization may stand between.
        while isinstance(weight, fx.Node) and weight.op == "call_module" and weight.args:
            weight = weight.args[0]
        if isinstance(weight, fx.Node) and weight.op == "get_attr":
            names.append(str(weight.target).rpartition(".")[0])
    return [name for name in names if name]
