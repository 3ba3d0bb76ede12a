"""Before anything is built: the workload's data and weights, and the runtime, found and checked."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, wait
from pathlib import Path
from threading import Event

from attrs import Factory, evolve, frozen

from qx.contract.tasks import Labels, Task, task_of
from qx.errors import DataError, UsageError
from qx.files import folder_of_variable
from qx.host.host import Entry, Host
from qx.processes.jobs import DataJob, InspectJob
from qx.processes.workers import Failure, Processes, Worker
from qx.runner.request import Reporter, Request, choose_workload, config, references, workload
from qx.runner.settings import Variant, settled
from qx.storage.cache import open_cache
from qx.values import JsonMapping, JsonObject, OptionValues
from qx.worker.inspect import ASKING

#: The fastest quantized engine of torch on each kind of machine, as ``platform.machine()`` names it.
ENGINES = {"x86_64": "x86", "AMD64": "x86", "aarch64": "qnnpack", "arm64": "qnnpack"}


@frozen(kw_only=True)
class Prepared:
    """A workload that is ready to be built and measured."""

    workload: Entry
    #: All options of the workload.
    options: OptionValues
    #: None where the model is as it is made.
    weights: Path | None
    weights_sha256: str
    #: Of the user's own files that the model is made by.
    sources_sha256: str
    #: Versions of the distributions that the model is made by.
    model_versions: Mapping[str, str] = Factory(dict)
    #: Configs that say that they cannot treat the model.
    untreatable: Mapping[str, Failure]
    engine: str
    #: Folders of the splits as plain arrays; their names are their fingerprints.
    evaluation: Path
    #: By the number of images.
    calibrations: Mapping[int, Path]
    #: None where no config of the run fine-tunes.
    training: Path | None
    source: str
    items: int
    #: Bytes that the inputs of one item take.
    item_bytes: int
    classes: tuple[str, ...]
    #: What the model's answers mean, as far as that can be known.
    task: Task
    #: Its weights were given, or its factory is said to give trained ones.
    trained: bool
    parameters: int
    runtime: JsonObject


def prepare(
    host: Host,
    request: Request,
    entry: Entry,
    processes: Processes,
    reporter: Reporter,
    options: OptionValues,
    variants: Sequence[Variant],
) -> Prepared:
    """Find a workload's data, or where it is the default one and has none, those of its fallback.

    ``options`` are those of the workload. Of calibration images there is laid down what the ``variants``
    want, and the training split where one of them fine-tunes. Raises ``UsageError``.
    """
    fallback = workload(entry).fallback
    try:
        return _prepared(entry, options, variants, request, processes, reporter)
    except DataError as error:
        named = request.workload or request.workloads or request.model
        asked = named or data_folder(request) or request.weights
        if asked or options != settled(entry, {}) or fallback is None:
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
    return folder_of_variable("QX_DATA")


def is_offline(request: Request) -> bool:
    """``--offline``, or ``QX_OFFLINE`` set to anything but 0."""
    return request.offline or os.environ.get("QX_OFFLINE", "0") not in ("", "0")


def default_engine() -> str:
    """The fastest engine for this kind of machine."""
    machine = platform.machine()
    if machine not in ENGINES:
        raise UsageError(f"no quantized engine is known for {machine}: name one with --engine")
    return ENGINES[machine]


def weights_file(entry: Entry, request: Request) -> Path | None:
    """``--weights``, or the workload's own; None where it runs without any. Raises ``UsageError``."""
    if request.weights is not None:
        if not request.weights.is_file():
            raise UsageError(f"weights file {request.weights} does not exist")
        return request.weights.absolute()
    named = workload(entry).weights
    if named is None and workload(entry).random_weights:
        return None
    if named is None:
        raise UsageError(f"workload {entry.name} brings no weights: give them with --weights FILE")
    assert entry.description is not None
    if entry.description.weights is None:
        package = named.partition(":")[0]
        raise UsageError(f"the weights of {entry.name} ({named}) are not installed: no package {package!r}")
    path = Path(entry.description.weights)
    if not path.is_file():
        raise UsageError(
            f"the weights of {entry.name} ({named}) are missing; "
            f"train them with: qx train --workload {entry.name}"
        )
    return path


