"""What do fewer rounds for settled cells change? Simulated, with the code that decides in runs.

Runs of ten cells and the control are simulated wave by wave, on a quiet machine and on a busy one, until all
speedups are precise enough or the budget is spent. Settled cells have fewer rounds; beside that the same runs
have equal rounds for all. Times of calls have drift, effects of waves and of launches, noise, and bursts of
other work. How long rounds and launches take is assumed, nothing is timed.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from attrs import define, frozen
from qx_plugins.metrics import file_size, latency

from benchmarks.common import keep
from qx.analysis.axes import make_axis
from qx.analysis.quantity import Quantity
from qx.analysis.settled import Decisions, Settling
from qx.contract.figures import Figure, Point
from qx.contract.records import Metric
from qx.results.recording import Recording, Series, joined
from qx.runner.measure.plan import LEAST_WAVES
from qx.runner.measure.rounds import MOST_ROUNDS, RoundCost, Task, count_rounds, settled_rounds
from qx.runner.measure.waves import LEAST_BEFORE_SETTLED
from qx.statistics import over_waves, pareto

BASELINE, CONTROL = "baseline", "control"
OTHERS = tuple(f"config_{number}" for number in range(9))
CELLS = (BASELINE, CONTROL, *OTHERS)
POINT = Point(1)
LATENCY, SIZE = latency.describe(), file_size.describe()
#: An axis of answers without noise, so that rounds alone decide.
QUALITY = Metric(
    name="quality",
    summary="Quality",
    unit="points",
    better="higher",
    phase="artifact",
    samples="exact",
    compare="difference",
    margin=0.5,
    axis=True,
)
TASK = Task(metric="latency", point=POINT, figure=Figure("latency", POINT))
#: Number of calls of a block.
CALLS = 6
#: Number of rounds of the waves that budgets are counted in, and how long the launches of a wave take as a
#: multiple of so many rounds: about as much as recorded shares of a half say.
ROUNDS, LAUNCHING = 16, 0.8
DECISIONS = Decisions(
    metrics=(LATENCY, SIZE, QUALITY),
    points=(POINT,),
    baseline=BASELINE,
    control=CONTROL,
    cells=(BASELINE, *OTHERS),
)


@frozen(kw_only=True)
class Machine:
    """How times of calls vary: deviations of logs."""

    launch: float
    noise: float
    drift: float
    #: Parameters of the beta distribution of the share of blocks in a wave that other work slows.
    busy: tuple[float, float]


MACHINES = {
    # As in benchmarks/intervals.py: a third of all blocks is slowed by up to half.
    "busy": Machine(launch=0.01, noise=0.04, drift=0.005, busy=(1, 2)),
    # Launches differ by as much as on the machine that artifacts/results is of, and rounds by as little.
    "quiet": Machine(launch=0.0075, noise=0.02, drift=0.002, busy=(1, 20)),
}


@define
class Outcome:
    """What one simulated run comes to."""

    waves: int
    #: How long it took, as a multiple of a wave of ``ROUNDS`` rounds.
    length: float
    #: Class of each cell: settled at the end, reopened after it was settled, or open throughout.
    classes: dict[str, str]
    held: dict[str, bool]
    half_widths: dict[str, float]
    rounds: Counter[str]
    wrong_front: int
    #: The pick by latency: right, wrong or undecided.
    pick: str


def draw_wave(
    seed: tuple[int, int], machine: Machine, truths: Mapping[str, float], rounds: int
) -> np.ndarray:
    """Draw the times of calls of one wave in ms, ``[cells, rounds, calls]``.

    Launches and what else the machine does are the same for the same seed, whatever the number of rounds.
    """
    generator = np.random.default_rng(seed)
    shape = (len(CELLS), rounds, CALLS)
    launch = machine.launch * (generator.exponential(size=(len(CELLS), 1, 1)) - 1)
    share, wave = generator.beta(*machine.busy), generator.normal(0, 0.03)
    drift = np.cumsum(generator.normal(0, machine.drift, (1, rounds, 1)), axis=1)
    burst = generator.uniform(0.1, 0.4, (*shape[:2], 1)) * (generator.random((*shape[:2], 1)) < share)
    logs = np.array([truths[cell] for cell in CELLS])[:, None, None]
    return np.exp(logs + wave + drift + launch + burst + generator.exponential(machine.noise, shape))


def draw_truths(
    generator: np.random.Generator,
) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """Draw the logs of latencies, sizes in bytes and qualities of all cells.

    As in real matrices there are groups of configs: nearly equal in latency within, and apart between them.
    """
    groups = generator.uniform(-1.4, 0.3, 4)
    delays = {cell: float(generator.choice(groups) + generator.normal(0, 0.02)) for cell in OTHERS}
    sizes = {cell: float(1e6 * generator.choice([0.25, 0.26, 0.5, 1.0])) for cell in OTHERS}
    qualities = {cell: float(90 - generator.exponential(1.0)) for cell in OTHERS}
    both = (BASELINE, CONTROL)
    return (
        delays | dict.fromkeys(both, 0.0),
        sizes | dict.fromkeys(both, 1e6),
        qualities | dict.fromkeys(both, 90.0),
    )


def exact(value: float) -> Series:
    """Return a series of one exact value."""
    none = np.array([-1], dtype=np.int32)
    return Series(values=np.array([value]), wave=none, round=none, position=none)


@frozen(kw_only=True)
class Case:
    """What a run is simulated for."""

    machine: str
    #: As a multiple of a wave of ``ROUNDS`` rounds.
    budget: float
    precision: float = 0.001

    @property
    def name(self) -> str:
        """The case in words."""
        until = (
            f"until ±{self.precision:.0%}" if self.precision > 0.001 else f"budget of {self.budget:g} waves"
        )
        return f"{self.machine} machine, {until}"


CASES = (
    Case(machine="busy", budget=6),
    Case(machine="quiet", budget=6),
    Case(machine="busy", budget=20),
    Case(machine="quiet", budget=20),
    Case(machine="busy", budget=40, precision=0.03),
    Case(machine="quiet", budget=40, precision=0.01),
)


def simulate(seed: int, case: Case, *, thins: bool) -> Outcome:
    """Simulate a run and return what it comes to; with ``thins`` settled cells have fewer rounds."""
    delays, sizes, qualities = truths = draw_truths(np.random.default_rng(seed))
    recording = Recording()
    for cell in CELLS:
        recording.add(cell, Figure("file_size"), exact(sizes[cell]))
        recording.add(cell, Figure("quality"), exact(qualities[cell]))
    settling, settled = Settling(DECISIONS), frozenset[str]()
    parts: dict[str, list[Series]] = defaultdict(list)
    # One round of all cells takes a second.
    launching = LAUNCHING * ROUNDS
    left, spent, wave, count = case.budget * (ROUNDS + launching), 0.0, 0, MOST_ROUNDS
    classes, rounds = dict.fromkeys(OTHERS, "open"), Counter[str]()
    while True:
        if wave >= LEAST_BEFORE_SETTLED and thins:
            settled = settling.settled_cells(recording)
        of_settled = len(settled) / len(CELLS)
        cost = RoundCost(seconds=1 - of_settled, settled_seconds=of_settled, calls=CALLS)
        if wave < LEAST_WAVES:
            seconds = (left - spent) / (LEAST_WAVES - wave) - launching
            count = count_rounds([TASK], {TASK: cost}, seconds)[TASK]
        fewer = settled_rounds({TASK: count}, {TASK: CALLS}).get(TASK, set(range(count)))
        times = draw_wave((seed, wave), MACHINES[case.machine], delays, count)
        for row, cell in enumerate(CELLS):
            numbers = np.array(sorted(fewer) if cell in settled else range(count))
            parts[cell].append(block_samples(times[row, numbers], numbers, wave))
            recording.add(cell, TASK.figure, joined(parts[cell]))
            rounds[cell] += len(numbers)
            if len(numbers) < count:
                classes[cell] = "settled"
            elif classes.get(cell) == "settled":
                classes[cell] = "reopened"
        wave += 1
        spent += cost.of(count) + launching
        if wave >= LEAST_WAVES and (
            spent + spent / wave > left * (1 + 1e-9) or is_precise(recording, case.precision)
        ):
            length = spent / (ROUNDS + launching)
            return outcome(recording, wave, length, classes, rounds, truths)


def is_precise(recording: Recording, precision: float) -> bool:
    """Return whether the speedups of all cells are precise enough for a run to end."""
    values = quantity_of(LATENCY, recording).by_wave
    ratios = np.column_stack([values.advantage(cell, BASELINE) for cell in CELLS[1:]])
    return over_waves.enough(ratios, precision, LEAST_WAVES)


def block_samples(times: np.ndarray, numbers: np.ndarray, wave: int) -> Series:
    """Return times ``[rounds, calls]`` of rounds with these numbers, as a run records them."""
    rounds = np.repeat(numbers, times.shape[1])
    return Series(
        values=times.ravel(),
        wave=np.full(len(rounds), wave),
        round=rounds,
        position=np.zeros_like(rounds),
    )


def quantity_of(metric: Metric, recording: Recording) -> Quantity:
    """Return a metric over the simulated cells."""
    return Quantity(metric, POINT if metric.per_point else None, recording, BASELINE)


def outcome(
    recording: Recording,
    waves: int,
    length: float,
    classes: dict[str, str],
    rounds: Counter[str],
    truths: Sequence[Mapping[str, float]],
) -> Outcome:
    """Return what a run comes to, whose samples are in a recording."""
    cells = (BASELINE, *OTHERS)
    quantities = [quantity_of(metric, recording) for metric in (LATENCY, SIZE, QUALITY)]
    axes = [make_axis(quantity, cells) for quantity in quantities]
    delays, sizes, qualities = (np.array([truth[cell] for cell in cells]) for truth in truths)
    true_axes = [
        pareto.Axis(values[:, None] - values, values[:, None] - values, axis.margin)
        for values, axis in zip((-delays, -np.log(sizes), qualities), axes, strict=True)
    ]
    held, half_widths = {}, {}
    for cell in OTHERS:
        difference = quantities[0].compare(cell, BASELINE)
        assert difference is not None
        assert difference.ci is not None
        low, high = np.log(difference.ci)
        held[cell], half_widths[cell] = bool(low <= -truths[0][cell] <= high), float(high - low) / 2
    wrong = pareto.front(axes).on_front != pareto.front(true_axes).on_front
    pick = pareto.pick(axes, range(3))
    picked = "undecided"
    if pick is not None:
        picked = "right" if delays[pick.chosen] <= delays.min() + np.log(1.02) else "wrong"
    return Outcome(waves, length, classes, held, half_widths, rounds, int(wrong.sum()), picked)


def summary(outcomes: Sequence[Outcome], equal: Sequence[Outcome]) -> dict[str, Any]:
    """Return the figures of runs, beside those of the same runs with equal rounds."""
    figures: dict[str, Any] = {
        "waves": round(float(np.mean([run.waves for run in outcomes])), 2),
        "length": round(float(np.mean([run.length for run in outcomes])), 2),
        "wrong_on_front": share(sum(run.wrong_front for run in outcomes), len(outcomes) * (1 + len(OTHERS))),
        "wrong_pick": share(sum(run.pick == "wrong" for run in outcomes), len(outcomes)),
        "undecided_pick": share(sum(run.pick == "undecided" for run in outcomes), len(outcomes)),
        "cells": {},
    }
    for name in ("settled", "reopened", "open"):
        pairs = [
            (run, base, cell)
            for run, base in zip(outcomes, equal, strict=True)
            for cell in OTHERS
            if run.classes[cell] == name
        ]
        if not pairs:
            continue
        figures["cells"][name] = {
            "share": share(len(pairs), len(outcomes) * len(OTHERS)),
            "coverage": share(sum(run.held[cell] for run, _, cell in pairs), len(pairs)),
            "coverage_with_equal_rounds": share(sum(base.held[cell] for _, base, cell in pairs), len(pairs)),
            "error_of_coverage": round(math.sqrt(0.05 * 0.95 / len(pairs)), 4),
            "half_width_to_equal": ratio(
                [(run.half_widths[cell], base.half_widths[cell]) for run, base, cell in pairs]
            ),
            "rounds_to_equal": ratio([(run.rounds[cell], base.rounds[cell]) for run, base, cell in pairs]),
        }
    return figures


def share(part: float, whole: float) -> float:
    """Return a share with four digits."""
    return round(part / whole, 4)


def ratio(pairs: Sequence[tuple[float, float]]) -> float:
    """Return the geometric mean of the ratios of pairs."""
    return round(float(np.exp(np.mean([math.log(ours / theirs) for ours, theirs in pairs]))), 3)


def main() -> None:
    """Print and keep the figures of each machine and budget."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    runs = parser.parse_args().runs
    figures: dict[str, Any] = {}
    everything: list[Outcome] = []
    everything_equal: list[Outcome] = []
    for case in CASES:
        outcomes, equal = (
            [simulate(seed, case, thins=thins) for seed in range(runs)] for thins in (True, False)
        )
        figures[case.name] = {"fewer": summary(outcomes, equal), "equal": summary(equal, equal)}
        everything, everything_equal = everything + outcomes, everything_equal + equal
        print(f"{case.name}: {figures[case.name]['fewer']}", file=sys.stderr, flush=True)
    figures["all"] = {
        "fewer": summary(everything, everything_equal),
        "equal": summary(everything_equal, everything_equal),
    }
    keep("fewer_rounds", {"runs": runs, "claimed": 0.95, "figures": figures})


if __name__ == "__main__":
    main()
