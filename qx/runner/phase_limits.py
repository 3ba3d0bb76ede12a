"""How the time of a run is shared by its phases and its workloads, and what it was too short for."""

from __future__ import annotations

import time

from attrs import define

from qx.processes.time_limit import TimeLimit
from qx.runner.request import Chosen
from qx.runner.workload_run import WorkloadRun

#: Share of the time of a run that its preparation may take: with less left nothing is measured anyway.
PREPARATION = 0.8
#: Share of the time that is left which a phase may take. The rest is for the phases that follow: one config
#: that hangs must not cost the figures of all others.
SHARES = {"build": 0.5, "evaluate": 0.5, "measure": 1.0, "derive": 1.0}
#: The phases in words, as causes name them.
SUBJECTS = {
    "build": "builds",
    "evaluate": "evaluating",
    "measure": "measuring",
    "derive": "derived metrics",
}
#: Phases that are carried out although the user has interrupted the run: of what there is.
AFTER_INTERRUPTION = ("derive",)
#: Seconds that the derived metrics of a cell are expected to take, and limits of their share of what is left.
DERIVE_SECONDS, LEAST_DERIVE, MOST_DERIVE = 1.0, 0.1, 0.3


@define
class PhaseLimit:
    """The time of one phase, of which each workload may take an equal part of what those before it leave."""

    limit: TimeLimit
    phase: str
    chosen: Chosen
    #: Number of workloads that are still to come.
    to_come: int
    #: When the phase must be over, by the monotonic clock in seconds.
    phase_end: float | None = None

    def begin(self, workload_run: WorkloadRun) -> None:
        """Let a workload take its part from now on."""
        now = time.monotonic()
        if self.phase_end is None:
            self.phase_end = now + self._share(workload_run) * self.limit.left
        share = max(0.0, self.phase_end - now) / self.to_come
        is_over = self.limit.is_cut_off and self.phase not in AFTER_INTERRUPTION
        self.limit.allow(0.0 if is_over else share, SUBJECTS[self.phase])

    def end(self) -> None:
        """Pass on what a workload has left."""
        self.to_come -= 1

    def _share(self, first: WorkloadRun) -> float:
        """Return the share of the time that is left which the phase may take."""
        if self.phase != "measure" or not self.chosen.metrics_of("derived"):
            return SHARES[self.phase]
        needed = DERIVE_SECONDS * len(first.successful_builds()) * self.to_come
        derive = needed / self.limit.left if self.limit.left else 1.0
        return 1 - min(MOST_DERIVE, max(LEAST_DERIVE, derive))
