"""Where the time of a program's call goes, by the event tracer that ExecuTorch's runtime is built with."""

from __future__ import annotations

import contextlib
import io
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qx import Profile, ProfiledOperator, Unsupported
from qx_plugins.recipes.profiling import WatchedCalls

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

WARM_CALLS = 5
#: Events of the program's own instructions: one that calls a delegate holds those of the delegate.
OPERATOR, DELEGATE = "OPERATOR_CALL", "DELEGATE_CALL"
#: Types of XNNPACK's operators that convert between types or layouts.
CONVERSIONS = ("Convert", "Transpose", "Copy")
#: Types of numbers in the names of XNNPACK's operators that are 8 bits wide.
NARROW = ("QC8", "QS8", "QU8", "QD8", "S8", "U8", "X8")


def profile_program(module: Any, call: Callable[[], object], calls: int) -> Profile:
    """Watch calls of a module that was loaded with its event tracer.

    Raises ``Unsupported`` where the runtime has no tracer, or what reads its files is missing.
    """
    if not module.has_etdump():
        raise Unsupported("this build of ExecuTorch has no event tracer")
    for _ in range(WARM_CALLS):
        call()
    made = WatchedCalls.make(call, calls)
    with tempfile.TemporaryDirectory(prefix="qx-") as folder:
        trace = Path(folder, "trace.etdp")
        module.write_etdump_result_to_file(str(trace), str(Path(folder, "buffers")))
        events = _read(trace)
    return Profile(
        operators=_operators(events, made),
        seconds=made.seconds,
        notes=["the tracer of ExecuTorch names no modules of the model"],
    )


def _read(trace: Path) -> Sequence[Any]:
    """Return the events of executions in a file of the tracer."""
    try:
        # It prints what it lacks.
        with contextlib.redirect_stdout(io.StringIO()):
            from executorch.devtools import Inspector

            blocks = Inspector(etdump_path=str(trace)).event_blocks
    except ImportError as error:
        raise Unsupported(f"what reads ExecuTorch's traces cannot be imported: {error}") from error
    return [event for block in blocks if block.name == "Execute" for event in block.events]


def _operators(events: Sequence[Any], made: WatchedCalls) -> list[ProfiledOperator]:
    operators = []
    delegates = delegated = 0.0
    for event in events:
        if event.perf_data is None:
            continue
        # In milliseconds; the last ones are those after the warm-up.
        seconds = made.share([time / 1e3 for time in event.perf_data.raw[-len(made.times) :]])
        if event.name == DELEGATE:
            delegates += seconds
        elif event.is_delegated_op or event.name == OPERATOR:
            delegated += seconds if event.is_delegated_op else 0.0
            kind = re.sub(r" #\d+$", "", event.name)
            operators.append(
                ProfiledOperator(
                    name=event.name,
                    type="operator outside of XNNPACK" if event.name == OPERATOR else kind,
                    seconds=seconds,
                    count=1,
                    precision=_precision(kind),
                    converts=kind.startswith(CONVERSIONS),
                )
            )
    if (rest := delegates - delegated) > 0:
        operators.append(
            ProfiledOperator(name="XNNPACK between operators", type="XNNPACK", seconds=rest, count=1)
        )
    return operators


def _precision(kind: str) -> str:
    types = re.findall(r"[A-Z]+\d+", kind)
    if not types:
        return ""
    return "int8" if any(name in NARROW for name in types) else "float"
