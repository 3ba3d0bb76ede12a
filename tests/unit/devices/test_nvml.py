"""Readings of the driver, from a library that answers as NVIDIA's does."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from qx.contract.devices import DeviceProcess, DeviceReading
from qx.devices.nvml import UNKNOWN_MEMORY, DriverView, Unreadable
from qx.doctor.devices import State, findings_of


class NVMLError(Exception):
    """What the library raises for whatever a device does not have."""


def answers() -> dict[str, Callable[..., Any]]:
    """Return what functions of the library answer, by name; each gets the device first."""
    own = SimpleNamespace(pid=1, usedGpuMemory=3 << 30)
    hidden = SimpleNamespace(pid=2**22 + 1, usedGpuMemory=UNKNOWN_MEMORY)
    clocks = {"SM": 1410, "MEM": 1593}

    def refuse(*_: object) -> None:
        raise NVMLError("not supported")

    return {
        "nvmlDeviceGetClockInfo": lambda _, kind: clocks[kind],
        "nvmlDeviceGetMaxClockInfo": lambda _, kind: 1980,
        "nvmlDeviceGetTemperature": lambda _, kind: 71,
        "nvmlDeviceGetPowerUsage": lambda _: 299_500,
        "nvmlDeviceGetEnforcedPowerLimit": lambda _: 300_000,
        "nvmlDeviceGetPowerManagementDefaultLimit": lambda _: 700_000,
        "nvmlDeviceGetPersistenceMode": lambda _: 0,
        "nvmlDeviceGetCurrentClocksThrottleReasons": lambda _: 0x1 | 0x4 | 0x20,
        "nvmlDeviceGetComputeRunningProcesses": lambda _: [own, hidden],
        "nvmlDeviceGetGraphicsRunningProcesses": refuse,
    }


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A library with one device."""
    module: Any = ModuleType("pynvml")
    module.NVMLError = NVMLError
    module.NVML_CLOCK_SM, module.NVML_CLOCK_MEM, module.NVML_TEMPERATURE_GPU = "SM", "MEM", "GPU"
    module.nvmlInit = lambda: None
    module.nvmlSystemGetDriverVersion = lambda: b"580.65.06"

    def handle(uuid: str) -> str:
        if uuid != "GPU-1":
            raise NVMLError(f"no device {uuid}")
        return uuid

    module.nvmlDeviceGetHandleByUUID = handle
    for name, function in answers().items():
        setattr(module, name, function)
    monkeypatch.setitem(sys.modules, "pynvml", module)
    return module


@pytest.mark.usefixtures("library")
def test_the_state_of_a_device_is_read() -> None:
    """Clocks in MHz, power in watts, limits in words, and every process once."""
    reading = DriverView("1").read()
    assert (reading.clock, reading.memory_clock, reading.temperature) == (1410, 1593, 71)
    assert (reading.power, reading.power_limit) == (299.5, 300.0)
    assert reading.limits == ("power limit", "temperature")
    assert [(process.pid, process.memory) for process in reading.processes] == [
        (1, 3 << 30),
        (2**22 + 1, None),
    ]
    assert reading.processes[0].name
    assert not reading.processes[1].name


@pytest.mark.usefixtures("library")
def test_facts_and_the_memory_of_a_process_are_read() -> None:
    """What the driver counts for a process is that of its number, and unknown for other numbers."""
    view = DriverView("GPU-1")
    assert (view.memory_of(1), view.memory_of(12345)) == (3 << 30, None)
    assert view.facts() == {
        "driver": "580.65.06",
        "max_clock": 1980,
        "max_memory_clock": 1980,
        "power_limit": 300.0,
        "default_power_limit": 700.0,
        "persistence": False,
    }


def test_what_a_device_does_not_have_is_none(library: Any) -> None:
    """A function that the library lacks, or that it refuses, leaves its field empty."""
    del library.nvmlDeviceGetCurrentClocksThrottleReasons
    library.nvmlDeviceGetPowerUsage = library.nvmlDeviceGetGraphicsRunningProcesses
    reading = DriverView("1").read()
    assert (reading.power, reading.limits) == (None, ())
    assert reading.clock == 1410


@pytest.mark.usefixtures("library")
def test_a_driver_that_cannot_be_read_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package, or where the driver refuses, the reason is one line."""
    with pytest.raises(Unreadable, match=r"^the driver cannot be read: NVMLError: no device GPU-7$"):
        DriverView("7")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(Unreadable, match="nvidia-ml-py is not installed: pip install"):
        DriverView("1")


def test_doctor_says_what_makes_a_device_unsteady() -> None:
    """Each circumstance is a finding with advice; a quiet device has good ones only."""
    quiet = State(DeviceReading(clock=1980.0, power_limit=700.0), 700.0, 1980.0, persistence=True)
    assert [finding.state for finding in findings_of("cuda:0", quiet)] == ["good"]
    reading = DeviceReading(
        clock=900.0,
        temperature=88.0,
        power_limit=300.0,
        limits=("temperature",),
        processes=(DeviceProcess(pid=1, name="python", memory=1 << 30),),
    )
    findings = list(findings_of("cuda:0", State(reading, 700.0, 1980.0, persistence=False)))
    assert [finding.name for finding in findings] == [
        f"cuda:0 {aspect}" for aspect in ("clocks", "power", "temperature", "persistence", "other processes")
    ]
    assert all(finding.state == "bad" and finding.advice for finding in findings)
    assert findings[0].found == "900 of up to 1,980 MHz now, held down by temperature"
    assert findings[-1].found == "python (1, 1.0 GiB)"
