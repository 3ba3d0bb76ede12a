"""Time calls on a device that has a queue, and warm it up until its clocks are steady.

A call on such a device returns once its work is in the queue. So a time by the host's clock ends when the
queue is empty again, and a time by the device's clock lies between two stamps that went through the queue
with the work. Both are taken of the same calls: they differ by what it costs to wait for the device.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from statistics import fmean, median
from typing import Any

from attrs import Factory, define, frozen

from qx.contract.devices import CallTimes, Device, DeviceReading
from qx.values import Native

#: Length of a window of the warm-up in seconds, and the number of windows that must agree.
WINDOW_SECONDS = 0.05
STEADY_WINDOWS = 6
#: Relative change between the first and the last half of these windows up to which times are steady: a clock
#: that still rises by 3 % in a second changes them by more.
TREND = 0.005
#: Relative difference up to which the windows' clocks are the same.
CLOCK_TOLERANCE = 0.01
#: The longest warm-up in seconds at one point, whether times and clocks have become steady or not.
MOST_SECONDS = 10.0


def time_calls(
    device: Device,
    call: Callable[[Native], Native],
    native: Native,
    calls: int,
    reset: Callable[[], object] | None = None,
) -> CallTimes:
    """Return the times of calls by both clocks, in seconds; ``reset`` comes before each call, untimed.

    Each call begins with an empty queue, and nothing is returned before the queue is empty again.
    """
    walls, stamps = [], []
    device.synchronize()
    for _ in range(calls):
        if reset is not None:
            reset()
            device.synchronize()
        began = device.now()
        start = device.stamp()
        call(native)
        end = device.stamp()
        device.synchronize()
        walls.append(device.now() - began)
        stamps.append((start, end))
    return CallTimes(
        wall=tuple(walls), device=tuple(device.seconds_between(start, end) for start, end in stamps)
    )


def synchronised(device: Device, call: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that calls and then waits until the device has done all of its work."""

    def call_and_wait(*arguments: Any) -> Any:
        result = call(*arguments)
        device.synchronize()
        return result

    return call_and_wait


@frozen(kw_only=True)
class WarmUp:
    """What a warm-up showed."""

    #: Median time of a call in the last windows, and that of the fastest call, in seconds (the host's clock).
    seconds_per_call: float
    fastest: float
    #: Time of the first call: it loads kernels, and chooses among them, in runtimes that do so when called.
    first: float
    #: Median time of the reset before a call, in seconds; 0 where there is none.
    reset: float
    calls: int
    #: Whether times and clocks became steady.
    steady: bool
    #: State of the device at the end of the last window.
    reading: DeviceReading


@define
class _Windows:
    """The last windows of a warm-up."""

    medians: deque[float] = Factory(lambda: deque(maxlen=STEADY_WINDOWS))
    clocks: deque[float | None] = Factory(lambda: deque(maxlen=STEADY_WINDOWS))

    @property
    def are_steady(self) -> bool:
        """Whether the windows show neither a trend of the times nor clocks that differ."""
        times, half = list(self.medians), STEADY_WINDOWS // 2
        if len(times) < STEADY_WINDOWS:
            return False
        change = fmean(times[half:]) / fmean(times[:half]) - 1
        clocks = [clock for clock in self.clocks if clock is not None]
        has_same_clocks = not clocks or max(clocks) <= (1 + CLOCK_TOLERANCE) * min(clocks)
        return abs(change) <= TREND and has_same_clocks


def warm_up(
    device: Device,
    call: Callable[[Native], Native],
    native: Native,
    seconds: float = MOST_SECONDS,
    reset: Callable[[], object] | None = None,
) -> WarmUp:
    """Call in windows until times and clocks are steady, or for ``seconds``."""
    began = device.now()
    windows, resets = _Windows(), [0.0]
    first = time_calls(device, call, native, 1, reset).wall[0]
    fastest, count = first, 1
    while True:
        times: list[float] = []
        start = device.now()
        while device.now() - start < WINDOW_SECONDS:
            if reset is not None:
                before = device.now()
                reset()
                device.synchronize()
                resets.append(device.now() - before)
            times += time_calls(device, call, native, 1).wall
        count += len(times)
        fastest = min(fastest, *times)
        reading = device.read()
        windows.medians.append(median(times))
        windows.clocks.append(reading.clock)
        if windows.are_steady or device.now() - began > seconds:
            break
    return WarmUp(
        seconds_per_call=median(windows.medians),
        fastest=fastest,
        first=first,
        reset=median(resets[1:] or resets),
        calls=count,
        steady=windows.are_steady,
        reading=reading,
    )
