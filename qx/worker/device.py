"""Open a device and describe it, before anything is prepared: what a run lacks is said at once."""

from __future__ import annotations

import os

from attrs import evolve

from qx.contract.devices import CPU
from qx.devices.cuda import CudaDevice, DeviceOutOfMemory
from qx.errors import QxError, UsageError
from qx.processes.job_answers import DeviceAnswer
from qx.processes.jobs import DeviceJob
from qx.worker.channel import Channel


def run(job: DeviceJob, channel: Channel) -> None:
    """Answer with the facts of the job's device. Raises ``UsageError`` where it cannot be used."""
    assert job.device != CPU
    channel.stage("device")
    try:
        device = CudaDevice(job.device)
    except (DeviceOutOfMemory, QxError) as error:
        raise UsageError(f"--device {error}") from error
    reading = device.read()
    # This process will be gone when anybody looks at them.
    others = tuple(process for process in reading.processes if process.pid != os.getpid())
    channel.answer(
        DeviceAnswer(facts=device.facts(), reading=evolve(reading, processes=others), memory=device.memory())
    )
