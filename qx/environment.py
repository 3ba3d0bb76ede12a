"""The machine and the software that the figures come from."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from qx.errors import UsageError
from qx.values import JsonObject

#: Distributions whose versions stand in every result, where they are installed.
DISTRIBUTIONS = ("quant-explorer", "torch", "torchvision", "numpy", "scipy", "pluggy", "psutil")

#: Instruction sets that decide how fast 8-bit and bfloat16 arithmetic is.
TELLING_FLAGS = (
    "avx2",
    "avx512f",
    "avx_vnni",
    "avx512_vnni",
    "avx512_bf16",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
)


@cache
def cpu_flags() -> frozenset[str]:
    """The CPU's instruction set flags as the kernel names them; empty where the system does not tell."""
    for name, value in _cpu_fields():
        if name in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def usable_cpus() -> int:
    """How many CPUs this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_numbers() -> tuple[int, ...]:
    """The CPUs that this process may run on; none where the system does not tell."""
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()


def cpu_model() -> str:
    """The CPU as it names itself."""
    named = [value for name, value in _cpu_fields() if name == "model name"]
    return named[0] if named else platform.processor() or platform.machine()


def distribution_version(name: str) -> str | None:
    """The version of an installed distribution; ``name`` may be a requirement."""
    # Imported here: it brings the email package along, and takes a fifth of the time of `qx list`.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution_name(name))
    except PackageNotFoundError:
        return None


def distribution_name(requirement: str) -> str:
    """The distribution that a requirement is of: ``"onnx"`` of ``"onnx>=1.17"``."""
    name = requirement.replace(";", " ").split()[0]
    for sign in "<>=!~[":
        name = name.partition(sign)[0]
    return name


def require_proc() -> None:
    """Raise ``UsageError`` on a Linux without ``/proc``, by which processes and memory are measured."""
    if sys.platform == "linux" and not Path("/proc/self/stat").exists():
        raise UsageError(
            "/proc is not there, and qx measures processes and memory by it: mount it (mount -t proc)"
        )


def describe_environment(requirements: Iterable[str] = ()) -> JsonObject:
    """Everything of the machine and the software that may decide a figure, but for what torch knows.

    The distributions that ``requirements`` ask for are told too. Raises ``UsageError`` without ``/proc``.
    """
    require_proc()
    import psutil

    flags = cpu_flags()
    return {
        "fingerprint": fingerprint(),
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cpu": cpu_model(),
        "cpus": usable_cpus(),
        "cpu_flags": [flag for flag in TELLING_FLAGS if flag in flags],
        "hypervisor": "hypervisor" in flags,
        "governor": first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "memory_bytes": psutil.virtual_memory().total,
        "load_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "distributions": {
            name: found
            for name in dict.fromkeys([*DISTRIBUTIONS, *map(distribution_name, requirements)])
            if (found := distribution_version(name)) is not None
        },
    }


def fingerprint() -> str:
    """What tells this machine from others: equal for two runs on one machine under one kernel.

    Of the id that the system gave the machine only a keyed hash goes in, as systemd asks of whoever
    publishes it; where there is none, the host's name stands for it.
    """
    import hmac

    import psutil

    known = [
        platform.machine(),
        cpu_model(),
        sorted(cpu_flags()),
        usable_cpus(),
        round(psutil.virtual_memory().total / 2**30),
        f"{platform.system()} {platform.release()}",
        first_line("/etc/machine-id") or platform.node(),
    ]
    return hmac.new(b"qx machine", json.dumps(known).encode(), "sha256").hexdigest()[:16]


def available_memory() -> int:
    """Bytes that processes can still take: of the system, and of this control group where it has a limit."""
    import psutil

    free = [psutil.virtual_memory().available]
    try:
        place = control_group()
        limit, used = first_line(place / "memory.max"), first_line(place / "memory.current")
        if limit is not None and limit.isdigit() and used is not None:
            # Files that lie in the page cache are counted, and given up when memory is wanted.
            cached = [
                line for line in (place / "memory.stat").read_text().splitlines() if line.startswith("file ")
            ]
            free.append(int(limit) - int(used) + sum(int(line.split()[1]) for line in cached))
    except OSError:
        pass
    return max(0, min(free))


def control_group() -> Path:
    """The folder of this process's control group (cgroups(7), version 2). Raises ``OSError``."""
    # `0::/its/place`; within a container the place is the root.
    own = Path("/proc/self/cgroup").read_text(encoding="ascii").partition("0::")[2].split("\n")[0]
    return Path("/sys/fs/cgroup", own.strip("/"))


@cache
def _cpu_fields() -> list[tuple[str, str]]:
    """The fields of the first processor in ``/proc/cpuinfo`` (Linux)."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    first = text.partition("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return [(name.strip(), value.strip()) for name, _, value in pairs]


def first_line(path: str | Path) -> str | None:
    """The first line of a small file, if it can be read."""
    try:
        return Path(path).read_text(encoding="ascii").splitlines()[0]
    except (OSError, IndexError):
        return None
