"""What another machine is sent to measure a wave, and what it gives back."""

from __future__ import annotations

import random
from collections.abc import Callable

from attrs import frozen

from qx.contract.figures import Point
from qx.runner.measure.plan import Measured, Plan
from qx.runner.measure.rounds import Task


@frozen(kw_only=True)
class WaveOrder:
    """Everything that a machine needs to measure one wave of a group.

    Times are in seconds from now on or until now, since machines have clocks of their own.
    """

    plan: Plan
    group: tuple[str, ...]
    index: int
    share: float
    #: Cells of the wave, in the order in which they are launched.
    cells: tuple[str, ...]
    #: State of the measurement; of the samples so far only those of metrics of phase ``fresh``.
    measured: Measured
    fastest: dict[str, dict[Point, float]]
    counts: dict[Task, int]
    shuffler: random.Random
    whole_waves: int
    fresh_seconds: float
    measures_fresh: bool
    #: Cells that need no more rounds.
    settled: frozenset[str] = frozenset()
    #: Time since the first wave of the run began.
    elapsed: float
    #: Time until all launches must have ended.
    left: float


@frozen(kw_only=True)
class WaveOutcome:
    """What a machine that has measured a wave gives back."""

    #: Cells whose launches completed the wave.
    completed: tuple[str, ...]
    #: State of the measurement, with the samples of the wave pending.
    measured: Measured
    fastest: dict[str, dict[Point, float]]
    counts: dict[Task, int]
    shuffler: random.Random
    fresh_seconds: float


#: Has another machine measure a wave.
MeasureElsewhere = Callable[[WaveOrder], WaveOutcome]
