"""Which way to schedule launches and which estimator of waves have the smallest spread?

Waves of copies of the baseline take turns: launches are ``free``, ``held`` to one CPU with the host on the
others, or ``stopped`` (SIGSTOP) while they wait. Every estimator is then tried on the same samples, and on
parts of them: fewer rounds, shorter blocks. The figure is the root mean square of the log ratio of two equal
cells in one wave, in percent.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, get_args
from unittest.mock import patch

import numpy as np

from benchmarks.blocks import BlockEstimator, log_blocks, log_ratios, undisturbed
from benchmarks.common import argument_parser, keep, measuring_of, run_configs
from qx.contract.figures import Figure, Point
from qx.processes.workers import Worker
from qx.results.recording import Recording
from qx.runner.measure import rounds, waves
from qx.runner.measure.launches import Launches
from qx.statistics.undisturbed import log_undisturbed

VARIANTS = ("free", "held", "stopped")
COPIES = ("copy_a", "copy_b", "copy_c")


class Varied(waves._Group):
    """Waves that take turns between the variants."""

    def _hold(self, launches: dict[str, Worker]) -> tuple[int, ...]:
        self.variant = VARIANTS[(self.measured.waves - 1) % len(VARIANTS)]
        return super()._hold(launches) if self.variant == "held" else ()

    def _rounds(self, launches: dict[str, Worker]) -> None:
        stopped = self.variant == "stopped"
        with _stopped(launches) if stopped else patch.object(self, "variant", self.variant):
            super()._rounds(launches)
        self.variant = "free"


ask = Launches.ask


def _ask_stopped(launches: Launches, worker: Worker, *arguments: Any, **named: Any) -> Any:
    os.kill(worker.pid, signal.SIGCONT)
    try:
        return ask(launches, worker, *arguments, **named)
    finally:
        os.kill(worker.pid, signal.SIGSTOP)


@contextmanager
def _stopped(launches: Mapping[str, Worker]) -> Iterator[None]:
    for worker in launches.values():
        os.kill(worker.pid, signal.SIGSTOP)
    try:
        with patch.object(Launches, "ask", _ask_stopped):
            yield
    finally:
        for worker in launches.values():
            os.kill(worker.pid, signal.SIGCONT)


def rms(ratios: np.ndarray) -> float:
    """Return the root mean square of log ratios ``[waves, cells, cells]``, in percent."""
    pairs = ratios[(slice(None), *np.triu_indices(ratios.shape[1], 1))]
    return round(100 * float(np.sqrt(np.mean(pairs**2))), 2)


def by_rounds(times: np.ndarray) -> dict[str, float]:
    """Return the spread of estimators of blocks, whose ratios are taken in every round."""
    spreads = {}
    for estimator in get_args(BlockEstimator):
        blocks = log_blocks(times, estimator)
        spreads[f"ratios in rounds of each block's {estimator}"] = rms(log_ratios(blocks))
        fastest = undisturbed(blocks, 0.6)
        spreads[f"the same, of the fastest 60 % of blocks: {estimator}"] = rms(log_ratios(fastest))
    return spreads


def by_waves(times: np.ndarray) -> dict[str, float]:
    """Return the spread of estimators of all calls of a wave."""
    waves, rounds, cells, _ = (index.ravel() for index in np.indices(times.shape))
    spreads = {}
    for rank in (0.025, 0.05, 0.075, 0.1, 0.25):
        logs = log_undisturbed(times.ravel(), cells, waves, rounds, rank=rank)
        spreads[f"the fastest {2 * rank:.0%} of a wave's calls"] = rms(logs[:, :, None] - logs[:, None, :])
    logs = np.log(np.median(times, axis=(1, 3)))
    spreads["the median of a wave's calls"] = rms(logs[:, :, None] - logs[:, None, :])
    return spreads


def spreads_of_estimators(recording: Recording, size: int) -> dict[str, Any]:
    """Return the spread of every estimator with every variant, at one batch size."""
    times = calls_of(recording, size)
    spreads: dict[str, dict[str, float]] = {}
    for calls in sorted({1, 2, times.shape[3] // 2, times.shape[3]} - {0}):
        for count in sorted({5, times.shape[1] // 2, times.shape[1]}):
            for index, variant in enumerate(VARIANTS):
                part = times[index :: len(VARIANTS), :count, :, :calls]
                for estimator, spread in (by_rounds(part) | by_waves(part)).items():
                    name = f"{count} rounds of {calls} calls: {estimator}"
                    spreads.setdefault(name, {})[variant] = spread
    return spreads


def calls_of(recording: Recording, size: int) -> np.ndarray:
    """Return times of calls ``[waves, rounds, cells, calls]``, as many of each block as the shortest has."""
    series = [series_of_cell[Figure("latency", Point(size))] for series_of_cell in recording.series.values()]
    shape = (1 + series[0].wave.max(), 1 + series[0].round.max())
    calls = min(int(np.bincount(cell.wave * shape[1] + cell.round).min()) for cell in series)
    times = np.empty((*shape, len(series), calls))
    for index, cell in enumerate(series):
        for wave, number in np.ndindex(shape):
            times[wave, number, index] = cell.values[(cell.wave == wave) & (cell.round == number)][:calls]
    return times


def main() -> None:
    """Print and keep the spread of every variant."""
    parser = argument_parser(__doc__, runs=1)
    parser.add_argument("--seconds", type=float, default=280)
    parser.add_argument("--rounds", type=int, default=16)
    arguments = parser.parse_args()
    with (
        patch.object(waves, "_Group", Varied),
        patch.object(rounds, "MOST_ROUNDS", arguments.rounds),
        patch.object(rounds, "LEAST_ROUNDS", arguments.rounds),
        patch.object(rounds, "BLOCK_SECONDS", 0.02),
    ):
        results, recording = run_configs(
            arguments, COPIES, ("latency",), seed=0, budget=arguments.seconds, precision=1e-6
        )
    keep(
        "scheduling",
        {
            "waves": measuring_of(results).waves,
            "unit": "percent, root mean square of the log ratio of two equal cells in one wave",
            "by_batch_size": {str(size): spreads_of_estimators(recording, size) for size in (1, 32)},
        },
    )


if __name__ == "__main__":
    main()
