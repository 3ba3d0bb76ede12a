"""The user's own judgement of the answers: ``score(outputs, targets)`` of a model's file, or ``--score``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

from qx import (
    Context,
    Metric,
    Option,
    Predictions,
    Samples,
    UsageError,
    hookimpl,
    import_file,
    one_line,
    session_object,
)

if TYPE_CHECKING:
    import numpy as np

    from qx import Arrays


#: The beginning of references to objects of a Python session.
SESSION = "session:"


@hookimpl
def describe() -> Metric:
    return Metric(
        name="score",
        summary="Value of the score function that the model's file has, or that --score names.",
        unit="points",
        better="higher",
        samples="per_set",
        compare="difference",
        phase="predictions",
        axis=True,
        quality=3,
        takes_score=True,
        pick="the best score",
        options=(
            Option(
                name="function", default="", help="FILE.py:FUNCTION, as --score has it; else the model's."
            ),
        ),
    )


@hookimpl
def measure(data: Predictions, context: Context) -> Samples | None:
    """Return the value of each item, ``[n, 1]``, whose mean is the score, or that of all items together."""
    # Copies, which a function may change; the arrays of the evaluation lie in files.
    outputs, targets = _copies(data.outputs), _copies(data.targets)
    value = _value(outputs, targets, data.score, context)
    if value is None:
        return None
    if value.ndim == 0:
        return Samples(float(value), details={"values": "one for all items"})
    return Samples(value[:, None], details={"values": "one for each item, of which this is the mean"})


@hookimpl
def combine(statistics: np.ndarray) -> np.ndarray:
    return statistics[..., 0]


@hookimpl
def statistic(
    outputs: Arrays,
    targets: Arrays,
    indices: np.ndarray,
    score: Callable[[Arrays, Arrays], Any] | None,
    context: Context,
) -> float | None:
    """Return the value of some items, of a function that gives one for all of them together."""
    value = _value(_copies(outputs, indices), _copies(targets, indices), score, context)
    return None if value is None else float(value)


def _copies(arrays: Arrays, indices: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Return copies of arrays by name, of the items at these indices or of all."""
    import numpy as np

    return {name: np.array(array if indices is None else array[indices]) for name, array in arrays.items()}


def _value(
    outputs: Arrays, targets: Arrays, score: Callable[[Arrays, Arrays], Any] | None, context: Context
) -> np.ndarray | None:
    """Return what the user's function gives, a number or one for each item. Raises ``UsageError``."""
    import numpy as np

    target = str(context.options["function"])
    function = _function(target) if target else score
    result = None if function is None else function(outputs, targets)
    if result is None:
        if target:
            raise UsageError(f"{_shown(target)} gave None; expected a number, or one for each item")
        return None
    if hasattr(result, "detach"):
        result = result.detach().cpu().numpy()
    name = _shown(target) if target else "score()"
    items = len(next(iter(outputs.values())))
    try:
        value = np.asarray(result, dtype=float)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"{name} gave a {type(result).__name__}; expected a number, or one for each item"
        ) from error
    if value.shape not in ((), (items,)):
        raise UsageError(
            f"{name} gave {list(value.shape)} values for {items} items; expected a number, or [{items}]"
        )
    if not np.isfinite(value).all():
        wrong = f"item {np.flatnonzero(~np.isfinite(value))[0]} the value" if value.ndim else "the value"
        raise UsageError(f"{name} gave {wrong} {value[~np.isfinite(value)].flat[0]}; expected finite numbers")
    return value


@cache
def _function(target: str) -> Callable[[Arrays, Arrays], Any]:
    """Import ``FILE.py:FUNCTION``, once in a process. Raises ``UsageError``."""
    if target.startswith(SESSION):
        own: Any = session_object(target)
        return own  # type: ignore[no-any-return]
    path, _, name = target.rpartition(":")
    # The file may import modules beside it, as if it were run by itself.
    if (folder := str(Path(path).parent)) not in sys.path:
        sys.path.append(folder)
    try:
        module = import_file(f"_qx_score_{crc32(path.encode()):08x}", Path(path))
    except (Exception, SystemExit) as error:
        raise UsageError(f"--score: {Path(path).name} cannot be imported: {one_line(error)}") from error
    function: Callable[[Arrays, Arrays], Any] | None = getattr(module, name, None)
    if not callable(function):
        own = [
            key
            for key, value in vars(module).items()
            if callable(value) and getattr(value, "__module__", None) == module.__name__
        ]
        raise UsageError(
            f"--score: {Path(path).name} has no function {name} (it has {', '.join(own) or 'none'})"
        )
    return function


def _shown(target: str) -> str:
    """Return the function as messages name it, without the folders of its file."""
    path, _, name = target.rpartition(":")
    if target.startswith(SESSION):
        return f"{target.split(':')[1]}()"
    return f"{Path(path).name}:{name}"
