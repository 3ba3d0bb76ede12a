"""Which weights an artifact holds: a module for each type of file, with ``read(path, details)``."""

from __future__ import annotations

from typing import Any

from attrs import Factory, frozen


@frozen
class Weights:
    """The weights in a file, and what the runtime makes of them."""

    #: Name of a weight -> its ``elements``, the ``bits`` of each, and its ``type``.
    layers: dict[str, dict[str, Any]]
    #: How often the loaded model runs each kind of kernel that has weights, by its name and precision; empty
    #: where the runtime does not tell.
    kernels: dict[str, int] = Factory(dict)


def layer(elements: int, bits: int, kind: str) -> dict[str, Any]:
    """One weight."""
    return {"elements": int(elements), "bits": int(bits), "type": kind}
