"""A fixed piece of work that is repeated: two such processes measure the noise of a machine."""

from __future__ import annotations

from time import perf_counter_ns
from typing import TYPE_CHECKING

from qx.processes.job_answers import SpinAnswer, Started

if TYPE_CHECKING:
    from qx.processes.jobs import SpinJob
    from qx.worker.channel import Channel

#: Rows of the square matrix, which fits the caches of any processor. The work takes about half a millisecond.
SIZE = 96


def run(job: SpinJob, channel: Channel) -> None:
    """Answer each command with the times of its ``calls`` repetitions, in milliseconds."""
    import numpy as np

    matrix = np.random.default_rng(job.seed).standard_normal((SIZE, SIZE)).astype(np.float32)
    out = np.empty_like(matrix)
    channel.answer(Started())
    for command in channel.commands():
        times = []
        for _ in range(command["calls"]):
            start = perf_counter_ns()
            for _ in range(8):
                np.matmul(matrix, matrix, out=out)
            times.append((perf_counter_ns() - start) / 1e6)
        channel.answer(SpinAnswer(values=times))
