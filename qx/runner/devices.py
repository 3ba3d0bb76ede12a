"""The device of a run: looked at before anything is prepared, and held alone while launches are timed."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
from attrs import frozen

from qx.contract.devices import CPU, DeviceMemory, DeviceProcess, DeviceReading
from qx.errors import UsageError
from qx.processes.job_answers import DeviceAnswer, Serving
from qx.processes.jobs import DeviceJob
from qx.processes.logs import Subject
from qx.processes.workers import Failure, Processes
from qx.results.run_record import WaveReading
from qx.runner.request import Reporter, Request

#: Name in the cache of the file that a run locks while it times on a device.
LOCK = ".{device}.qx-device"
#: Largest share of the free memory of a device that launches may take together.
MEMORY_SHARE = 0.9
MIB = 2**20
#: What a process that builds or evaluates probably takes of a device, in bytes: its context and activations,
#: and for each parameter of the model.
PROCESS_BYTES, BYTES_A_PARAMETER = 2 << 30, 16


@frozen
class RunDevice:
    """The device of a run, as it was before anything was done on it."""

    name: str
    answer: DeviceAnswer

    @property
    def free_bytes(self) -> float:
        """Memory that was free on the device, in bytes, with what the process that looked at it used."""
        memory = self.answer.memory
        return (memory.free + (memory.of_process or 0.0)) * MIB

    def room_for(self, parameters: int) -> int:
        """Return how many processes that build or evaluate a model its memory probably holds, at least one.

        What they take is not known yet. It is estimated from the number of the model's parameters: in
        float32, once before and once after it was converted, and as much for what is made meanwhile.
        """
        needed = PROCESS_BYTES + BYTES_A_PARAMETER * parameters
        return max(1, int(MEMORY_SHARE * self.free_bytes / needed))


def open_run_device(request: Request, processes: Processes, reporter: Reporter) -> RunDevice | None:
    """Have a process open the device of a run, and say what may disturb it; None for the CPU.

    Raises ``UsageError`` where it cannot be used, with the reason.
    """
    if request.device == CPU:
        return None
    job = DeviceJob(seed=request.seed, device=request.device)
    try:
        answer = processes.run(
            job, "device", Subject(request.device, request.device), timeout=request.timeout
        )
    except Failure as failure:
        raise UsageError(f"--device {request.device}: {failure.cause}") from failure
    for line in warnings_of(request.device, answer):
        reporter.say(line)
    return RunDevice(request.device, answer)


def warnings_of(name: str, answer: DeviceAnswer) -> Iterator[str]:
    """Yield a line for each circumstance of a device that may disturb timings, or hide that they are."""
    if answer.facts.unread:
        yield f"{name}: clocks, power and other processes are not recorded: {answer.facts.unread}"
    if others := other_processes(answer.reading.processes):
        yield f"{name}: other processes use it, which makes timings unsteady: {_listed(others)}"
    limits = [limit for limit in answer.reading.limits if limit != "power limit"]
    if limits:
        yield f"{name}: its clocks are held down: {', '.join(limits)}"


def other_processes(processes: Sequence[DeviceProcess]) -> list[DeviceProcess]:
    """Return the processes of a device that neither are this one nor were started by it.

    The driver names a process that has just ended, too, and in a container processes that cannot be seen:
    these have no name.
    """
    own = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
    return [process for process in processes if process.pid not in own and process.name]


def _listed(processes: Sequence[DeviceProcess]) -> str:
    return ", ".join(map(str, processes[:5])) + (" and others" if len(processes) > 5 else "")


@contextmanager
def hold_device(folder: Path, device: str, reporter: Reporter) -> Iterator[None]:
    """Hold a device alone among the runs of one cache, while the context lasts; wait until others end.

    Nothing happens for the CPU, which launches of other runs may use too.
    """
    if device == CPU:
        yield
        return
    name = LOCK.format(device=device.replace(":", "-"))
    with (folder / name).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            reporter.say(f"{device}: another run times on it: waiting until it has ended")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def launch_bytes(serving: Serving, scale: float, empty: DeviceMemory) -> float:
    """Return the memory of the device that a launch is expected to take, in bytes.

    That is the loaded artifact, and a batch ``scale`` times as large as that of the evaluation. ``empty`` is
    what a process takes that has only opened the device: where the driver does not say what a process uses,
    it does not say that either, and what torch keeps is what is known.
    """
    loaded, peak = serving.device_loaded, serving.device_peak
    if loaded is None or peak is None:
        return 0.0
    at_rest = _used(loaded)
    working = max(0.0, _used(peak) - at_rest)
    return (at_rest + max(1.0, scale) * working + (0.0 if peak.of_process else _used(empty))) * MIB


def _used(memory: DeviceMemory) -> float:
    """Return the memory that a process uses, in MiB, as far as it is known."""
    return memory.of_process or memory.reserved_peak or 0.0


def wave_reading(wave: int, cell: str, reading: DeviceReading) -> WaveReading:
    """Return the state that a launch of a wave, counted from 0, read at the end of its warm-up."""
    return WaveReading(
        wave=wave,
        cell=cell,
        clock=reading.clock,
        memory_clock=reading.memory_clock,
        temperature=reading.temperature,
        power=reading.power,
        limits=reading.limits,
        others=tuple(map(str, other_processes(reading.processes))),
    )
