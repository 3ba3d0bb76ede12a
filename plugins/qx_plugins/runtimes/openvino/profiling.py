"""Where the time of a call goes, by OpenVINO's performance counters."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from qx import Profile, ProfiledOperator
from qx_plugins.recipes.profiling import WatchedCalls
from qx_plugins.runtimes.openvino import serving

if TYPE_CHECKING:
    from qx import Arrays

WARM_CALLS = 5
#: Types of operators that convert between types or layouts, and are in no model.
CONVERSIONS = frozenset({"Reorder", "Convert", "FakeQuantize", "ConvertCPULayout"})
#: Endings of the names of kernels by the type that they compute in.
TYPES = {"I8": "int8", "U8": "int8", "BF16": "bf16", "FP16": "fp16", "FP32": "float"}


def profile_request(path: Path, details: dict[str, Any], threads: int, inputs: Arrays, calls: int) -> Profile:
    """Watch calls of a model that is compiled as a launch compiles it, but with performance counters."""
    import numpy
    import openvino

    request, _ = serving.load([path], {**details, "profile": True}, threads)
    feed = {
        index: openvino.Tensor(numpy.ascontiguousarray(array), shared_memory=True)
        for index, array in enumerate(inputs.values())
    }
    for _ in range(WARM_CALLS):
        request.infer(feed, share_inputs=True, share_outputs=True)
    seconds: list[float] = []
    times: dict[str, list[float]] = defaultdict(list)
    last: dict[str, Any] = {}
    for _ in range(calls):
        start = perf_counter()
        request.infer(feed, share_inputs=True, share_outputs=True)
        seconds.append(perf_counter() - start)
        for info in request.get_profiling_info():
            if info.status == info.Status.EXECUTED:
                times[info.node_name].append(info.real_time.total_seconds())
                last[info.node_name] = info
    made = WatchedCalls(tuple(seconds))
    operators = [
        ProfiledOperator(
            name=name,
            type=info.node_type,
            seconds=made.share(times[name]),
            count=1,
            precision=TYPES.get(info.exec_type.rpartition("_")[2], ""),
            converts=info.node_type in CONVERSIONS,
        )
        for name, info in last.items()
    ]
    return Profile(operators=operators, seconds=made.seconds)
