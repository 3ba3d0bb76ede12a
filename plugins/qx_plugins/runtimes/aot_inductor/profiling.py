"""Where the time of a package's call goes, by ``torch.profiler``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from qx import Profile
from qx_plugins.runtimes.torch_eager.profiling import profile_calls

if TYPE_CHECKING:
    from collections.abc import Callable

#: Part of the names of kernels that Inductor has generated.
GENERATED = "cpp_fused"
#: What a package holds that was not built to be profiled.
NOT_NAMED = (
    "the kernels that Inductor generated are in no operator: the package was not built with "
    "kernel_profile=true"
)


def profile_package(call: Callable[[], object], calls: int) -> Profile:
    """Watch calls of a package: operators of torch, and the kernels that Inductor has generated."""
    profile = profile_calls(call, calls)
    if any(GENERATED in operator.name for operator in profile.operators):
        return profile
    return evolve(profile, notes=(*profile.notes, NOT_NAMED))
