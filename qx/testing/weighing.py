"""A metric that passes on which weights an artifact holds, for the check of ``read_weights``."""

from __future__ import annotations

from qx.contract.hookspecs import hookimpl
from qx.contract.records import Artifact, Metric, Samples
from qx.host.host import Reference


class Weighing:
    """A metric whose details say how many elements and bits are read, and its value how many bytes."""

    @hookimpl
    def describe(self) -> Metric:
        """Return the record."""
        return Metric(
            name="weighing",
            summary="Bytes of the weights that are read.",
            unit="bytes",
            better="neither",
            samples="exact",
            compare="difference",
            phase="artifact",
        )

    @hookimpl
    def measure(self, data: Artifact) -> Samples | None:
        """Return the bytes of all weights; None where they are not known."""
        weights = data.read_weights()
        if weights is None:
            return None
        layers = weights.layers.values()
        elements = sum(layer.elements for layer in layers)
        wrong = [name for name, layer in weights.layers.items() if layer.bits < 1 or layer.elements < 1]
        details = {
            "weights": len(layers),
            "elements": elements + weights.other_elements,
            "wrong": wrong,
            "stored": [[layer.elements, layer.bits] for layer in layers],
        }
        return Samples(sum(layer.elements * layer.bits for layer in layers) / 8, details=details)


WEIGHING = Weighing()
REFERENCE = Reference(name="weighing", module=__name__, attribute="WEIGHING")