def _prepared(
    entry: Entry,
    options: OptionValues,
    variants: Sequence[Variant],
    request: Request,
    processes: Processes,
    reporter: Reporter,
) -> Prepared:
    weights = weights_file(entry, request)
    look, lay = _jobs(entry, options, variants, request, weights)
    reporter.phase("prepare", entry.name)
    try:
        found, data = _done(look, lay, request, processes, reporter)
    except Failure as failure:
        raise UsageError(f"workload {entry.name}: {failure.stage}: {failure.cause}") from failure
    # Workloads that look there have said so by themselves, and what they look for.
    if request.data is not None and not request.data.exists():
        raise UsageError(
            f"--data {request.data} does not exist; workload {entry.name} needs none, leave it out"
        )
    for reason in data["damaged"].values():
        reporter.say(f"{entry.name}: data in the cache were damaged ({reason}), and are laid down anew")
    _check_classes(entry, found["outputs"], data)
    if found["weights_note"]:
        reporter.say(f"{entry.name}: {found['weights_note']}")
    home = Path(data["folder"])
    assert look.engine is not None
    return Prepared(
        workload=entry,
        options=options,
        weights=weights,
        weights_sha256=found["weights_sha256"],
        sources_sha256=found["sources_sha256"],
        model_versions=found["versions"],
        untreatable={
            name: Failure("unsupported", stage, cause)
            for name, (stage, cause) in found["untreatable"].items()
        },
        engine=look.engine,
        evaluation=home / data["evaluation"],
        calibrations={int(count): home / name for count, name in data["calibrations"].items()},
        training=home / data["training"] if lay.training else None,
        source=data["source"],
        items=data["items"],
        item_bytes=data["item_bytes"],
        classes=tuple(data["classes"]),
        task=_task(found["outputs"], data),
        trained=weights is not None or request.trained,
        parameters=found["parameters"],
        runtime=found["runtime"],
    )


def _task(outputs: Sequence[int], data: JsonMapping) -> Task:
    labels = data["labels"]
    if labels is not None:
        labels = Labels(**{**labels, "shape": tuple(labels["shape"])})
    return task_of(outputs, labels, data["classes"])


def _jobs(
    entry: Entry,
    options: OptionValues,
    variants: Sequence[Variant],
    request: Request,
    weights: Path | None,
) -> tuple[InspectJob, DataJob]:
    """What looks at the model, and what lays down the data."""
    assert entry.reference is not None
    ready = [variant.entry for variant in variants if variant.entry.state == "ready"]
    look = InspectJob(
        seed=request.seed,
        workload=entry.reference,
        workload_options=options,
        weights=str(weights) if weights else None,
        engine=request.engine or default_engine(),
        configs=references(ready),
    )
    folder = data_folder(request)
    lay = DataJob(
        seed=request.seed,
        workload=entry.reference,
        workload_options=options,
        data=str(folder) if folder else None,
        offline=is_offline(request),
        cache=str(open_cache(request.trust_cache)),
        labels=weights is not None or request.trained,
        calibration_counts=calibration_counts(request, variants),
        training=any(config(one).training for one in ready),
    )
    return look, lay


def _done(
    look: InspectJob, lay: DataJob, request: Request, processes: Processes, reporter: Reporter
) -> tuple[JsonObject, JsonObject]:
    """What came of both jobs, done side by side. The first that fails ends the other, and is what is told.

    Raises ``Failure``, ``UsageError`` or ``DataError``.
    """
    over, workers = Event(), set[Worker]()

    def run(job: InspectJob | DataJob, timeout: float) -> JsonObject:
        worker = processes.start(job, job.do)
        workers.add(worker)
        if over.is_set():
            worker.kill()
        try:
            return worker.answer(timeout=timeout, progress=reporter.step)
        finally:
            workers.discard(worker)
            worker.close()

    def inspected() -> JsonObject:
        job = look
        while True:
            try:
                return run(job, request.timeout)
            except Failure as failure:
                others = [asked for asked in job.configs if failure.stage != f"{ASKING}{asked.name}"]
                if over.is_set() or len(others) == len(job.configs):
                    raise
                # A config that brings the process down when it is asked costs nobody else anything: its build
                # tells.
                job = evolve(job, configs=others)

    with processes.side_by_side(2) as pool:
        looked = pool.submit(inspected)
        laid = pool.submit(run, lay, request.data_timeout)
        done = wait([looked, laid], return_when=FIRST_EXCEPTION).done
        over.set()
        for worker in workers.copy():
            worker.kill()
    # Outside the block they may raise: where data are missing, another workload is to be had.
    for ended in (laid, looked):
        if ended in done:
            ended.result()
    return looked.result(), laid.result()


def _check_classes(entry: Entry, outputs: Sequence[int], data: JsonMapping) -> None:
    """Raise ``UsageError`` where a model of the user's does not give a score for each class of the data.

    The folders of images are its classes then. Scores of another number of classes are a mistake in any case;
    other outputs where there are labels. A workload that somebody wrote may mean what it gives: there it is
    for metrics to apply or not.
    """
    classes = data["classes"]
    if not workload(entry).takes_model or not classes or list(outputs) == [len(classes)]:
        return
    if len(outputs) != 1 and data["labels"] is None:
        return
    some = ", ".join(classes[:3]) + (", ..." if len(classes) > 3 else "")
    shape = ", ".join(map(str, ("batch", *outputs)))
    given = f"{outputs[0]} outputs" if len(outputs) == 1 else f"[{shape}], where [batch, classes] is due"
    raise UsageError(
        f"workload {entry.name}: the data have {len(classes)} classes ({some}), and the model gives {given}"
    )
