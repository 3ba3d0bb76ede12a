"""What on the devices of this machine makes timings unsteady, and the remedies."""

from __future__ import annotations

import os
from collections.abc import Iterator

from attrs import frozen

from qx.contract.devices import DeviceReading
from qx.devices.finding import FoundDevice, find_cuda
from qx.devices.nvml import DriverView, Unreadable
from qx.doctor.findings import Finding

#: Temperature in degrees Celsius from which devices of most kinds lower their clocks soon.
HOT = 80.0
#: Variable that says when kernels are loaded.
MODULE_LOADING = "CUDA_MODULE_LOADING"


def examine_devices() -> Iterator[Finding]:
    """Yield what every device shows, or one finding with the reason why there is none."""
    found = find_cuda()
    if found.reason:
        yield Finding("device", "unknown", f"no device: {found.reason}")
        return
    for device in found.devices:
        yield from _device(device)
    yield _module_loading()


def _device(device: FoundDevice) -> Iterator[Finding]:
    major, minor = device.capability
    size = f"{device.memory / 2**30:.0f} GiB"
    yield Finding(device.name, "good", f"{device.product}, {size}, compute capability {major}.{minor}")
    try:
        view = DriverView(device.uuid)
    except Unreadable as error:
        yield Finding(f"{device.name} state", "unknown", str(error), "pip install 'quant-explorer[gpu]'")
        return
    facts = view.facts()
    state = State(view.read(), facts["default_power_limit"], facts["max_clock"], facts["persistence"])
    yield from findings_of(device.name, state)


@frozen
class State:
    """What the driver says of a device."""

    reading: DeviceReading
    default_power_limit: float | None = None
    max_clock: float | None = None
    persistence: bool | None = None


def findings_of(name: str, state: State) -> Iterator[Finding]:
    """Yield what the state of a device means for timings, and what to do about it."""
    reading = state.reading
    yield _clocks(name, state)
    limit, default = reading.power_limit, state.default_power_limit
    if limit is not None and default is not None and limit < default:
        advice = f"nvidia-smi -pl {default:.0f}"
        yield Finding(f"{name} power", "bad", f"limited to {limit:.0f} of {default:.0f} W", advice)
    if reading.temperature is not None and reading.temperature >= HOT:
        yield Finding(
            f"{name} temperature", "bad", f"{reading.temperature:.0f} °C", "cool it, or wait until it is cool"
        )
    if state.persistence is False:
        yield Finding(
            f"{name} persistence",
            "bad",
            "off: the driver is unloaded when no process uses the device, and clocks begin anew",
            "nvidia-smi -pm 1",
        )
    others = [str(process) for process in reading.processes if process.pid != os.getpid()]
    if others:
        yield Finding(
            f"{name} other processes", "bad", ", ".join(others), "stop them, or wait until they are done"
        )


def _clocks(name: str, state: State) -> Finding:
    reading = state.reading
    if reading.clock is None:
        return Finding(f"{name} clocks", "unknown", "the driver does not report them")
    most = f" of up to {state.max_clock:,.0f}" if state.max_clock else ""
    clocks = f"{reading.clock:,.0f}{most} MHz now"
    if reading.limits:
        advice = "remove the limit; qx run records in each wave whether it holds clocks down"
        return Finding(f"{name} clocks", "bad", f"{clocks}, held down by {', '.join(reading.limits)}", advice)
    return Finding(f"{name} clocks", "good", f"{clocks}; qx run warms up until they are steady")


def _module_loading() -> Finding:
    way = os.environ.get(MODULE_LOADING, "LAZY")
    when = "at their first call, which the warm-up contains" if way == "LAZY" else "when the device is opened"
    return Finding("kernels", "good", f"loaded {when} ({MODULE_LOADING}={way})")
