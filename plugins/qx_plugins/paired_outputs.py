"""The outputs of a cell in pairs with the baseline's, for metrics of how near the two are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from qx import QxError, Unsupported

if TYPE_CHECKING:
    import numpy as np

    from qx import Recorded


@frozen(eq=False)
class OutputPair:
    """One output of the baseline, and that of the cell on the same items."""

    baseline: np.ndarray
    #: None where the cell has no output of this name and shape: it computes something else.
    ours: np.ndarray | None


def output_pairs(data: Recorded, name: str = "") -> dict[str, OutputPair]:
    """Return the outputs of the baseline in pairs with the cell's, by name; empty where either has none.

    Outputs of whole numbers may be names of classes, between which there is no distance, so they are left
    out unless ``name`` asks for one. Raises ``Unsupported`` where no other is left, and ``QxError`` where the
    baseline has no output of this name.
    """
    if data.outputs is None or data.baseline_outputs is None:
        return {}
    names = list(data.baseline_outputs)
    if name and name not in names:
        raise QxError(f"there is no output {name!r}; choose from {', '.join(names)}")
    chosen = [name] if name else [key for key in names if data.baseline_outputs[key].dtype.kind == "f"]
    if not chosen:
        raise Unsupported(
            "its outputs are whole numbers, which may be names of classes; name one as the option 'output' "
            "where they are amounts"
        )
    return {key: _pair(data.outputs.get(key), data.baseline_outputs[key]) for key in chosen}


def _pair(ours: np.ndarray | None, baseline: np.ndarray) -> OutputPair:
    return OutputPair(baseline, ours if ours is not None and ours.shape == baseline.shape else None)
