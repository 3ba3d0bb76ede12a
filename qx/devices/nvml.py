"""Read clocks, limits and processes of an NVIDIA device from its driver, by the package ``nvidia-ml-py``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from qx.contract.devices import DeviceProcess, DeviceReading
from qx.foreign import one_line

#: Command that installs what reads the driver.
INSTALL = "pip install nvidia-ml-py"
#: What holds clocks down, by its bit in the driver's mask (``nvmlClocksEventReasons``). That a device is idle
#: is no limit.
LIMITS = {
    0x02: "clocks set by the user",
    0x04: "power limit",
    0x08: "hardware slowdown",
    0x10: "clocks tied to those of another device",
    0x20: "temperature",
    0x40: "temperature (hardware)",
    0x80: "power brake (hardware)",
    0x100: "display clocks",
}
#: What the driver gives for the memory of a process that it does not know.
UNKNOWN_MEMORY = 2**64 - 1


class Unreadable(Exception):
    """The driver cannot be read here, for the reason in the message."""


class DriverView:
    """What the driver shows of one device."""

    def __init__(self, uuid: str) -> None:
        """``uuid`` is that of the device, as CUDA gives it: numbers change where devices are hidden.

        Raises ``Unreadable``.
        """
        try:
            import pynvml
        except ImportError as error:
            raise Unreadable(f"nvidia-ml-py is not installed: {INSTALL}") from error
        self._library: Any = pynvml
        try:
            pynvml.nvmlInit()
            # That of torch has no prefix.
            name = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(name)
        except pynvml.NVMLError as error:
            raise Unreadable(f"the driver cannot be read: {one_line(error, 200)}") from error

    def read(self) -> DeviceReading:
        """Return the state of the device now."""
        library = self._library
        return DeviceReading(
            clock=self._ask("nvmlDeviceGetClockInfo", library.NVML_CLOCK_SM),
            memory_clock=self._ask("nvmlDeviceGetClockInfo", library.NVML_CLOCK_MEM),
            temperature=self._ask("nvmlDeviceGetTemperature", library.NVML_TEMPERATURE_GPU),
            power=self._watts("nvmlDeviceGetPowerUsage"),
            power_limit=self._watts("nvmlDeviceGetEnforcedPowerLimit"),
            limits=self._limits(),
            processes=tuple(self._processes()),
        )

    def facts(self) -> dict[str, Any]:
        """Return what does not change while a run lasts, as fields of ``DeviceFacts``."""
        library = self._library
        persistence = self._ask("nvmlDeviceGetPersistenceMode")
        return {
            "driver": self._driver(),
            "max_clock": self._ask("nvmlDeviceGetMaxClockInfo", library.NVML_CLOCK_SM),
            "max_memory_clock": self._ask("nvmlDeviceGetMaxClockInfo", library.NVML_CLOCK_MEM),
            "power_limit": self._watts("nvmlDeviceGetEnforcedPowerLimit"),
            "default_power_limit": self._watts("nvmlDeviceGetPowerManagementDefaultLimit"),
            "persistence": None if persistence is None else bool(persistence),
        }

    def memory_of(self, pid: int) -> float | None:
        """Return the bytes of the device that a process uses; None where the driver does not say.

        In a container the driver knows processes by other numbers, and so none of these.
        """
        return next((process.memory for process in self._processes() if process.pid == pid), None)

    def _driver(self) -> str | None:
        try:
            version = self._library.nvmlSystemGetDriverVersion()
        except self._library.NVMLError:
            return None
        return version.decode() if isinstance(version, bytes) else str(version)

    def _ask(self, function: str, *arguments: Any) -> Any:
        """Return what a function of the driver's library gives for the device; None where it cannot say."""
        ask: Callable[..., Any] | None = getattr(self._library, function, None)
        try:
            return None if ask is None else ask(self._handle, *arguments)
        except self._library.NVMLError:
            return None

    def _watts(self, function: str) -> float | None:
        milliwatts = self._ask(function)
        return None if milliwatts is None else milliwatts / 1e3

    def _limits(self) -> tuple[str, ...]:
        # The first is the name from version 12 on.
        for function in (
            "nvmlDeviceGetCurrentClocksEventReasons",
            "nvmlDeviceGetCurrentClocksThrottleReasons",
        ):
            if (mask := self._ask(function)) is not None:
                return tuple(words for bit, words in LIMITS.items() if mask & bit)
        return ()

    def _processes(self) -> Iterator[DeviceProcess]:
        seen: set[int] = set()
        for kind in ("Compute", "Graphics"):
            for process in self._ask(f"nvmlDeviceGet{kind}RunningProcesses") or ():
                if process.pid in seen:
                    continue
                seen.add(process.pid)
                memory = process.usedGpuMemory
                yield DeviceProcess(
                    pid=process.pid,
                    name=_program(process.pid),
                    memory=None if memory in (None, UNKNOWN_MEMORY) else int(memory),
                )


def _program(pid: int) -> str:
    """Return the name of the program of a process; empty where the system does not show it."""
    import psutil

    try:
        return str(psutil.Process(pid).name())
    except psutil.Error:
        return ""
