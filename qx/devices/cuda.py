"""A CUDA device, as torch and its driver show it. It imports torch when a device is opened."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from qx.contract.devices import DeviceFacts, DeviceMemory, DeviceReading, index_of
from qx.devices.nvml import DriverView, Unreadable
from qx.errors import QxError
from qx.foreign import one_line

if TYPE_CHECKING:
    import torch

MIB = 2**20
#: File in which the driver says its version.
VERSION_FILE = Path("/proc/driver/nvidia/version")


class DeviceOutOfMemory(MemoryError):
    """A device has no memory left for another process."""


class CudaDevice:
    """A CUDA device that this process has opened: torch's current device."""

    def __init__(self, name: str) -> None:
        """Raise ``QxError`` where torch cannot use it, and ``DeviceOutOfMemory`` where it is full."""
        import torch

        self.name, self._torch = name, torch
        _check(torch, name)
        self._open(name)
        self._properties: Any = torch.cuda.get_device_properties(name)
        self._view: DriverView | None = None
        #: Why clocks, power and processes cannot be read; empty where they can.
        self.unread = ""
        try:
            self._view = DriverView(str(getattr(self._properties, "uuid", "")))
        except Unreadable as error:
            self.unread = str(error)

    def now(self) -> float:
        """Return the time by the host's clock, in seconds."""
        return perf_counter()

    def stamp(self) -> torch.cuda.Event:
        """Put a time stamp into the queue of the current stream."""
        event = self._torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds_between(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        """Return the time between two stamps that the device has taken, in seconds."""
        return float(start.elapsed_time(end)) / 1e3

    def synchronize(self) -> None:
        """Wait until the device has done all work of this process, in all streams."""
        self._torch.cuda.synchronize(self.name)

    def read(self) -> DeviceReading:
        """Return its state at this moment; empty where the driver cannot be read."""
        return DeviceReading() if self._view is None else self._view.read()

    def memory(self) -> DeviceMemory:
        """Return the memory that this process uses."""
        cuda = self._torch.cuda
        free, total = cuda.mem_get_info(self.name)
        statistics = cuda.memory_stats(self.name)
        reserved = cuda.max_memory_reserved(self.name)
        own = None if self._view is None else self._view.memory_of(os.getpid())
        return DeviceMemory(
            # A runtime with an allocator of its own takes nothing from torch's.
            allocated_peak=cuda.max_memory_allocated(self.name) / MIB if reserved else None,
            reserved_peak=reserved / MIB if reserved else None,
            inactive_peak=statistics.get("inactive_split_bytes.all.peak", 0) / MIB if reserved else None,
            retries=statistics.get("num_alloc_retries") if reserved else None,
            of_process=None if own is None else own / MIB,
            free=free / MIB,
            total=total / MIB,
        )

    def facts(self) -> DeviceFacts:
        """Return what results record of the device."""
        properties = self._properties
        by_driver = {} if self._view is None else self._view.facts()
        known = {name: value for name, value in by_driver.items() if value is not None}
        fields: dict[str, Any] = {
            "driver": _driver_version(),
            "max_clock": _megahertz(properties, "clock_rate"),
            "max_memory_clock": _megahertz(properties, "memory_clock_rate"),
            **known,
        }
        return DeviceFacts(
            product=str(properties.name),
            driver_cuda=_driver_cuda(self._torch),
            torch_cuda=self._torch.version.cuda,
            capability=f"{properties.major}.{properties.minor}",
            multiprocessors=int(properties.multi_processor_count),
            memory=int(properties.total_memory),
            module_loading=os.environ.get("CUDA_MODULE_LOADING", "LAZY"),
            unread=self.unread,
            **fields,
        )

    def _open(self, name: str) -> None:
        torch = self._torch
        try:
            torch.cuda.set_device(name)
            torch.empty(1, device=name)
            torch.cuda.synchronize(name)
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise QxError(f"{name} cannot be opened: {one_line(error, 300)}") from error
            raise DeviceOutOfMemory(f"{name} is out of memory: {_occupation(torch, name)}") from error


def _check(torch: Any, name: str) -> None:
    """Raise ``QxError`` with what is missing where torch cannot use a device."""
    if torch.version.cuda is None:
        raise QxError(f"{name}: this torch ({torch.__version__}) was built without CUDA")
    try:
        torch.cuda.init()
    # What torch raises without a driver, or for one that is too old, is of several types.
    except (RuntimeError, AssertionError) as error:
        if _is_out_of_memory(error):
            raise DeviceOutOfMemory(f"{name} is out of memory") from error
        raise QxError(f"{name}: torch cannot use the driver: {one_line(error, 300)}") from error
    if index_of(name) >= (count := torch.cuda.device_count()):
        raise QxError(f"{name}: there is no such device; torch sees {count}, numbered from 0")


def _is_out_of_memory(error: BaseException) -> bool:
    # A context that does not fit raises no OutOfMemoryError, but a RuntimeError with CUDA's own message.
    return "out of memory" in str(error)


def _occupation(torch: Any, name: str) -> str:
    """Say how much of a device is free, and who uses it."""
    words = "nothing more is known"
    with suppress(RuntimeError):
        free, total = torch.cuda.mem_get_info(name)
        words = f"{free / MIB:,.0f} of {total / MIB:,.0f} MiB are free"
    with suppress(Unreadable, RuntimeError):
        view = DriverView(str(torch.cuda.get_device_properties(name).uuid))
        others = [str(process) for process in view.read().processes if process.pid != os.getpid()]
        words += f"; it is used by {', '.join(others)}" if others else ""
    return words


def _megahertz(properties: Any, name: str) -> float | None:
    kilohertz = getattr(properties, name, None)
    return None if kilohertz is None else kilohertz / 1e3


def _driver_version() -> str | None:
    try:
        text = VERSION_FILE.read_text(encoding="utf-8")
    except OSError:
        return None
    match = re.search(r"\b([0-9]{3,4}\.[0-9.]+)\b", text)
    return match[1] if match else None


def _driver_cuda(torch: Any) -> str | None:
    try:
        version = int(torch._C._cuda_getDriverVersion())
    except (AttributeError, RuntimeError):
        return None
    return f"{version // 1000}.{version % 1000 // 10}"
