"""What artifacts of graphs say about the values that layers give, for ``layer_outputs`` of their loaders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qx import Artifact, Unsupported

#: Key of an artifact's details under which the names of those values are, by layer.
LAYER_OUTPUTS = "layer_outputs"


def values_of_layers(artifact: Artifact, reference: Artifact) -> Mapping[str, str]:
    """Return the names of the values in a quantized graph, by layer. Raises ``Unsupported`` without them."""
    if any("decoder" in one.details for one in (artifact, reference)):
        raise Unsupported("a decoder with a cache has no values of layers that could be compared")
    names = artifact.details.get(LAYER_OUTPUTS)
    if not names:
        raise Unsupported("the artifact does not say which values its layers give")
    return dict(names)


def without_values(details: Mapping[str, Any]) -> dict[str, Any]:
    """Return an artifact's details as whoever serves it needs them."""
    return {key: value for key, value in details.items() if key != LAYER_OUTPUTS}
