"""Where the time of a call goes, by ONNX Runtime's own profiler."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qx import Profile, ProfiledOperator
from qx_plugins.recipes.profiling import WatchedCalls
from qx_plugins.runtimes.onnxruntime import serving

if TYPE_CHECKING:
    from qx import Arrays, Artifact

#: Calls before those that count. The profiler sees them too, and they are left out.
WARM_CALLS = 5
#: Types of operators that convert between types or layouts, and are in no model.
CONVERSIONS = frozenset(
    {
        *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast", "ReorderInput"),
        *("ReorderOutput", "MemcpyFromHost", "MemcpyToHost"),
    }
)
#: Types of the first input of operators that compute in 8 bits.
NARROW = ("int8", "uint8")


def profile_session(artifact: Artifact, threads: int, inputs: Arrays, calls: int) -> Profile:
    """Watch calls of a session that is opened as a launch opens it, but for the profiler."""
    path = artifact.folder / artifact.files[0]
    with tempfile.TemporaryDirectory(prefix="qx-") as folder:
        details = {**artifact.details, "outputs": (), "profile": str(Path(folder) / "profile")}
        session, _ = serving.load([path], details, threads)
        names = [entry.name for entry in session.get_inputs()]
        feed = dict(zip(names, inputs.values(), strict=True))
        for _ in range(WARM_CALLS):
            session.run(None, feed)
        made = WatchedCalls.make(partial(session.run, None, feed), calls)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return Profile(operators=_operators(events, made), seconds=made.seconds)


def _operators(events: list[dict[str, Any]], made: WatchedCalls) -> list[ProfiledOperator]:
    """Return the nodes of the graph that ran, from the events of all calls but the first ones."""
    runs: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            runs[event["name"].removesuffix("_kernel_time")].append(event)
    operators, calls = [], len(made.times)
    for name, all_runs in runs.items():
        # In a loop a node runs several times in a call, as often in each.
        watched = all_runs[len(all_runs) * WARM_CALLS // (calls + WARM_CALLS) :]
        arguments = watched[-1]["args"]
        kind = str(arguments.get("op_name", ""))
        operators.append(
            ProfiledOperator(
                name=name,
                type=kind,
                seconds=made.share([event["dur"] / 1e6 for event in watched]),
                count=len(watched) / calls,
                precision=_precision(kind, arguments),
                converts=kind in CONVERSIONS,
            )
        )
    return operators


def _precision(kind: str, arguments: dict[str, Any]) -> str:
    """Return what a node computes in, by the type of its first input; empty where it has none."""
    shapes = arguments.get("input_type_shape") or [{}]
    types = [name for shape in shapes for name in shape]
    if kind == "MatMulNBits":
        return "int8"
    if not types:
        return ""
    return "int8" if types[0] in NARROW else "float"
