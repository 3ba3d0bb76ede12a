"""Why a model could not be traced, exported or converted, and which of its layers it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from traceback import FrameSummary
    from types import FrameType

    from torch import nn


def blamed(error: BaseException, model: nn.Module) -> str:
    """The error in a line, after the innermost layer that was at work, and where in its source."""
    names = {id(module): name for name, module in model.named_modules()}
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)

    def told(layer: nn.Module, file: str, line: int) -> str:
        kind = type(layer).__name__
        named = f"layer {names[id(layer)]!r} ({kind})" if names[id(layer)] else kind
        return f"{named}, {Path(file).name}:{line}: {text}"

    for frame, line in _frames(error):
        layer = frame.f_locals.get("self")
        if id(layer) in names:
            return told(layer, frame.f_code.co_filename, line)
    # An early compiler interprets the code: its error holds a summary of frames, without the layer itself.
    for summary in reversed(getattr(error, "real_stack", None) or ()):
        layers = [layer for layer in model.modules() if _runs(layer, summary)]
        if len(layers) == 1:
            return told(layers[0], summary.filename, summary.lineno or 0)
        if layers:
            kind = type(layers[0]).__name__
            return f"one of {len(layers)} {kind}, {Path(summary.filename).name}:{summary.lineno}: {text}"
    return f"{type(model).__name__}: {text}"


def _runs(layer: nn.Module, frame: FrameSummary) -> bool:
    """Whether a frame lies in the layer's own ``forward``."""
    code = getattr(type(layer).forward, "__code__", None)
    if code is None or (code.co_filename, code.co_name) != (frame.filename, frame.name):
        return False
    return frame.lineno in {line for _, _, line in code.co_lines()}


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
