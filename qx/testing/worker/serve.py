"""Serve an artifact at several batch sizes, and tell what the loader did with what it was given."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil

from qx.values import Array, JsonObject, Native
from qx.worker.arrays import Split
from qx.worker.plugins import seed_everything
from qx.worker.probe import PROBE, hold_to_probe
from qx.worker.serving import host_of_artifact, import_runtime, load

if TYPE_CHECKING:
    from qx.contract.records import Subject
    from qx.testing.jobs import ServeJob
    from qx.worker.channel import Channel

#: How long the threads of a loader are watched at work: seconds of computing, and at most of time.
WATCHED, WATCHED_AT_MOST = 0.4, 10.0


def run(job: ServeJob, channel: Channel) -> None:
    """Load the artifact, hold it to its probe, serve every batch size, and answer with what was seen."""
    channel.stage("import")
    absent = [name for name in job.artifact.imports if not _imported(name)]
    import_runtime(job)
    runtime = _top_level()
    channel.stage("load")
    seed_everything(job.seed)
    subject = load(job, host_of_artifact(job))
    channel.stage("probe")
    probe = Path(job.artifact.folder).parent / PROBE
    hold_to_probe(subject, probe, exact=job.threads == 1)
    channel.stage("serve")
    split = Split.read(Path(job.inputs))
    served = []
    for size in job.batch_sizes:
        seen, outputs = _served(subject, split, size)
        served.append(seen)
    np.save(job.outputs, outputs)
    channel.stage("threads")
    busy = _busy_threads(subject, subject.prepare(split.rows(0, max(256, *job.batch_sizes))))
    channel.answer(
        probed=probe.is_file(),
        newly_imported=absent,
        during_load=sorted(_top_level() - runtime),
        served=served,
        busy_threads=busy,
    )


def _imported(name: str) -> bool:
    return name in sys.modules


def _top_level() -> set[str]:
    return {name.partition(".")[0] for name in sys.modules}


def _served(subject: Subject, split: Split, size: int) -> tuple[JsonObject, Array]:
    arrays = split.rows(0, size)
    kept = {name: array.copy() for name, array in arrays.items()}
    native = subject.prepare(arrays)
    given = subject.outputs(subject.call(native))
    outputs = np.array(given)
    again = np.array(subject.outputs(subject.call(native)))
    anew = np.array(subject.outputs(subject.call(subject.prepare(split.rows(0, size)))))
    seen = {
        "batch_size": size,
        "type": type(given).__name__,
        "dtype": outputs.dtype.str,
        "shape": list(outputs.shape),
        "finite": bool(np.isfinite(outputs).all()) if outputs.dtype.kind in "fiub" else False,
        "inputs_kept": _same(arrays, kept),
        "repeats": bool(np.array_equal(outputs, again, equal_nan=True)),
        "repeats_anew": bool(np.array_equal(outputs, anew, equal_nan=True)),
    }
    return seen, outputs


def _same(ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> bool:
    return ours.keys() == theirs.keys() and all(np.array_equal(ours[name], theirs[name]) for name in ours)


def _busy_threads(subject: Subject, native: Native) -> list[float]:
    """Seconds of CPU that each thread of this process took while the subject was called, most first.

    A pool that sleeps takes none: only threads that compute are told.
    """
    process = psutil.Process()
    before = _seconds(process)
    until, computed = time.monotonic() + WATCHED_AT_MOST, time.process_time() + WATCHED
    while time.process_time() < computed and time.monotonic() < until:
        subject.call(native)
    after = _seconds(process)
    return sorted((spent - before.get(thread, 0.0) for thread, spent in after.items()), reverse=True)


def _seconds(process: psutil.Process) -> dict[int, float]:
    return {thread.id: thread.user_time + thread.system_time for thread in process.threads()}
