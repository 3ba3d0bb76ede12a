"""Timing on a device with a queue, against one that is pretended: its kernels' true times are known."""

from __future__ import annotations

from statistics import median

import pytest
from pretend_device import NotDrained, PretendDevice, network, ramp

from qx.devices import timing

#: Lengths of kernels in seconds: of a large network, of a small one, and of a tiny one.
NETWORKS = [[2e-3, 5e-4, 3e-3], [1e-4] * 12, [2e-6] * 3]


@pytest.mark.parametrize("kernels", NETWORKS, ids=["large", "small", "tiny"])
def test_both_clocks_give_the_true_time(kernels: list[float]) -> None:
    """Within 1 %: the device's clock what kernels take, the host's also what starting and waiting costs."""
    device = PretendDevice()
    times = timing.time_calls(device, network(device, kernels), None, 20)
    # While the device works on a kernel the host starts the next; it waits for the host where they are short.
    step = [max(kernel, device.start_seconds) for kernel in kernels[:-1]]
    on_device = device.start_seconds + sum(step) + kernels[-1]
    assert times.device == pytest.approx([on_device] * 20, rel=0.01)
    assert times.wall == pytest.approx([on_device + device.notice_seconds] * 20, rel=0.01)


def test_the_clocks_agree_where_kernels_are_long() -> None:
    """Of calls of a millisecond and more the two clocks differ by less than 2 %."""
    device = PretendDevice()
    times = timing.time_calls(device, network(device, NETWORKS[0]), None, 10)
    assert median(times.wall) == pytest.approx(median(times.device), rel=0.02)


def test_nothing_is_reported_before_the_queue_is_empty() -> None:
    """Work that is in the queue already is not counted, and each call's own work is waited for."""
    device = PretendDevice()
    device.kernel(0.5)
    queued = device.stamp()
    with pytest.raises(NotDrained):
        device.seconds_between(0.0, queued)
    times = timing.time_calls(device, network(device, [1e-3]), None, 3)
    assert device.host >= device.empty_at
    assert max(times.wall) < 2e-3


def test_a_call_that_does_not_wait_would_be_reported_wrongly() -> None:
    """The host's clock alone sees how long it takes to start work: the pretended queue is a real one."""
    device = PretendDevice()
    call = network(device, [1e-3])
    began = device.now()
    call(None)
    assert device.now() - began < 1e-4
    timing.synchronised(device, call)(None)
    assert device.now() - began > 2e-3


def test_the_reset_before_a_call_is_not_timed() -> None:
    """What a reset asks of the device is done before the call begins, and not in its time."""
    device = PretendDevice()
    reset = lambda: device.kernel(0.1)  # noqa: E731
    times = timing.time_calls(device, network(device, [1e-3]), None, 4, reset)
    assert max(times.wall) < 2e-3
    assert len(device.kernels) == 8


@pytest.mark.parametrize("is_readable", [True, False], ids=["clock read", "clock not read"])
@pytest.mark.parametrize("seconds", [0.5, 2.0, 6.0])
def test_the_warm_up_lasts_until_clocks_are_steady(seconds: float, is_readable: bool) -> None:
    """Clocks that ramp are waited for, and the time that is reported is within 1 % of the steady one."""
    device = PretendDevice(speed=ramp(0.3, seconds), is_readable=is_readable)
    result = timing.warm_up(device, network(device, [2e-3, 1e-3]), None)
    true = 3e-3 + device.start_seconds + device.notice_seconds
    assert result.steady
    assert device.now() - 100.0 >= seconds
    assert result.seconds_per_call == pytest.approx(true, rel=0.01)
    times = timing.time_calls(device, network(device, [2e-3, 1e-3]), None, 50)
    assert median(times.wall) == pytest.approx(true, rel=0.01)


def test_a_steady_device_is_not_warmed_up_for_long() -> None:
    """Without a ramp the least number of windows is enough, and the first call has a time of its own."""
    device = PretendDevice()
    call = network(device, [1e-3])
    slow = iter([0.8])

    def call_that_loads_kernels(native: object) -> object:
        device.kernel(next(slow, 0.0))
        return call(native)

    result = timing.warm_up(device, call_that_loads_kernels, None)
    assert result.steady
    assert result.first > 0.8
    assert device.now() - 100.0 < 0.8 + 2 * timing.STEADY_WINDOWS * timing.WINDOW_SECONDS


def test_clocks_that_do_not_become_steady_are_reported() -> None:
    """A device that is slowed down again and again ends the warm-up at its limit, and is not steady."""
    device = PretendDevice(speed=lambda time: 1.0 if int(time * 10) % 2 else 0.7, limits=("power limit",))
    result = timing.warm_up(device, network(device, [1e-3]), None, seconds=2.0)
    assert not result.steady
    assert 2.0 < device.now() - 100.0 < 2.2
    assert result.reading.limits == ("power limit",)


def test_a_slow_drift_of_the_clock_is_seen_where_it_can_be_read() -> None:
    """Times that a reading explains count as steady only once the clock is."""
    drifting = PretendDevice(speed=lambda time: 1.0 + 0.05 * min(4.0, time - 100.0))
    result = timing.warm_up(drifting, network(drifting, [1e-3]), None)
    assert result.steady
    assert drifting.now() - 100.0 >= 4.0
