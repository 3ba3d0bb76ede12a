"""Calls of a subject on a device with a queue: they wait, and are timed by both clocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pretend_device import PretendDevice
from qx_plugins.metrics import device_latency, device_memory, latency

from qx import Block, Fresh, Point
from qx.runner.builds import _kind_of_device
from qx.testing.stateful import Growing
from qx.worker.calls import Calls

KERNEL = 2e-3


class Queued:
    """A subject whose calls and resets put kernels into a device's queue."""

    def __init__(self, device: PretendDevice) -> None:
        self.device, self.kinds = device, {"decode": self.decode}

    def prepare(self, arrays: Any) -> Any:
        return arrays

    def call(self, native: Any) -> Any:
        self.device.kernel(KERNEL)
        return native

    def decode(self, native: Any) -> Any:
        self.device.kernel(KERNEL / 2)
        return native

    def reset(self, native: Any, kind: str) -> None:
        self.device.kernel(1.0)

    def outputs(self, native: Any) -> Any:
        return {"output": np.zeros(1)}


@pytest.fixture
def device() -> PretendDevice:
    return PretendDevice()


@pytest.fixture
def calls(device: PretendDevice) -> Calls:
    """The calls of a subject on a device."""
    return Calls(Queued(device), "loader", device)


def block(calls: Calls, kind: str = "call", count: int = 5) -> Block:
    """Return a block as launches make them."""
    return Block(
        native=None,
        point=Point(1, call=kind),
        calls=count,
        call=calls.call(kind),
        reset=calls.reset(None, kind),
        device=calls.device,
        time_calls=calls.timer(None, kind, count),
    )


def test_every_call_waits_for_the_device(calls: Calls, device: PretendDevice) -> None:
    """The subject that metrics get, and each function of a block, return when the queue is empty."""
    reset = calls.reset(None, "call")
    assert reset is not None
    for function in (calls.subject().call, calls.subject("decode").call, calls.call("decode")):
        function(None)
        assert device.host >= device.empty_at
    reset()
    assert device.host >= device.empty_at


@pytest.mark.parametrize(("kind", "seconds"), [("call", KERNEL), ("decode", KERNEL / 2)])
def test_metrics_report_what_the_device_takes(calls: Calls, kind: str, seconds: float) -> None:
    """Both metrics are within 1 % of the kernel's length, without the reset before each call."""
    own = 1e3 * seconds
    assert latency.measure(block(calls, kind)) == pytest.approx([own] * 5, rel=0.03)
    samples = device_latency.measure(block(calls, kind))
    assert samples is not None
    assert samples.values == pytest.approx([own] * 5, rel=0.01)
    assert samples.details["wall"] == pytest.approx([own] * 5, rel=0.03)


def test_a_metric_that_knows_of_no_device_is_right(calls: Calls, device: PretendDevice) -> None:
    """One that times ``data.call`` by the host's clock sees all of the device's work."""
    data = block(calls)
    began = device.now()
    data.call(data.native)
    assert device.now() - began == pytest.approx(KERNEL, rel=0.01)


def test_the_warm_up_of_a_launch_is_that_of_the_device(calls: Calls) -> None:
    """It reads the device, and counts resets apart."""
    result = calls.warm_up_on_device(None, "call")
    assert result.steady
    assert result.reading.clock == 2000.0
    assert result.seconds_per_call == pytest.approx(KERNEL, rel=0.01)
    assert result.reset == pytest.approx(1.0, rel=0.01)


def test_the_memory_of_a_device_is_measured(calls: Calls, device: PretendDevice) -> None:
    """The driver's figure comes first, then torch's; without either there is no value."""
    data = Fresh(marks=(), natives={Point(1): None, Point(8): None}, mark=lambda _: None, device=device)  # type: ignore[arg-type,return-value]
    samples = device_memory.measure(calls.subject(), data)
    assert samples is not None
    assert (samples.values, samples.details["source"]) == (420.0, "driver")
    # Each call comes after a reset.
    assert len(device.kernels) == 2 * 2 * device_memory.CALLS


def test_on_the_cpu_nothing_is_added() -> None:
    """Without a device a plain subject is passed on as it is, and has no timer."""
    subject: Any = Growing(np.negative)
    calls = Calls(subject, "loader")
    assert calls.timer(None, "call", 3) is None
    assert calls.device is None
    assert device_latency.measure(Block(native=None, point=Point(1), calls=1, call=subject.call)) is None


def test_a_build_is_for_what_the_device_is_and_not_for_its_number() -> None:
    """Product, capability, driver and CUDA decide a build: one for ``cuda:1`` is as for ``cuda:0``."""
    from attrs import evolve

    from qx.contract.devices import DeviceFacts

    facts = DeviceFacts(product="A", capability="8.0", driver="580", torch_cuda="13.0", power_limit=300.0)
    deciding = _kind_of_device("cuda:0", facts)
    assert deciding == _kind_of_device("cuda:1", evolve(facts, power_limit=400.0))
    for change in ({"product": "B"}, {"capability": "9.0"}, {"driver": "590"}, {"torch_cuda": "13.2"}):
        assert _kind_of_device("cuda:0", evolve(facts, **change)) != deciding
