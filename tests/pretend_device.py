"""A device that is pretended: a queue, kernels of known lengths, clocks that ramp, and time that is computed.

Its time passes only by what is done: starting work, waiting, reading. So tests are exact, and take no time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import Factory, define

from qx.contract.devices import DeviceMemory, DeviceProcess, DeviceReading


class NotDrained(Exception):
    """The time between two stamps was asked for before the device had taken both."""


def constant(_: float) -> float:
    """Return the speed of a device whose clock does not change, as a share of its full speed."""
    return 1.0


@define
class PretendDevice:
    """A device whose kernels take ``seconds / speed(t)`` from the time ``t`` at which they begin."""

    name: str = "cuda:0"
    #: Its speed at a time in seconds, as a share of the full one.
    speed: Callable[[float], float] = constant
    #: Whether its clock can be read; kernels follow it all the same.
    is_readable: bool = True
    #: Seconds that it takes the host to start one kernel, and to notice that the queue is empty.
    start_seconds: float = 5e-6
    notice_seconds: float = 8e-6
    processes: tuple[DeviceProcess, ...] = ()
    limits: tuple[str, ...] = ()
    #: The host's time, and when the device will have done all that is in its queue.
    host: float = 100.0
    empty_at: float = 0.0
    #: Kernels that were started, by the time at which the device begins them.
    kernels: list[float] = Factory(list)

    def kernel(self, seconds: float) -> None:
        """Put a kernel into the queue that takes so long at full speed."""
        self.host += self.start_seconds
        begins = max(self.host, self.empty_at)
        self.kernels.append(begins)
        self.empty_at = begins + seconds / self.speed(begins)

    def now(self) -> float:
        return self.host

    def stamp(self) -> float:
        return max(self.host, self.empty_at)

    def seconds_between(self, start: float, end: float) -> float:
        if self.host < end:
            raise NotDrained(f"the device takes the stamp at {end}, and it is {self.host}")
        return end - start

    def synchronize(self) -> None:
        self.host = max(self.host, self.empty_at) + self.notice_seconds

    def read(self) -> DeviceReading:
        self.host += 1e-4
        clock = 2000.0 * self.speed(self.host) if self.is_readable else None
        return DeviceReading(clock=clock, limits=self.limits, processes=self.processes)

    def memory(self) -> DeviceMemory:
        return DeviceMemory(allocated_peak=10.0, reserved_peak=20.0, of_process=420.0, free=1e3, total=2e3)


def ramp(begin: float, seconds: float, since: float = 100.0) -> Callable[[float], float]:
    """Return a speed that rises from ``begin`` to 1 within so many seconds."""

    def speed(time: float) -> float:
        return min(1.0, begin + (1 - begin) * max(0.0, time - since) / seconds)

    return speed


def network(device: PretendDevice, kernels: Sequence[float]) -> Callable[[object], object]:
    """Return a call that starts kernels of these lengths in seconds and does not wait for them."""

    def call(native: object) -> object:
        for seconds in kernels:
            device.kernel(seconds)
        return native

    return call
