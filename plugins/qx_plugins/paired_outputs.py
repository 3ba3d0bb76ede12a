"""The outputs of a cell in pairs with the baseline's, for metrics of how near the two are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from attrs import frozen

from qx import QxError, Samples, Unsupported

if TYPE_CHECKING:
    import numpy as np

    from qx import Recorded

#: Number of elements that are looked at at a time, so that memory stays at some tens of MiB.
AT_ONCE = 1 << 20
#: Fields of the option that chooses an output.
OUTPUT_OPTION: Mapping[str, Any] = {
    "name": "output",
    "default": "",
    "help": "The output to judge by; empty: of all that are not whole numbers the worst.",
}


@frozen(eq=False)
class OutputPair:
    """One output of the baseline, and that of the cell on the same items."""

    baseline: np.ndarray
    #: None where the cell has no output of this name and shape: it computes something else.
    ours: np.ndarray | None

    def chunks(self) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """Yield the items in parts: which they are, and the baseline's and the cell's elements of each.

        The elements are in double precision, ``[items, elements]``; those of an output that the cell lacks
        are not numbers.
        """
        import numpy as np

        items = len(self.baseline)
        step = max(1, AT_ONCE * items // max(1, self.baseline.size))
        for start in range(0, items, step):
            part = slice(start, start + step)
            theirs = self.baseline[part].reshape(len(self.baseline[part]), -1).astype(float)
            if self.ours is None:
                yield part, theirs, np.full_like(theirs, np.nan)
            else:
                yield part, theirs, self.ours[part].reshape(theirs.shape).astype(float)


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


def worst_output(
    values: Mapping[str, np.ndarray],
    choose: Callable[[Iterable[float]], float],
    extreme: str | None = None,
) -> Samples | None:
    """Return the values of the items of the output with the worst mean; None without any output.

    Parameters
    ----------
    values : mapping of arrays, shape [n]
        A value for each item, by output.
    choose : callable
        ``min`` or ``max``, whichever is worse.
    extreme : text
        Name under which the details have the worst value of all items, with its item; None for no such entry.
    """
    if not values:
        return None
    means = {name: float(array.mean()) for name, array in values.items()}
    name = next(name for name, mean in means.items() if mean == choose(means.values()))
    details: dict[str, object] = {"output": name, "outputs": means}
    if extreme is not None:
        largest = choose(values[name].tolist())
        details[extreme] = {"item": values[name].tolist().index(largest), "value": largest}
    return Samples(values[name], details=details)
