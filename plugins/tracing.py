"""Why a model could not be traced, exported or converted, and which of its layers it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

    from torch import nn


def blamed(error: BaseException, model: nn.Module) -> str:
    """The error in a line, after the innermost layer that was at work, and where in its source."""
    names = {id(module): name for name, module in model.named_modules()}
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    for frame, line in _frames(error):
        layer = frame.f_locals.get("self")
        if id(layer) in names:
            kind, place = type(layer).__name__, Path(frame.f_code.co_filename).name
            named = f"layer {names[id(layer)]!r} ({kind})" if names[id(layer)] else kind
            return f"{named}, {place}:{line}: {text}"
    return f"{type(model).__name__}: {text}"


def _frames(error: BaseException) -> Iterator[tuple[FrameType, int]]:
    """The frames in which an error and those that caused it were raised, the innermost first."""
    seen: set[int] = set()
    current: BaseException | None = error
    causes = []
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        causes.append(current)
        current = current.__cause__ or current.__context__
    for cause in reversed(causes):
        frames, trace = [], cause.__traceback__
        while trace is not None:
            frames.append((trace.tb_frame, trace.tb_lineno))
            trace = trace.tb_next
        yield from reversed(frames)
