"""CPU affinity during rounds: draw the CPUs that launches are pinned to, and keep the host off them."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from qx.environment import cpu_numbers


def cpus_for(threads: int, allowed: Sequence[int], order: random.Random) -> tuple[int, ...]:
    """Draw as many CPUs as there are threads, from those that launches may run on.

    The result is empty if no other CPU is left for the host, or if the system cannot pin a process.
    """
    host_cpus = cpu_numbers()
    candidates = sorted(allowed or host_cpus)
    if not host_cpus or threads > len(candidates):
        return ()
    chosen = tuple(sorted(order.sample(candidates, threads)))
    return chosen if set(host_cpus) - set(chosen) else ()


@contextmanager
def keep_host_off(cpus: Sequence[int]) -> Iterator[None]:
    """Keep the host thread off these CPUs, to which launches are pinned, while the context lasts."""
    if not cpus:
        yield
        return
    host_cpus = cpu_numbers()
    os.sched_setaffinity(0, set(host_cpus) - set(cpus))
    try:
        yield
    finally:
        os.sched_setaffinity(0, host_cpus)
