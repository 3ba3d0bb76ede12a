"""Where the time of a call goes, by computing one layer after another: ncnn's package has no profiler."""

from __future__ import annotations

from collections import defaultdict
from time import perf_counter
from typing import Any

from qx import Profile, ProfiledOperator
from qx_plugins.recipes.profiling import WatchedCalls

WARM_CALLS = 3
#: Types of layers that convert between types, or pass data on.
CONVERSIONS = frozenset({"Packing", "Cast", "Quantize", "Dequantize", "Requantize", "Split", "Noop"})
NOTE = (
    "the package of ncnn has no profiler: each layer was computed alone, by asking for its output, so "
    "nothing is known of what passes between layers"
)


def profile_net(net: Any, inputs: list[tuple[str, Any]], calls: int, items: int) -> Profile:
    """Time every layer for the inputs of one item, by name; a call computes ``items`` of them."""
    blobs = [blob.name for blob in net.blobs()]
    layers = [layer for layer in net.layers() if layer.type != "Input"]
    times: dict[str, list[float]] = defaultdict(list)
    seconds: list[float] = []
    for number in range(WARM_CALLS + calls):
        extractor = net.create_extractor()
        # Otherwise layers give up what they have computed.
        extractor.set_light_mode(False)
        for name, mat in inputs:
            extractor.input(name, mat)
        began = perf_counter()
        for layer in layers:
            for top in layer.tops:
                start = perf_counter()
                code, _ = extractor.extract(blobs[top], 1)
                if code != 0:
                    raise RuntimeError(f"ncnn failed with code {code} in layer {layer.name}")
                if number >= WARM_CALLS:
                    times[layer.name].append(perf_counter() - start)
        if number >= WARM_CALLS:
            seconds.append(perf_counter() - began)
    made = WatchedCalls(tuple(seconds))
    operators = [
        ProfiledOperator(
            name=layer.name,
            type=layer.type,
            seconds=items * made.share(times[layer.name]),
            count=items,
            converts=layer.type in CONVERSIONS,
        )
        for layer in layers
    ]
    return Profile(operators=operators, seconds=items * made.seconds, notes=[NOTE])
