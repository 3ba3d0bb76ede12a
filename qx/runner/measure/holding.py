"""Holding launches to CPUs while rounds go on, and the host off them."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from qx.environment import cpu_numbers


def cpus_for(threads: int, allowed: Sequence[int], order: random.Random) -> tuple[int, ...]:
    """As many CPUs as there are threads, drawn from those that launches may run on.

    None where the host could not keep off them, or where the system cannot hold a process.
    """
    here = cpu_numbers()
    there = sorted(allowed or here)
    if not here or threads > len(there):
        return ()
    chosen = tuple(sorted(order.sample(there, threads)))
    return chosen if set(here) - set(chosen) else ()


@contextmanager
def off(cpus: Sequence[int]) -> Iterator[None]:
    """Keep this thread off these CPUs for a while."""
    if not cpus:
        yield
        return
    here = cpu_numbers()
    os.sched_setaffinity(0, set(here) - set(cpus))
    try:
        yield
    finally:
        os.sched_setaffinity(0, here)
