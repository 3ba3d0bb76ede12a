"""How launches are best held and blocks best summed up: alternated waves of copies of the baseline.

Waves take turns: launches ``free``, ``held`` to one CPU with the host on the others, ``stopped`` (SIGSTOP)
while they wait. Every way to sum up the same waves is then tried on the same samples. The figure is the root
mean square of the log ratio of two equal cells in one wave, in percent.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, get_args
from unittest.mock import patch

import numpy as np

from benchmarks.common import keep, measured, options
from qx.blocks import BlockEstimator, LogBlocks, log_block_means
from qx.recording import Recording
from qx.runner import rounds, waves
from qx.runner.processes import Worker

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

    def _ask(self, worker: Worker, *arguments: Any, **named: Any) -> Any:
        if getattr(self, "variant", "free") != "stopped":
            return super()._ask(worker, *arguments, **named)
        os.kill(worker.pid, signal.SIGCONT)
        try:
            return super()._ask(worker, *arguments, **named)
        finally:
            os.kill(worker.pid, signal.SIGSTOP)


@contextmanager
def _stopped(launches: Mapping[str, Worker]) -> Iterator[None]:
    for worker in launches.values():
        os.kill(worker.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for worker in launches.values():
            os.kill(worker.pid, signal.SIGCONT)


def spread(blocks: LogBlocks, wave: slice, most: int, disturbed: bool) -> float:
    """Root mean square, in percent, over waves and pairs of cells."""
    part = LogBlocks(blocks.blocks[wave, :most])
    ratios = (part if disturbed else part.undisturbed()).all_log_ratios()
    pairs = ratios[(slice(None), *np.triu_indices(ratios.shape[1], 1))]
    return round(100 * float(np.sqrt(np.mean(pairs**2))), 2)


def summed_up(recording: Recording, size: int) -> dict[str, Any]:
    """Every way to sum up, of every variant, at one batch size."""
    series = [of["latency", size] for of in recording.series.values()]
    every: dict[str, Any] = {}
    for calls in (2, 5, 99):
        first = [_first(one, calls) for one in series]
        for estimator in get_args(BlockEstimator):
            blocks = log_block_means(
                np.concatenate([one.values[among] for one, among in zip(series, first, strict=True)]),
                np.concatenate([np.full(among.sum(), cell) for cell, among in enumerate(first)]),
                np.concatenate([one.wave[among] for one, among in zip(series, first, strict=True)]),
                np.concatenate([one.round[among] for one, among in zip(series, first, strict=True)]),
                block=estimator,
            )
            for most in sorted({5, 10, blocks.blocks.shape[1]}):
                for disturbed in (True, False):
                    some = "all" if calls == 99 else f"the first {calls}"
                    kept = "all" if disturbed else "undisturbed"
                    name = f"{estimator} of {some} calls, {most} rounds, {kept} blocks"
                    every[name] = {
                        variant: spread(blocks, slice(start, None, len(VARIANTS)), most, disturbed)
                        for start, variant in enumerate(VARIANTS)
                    }
    return every


def _first(series: Any, calls: int) -> Any:
    """Which samples are among the first calls of their block."""
    starts = np.flatnonzero(
        np.r_[True, (np.diff(series.wave) != 0) | (np.diff(series.round) != 0)],
    )
    place = np.arange(len(series.values)) - np.repeat(starts, np.diff(np.r_[starts, len(series.values)]))
    return place < calls


def main() -> None:
    """Print and keep the spread of every variant."""
    parser = options(__doc__, runs=1)
    parser.add_argument("--seconds", type=float, default=280)
    parser.add_argument("--rounds", type=int, default=16)
    arguments = parser.parse_args()
    with (
        patch.object(waves, "_Group", Varied),
        patch.object(rounds, "MOST_ROUNDS", arguments.rounds),
        patch.object(rounds, "LEAST_ROUNDS", arguments.rounds),
        patch.object(rounds, "BLOCK_SECONDS", 0.02),
    ):
        results, recording = measured(
            arguments, COPIES, ("latency",), seed=0, budget=arguments.seconds, precision=1e-6
        )
    keep(
        "scheduling",
        {
            "waves": results.run["measuring"]["waves"],
            "unit": "percent, root mean square of the log ratio of two equal cells in one wave",
            "by_batch_size": {str(size): summed_up(recording, size) for size in (1, 32)},
        },
    )


if __name__ == "__main__":
    main()
