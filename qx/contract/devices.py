"""Devices that models run on: their names, what is read of them, and the device as metrics see it.

This module imports neither numpy nor torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Protocol

from attrs import Attribute, Factory, field, frozen

from qx.contract.fields import to_strings
from qx.errors import UsageError
from qx.foreign import to_line

#: The processor, which is the device of a run that names none.
CPU = "cpu"
#: Kinds of devices that configs, loaders and metrics may be for.
KINDS = (CPU, "cuda")
#: What ``--device`` takes, in words.
FORMS = "cpu, cuda or cuda:N"


def to_device(text: str) -> str:
    """Return the name of a device as cells have it: ``cpu``, or ``cuda:0`` for ``cuda``.

    Raises ``UsageError``.
    """
    match = re.fullmatch(r"cpu|(cuda)(?::(0|[1-9][0-9]{0,3}))?", text)
    if match is None:
        raise UsageError(f"--device {to_line(text, 100)}: expected {FORMS}")
    return CPU if match[1] is None else f"{match[1]}:{match[2] or 0}"


def kind_of(device: str) -> str:
    """Return the kind of a device: ``cuda`` for ``cuda:0``."""
    return device.partition(":")[0]


def index_of(device: str) -> int:
    """Return the number of a device among those of its kind, from 0."""
    return int(device.partition(":")[2] or 0)


def check_kinds(_: object, attribute: Attribute[Any], kinds: tuple[str, ...]) -> None:
    """Raise ``ValueError`` for a field that holds something else than kinds of devices, or one twice."""
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f"{attribute.name!r} must be of {', '.join(KINDS)}, not {kind!r}")
    if len(set(kinds)) < len(kinds):
        raise ValueError(f"{attribute.name!r} has a device twice: {', '.join(kinds)}")


def check_some_kinds(instance: object, attribute: Attribute[Any], kinds: tuple[str, ...]) -> None:
    """Raise ``ValueError`` as ``check_kinds`` does, and for a field that holds no kind of device."""
    check_kinds(instance, attribute, kinds)
    if not kinds:
        raise ValueError(f"{attribute.name!r} must name a device at least: {', '.join(KINDS)}")


def to_capability(text: str) -> tuple[int, int]:
    """Return a compute capability as two numbers: ``(8, 9)`` for ``"8.9"``. Raises ``ValueError``."""
    match = re.fullmatch(r"([0-9]{1,2})\.([0-9]{1,2})", text)
    if match is None:
        raise ValueError(f"a compute capability is written as '8.9', not {text!r}")
    return int(match[1]), int(match[2])


def check_capability(_: object, __: object, text: str | None) -> None:
    """Raise ``ValueError`` for a field that is neither a compute capability nor None."""
    if text is not None:
        to_capability(text)


# What is read of a device ----------------------------------------------------------------------------


@frozen(kw_only=True)
class DeviceProcess:
    """A process that uses a device."""

    pid: int
    #: Name of its program; empty where the system does not show it.
    name: str = ""
    #: Memory of the device that it uses, in bytes; None where the driver does not say.
    memory: int | None = None

    def __str__(self) -> str:
        size = "" if self.memory is None else f", {self.memory / 2**30:.1f} GiB"
        return f"{self.name or 'a process'} ({self.pid}{size})"


def _to_processes(values: Iterable[DeviceProcess | dict[str, Any]]) -> tuple[DeviceProcess, ...]:
    return tuple(value if isinstance(value, DeviceProcess) else DeviceProcess(**value) for value in values)


@frozen(kw_only=True)
class DeviceReading:
    """The state of a device at one moment. What the driver does not say, or nobody could read, is None."""

    #: Clocks of the multiprocessors and of the memory, in MHz.
    clock: float | None = None
    memory_clock: float | None = None
    #: Temperature in degrees Celsius.
    temperature: float | None = None
    #: Power that is drawn, and the limit that is enforced, in watts.
    power: float | None = None
    power_limit: float | None = None
    #: What holds the clocks down at this moment, in words: ``power limit``, ``temperature``.
    limits: tuple[str, ...] = field(default=(), converter=to_strings)
    #: Processes that use the device, this one among them.
    processes: tuple[DeviceProcess, ...] = field(default=(), converter=_to_processes)


@frozen(kw_only=True)
class DeviceMemory:
    """The memory of a device that this process uses, in MiB. What nobody could read is None."""

    #: Largest amount that tensors had of torch's allocator, and that it has kept for itself.
    allocated_peak: float | None = None
    reserved_peak: float | None = None
    #: Largest amount that it had kept and could not give, since it lay in pieces.
    inactive_peak: float | None = None
    #: Number of times that it gave everything back and asked anew, for want of memory.
    retries: int | None = None
    #: All that the driver counts for this process: its context, every library and every allocator.
    of_process: float | None = None
    #: What is free on the device, and all that it has.
    free: float = 0.0
    total: float = 0.0


@frozen(kw_only=True)
class DeviceFacts:
    """A device as results record it. What the driver does not say, or nobody could read, is None."""

    #: Name of the product, as the driver has it.
    product: str
    #: Version of the driver.
    driver: str | None = None
    #: Version of CUDA that the driver has, and that torch was built with.
    driver_cuda: str | None = None
    torch_cuda: str | None = None
    #: Compute capability, such as ``9.0``.
    capability: str | None = None
    #: Number of multiprocessors.
    multiprocessors: int | None = None
    #: Memory in bytes.
    memory: int | None = None
    #: Largest clocks of the multiprocessors and of the memory, in MHz.
    max_clock: float | None = None
    max_memory_clock: float | None = None
    #: Limit of its power that is enforced, and the one that it comes with, in watts.
    power_limit: float | None = None
    default_power_limit: float | None = None
    #: Whether the driver stays loaded when no process uses the device.
    persistence: bool | None = None
    #: When kernels are loaded: ``LAZY`` (at their first call) or ``EAGER``, by ``CUDA_MODULE_LOADING``.
    module_loading: str | None = None
    #: Why clocks, power and processes could not be read; empty where they could.
    unread: str = ""


@frozen(kw_only=True)
class CallTimes:
    """Times of the same calls by two clocks, in seconds."""

    #: By the host's clock: from before the call until the device has done all of its work.
    wall: tuple[float, ...] = Factory(tuple)
    #: By the device's clock: from when its work could begin until it was done.
    device: tuple[float, ...] = Factory(tuple)


class Device(Protocol):
    """A device with a queue: a call returns before the device has done the work that it asks for."""

    #: Name of the device, such as ``cuda:0``.
    name: str

    def now(self) -> float:
        """Return the time by the host's clock, in seconds."""

    def stamp(self) -> Any:
        """Put a time stamp into the queue, which the device takes when it has done all work before it."""

    def seconds_between(self, start: Any, end: Any) -> float:
        """Return the time between two stamps that the device has taken, in seconds."""

    def synchronize(self) -> None:
        """Wait until the device has done all work in its queue."""

    def read(self) -> DeviceReading:
        """Return its state at this moment."""

    def memory(self) -> DeviceMemory:
        """Return the memory that this process uses."""
