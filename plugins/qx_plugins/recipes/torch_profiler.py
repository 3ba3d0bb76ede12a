"""Where the time of calls goes, by ``torch.profiler``."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from qx import Profile, ProfiledOperator
from qx_plugins.recipes.profiling import WatchedCalls

if TYPE_CHECKING:
    from collections.abc import Callable

#: Beginning of the names of the ranges that stand for modules.
MODULE = "qx module: "
#: Calls before those that are watched, with the profiler running: its first ones take longer.
WARM_CALLS = 3
#: Names of operators that only convert between types or layouts.
CONVERSIONS = frozenset(
    {
        *("aten::quantize_per_tensor", "aten::quantize_per_channel", "aten::dequantize"),
        *("aten::quantize_per_tensor_dynamic", "aten::to", "aten::_to_copy", "aten::copy_"),
        *("aten::contiguous", "aten::clone", "aten::to_mkldnn", "aten::to_dense"),
    }
)
#: Parts of the names of operators that compute in 8 bits.
NARROW = ("quantized", "qconv", "qlinear", "_int8", "int8pack", "int_mm")
#: Operators that compute nothing: they make tensors, and change or tell what is known of them.
WITHOUT_NUMBERS = frozenset(
    {
        *(
            "aten::empty",
            "aten::empty_strided",
            "aten::_empty_affine_quantized",
            "aten::resize_",
            "aten::view",
        ),
        *("aten::as_strided", "aten::as_strided_", "aten::flatten", "aten::reshape", "aten::transpose"),
        *("aten::permute", "aten::expand", "aten::select", "aten::slice", "aten::unsqueeze", "aten::t"),
        *("aten::item", "aten::_local_scalar_dense", "aten::q_scale", "aten::q_zero_point", "aten::detach"),
    }
)


def profile_calls(call: Callable[[], object], calls: int) -> Profile:
    """Watch calls with ``torch.profiler``, whatever runs in them."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]):
        for _ in range(WARM_CALLS):
            call()
    with profile(activities=[ProfilerActivity.CPU]) as watched:
        made = WatchedCalls.make(call, calls)
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in watched.events() or ():
        if not event.name.startswith((MODULE, "ProfilerStep")):
            times[_module_of(event), event.name].append(event.self_cpu_time_total / 1e6)
    operators = [
        ProfiledOperator(
            name=name,
            type=name,
            seconds=made.share(runs),
            count=len(runs) / calls,
            module=module,
            precision=_precision(name),
            converts=name in CONVERSIONS,
        )
        for (module, name), runs in times.items()
    ]
    return Profile(operators=operators, seconds=made.seconds)


def _precision(name: str) -> str:
    if name in WITHOUT_NUMBERS:
        return ""
    return "int8" if any(part in name for part in NARROW) else "float"


def _module_of(event: Any) -> str:
    """Return the path of the innermost module in whose range an event lies; empty without one."""
    while (event := event.cpu_parent) is not None:
        if event.name.startswith(MODULE):
            return str(event.name[len(MODULE) :])
    return ""
