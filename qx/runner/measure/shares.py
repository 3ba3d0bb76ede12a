"""The seconds of ``--budget``, shared by the workloads of a run, which are measured one after another."""

from __future__ import annotations

import math

from attrs import define

from qx.runner.measure.plan import LEAST_WAVES


@define
class BudgetShares:
    """What is left of the budget, and how much of it the next workload may take, in seconds."""

    budget: float
    workloads: int
    left: float
    #: Workloads that are still to be measured.
    to_come: int
    #: The most that any workload so far needs for its least number of waves.
    needed: float = 0.0
    #: Workloads whose share was too short.
    refused: int = 0

    @classmethod
    def of(cls, budget: float | None, workloads: int) -> BudgetShares | None:
        """Share a budget among workloads; None where the user gave none."""
        return None if budget is None else cls(budget, workloads, left=budget, to_come=workloads)

    @property
    def equal(self) -> float:
        """What the next workload is planned with."""
        return round(max(0.0, self.left) / self.to_come, 2)

    @property
    def most(self) -> float:
        """What the next workload may take where its least number of waves needs it.

        That leaves half of an equal share of the whole budget to each workload after it.
        """
        kept = (self.to_come - 1) * self.budget / self.workloads / 2
        return max(self.equal, round(self.left - kept, 2))

    @property
    def enough(self) -> int:
        """The smallest ``--budget`` that refuses no workload."""
        return math.ceil(max(self.workloads * self.needed, self.budget + self.needed - self.most))

    def refuse(self, workload: str, needed: float) -> str:
        """Note that the share of a workload is too short, and return a line that says what would be enough.

        ``needed`` are the seconds that its least number of waves takes.
        """
        self.refused += 1
        self.needed = max(self.needed, needed)
        shared, cells, enough = "", "these cells", "as much"
        if self.workloads > 1:
            shared, cells = f", shared by {self.workloads} workloads,", f"the cells of {workload}"
            enough = f"{self.enough}"
        return (
            f"--budget {self.budget:g}{shared} is too short: {LEAST_WAVES} waves of {cells} take about "
            f"{needed:.0f} s; give {enough}, or take a first look with --quick"
        )

    def spend(self, seconds: float, needed: float) -> None:
        """Take the seconds that a workload took off what is left."""
        self.needed = max(self.needed, needed)
        self.left -= seconds
        self.to_come -= 1
