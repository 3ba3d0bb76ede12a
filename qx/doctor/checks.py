"""What on this machine makes timings unsteady, and the remedies (Linux; elsewhere most is unknown)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from qx.doctor.devices import examine_devices
from qx.doctor.findings import Finding
from qx.environment import control_group, cpu_flags, first_line, require_proc, usable_cpus
from qx.processes.workers import THREAD_VARIABLES

CPU = Path("/sys/devices/system/cpu")
CGROUP = Path("/sys/fs/cgroup")
#: Seconds over which other load and stolen time are measured.
OBSERVED_SECONDS = 1.0
#: Share of one processor below which the load of another process does not matter.
NEGLIGIBLE_LOAD = 0.05


def examine() -> Iterator[Finding]:
    """Look at every aspect, which takes one or two seconds. Raises ``UsageError`` where none can be seen."""
    require_proc()
    yield from (look() for look in LOOKS)
    yield from examine_devices()


def _governor() -> Finding:
    governors = {
        line for path in CPU.glob("cpu[0-9]*/cpufreq/scaling_governor") if (line := first_line(path))
    }
    if not governors:
        return Finding("frequency governor", "unknown", "the system does not report it")
    names = ", ".join(sorted(governors))
    if governors == {"performance"}:
        return Finding("frequency governor", "good", names)
    return Finding("frequency governor", "bad", names, "cpupower frequency-set -g performance")


def _turbo() -> Finding:
    for path, enabled in ((CPU / "intel_pstate/no_turbo", "0"), (CPU / "cpufreq/boost", "1")):
        if (line := first_line(path)) is not None:
            if line == enabled:
                value = 1 if enabled == "0" else 0
                return Finding("turbo", "bad", "on: clocks follow heat", f"echo {value} > {path}")
            return Finding("turbo", "good", "off")
    return Finding("turbo", "unknown", "the system does not report it")


def _smt() -> Finding:
    active = first_line(CPU / "smt/active")
    if active is None:
        return Finding("simultaneous multithreading", "unknown", "the system does not report it")
    if active == "0":
        return Finding("simultaneous multithreading", "good", "off")
    siblings = sorted(
        {line for path in CPU.glob("cpu[0-9]*/topology/thread_siblings_list") if (line := first_line(path))}
    )
    first_of_cores = ",".join(line.replace("-", ",").split(",")[0] for line in siblings)
    return Finding(
        "simultaneous multithreading",
        "bad",
        f"on: {'; '.join(siblings)} share cores",
        f"qx run --cpus {first_of_cores}",
    )


def _other_load() -> Finding:
    own = {os.getpid()}
    others = {process.pid: process for process in psutil.process_iter() if process.pid not in own}
    for process in others.values():
        _cpu_share(process)
    time.sleep(OBSERVED_SECONDS)
    shares = sorted(
        ((_cpu_share(process), process) for process in others.values()), key=lambda pair: -pair[0]
    )
    busy = [(share, process) for share, process in shares if share > NEGLIGIBLE_LOAD]
    if not busy:
        return Finding("other load", "good", f"no process took over {NEGLIGIBLE_LOAD:.0%} of a processor")
    loads = ", ".join(f"{_name(process)} {share:.0%}" for share, process in busy[:3])
    return Finding("other load", "bad", loads, "stop it, or wait until it is done")


def _cpu_share(process: psutil.Process) -> float:
    try:
        return float(process.cpu_percent()) / 100
    except psutil.Error:
        return 0.0


def _name(process: psutil.Process) -> str:
    try:
        return f"{process.name()} ({process.pid})"
    except psutil.Error:
        return str(process.pid)


def _stolen() -> Finding:
    if "hypervisor" not in (flags := cpu_flags()):
        if "asimd" in flags:
            return Finding("hypervisor", "unknown", "Arm processors do not report it")
        return Finding("hypervisor", "good", "none is seen")
    before, start = psutil.cpu_times(), time.monotonic()
    time.sleep(OBSERVED_SECONDS)
    after, seconds = psutil.cpu_times(), time.monotonic() - start
    stolen = getattr(after, "steal", 0.0) - getattr(before, "steal", 0.0)
    share = stolen / seconds
    return Finding(
        "hypervisor",
        "bad",
        f"a virtual machine; {share:.1%} of a processor was stolen just now",
        "its neighbours cannot be seen: believe intervals, and repeat at another hour",
    )


def _limits() -> Finding:
    limits = []
    # The limits of all parent groups hold for a group as well.
    group = control_group()
    groups = [group, *(parent for parent in group.parents if parent.is_relative_to(CGROUP))]
    quotas = [line.split() for group in groups if (line := first_line(group / "cpu.max"))]
    shares = [int(quota) / int(period) for quota, period in quotas if quota != "max"]
    if shares:
        limits.append(f"{min(shares):g} processors, by a quota that stops processes in between")
    memory = [line for group in groups if (line := first_line(group / "memory.max")) and line != "max"]
    if memory:
        limits.append(f"{min(map(int, memory)) / 2**30:.1f} GiB of memory")
    if shares:
        return Finding(
            "control group", "bad", "; ".join(limits), "give it whole processors (a cpuset), no quota"
        )
    return Finding("control group", "good", "; ".join(limits) or "no limit")


def _swap() -> Finding:
    swap = psutil.swap_memory()
    if swap.used == 0:
        return Finding("swap", "good", "none in use")
    return Finding("swap", "bad", f"{swap.used / 2**20:.0f} MiB in use", "free memory, then swapoff -a")


def _threads() -> Finding:
    cpus = usable_cpus()
    variables = {name: value for name in THREAD_VARIABLES if (value := os.environ.get(name))}
    too_many = [
        f"{name}={value}" for name, value in variables.items() if value.isdigit() and int(value) > cpus
    ]
    if too_many:
        advice = "qx sets them from --threads for what it measures; unset them for the rest"
        return Finding("threads", "bad", f"{', '.join(too_many)} with {cpus} processors", advice)
    return Finding("threads", "good", f"{cpus} processors, and no variable asks for more")


LOOKS: tuple[Callable[[], Finding], ...] = (
    _governor,
    _turbo,
    _smt,
    _other_load,
    _stolen,
    _limits,
    _swap,
    _threads,
)
