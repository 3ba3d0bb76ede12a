"""Describe the machine and the software that figures come from."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Collection, Iterable
from functools import cache
from pathlib import Path

from qx.errors import UsageError
from qx.values import JsonObject

#: Distributions whose versions are in every result, where they are installed.
DISTRIBUTIONS = ("quant-explorer", "torch", "torchvision", "numpy", "scipy", "pluggy", "psutil")

#: Instruction sets that decide how fast 8-bit and bfloat16 arithmetic is.
SPEED_FLAGS = (
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
#: File in which Linux describes the processors.
CPUINFO = Path("/proc/cpuinfo")
#: Designs of cores in servers and boards, by implementer and part as Linux gives them (MIDR_EL1).
ARM_CORES = {
    ("0x41", "0xd08"): "Arm Cortex-A72",
    ("0x41", "0xd0b"): "Arm Cortex-A76",
    ("0x41", "0xd0c"): "Arm Neoverse-N1",
    ("0x41", "0xd40"): "Arm Neoverse-V1",
    ("0x41", "0xd49"): "Arm Neoverse-N2",
    ("0x41", "0xd4f"): "Arm Neoverse-V2",
    ("0xc0", "0xac3"): "Ampere-1",
}


@cache
def cpu_flags() -> frozenset[str]:
    """Return the CPU's instruction set flags as the kernel names them; empty where they are not reported."""
    for name, value in _cpu_fields():
        if name in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def usable_cpus() -> int:
    """Return the number of CPUs that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_numbers() -> tuple[int, ...]:
    """Return the CPUs that this process may run on; empty where the system does not report them."""
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()


def cpu_model() -> str:
    """Return the model name of the CPU; on Arm, where Linux has no name, that of the core's design."""
    fields = dict(reversed(_cpu_fields()))
    if name := fields.get("model name"):
        return name
    if part := fields.get("CPU part"):
        implementer = fields.get("CPU implementer", "?")
        return ARM_CORES.get((implementer, part), f"Arm, implementer {implementer}, part {part}")
    return platform.processor() or platform.machine()


def distribution_version(name: str) -> str | None:
    """Return the version of an installed distribution, or None; ``name`` may be a requirement."""
    # Imported here, since it imports the email package, which takes a fifth of the time of `qx list`.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution_name(name))
    except PackageNotFoundError:
        return None


def distributions_of(packages: Collection[str]) -> list[str]:
    """Return the names of the distributions that have installed any of these top-level packages or modules.

    The answer is that of ``importlib.metadata.packages_distributions``, which makes a path of each installed
    file: with torch that takes up to half a second.
    """
    from importlib.metadata import distributions

    names, wanted = set(), frozenset(packages)
    for distribution in distributions():
        declared = (distribution.read_text("top_level.txt") or "").split()
        if not declared and (record := distribution.read_text("RECORD")) is not None:
            files = (line.rsplit(",", 2)[0].strip('"') for line in record.splitlines())
            declared = [_top_level_name(file) for file in files if file.endswith(".py")]
        if not declared:
            declared = [
                _top_level_name(str(file)) for file in distribution.files or () if file.suffix == ".py"
            ]
        if wanted.intersection(declared):
            names.add(distribution.metadata["Name"])
    return sorted(names)


def _top_level_name(file: str) -> str:
    """Return the top-level package of an installed file, or the module that it is."""
    return file.partition("/")[0].removesuffix(".py")


def distribution_name(requirement: str) -> str:
    """Return the distribution in a requirement: ``"onnx"`` for ``"onnx>=1.17"``."""
    name = requirement.replace(";", " ").split()[0]
    for sign in "<>=!~[":
        name = name.partition(sign)[0]
    return name


def require_proc() -> None:
    """Raise ``UsageError`` on a Linux without ``/proc``, which qx needs to measure processes and memory."""
    if sys.platform == "linux" and not Path("/proc/self/stat").exists():
        raise UsageError(
            "/proc is missing, which qx needs to measure processes and memory: mount it (mount -t proc)"
        )


def describe_environment(requirements: Iterable[str] = ()) -> JsonObject:
    """Return the properties of machine and software that may affect figures, except for those of torch.

    They include the versions of the distributions in ``requirements``. Raises ``UsageError`` without
    ``/proc``.
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
        "cpu_flags": [flag for flag in SPEED_FLAGS if flag in flags],
        "hypervisor": "hypervisor" in flags,
        "governor": first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "memory_bytes": psutil.virtual_memory().total,
        "load_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "distributions": {
            name: version
            for name in dict.fromkeys([*DISTRIBUTIONS, *map(distribution_name, requirements)])
            if (version := distribution_version(name)) is not None
        },
    }


def fingerprint() -> str:
    """Return an identifier of this machine: equal for two runs on one machine under one kernel.

    The machine's id from the system enters only in a keyed hash, as systemd requires for publication. Where
    there is no id, the host's name takes its place.
    """
    import hmac

    import psutil

    properties = [
        platform.machine(),
        cpu_model(),
        sorted(cpu_flags()),
        usable_cpus(),
        round(psutil.virtual_memory().total / 2**30),
        f"{platform.system()} {platform.release()}",
        first_line("/etc/machine-id") or platform.node(),
    ]
    return hmac.new(b"qx machine", json.dumps(properties).encode(), "sha256").hexdigest()[:16]


def available_memory() -> int:
    """Return the bytes that are free in the system, and in this control group where that has a limit."""
    import psutil

    free = [psutil.virtual_memory().available]
    try:
        folder = control_group()
        limit, used = first_line(folder / "memory.max"), first_line(folder / "memory.current")
        if limit is not None and limit.isdigit() and used is not None:
            # Files in the page cache count as used, but are dropped when memory is needed.
            cached = [
                line for line in (folder / "memory.stat").read_text().splitlines() if line.startswith("file ")
            ]
            free.append(int(limit) - int(used) + sum(int(line.split()[1]) for line in cached))
    except OSError:
        pass
    return max(0, min(free))


def control_group() -> Path:
    """Return the folder of this process's control group (cgroups(7), version 2). Raises ``OSError``."""
    # `0::/the/path`; within a container the path is the root.
    own = Path("/proc/self/cgroup").read_text(encoding="ascii").partition("0::")[2].split("\n")[0]
    return Path("/sys/fs/cgroup", own.strip("/"))


@cache
def _cpu_fields() -> list[tuple[str, str]]:
    """Return the fields of the first processor in ``/proc/cpuinfo`` (Linux): names and values."""
    try:
        text = CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    first = text.partition("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return [(name.strip(), value.strip()) for name, _, value in pairs]


def first_line(path: str | Path) -> str | None:
    """Return the first line of a small file; None where it cannot be read."""
    try:
        return Path(path).read_text(encoding="ascii").splitlines()[0]
    except (OSError, IndexError):
        return None
