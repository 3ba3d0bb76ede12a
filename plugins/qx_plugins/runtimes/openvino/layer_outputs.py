"""What layers give inside of a quantized OpenVINO model, and the same values in the model in float."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qx_plugins.recipes.layer_values import values_of_layers
from qx_plugins.runtimes.openvino import serving

if TYPE_CHECKING:
    import numpy

    from qx import Arrays, Artifact

#: Operators through which a layer's outputs go before they are rounded: activation functions.
ACTIVATIONS = ("Relu", "Clamp")
ROUNDING = "FakeQuantize"


def read(
    artifact: Artifact, reference: Artifact, inputs: Arrays, threads: int
) -> dict[str, tuple[numpy.ndarray, numpy.ndarray]]:
    """Return both arrays of each layer whose value is in both models, by the layer's name.

    Of outputs that are rounded to 8 bits, maybe behind an activation function, it is the rounded ones:
    operators stay fused as they are served. Raises ``Unsupported`` where the artifact does not name its
    values.
    """
    values = values_of_layers(artifact, reference)
    own, other = (_operators_of(one) for one in (artifact, reference))
    pairs = {layer: _rounded(own[name]) for layer, name in values.items() if name in own}
    pairs = {layer: pair for layer, pair in pairs.items() if pair[1] in other}
    ours = _run(artifact, {name for name, _ in pairs.values()}, inputs, threads)
    theirs = _run(reference, {name for _, name in pairs.values()}, inputs, threads)
    return {layer: (ours[name], theirs[plain]) for layer, (name, plain) in pairs.items()}


def _model_of(artifact: Artifact) -> Any:
    import openvino

    (path,) = (artifact.folder / name for name in artifact.files if name.endswith(".xml"))
    return openvino.Core().read_model(path)


def _operators_of(artifact: Artifact) -> dict[str, Any]:
    return {node.get_friendly_name(): node for node in _model_of(artifact).get_ordered_ops()}


def _rounded(node: Any) -> tuple[str, str]:
    """Return the names of the operator that rounds an operator's output, and of the one before it.

    Both are the operator itself where nothing rounds its output.
    """
    last = node
    while True:
        users = [target.get_node() for target in last.output(0).get_target_inputs()]
        rounding = [user for user in users if user.get_type_name() == ROUNDING]
        if rounding:
            return rounding[0].get_friendly_name(), last.get_friendly_name()
        if len(users) != 1 or users[0].get_type_name() not in ACTIVATIONS:
            return node.get_friendly_name(), node.get_friendly_name()
        (last,) = users


def _run(artifact: Artifact, names: set[str], inputs: Arrays, threads: int) -> dict[str, Any]:
    """Return what these operators give in a call of an artifact, of which a copy gives it as outputs."""
    model = _model_of(artifact)
    found = {node.get_friendly_name(): node for node in model.get_ordered_ops()}
    # What is an output already is not added once more.
    model.add_outputs([found[name].output(0) for name in sorted(names)])
    places = {
        output.get_node().input_value(0).get_node().get_friendly_name(): place
        for place, output in enumerate(model.outputs)
    }
    request, _ = serving.load([model], {**artifact.details, "outputs": ()}, threads)
    answers = request.infer(dict(enumerate(inputs.values())))
    return {name: answers[places[name]].copy() for name in names}
