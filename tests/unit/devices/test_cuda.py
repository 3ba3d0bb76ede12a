"""Opening a CUDA device: what is missing is distinguished, by a torch that answers as torch does."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from qx.contract.devices import DeviceProcess, DeviceReading
from qx.devices import cuda
from qx.devices.cuda import CudaDevice, DeviceOutOfMemory
from qx.devices.nvml import Unreadable
from qx.errors import QxError, UsageError
from qx.processes.failures import failure_of
from qx.processes.jobs import DeviceJob
from qx.worker import device as worker

MIB = 2**20
PROPERTIES = SimpleNamespace(
    name="NVIDIA A10", major=8, minor=6, multi_processor_count=72, total_memory=24 << 30, uuid="1",
    clock_rate=1_695_000,
)  # fmt: skip


class Events:
    """What torch.cuda does of a device with two gibibytes free; each function may be replaced."""

    def __init__(self, **functions: Any) -> None:
        self.init = lambda: None
        self.device_count = lambda: 1
        self.set_device = lambda name: None
        self.synchronize = lambda name: None
        self.get_device_properties = lambda name: PROPERTIES
        self.mem_get_info = lambda name: (2048 * MIB, 24_000 * MIB)
        self.memory_stats = lambda name: {"num_alloc_retries": 2, "inactive_split_bytes.all.peak": 4 * MIB}
        self.max_memory_reserved = lambda name: 20 * MIB
        self.max_memory_allocated = lambda name: 10 * MIB
        self.__dict__.update(functions)


def pretend(monkeypatch: pytest.MonkeyPatch, build: str | None = "13.0", **functions: Any) -> None:
    """Have this torch imported, and no driver to be read."""
    torch = SimpleNamespace(
        __version__="2.15.0",
        version=SimpleNamespace(cuda=build),
        cuda=Events(**functions),
        empty=lambda *_, **__: None,
        _C=SimpleNamespace(_cuda_getDriverVersion=lambda: 13020),
    )
    monkeypatch.setitem(sys.modules, "torch", torch)


def raising(error: Exception) -> Any:
    """Return a function that raises an error."""

    def function(*_: object) -> None:
        raise error

    return function


@pytest.mark.parametrize(
    ("build", "functions", "message"),
    [
        (None, {}, r"this torch \(2.15.0\) was built without CUDA$"),
        (
            "13.0",
            {"init": raising(RuntimeError("The NVIDIA driver on your system is too old"))},
            "torch cannot use the driver: RuntimeError: The NVIDIA driver on your system is too old",
        ),
        ("13.0", {"device_count": lambda: 0}, "there is no such device; torch sees 0, numbered from 0"),
        (
            "13.0",
            {"set_device": raising(RuntimeError("CUDA error: device is busy"))},
            "cannot be opened: RuntimeError: CUDA error: device is busy",
        ),
    ],
    ids=["no build", "driver", "number", "busy"],
)
def test_what_torch_cannot_use_is_told(
    monkeypatch: pytest.MonkeyPatch, build: str | None, functions: dict[str, Any], message: str
) -> None:
    """Each reason is a line of its own."""
    pretend(monkeypatch, build, **functions)
    with pytest.raises(QxError, match=f"^cuda:0:? {message}"):
        CudaDevice("cuda:0")


def test_a_full_device_is_told_with_who_fills_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of memory is a reason of its own, with what is free and which processes have the rest."""
    others = (DeviceProcess(pid=7, name="train", memory=22 << 30),)
    view = SimpleNamespace(read=lambda: DeviceReading(processes=others))
    monkeypatch.setattr(cuda, "DriverView", lambda uuid: view)
    pretend(monkeypatch, set_device=raising(RuntimeError("CUDA error: out of memory")))
    with pytest.raises(
        DeviceOutOfMemory,
        match=r"^cuda:0 is out of memory: 2,048 of 24,000 MiB are free; it is used by train \(7, 22.0 GiB\)$",
    ) as caught:
        CudaDevice("cuda:0")
    assert failure_of(caught.value, "launch")[0] == "out_of_memory"


@pytest.mark.parametrize("error", [DeviceOutOfMemory("cuda:0 is full"), QxError("cuda:0: no driver")])
def test_a_run_ends_with_one_line_where_its_device_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The job that looks at the device before anything else ends the run as a wrong option does."""
    monkeypatch.setattr(worker, "CudaDevice", raising(error))
    channel: Any = SimpleNamespace(stage=lambda name: None)
    with pytest.raises(UsageError, match=f"^--device {error}$") as caught:
        worker.run(DeviceJob(device="cuda:0"), channel)
    assert failure_of(caught.value, "device") == ("usage", f"--device {error}")


def test_an_open_device_says_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the driver's package it knows what torch knows, and why the rest is missing."""
    monkeypatch.setattr(cuda, "DriverView", raising(Unreadable("nvidia-ml-py is not installed")))
    monkeypatch.delenv("CUDA_MODULE_LOADING", raising=False)
    pretend(monkeypatch)
    device = CudaDevice("cuda:0")
    facts = device.facts()
    assert (facts.product, facts.capability, facts.max_clock) == ("NVIDIA A10", "8.6", 1695.0)
    assert (facts.driver_cuda, facts.torch_cuda, facts.module_loading) == ("13.2", "13.0", "LAZY")
    assert facts.unread == "nvidia-ml-py is not installed"
    assert device.read() == DeviceReading()
    memory = device.memory()
    assert (memory.of_process, memory.reserved_peak, memory.allocated_peak) == (None, 20.0, 10.0)
    assert (memory.inactive_peak, memory.retries, memory.free) == (4.0, 2, 2048.0)


def test_a_runtime_with_its_own_allocator_takes_nothing_from_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where torch has kept nothing, its figures are not those of the artifact."""
    pretend(monkeypatch, max_memory_reserved=lambda name: 0)
    memory = CudaDevice("cuda:0").memory()
    assert (memory.reserved_peak, memory.allocated_peak, memory.retries) == (None, None, None)


def test_an_error_of_torch_for_want_of_memory_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's error is no ``MemoryError``; the outcome of the cell is ``out_of_memory`` all the same."""

    class OutOfMemoryError(RuntimeError):
        pass

    assert failure_of(OutOfMemoryError("no room"), "launch")[0] == "failed"
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(OutOfMemoryError=OutOfMemoryError))
    assert failure_of(OutOfMemoryError("no room"), "launch")[0] == "out_of_memory"
