"""The seconds of ``--budget``, shared by the workloads of a run, which are measured one after another."""

from __future__ import annotations

import math

from attrs import define

from qx.runner.measure.plan import LEAST_WAVES


@define
class BudgetShares:
    """The rest of the budget, and the share of it that the next workload may take, in seconds."""

    budget: float
    #: Number of workloads that share the budget.
    workloads: int
    #: The rest of the budget, in seconds.
    left: float
    #: Number of workloads that are still to be measured.
    to_come: int
    #: The longest time that a workload so far needs for its least number of waves, in seconds.
    needed: float = 0.0
    #: Number of workloads whose share was too short.
    refused: int = 0

    @classmethod
    def of(cls, budget: float | None, workloads: int) -> BudgetShares | None:
        """Share a budget among workloads; None without a budget of the user's."""
        return None if budget is None else cls(budget, workloads, left=budget, to_come=workloads)

    @property
    def equal_share(self) -> float:
        """The budget that the next workload is planned with."""
        return round(max(0.0, self.left) / self.to_come, 2)

    @property
    def largest_share(self) -> float:
        """The longest budget that the next workload may take if its least number of waves needs it.

        It leaves half of an equal share of the whole budget to each workload that follows.
        """
        reserved = (self.to_come - 1) * self.budget / self.workloads / 2
        return max(self.equal_share, round(self.left - reserved, 2))

    @property
    def sufficient_budget(self) -> int:
        """The smallest ``--budget`` that is long enough for every workload."""
        return math.ceil(max(self.workloads * self.needed, self.budget + self.needed - self.largest_share))

    def refuse(self, workload: str, needed: float) -> str:
        """Note that the share of a workload is too short, and return a message with a budget that suffices.

        ``needed`` is how long its least number of waves takes, in seconds.
        """
        self.refused += 1
        self.needed = max(self.needed, needed)
        shared, cells, sufficient = "", "these cells", "as much"
        if self.workloads > 1:
            shared, cells = f", shared by {self.workloads} workloads,", f"the cells of {workload}"
            sufficient = f"{self.sufficient_budget}"
        return (
            f"--budget {self.budget:g}{shared} is too short: {LEAST_WAVES} waves of {cells} take about "
            f"{needed:.0f} s; give {sufficient}, or take a first look with --quick"
        )

    def spend(self, seconds: float, needed: float) -> None:
        """Subtract the time that a workload took, in seconds, from the rest of the budget."""
        self.needed = max(self.needed, needed)
        self.left -= seconds
        self.to_come -= 1
