"""What layers give inside of a quantized ONNX graph, and the same values in the graph in float."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qx_plugins.recipes.layer_values import values_of_layers
from qx_plugins.runtimes.onnxruntime import serving

if TYPE_CHECKING:
    from collections.abc import Collection

    import numpy

    from qx import Arrays, Artifact


def read(
    artifact: Artifact, reference: Artifact, inputs: Arrays, threads: int
) -> dict[str, tuple[numpy.ndarray, numpy.ndarray]]:
    """Return both arrays of each layer whose value is in both graphs, by the layer's name.

    Of a value that is rounded to 8 bits in the graph it is what the rounded one stands for: nodes stay fused
    as they are served. Raises ``Unsupported`` where the artifact does not name its values.
    """
    known, rounded = _values_in(reference), _rounded_values(artifact)
    pairs: dict[str, tuple[str, str]] = {}
    for layer, value in values_of_layers(artifact, reference).items():
        name = rounded.get(value, value)
        # An output of the graph keeps its name behind the rounding, other values keep theirs before it.
        plain = value if value in known else name
        if plain in known:
            pairs[layer] = name, plain
    ours = _run(artifact, {name for name, _ in pairs.values()}, inputs, threads)
    theirs = _run(reference, {plain for _, plain in pairs.values()}, inputs, threads)
    return {layer: (ours[name], theirs[plain]) for layer, (name, plain) in pairs.items()}


def _graph_of(artifact: Artifact) -> Any:
    import onnx

    return onnx.load(artifact.folder / artifact.files[0])


def _values_in(artifact: Artifact) -> set[str]:
    return {value for node in _graph_of(artifact).graph.node for value in node.output}


def _rounded_values(artifact: Artifact) -> dict[str, str]:
    """Return the values that come out of a pair of QuantizeLinear and DequantizeLinear, by what went in."""
    nodes = _graph_of(artifact).graph.node
    sources = {node.output[0]: node.input[0] for node in nodes if node.op_type == "QuantizeLinear"}
    return {
        sources[node.input[0]]: node.output[0]
        for node in nodes
        if node.op_type == "DequantizeLinear" and node.input[0] in sources
    }


def _run(artifact: Artifact, names: Collection[str], inputs: Arrays, threads: int) -> dict[str, Any]:
    """Return these values of a call of an artifact, from a copy of its graph that gives them as outputs."""
    import onnx

    model = _graph_of(artifact)
    outputs = {entry.name for entry in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(names) if name not in outputs)
    with tempfile.TemporaryDirectory(prefix="qx-") as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        session, _ = serving.load([path], {**artifact.details, "outputs": ()}, threads)
    feed = dict(zip((entry.name for entry in session.get_inputs()), inputs.values(), strict=True))
    wanted = sorted(names)
    return dict(zip(wanted, session.run(wanted, feed), strict=True))
