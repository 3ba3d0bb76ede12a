"""Serve an artifact at several batch sizes, and answer with what the loader did."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from qx.contract.devices import CPU
from qx.testing.answers import ServeAnswer, ServedBatch
from qx.values import Array, Native
from qx.worker.arrays import Split
from qx.worker.outputs import checked_outputs, equal_arrays, pack
from qx.worker.plugins import seed_everything
from qx.worker.probe import PROBE, hold_to_probe
from qx.worker.serving import host_of_artifact, import_runtime, load

if TYPE_CHECKING:
    from qx.contract.records import Subject
    from qx.testing.jobs import ServeJob
    from qx.worker.channel import Channel

#: Number of items in calls of further kinds.
ITEMS = 3
#: How long a loader's threads are observed: seconds of CPU time, and the most seconds of wall time.
OBSERVED_CPU_SECONDS, MAX_SECONDS = 0.4, 10.0


def run(job: ServeJob, channel: Channel) -> None:
    """Load the artifact, compare it with its probe, serve every batch size, and answer with what was seen."""
    channel.stage("import")
    newly_imported = tuple(name for name in job.artifact.imports if name not in sys.modules)
    import_runtime(job)
    before_load = _top_level()
    channel.stage("load")
    seed_everything(job.seed)
    calls = load(job, host_of_artifact(job))
    subject = calls.subject()
    channel.stage("probe")
    probe = Path(job.artifact.folder).parent / PROBE
    loader = job.artifact.loader.name
    hold_to_probe(subject, probe, loader=loader, exact=job.threads == 1 and job.device == CPU)
    channel.stage("serve")
    split = Split.read(Path(job.inputs))
    served = []
    for size in job.batch_sizes:
        behaviour, outputs = _serve(subject, split, size, loader)
        served.append(behaviour)
    # Any: `numpy.savez` takes the arrays as keywords, among its own options.
    arrays: dict[str, Any] = pack(outputs)
    np.savez(job.outputs, **arrays)
    channel.stage("threads")
    busy = _busy_threads(subject, subject.prepare(split.rows(0, max(256, *job.batch_sizes))))
    channel.answer(
        ServeAnswer(
            probed=probe.is_file(),
            newly_imported=newly_imported,
            during_load=tuple(sorted(_top_level() - before_load)),
            served=tuple(served),
            repeated_kinds={kind: _repeats(calls.subject(kind), split, loader) for kind in calls.kinds},
            busy_threads=tuple(busy),
        )
    )


def _top_level() -> set[str]:
    return {name.partition(".")[0] for name in sys.modules}


def _serve(subject: Subject, split: Split, size: int, loader: str) -> tuple[ServedBatch, dict[str, Array]]:
    arrays = split.rows(0, size)
    copies = {name: array.copy() for name, array in arrays.items()}
    native = subject.prepare(arrays)
    returned: object = subject.outputs(subject.call(native))
    outputs = checked_outputs(returned, loader, size)
    assert isinstance(returned, Mapping)
    types = {name: type(returned[name]).__name__ for name in outputs}
    repeated = checked_outputs(subject.outputs(subject.call(native)), loader, size)
    native = subject.prepare(split.rows(0, size))
    prepared_again = checked_outputs(subject.outputs(subject.call(native)), loader, size)
    behaviour = ServedBatch(
        batch_size=size,
        names=tuple(tuple(call) for call in (outputs, repeated, prepared_again)),
        types=types,
        dtypes={name: output.dtype.str for name, output in outputs.items()},
        shapes={name: output.shape for name, output in outputs.items()},
        finite=all(bool(np.isfinite(output).all()) for output in outputs.values()),
        inputs_kept=equal_arrays(arrays, copies),
        repeats=equal_arrays(outputs, repeated),
        repeats_anew=equal_arrays(outputs, prepared_again),
    )
    return behaviour, outputs


def _repeats(subject: Subject, split: Split, loader: str) -> bool:
    """Return whether calls of the same inputs give the same outputs, one after the other."""
    arrays = split.rows(0, ITEMS)
    native = subject.prepare(arrays)
    first, *others = [checked_outputs(subject.outputs(subject.call(native)), loader, ITEMS) for _ in range(3)]
    return all(equal_arrays(first, other) for other in others)


def _busy_threads(subject: Subject, native: Native) -> list[float]:
    """Return the seconds of CPU that each thread took while the subject was called, the largest first.

    A thread of a pool that sleeps takes none.
    """
    process = psutil.Process()
    before = _cpu_seconds(process)
    deadline, cpu_deadline = time.monotonic() + MAX_SECONDS, time.process_time() + OBSERVED_CPU_SECONDS
    while time.process_time() < cpu_deadline and time.monotonic() < deadline:
        subject.call(native)
    after = _cpu_seconds(process)
    return sorted((seconds - before.get(thread, 0.0) for thread, seconds in after.items()), reverse=True)


def _cpu_seconds(process: psutil.Process) -> dict[int, float]:
    return {thread.id: thread.user_time + thread.system_time for thread in process.threads()}
