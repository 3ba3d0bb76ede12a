"""The fork servers of waves: each wave has imports of its own, which are made for several waves at once."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import wait
from contextlib import ExitStack, suppress

from attrs import Factory, define

from qx.errors import QxError
from qx.processes.fork_servers import ForkServers
from qx.processes.jobs import LaunchJob
from qx.processes.workers import Processes

#: The largest number of waves whose imports are made at once. Each holds some 200 MB until its wave is done.
MOST_AT_ONCE = 4


@define
class WaveServers:
    """Makes the fork servers of waves.

    An import keeps one CPU busy for a second or two, so those of the waves to come are made beside it, on the
    CPUs that would be idle. While calls are timed they wait for requests.
    """

    processes: Processes
    #: Number of imports that can work in parallel without sharing a CPU.
    parallel: int
    _waiting: list[tuple[ForkServers, ExitStack]] = Factory(list)

    def take(self, jobs: Sequence[LaunchJob], waves_to_come: int) -> tuple[ForkServers, ExitStack]:
        """Return servers that no wave has used, with what closes them.

        ``jobs`` are the jobs that will be forked, and ``waves_to_come`` the number of waves that will surely
        be made, with the next one.
        """
        if not self._waiting:
            self._make(jobs, min(waves_to_come, self.parallel, MOST_AT_ONCE))
        return self._waiting.pop(0)

    def close(self) -> None:
        """End the servers that no wave has used."""
        for _, stack in self._waiting:
            stack.close()
        self._waiting.clear()

    def _make(self, jobs: Sequence[LaunchJob], count: int) -> None:
        for _ in range(max(1, count)):
            stack = ExitStack()
            self._waiting.append((stack.enter_context(self.processes.fork_servers()), stack))
        by_modules = {job.preloads: job for job in jobs}
        with self.processes.side_by_side(self.parallel) as pool:
            wait(
                [
                    pool.submit(self._prepare, servers, job)
                    for servers, _ in self._waiting
                    # The imports that take longest first.
                    for job in sorted(by_modules.values(), key=lambda job: len(job.preloads), reverse=True)
                ]
            )

    def _prepare(self, servers: ForkServers, job: LaunchJob) -> None:
        # What cannot be prepared is found out where it is needed.
        with suppress(QxError):
            if job.preloads and job.threads == 1:
                self.processes.prepare(servers, job.preloads)
