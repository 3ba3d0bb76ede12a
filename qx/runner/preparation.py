"""Before anything is built: the workload's data and weights, and the runtime, found and checked."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from concurrent.futures import wait
from importlib.resources import files
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from qx.errors import DataError, UsageError
from qx.files import cache_folder
from qx.host import Entry, Host
from qx.jobs import DataJob, InspectJob
from qx.runner.processes import Failure, Processes
from qx.runner.request import Reporter, Request, choose_workload, config, workload
from qx.runner.settings import Variant, settled

#: The fastest quantized engine of torch on each kind of machine, as ``platform.machine()`` names it.
ENGINES = {"x86_64": "x86", "AMD64": "x86", "aarch64": "qnnpack", "arm64": "qnnpack"}


@frozen(kw_only=True)
class Prepared:
    """A workload that is ready to be built and measured."""

    workload: Entry
    #: All options of the workload.
    options: Mapping[str, Any]
    weights: Path
    weights_sha256: str
    engine: str
    #: Folders of the splits as plain arrays; their names are their fingerprints.
    evaluation: Path
    #: By the number of images.
    calibrations: Mapping[int, Path]
    #: None where no config of the run fine-tunes.
    training: Path | None
    source: str
    items: int
    classes: tuple[str, ...]
    parameters: int
    runtime: dict[str, Any]


def prepare(
    host: Host,
    request: Request,
    processes: Processes,
    reporter: Reporter,
    options: Mapping[str, Any],
    variants: Sequence[Variant],
) -> Prepared:
    """Find the workload's data, or where it is the default one and has none, those of its fallback.

    ``options`` are those of the workload asked for. Of calibration images there is laid down what the
    ``variants`` want, and the training split where one of them fine-tunes. Raises ``UsageError``.
    """
    entry = choose_workload(host, request)
    fallback = workload(entry).fallback
    try:
        return _prepared(entry, options, variants, request, processes, reporter)
    except DataError as error:
        asked = request.workload or data_folder(request) or request.weights
        if asked is not None or options != settled(entry, {}) or fallback is None:
            raise UsageError(str(error)) from error
        reporter.say(f"{entry.name}: {error}; running {fallback} instead")
        instead = evolve(request, workload=fallback)
        try:
            entry = choose_workload(host, instead)
            return _prepared(entry, settled(entry, {}), variants, instead, processes, reporter)
        except DataError as second:
            raise UsageError(f"{fallback}: {second}") from second


def calibration_counts(request: Request, variants: Sequence[Variant]) -> tuple[int, ...]:
    """The sizes of the calibration splits: those that variants want, and what the user said."""
    wanted = {variant.calibration_n for variant in variants if variant.entry.state == "ready"}
    return tuple(sorted(count for count in wanted | {request.calibration_n} if count is not None))


def data_folder(request: Request) -> Path | None:
    """``--data``, or ``QX_DATA``."""
    if request.data is not None:
        return request.data.absolute()
    given = os.environ.get("QX_DATA")
    return Path(given).expanduser().absolute() if given else None


def is_offline(request: Request) -> bool:
    """``--offline``, or ``QX_OFFLINE`` set to anything but 0."""
    return request.offline or os.environ.get("QX_OFFLINE", "0") not in ("", "0")


def default_engine() -> str:
    """The fastest engine for this kind of machine."""
    machine = platform.machine()
    if machine not in ENGINES:
        raise UsageError(f"no quantized engine is known for {machine}: name one with --engine")
    return ENGINES[machine]


def weights_file(entry: Entry, request: Request) -> Path:
    """``--weights``, or those that travel with the workload. Raises ``UsageError``."""
    if request.weights is not None:
        if not request.weights.is_file():
            raise UsageError(f"weights file {request.weights} does not exist")
        return request.weights.absolute()
    named = workload(entry).weights
    if named is None:
        raise UsageError(f"workload {entry.name} brings no weights: give them with --weights FILE")
    package, _, name = named.partition(":")
    try:
        path = Path(str(files(package) / name))
    except ModuleNotFoundError as error:
        raise UsageError(f"the weights of {entry.name} ({named}) are not installed: {error}") from error
    if not path.is_file():
        raise UsageError(
            f"the weights of {entry.name} ({named}) are missing; "
            f"train them with: qx train --workload {entry.name}"
        )
    return path


def _prepared(
    entry: Entry,
    options: Mapping[str, Any],
    variants: Sequence[Variant],
    request: Request,
    processes: Processes,
    reporter: Reporter,
) -> Prepared:
    assert entry.reference is not None
    training = any(config(one.entry).training for one in variants if one.entry.state == "ready")
    weights = weights_file(entry, request)
    engine = request.engine or default_engine()
    cache = cache_folder()
    look = InspectJob(
        seed=request.seed,
        workload=entry.reference,
        workload_options=options,
        weights=str(weights),
        engine=engine,
    )
    folder = data_folder(request)
    lay = DataJob(
        seed=request.seed,
        workload=entry.reference,
        workload_options=options,
        data=str(folder) if folder else None,
        offline=is_offline(request),
        cache=str(cache),
        calibration_counts=calibration_counts(request, variants),
        training=training,
    )
    reporter.phase("prepare", entry.name)

    def run(job: InspectJob | DataJob, timeout: float) -> dict[str, Any]:
        return processes.run(job, job.do, timeout=timeout, progress=reporter.step)

    try:
        with processes.side_by_side(2) as pool:
            looked = pool.submit(run, look, request.timeout)
            laid = pool.submit(run, lay, max(request.timeout, 3600.0))
            # Outside the block they may raise: where data are missing, another workload is to be had.
            wait([looked, laid])
        data, found = laid.result(), looked.result()
    except Failure as failure:
        raise UsageError(f"workload {entry.name}: {failure.stage}: {failure.cause}") from failure
    home = Path(data["folder"])
    return Prepared(
        workload=entry,
        options=options,
        weights=weights,
        weights_sha256=found["weights_sha256"],
        engine=engine,
        evaluation=home / data["evaluation"],
        calibrations={int(count): home / name for count, name in data["calibrations"].items()},
        training=home / data["training"] if training else None,
        source=data["source"],
        items=data["items"],
        classes=tuple(data["classes"]),
        parameters=found["parameters"],
        runtime=found["runtime"],
    )
