"""Launches on a device: how many fit into its memory together, and that they have it alone."""

from __future__ import annotations

import fcntl
import math
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from qx.contract.devices import DeviceFacts, DeviceMemory, DeviceProcess, DeviceReading
from qx.processes.job_answers import DeviceAnswer, Serving
from qx.runner.devices import RunDevice, hold_device, launch_bytes, other_processes, warnings_of
from qx.runner.measure import timing

MIB, GIB = 2**20, 2**30
EMPTY = DeviceMemory(of_process=400.0, free=15_600.0, total=16_384.0)


class Lines:
    """Keeps the lines that a run says."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def answer(**fields: Any) -> DeviceAnswer:
    """Return what a process that opened a device says of it."""
    return DeviceAnswer(
        **{"facts": DeviceFacts(product="it"), "reading": DeviceReading(), "memory": EMPTY, **fields}
    )


def serving(loaded: DeviceMemory, peak: DeviceMemory) -> Serving:
    """Return what an evaluation shows of the memory of a device."""
    return Serving(loaded=1.0, peak=2.0, device_loaded=loaded, device_peak=peak)


def test_the_memory_of_a_launch_grows_with_its_batch() -> None:
    """What the artifact takes is counted once, and what a batch takes as often as the batch is larger."""
    seen = serving(DeviceMemory(of_process=600.0), DeviceMemory(of_process=1000.0))
    assert launch_bytes(seen, 0.1, EMPTY) == 1000 * MIB
    assert launch_bytes(seen, 3.0, EMPTY) == (600 + 3 * 400) * MIB


def test_what_the_driver_does_not_say_is_estimated_from_torch() -> None:
    """Without the driver's figure it is what torch has kept, and what a process takes that only opens it."""
    seen = serving(DeviceMemory(reserved_peak=100.0), DeviceMemory(reserved_peak=300.0))
    assert launch_bytes(seen, 1.0, EMPTY) == (300 + 400) * MIB
    assert launch_bytes(Serving(loaded=1.0, peak=2.0), 1.0, EMPTY) == 0


@pytest.mark.parametrize(
    ("launch", "launches"), [(1 * GIB, 14), (4 * GIB, 3), (16 * GIB, 0)], ids=["small", "large", "too large"]
)
def test_the_memory_of_a_device_makes_groups(launch: float, launches: int) -> None:
    """As many launches are alive together as the memory holds, with the baseline and the control."""
    run: Any = SimpleNamespace(name="cnn", device_bytes=launch)
    reporter: Any = Lines()
    # 90 % of the 16,000 MiB that were free before the device was opened.
    assert timing._device_room(run, reporter, RunDevice("cuda:0", answer())) == max(0, launches - 2)


def test_small_launches_share_memory_with_a_large_one() -> None:
    """A group is as large as the launches take, the largest first, and not as if all were the largest."""
    sizes = {"a": 1.0 * GIB, "b": 5.0 * GIB, "c": 1.0 * GIB}
    reporter: Any = Lines()
    run: Any = SimpleNamespace(name="lm", launch_bytes=sizes)
    free = int(20 * GIB / timing.MEMORY_SHARE) + 1
    # Twice 5 GiB for the baseline and the control, then 5, 1 and 1, and three more of 1.
    assert timing._room(free, run, reporter) == 6
    run.launch_bytes = {**sizes, "d": 4.0 * GIB, "e": 3.0 * GIB}
    assert timing._room(free, run, reporter) == 2
    assert not reporter.lines
    run.launch_bytes = {}
    assert timing._room(free, run, reporter) == 38


def test_without_a_device_only_the_memory_of_the_machine_counts() -> None:
    """On the CPU, and where nobody knows what a launch takes of the device, it sets no limit."""
    reporter: Any = Lines()
    for device, launch in ((None, GIB), (RunDevice("cuda:0", answer()), 0.0)):
        run: Any = SimpleNamespace(name="cnn", device_bytes=launch)
        assert timing._device_room(run, reporter, device) == math.inf
    assert not reporter.lines


def test_builds_share_a_device_as_far_as_its_memory_goes() -> None:
    """As many build or evaluate at once as the memory holds by the model's parameters, and one at least."""
    device = RunDevice("cuda:0", answer())
    assert [device.room_for(number) for number in (0, 10**8, 10**9, 10**11)] == [7, 4, 1, 1]


def test_a_device_that_is_too_small_is_named() -> None:
    """Where not even three launches fit, a line says which memory it is."""
    run: Any = SimpleNamespace(name="vit", device_bytes=9 * GIB)
    reporter: Any = Lines()
    timing._device_room(run, reporter, RunDevice("cuda:0", answer()))
    assert reporter.lines == [
        "vit: a launch takes about 9.0 GiB, so the memory of cuda:0 may not hold the baseline, the control "
        "and a config at once"
    ]


def test_a_device_is_held_alone(tmp_path: Path) -> None:
    """While it is held no other run can lock it, and the CPU is not locked at all."""
    reporter: Any = Lines()
    with hold_device(tmp_path, "cuda:0", reporter):
        (place,) = tmp_path.iterdir()
        with place.open("w") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with hold_device(tmp_path, "cuda:1", reporter), hold_device(tmp_path, "cpu", reporter):
            assert len(list(tmp_path.iterdir())) == 2
    with place.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert not reporter.lines


def test_only_processes_of_others_are_named() -> None:
    """Neither this process nor what it started counts, nor a number that no program here has."""
    own = DeviceProcess(pid=os.getpid(), name="python")
    other = DeviceProcess(pid=1, name="init", memory=2 * GIB)
    hidden = DeviceProcess(pid=2**22 + 1)
    assert other_processes([own, other, hidden]) == [other]


def test_what_may_disturb_is_told_when_a_run_begins() -> None:
    """Other processes, clocks that are held down, and readings that are missing have a line each."""
    reading = DeviceReading(
        limits=("power limit", "temperature"), processes=(DeviceProcess(pid=1, name="init", memory=GIB),)
    )
    facts = DeviceFacts(product="it", unread="nvidia-ml-py is not installed")
    lines = list(warnings_of("cuda:0", answer(reading=reading, facts=facts)))
    assert lines == [
        "cuda:0: clocks, power and other processes are not recorded: nvidia-ml-py is not installed",
        "cuda:0: other processes use it, which makes timings unsteady: init (1, 1.0 GiB)",
        "cuda:0: its clocks are held down: temperature",
    ]
    assert not list(warnings_of("cuda:0", answer()))
