"""Preparation, before anything is built: find and check the workload's data, its weights and the runtime."""

from __future__ import annotations

import math
import os
import platform
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from datetime import datetime, timezone
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

from attrs import Factory, asdict, evolve, frozen

from qx.contract.records import FLOAT_LAYERS
from qx.contract.structure import Lengths, Structure, lengths_of
from qx.contract.tasks import CLASSIFICATION, Task, task_of
from qx.errors import DataError, UsageError
from qx.files import folder_of_variable
from qx.host.host import Entry, Host
from qx.processes.answers import Answer
from qx.processes.job_answers import DataAnswer, InspectAnswer, ItemInput
from qx.processes.jobs import DataJob, InspectJob, Job
from qx.processes.logs import Subject, log_hint, logs_in_cache, logs_name, new_identity
from qx.processes.workers import Failure, Processes, Worker, traceback_behind
from qx.runner.models import holds_graph, may_be_trained
from qx.runner.request import (
    Reporter,
    Request,
    choose_workload,
    config,
    items_to_evaluate,
    recipes_of,
    references,
    workload,
)
from qx.runner.settings import Variant, all_options
from qx.storage.cache import SPLITS, open_cache
from qx.storage.uses import Uses
from qx.values import JsonObject, OptionValues
from qx.worker.inspect import ASKING

A = TypeVar("A", bound=Answer)

#: The fastest quantized engine of torch on each kind of machine, as ``platform.machine()`` names it.
ENGINES = {"x86_64": "x86", "AMD64": "x86", "aarch64": "qnnpack", "arm64": "qnnpack"}


@frozen(kw_only=True)
class Prepared:
    """A workload that is ready to be built and measured."""

    workload: Entry
    #: All options of the workload.
    options: OptionValues
    #: The file of the weights; None if the model keeps the weights that its factory gives.
    weights: Path | None
    weights_sha256: str
    #: Hash of the user's own source files that make the model.
    sources_sha256: str
    #: Versions of the distributions that make the model.
    model_versions: Mapping[str, str] = Factory(dict)
    #: Configs that say that they cannot quantize the model.
    refusals: Mapping[str, Failure]
    engine: str
    #: Folders of the splits as plain arrays, each named by its fingerprint.
    evaluation: Path
    #: The calibration splits, by the number of items.
    calibrations: Mapping[int, Path]
    #: Further draws of calibration items, by seed and by the number of items.
    further: Mapping[int, Mapping[int, Path]] = Factory(dict)
    #: Numbers of items in them, where the data have fewer than that.
    calibration_sizes: Mapping[int, int] = Factory(dict)
    #: Inputs of the lengths that the user named, by length.
    lengths: Mapping[int, Path] = Factory(dict)
    #: The training split; None if no config of the run fine-tunes.
    training: Path | None
    source: str
    #: How the inputs follow from what a user has, as the workload says.
    preprocessing: str = ""
    #: Number of items that are evaluated, and of those that they were drawn from.
    items: int
    total_items: int
    #: Number of items to calibrate with.
    training_items: int
    #: Size of the inputs of one item, in bytes.
    item_bytes: int
    #: Size of the outputs of one item in bytes, at 4 for each element; 0 where their shapes are not known.
    output_bytes: int = 0
    classes: tuple[str, ...]
    #: How the model takes inputs and returns outputs; None: a tensor for each input, and one as its output.
    structure: Structure | None = None
    #: What the model's outputs mean, as far as the data show it.
    task: Task
    #: Whether the user named weights, or said that the factory gives trained ones.
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
    """Prepare a workload, or the fallback of the default workload if that has no data here.

    ``options`` are those of the workload. The calibration splits that the ``variants`` need are written as
    arrays, and the training split if one of them fine-tunes. Raises ``UsageError``.
    """
    try:
        return _prepare_or_fallback(host, request, entry, processes, reporter, options, variants)
    except UsageError as error:
        subject = Subject(entry.name, entry.name)
        traceback = traceback_behind(error)
        if not traceback.full:
            raise
        if len(request.workloads) + len(request.models) < 2:
            # The run ends here, and leaves nothing in the folder for its results.
            name = logs_name(new_identity(datetime.now(timezone.utc)))
            processes.logs.write_into(lambda: logs_in_cache(request.trust_cache) / name)
        file = processes.logs.failed(subject, str(error), traceback)
        raise UsageError(f"{error}{log_hint(file)}") from error


def _prepare_or_fallback(
    host: Host,
    request: Request,
    entry: Entry,
    processes: Processes,
    reporter: Reporter,
    options: OptionValues,
    variants: Sequence[Variant],
) -> Prepared:
    fallback = workload(entry).fallback
    try:
        return _prepare_workload(host, entry, options, variants, request, processes, reporter)
    except DataError as error:
        workload_named = request.workload or request.workloads or request.models
        is_users_choice = workload_named or data_folder(request) or request.weights
        is_users_choice = is_users_choice or request.calibration_data
        if is_users_choice or options != all_options(entry, {}) or fallback is None:
            raise UsageError(str(error)) from error
        reporter.say(f"{entry.name}: {error}; running {fallback} instead")
        fallback_request = evolve(request, workload=fallback)
        try:
            entry = choose_workload(host, fallback_request)
            return _prepare_workload(
                host, entry, all_options(entry, {}), variants, fallback_request, processes, reporter
            )
        except DataError as second:
            raise UsageError(f"{fallback}: {second}") from second


def named_counts(request: Request, variants: Sequence[Variant]) -> tuple[int, ...]:
    """Return the sizes of calibration splits that the user asked for; others are defaults of the configs."""
    named = {
        variant.calibration_n
        for variant in variants
        if variant.is_calibration_n_set and variant.entry.state == "ready"
    }
    return tuple(sorted(count for count in named | {request.calibration_n} if count is not None))


def calibration_counts(request: Request, variants: Sequence[Variant]) -> tuple[int, ...]:
    """Return the sizes of the calibration splits: those that variants need, and ``--calibration-n``."""
    extra = () if request.calibration_n is None else (request.calibration_n,)
    return tuple(sorted({*required_counts(variants), *extra}))


def required_counts(variants: Sequence[Variant]) -> tuple[int, ...]:
    """Return the numbers of calibration items that variants need."""
    counts = {variant.calibration_n for variant in variants if variant.entry.state == "ready"}
    return tuple(sorted(count for count in counts if count is not None))


def data_folder(request: Request) -> Path | None:
    """Return the folder of ``--data``, or of ``QX_DATA``."""
    if request.data is not None:
        return request.data.absolute()
    return folder_of_variable("QX_DATA")


def is_offline(request: Request) -> bool:
    """Return whether ``--offline`` is set, or ``QX_OFFLINE`` to anything but 0."""
    return request.offline or os.environ.get("QX_OFFLINE", "0") not in ("", "0")


def default_engine() -> str:
    """Return torch's fastest quantized engine for this machine. Raises ``UsageError`` where none is known."""
    machine = platform.machine()
    if machine not in ENGINES:
        raise UsageError(f"no quantized engine is known for {machine}: name one with --engine")
    return ENGINES[machine]


def weights_file(entry: Entry, request: Request) -> Path | None:
    """Return the file of ``--weights`` or of the workload; None if it runs without. Raises ``UsageError``."""
    if request.weights is not None:
        if not request.weights.is_file():
            raise UsageError(f"weights file {request.weights} does not exist")
        model = entry.fixed_options.get("model", "")
        if holds_graph(model):
            raise UsageError(f"--weights: MODEL {model} holds its weights itself: leave --weights out")
        return request.weights.absolute()
    source = workload(entry).weights
    if source is None and workload(entry).random_weights:
        return None
    if source is None:
        raise UsageError(f"workload {entry.name} brings no weights: give them with --weights FILE")
    assert entry.description is not None
    if entry.description.weights is None:
        package = source.partition(":")[0]
        raise UsageError(f"the weights of {entry.name} ({source}) are not installed: no package {package!r}")
    path = Path(entry.description.weights)
    if not path.is_file():
        raise UsageError(
            f"the weights of {entry.name} ({source}) are missing; "
            f"train them with: qx train --workload {entry.name}"
        )
    return path


def _prepare_workload(
    host: Host,
    entry: Entry,
    options: OptionValues,
    variants: Sequence[Variant],
    request: Request,
    processes: Processes,
    reporter: Reporter,
) -> Prepared:
    _check_data_options(entry, request)
    weights = weights_file(entry, request)
    inspect_job, data_job = _jobs(host, entry, options, variants, request, weights)
    reporter.phase("prepare", entry.name)
    try:
        processes.uses.hold(Path(data_job.cache))
        inspected, data = _run_both(entry.name, inspect_job, data_job, request, processes, reporter)
        if not _hold(data, processes.uses):
            # The cache was pruned meanwhile.
            inspected, data = _run_both(entry.name, inspect_job, data_job, request, processes, reporter)
            _hold(data, processes.uses)
        is_trained = weights is not None or request.trained or _is_trained_by_itself(entry, inspected, data)
        if data.has_targets and not is_trained:
            # Answers of a model that is not trained are neither right nor wrong.
            data = _load_anew(entry.name, evolve(data_job, targets=False), request, processes, reporter)
            _hold(data, processes.uses)
    except Failure as failure:
        raise UsageError(f"workload {entry.name}: {failure.stage}: {failure.cause}") from failure
    # A workload that reads the folder has already failed by itself, and said which files it looks for.
    if request.data is not None and not _file_of(request.data).exists():
        raise UsageError(
            f"--data {request.data} does not exist; workload {entry.name} needs none, leave it out"
        )
    for reason in data.damaged.values():
        reporter.say(f"{entry.name}: data in the cache were damaged ({reason}), and are written again")
    # What is judged: the outputs, after `postprocess` where there is one.
    main_output = next(iter((inspected.answers or inspected.outputs).values()), ())
    _check_classes(entry, main_output, data)
    _check_names(entry, inspected, data)
    _check_inputs(entry, inspected, data)
    task = task_of(main_output, data.labels, data.classes, data.task)
    _check_task(entry, task, main_output, data)
    for count in data.calibrations:
        if count > data.training_items:
            reporter.say(
                f"{entry.name}: configs calibrate on {count} items by default, and the data have "
                f"{data.training_items} to calibrate with: all of them are used"
            )
    if data.items < (request.eval_n or 0):
        reporter.say(
            f"{entry.name}: --eval-n {request.eval_n}: the data have {data.items} items to evaluate with: "
            f"all of them are used"
        )
    is_part = data.items < data.total_items and data.items == items_to_evaluate(request, entry)
    if request.eval_n is None and is_part:
        shown = f"{data.items} of {data.total_items:,} items"
        reporter.say(f"{entry.name}: a quick look evaluates {shown} (--eval-n 0: all)")
    if shared := _check_shared(entry, data):
        reporter.say(shared)
    if inspected.weights_note:
        reporter.say(f"{entry.name}: {inspected.weights_note}")
    home = Path(data.folder)
    assert inspect_job.engine is not None
    return Prepared(
        workload=entry,
        options={**options, "example": inspected.example} if inspected.example else options,
        weights=weights,
        weights_sha256=inspected.weights_sha256,
        sources_sha256=inspected.sources_sha256,
        model_versions=inspected.versions,
        refusals={
            name: Failure("unsupported", reason.stage, reason.cause, traceback=reason.traceback)
            for name, reason in inspected.refusals.items()
        },
        engine=inspect_job.engine,
        evaluation=home / data.evaluation,
        calibrations={count: home / name for count, name in data.calibrations.items()},
        further={
            seed: {count: home / name for count, name in names.items()}
            for seed, names in data.further.items()
        },
        lengths={length: home / name for length, name in data.lengths.items()},
        training=None if data.training is None else home / data.training,
        source=data.source,
        preprocessing=data.preprocessing,
        items=data.items,
        total_items=data.total_items,
        training_items=data.training_items,
        item_bytes=data.item_bytes,
        output_bytes=4 * sum(map(math.prod, inspected.outputs.values())),
        classes=data.classes,
        structure=_needed_structure(inspected),
        task=task,
        trained=is_trained,
        calibration_sizes={count: min(count, data.training_items) for count in data.calibrations},
        parameters=inspected.parameters,
        runtime=asdict(inspected.runtime),
    )


def _file_of(data: Path) -> Path:
    """Return the file or folder that ``--data`` names: of ``FILE.py:FUNCTION`` the file."""
    match = re.fullmatch(r"(.*\.py):[\w.]*", str(data), re.DOTALL)
    return Path(match[1]) if match else data


def _check_data_options(entry: Entry, request: Request) -> None:
    """Raise ``UsageError`` for an option that names data in a form that the workload does not take."""
    if workload(entry).reads_any_data:
        return
    if request.calibration_data is not None:
        raise UsageError(
            f"workload {entry.name} brings what calibrates and takes no --calibration-data: leave it out"
        )
    if request.data is not None and _file_of(request.data).is_file():
        raise UsageError(f"--data {request.data} is a file, and workload {entry.name} takes none")


def _check_shared(entry: Entry, data: DataAnswer) -> str:
    """Say how many calibration items are evaluated too. Raises ``UsageError`` where most of them are."""
    calibrating = min(max(data.calibrations, default=0), data.training_items)
    shown = f"{data.shared_items:,} of the {calibrating:,} items that calibrate are evaluated too"
    if 2 * data.shared_items > calibrating:
        raise UsageError(
            f"workload {entry.name}: {shown}: give --calibration-data that share none with --data, or leave "
            f"it out: some of the data are then set aside"
        )
    return f"{entry.name}: {shown}" if data.shared_items else ""


def _hold(data: DataAnswer, uses: Uses) -> bool:
    """Keep the splits from being pruned. False where one of them is gone already."""
    names = [data.evaluation, *data.calibrations.values(), *data.lengths.values()]
    names += filter(None, [data.training])
    home = Path(data.folder)
    for name in names:
        uses.hold(home.parent, SPLITS, name)
    return all((home / name).is_dir() for name in names)


def _float_layers(variants: Sequence[Variant]) -> dict[str, list[str]]:
    """Return the values of ``float_layers`` that the user set, by the name of the config."""
    texts: dict[str, list[str]] = {}
    for variant in variants:
        if text := variant.options.get(FLOAT_LAYERS.name):
            texts.setdefault(variant.entry.name, []).append(str(text))
    return {name: list(dict.fromkeys(values)) for name, values in texts.items()}


def _jobs(
    host: Host,
    entry: Entry,
    options: OptionValues,
    variants: Sequence[Variant],
    request: Request,
    weights: Path | None,
) -> tuple[InspectJob, DataJob]:
    """Return the job that inspects the model, and the job that writes the data as arrays."""
    assert entry.reference is not None
    ready = [variant.entry for variant in variants if variant.entry.state == "ready"]
    folder = data_folder(request)
    inspect_job = InspectJob(
        seed=request.seed,
        workload=entry.reference,
        workload_options=options,
        weights=str(weights) if weights else None,
        data=str(folder) if folder else None,
        engine=request.engine or default_engine(),
        device=request.device,
        configs=references(ready),
        recipes=references(recipes_of(host, *ready)),
        offline=is_offline(request),
        float_layers=_float_layers(variants),
    )
    data_job = DataJob(
        seed=request.seed,
        workload=entry.reference,
        workload_options=options,
        data=str(folder) if folder else None,
        calibration_data=str(request.calibration_data.absolute()) if request.calibration_data else None,
        eval_n=items_to_evaluate(request, entry),
        in_fair_order=request.quality_precision is not None,
        offline=inspect_job.offline,
        cache=str(open_cache(request.trust_cache)),
        targets=weights is not None
        or request.trained
        or may_be_trained(entry.fixed_options.get("model", "")),
        calibration_counts=calibration_counts(request, variants),
        named_counts=named_counts(request, variants),
        training=any(config(entry).training for entry in ready),
        lengths=request.lengths,
        further_seeds=request.further_seeds,
        further_counts=required_counts(variants) if request.further_seeds else (),
    )
    return inspect_job, data_job


def _run_both(
    name: str,
    inspect_job: InspectJob,
    data_job: DataJob,
    request: Request,
    processes: Processes,
    reporter: Reporter,
) -> tuple[InspectAnswer, DataAnswer]:
    """Run both jobs of a workload in parallel and return their answers. The first failure ends the other job.

    Raises the first failure: ``Failure``, ``UsageError`` or ``DataError``.
    """
    over, workers = Event(), set[Worker]()

    def run(job: Job[A], timeout: float) -> A:
        worker = processes.start(job, job.do, Subject(name, name))
        workers.add(worker)
        if over.is_set():
            worker.kill()
        try:
            return worker.answer(job.answer_type, timeout=timeout, progress=reporter.step)
        finally:
            workers.discard(worker)
            worker.close()

    def inspect() -> InspectAnswer:
        job, example = inspect_job, ""
        while True:
            try:
                answer = run(job, request.timeout)
                if answer.inputs is not None or example:
                    return evolve(answer, example=example)
                # The data say what inputs are.
                example = like_data(data.result())
                job = evolve(job, workload_options={**job.workload_options, "example": example})
            except Failure as failure:
                others = [plugin for plugin in job.configs if failure.stage != f"{ASKING}{plugin.name}"]
                if over.is_set() or len(others) == len(job.configs):
                    raise
                # A config that ends the process in `check_model` costs no other config anything: its build
                # will show what is wrong.
                job = evolve(job, configs=others)

    with processes.side_by_side(2) as pool:
        data = pool.submit(run, data_job, request.data_timeout)
        inspection = pool.submit(inspect)
        futures: list[Future[Any]] = [data, inspection]
        done = wait(futures, return_when=FIRST_EXCEPTION).done
        over.set()
        for worker in workers.copy():
            worker.kill()
    # Raise outside the block, which would end all processes: without data another workload may follow.
    for future in futures:
        if future in done:
            future.result()
    return inspection.result(), data.result()


def _load_anew(
    name: str, job: DataJob, request: Request, processes: Processes, reporter: Reporter
) -> DataAnswer:
    """Run a job that loads data by itself. Raises what ``_run_both`` raises."""
    worker = processes.start(job, job.do, Subject(name, name))
    try:
        return worker.answer(job.answer_type, timeout=request.data_timeout, progress=reporter.step)
    finally:
        worker.close()


def _needed_structure(inspected: InspectAnswer) -> Structure | None:
    """Return the structure of a model that is not plain, or whose inputs vary in length; else None."""
    structure = inspected.structure
    is_needed = structure is not None and not (structure.is_plain and structure.lengths is None)
    return structure if is_needed else None


def _check_names(entry: Entry, inspected: InspectAnswer, data: DataAnswer) -> None:
    """Raise ``UsageError`` if a model that takes inputs by name gets others, or in another order."""
    expected = () if inspected.structure is None else inspected.structure.inputs
    inputs = tuple(item.name for item in data.inputs)
    if expected and inputs != expected:
        raise UsageError(
            f"workload {entry.name}: the data have the inputs {', '.join(inputs)}, and the example inputs "
            f"are {', '.join(expected)}: give both the same names in the same order"
        )


def _is_model_file(entry: Entry) -> bool:
    """Whether the model is a file of functions, one of which may give data with right answers."""
    return entry.fixed_options.get("model", "").endswith(".py")


def _is_trained_by_itself(entry: Entry, inspected: InspectAnswer, data: DataAnswer) -> bool:
    """Whether what makes the model gives it trained weights.

    The model says so itself; of one that says nothing, a file of functions does by its right answers.
    """
    if inspected.trained is not None:
        return inspected.trained
    return _is_model_file(entry) and data.has_targets


def like_data(data: DataAnswer) -> str:
    """Return inputs like those of the data, as ``--example`` has them."""
    return "; ".join(_example(item, number) for number, item in enumerate(data.inputs))


def _example(item: ItemInput, number: int) -> str:
    name = item.name if re.fullmatch(r"[A-Za-z_]\w*", item.name) else f"input_{number}"
    extent = ""
    if item.lowest is not None and item.highest is not None:
        digits = ".7g" if "float" in item.dtype else ".0f"
        low, high = f"{item.lowest:{digits}}", f"{item.highest:{digits}}"
        extent = f"={low}" if low == high else f"={low}..{high}"
    return f"{name}:{item.dtype}[{','.join(map(str, (1, *item.shape)))}]{extent}"


def _check_inputs(entry: Entry, inspected: InspectAnswer, data: DataAnswer) -> None:
    """Raise ``UsageError`` if data that the user may name have other inputs than the model's examples.

    Along a free dimension they may have any of its lengths.
    """
    record = workload(entry)
    if not (record.takes_model or record.reads_any_data) or inspected.inputs is None:
        return
    lengths = lengths_of(inspected.structure)
    examples, items = (
        [_shown_input(*pair, lengths) for pair in enumerate(inputs)]
        for inputs in (inspected.inputs, data.inputs)
    )
    if examples != items:
        raise UsageError(
            f"workload {entry.name}: the data have inputs {', '.join(items)}, and the model's example inputs "
            f"are {', '.join(examples)}"
        )


def _shown_input(position: int, item: ItemInput, lengths: Lengths | None) -> str:
    """Return type and shape of an input, with the range of the lengths in place of a length out of it."""
    place = lengths.dimensions[position] if lengths and position < len(lengths.dimensions) else None
    if lengths is None or place is None or place > len(item.shape) or item.shape[place - 1] not in lengths:
        return str(item)
    shape = [*map(str, item.shape)]
    shape[place - 1] = f"{lengths.lowest}..{lengths.highest}"
    return f"{item.dtype} [{', '.join(['items', *shape])}]"


def _check_task(entry: Entry, task: Task, outputs: Sequence[int], data: DataAnswer) -> None:
    """Raise ``UsageError`` if the workload says that it classifies, and outputs or labels do not fit."""
    if data.task != CLASSIFICATION or task.name is not None:
        return
    shapes = f"outputs {_shown_shape('batch', outputs)}"
    if data.labels is not None:
        shapes += f", labels {_shown_shape('items', data.labels.shape)}"
    raise UsageError(f"workload {entry.name}: its task is {data.task}, but {task.reason} ({shapes})")


def _shown_shape(first: str, shape: Sequence[int]) -> str:
    return f"[{', '.join(map(str, (first, *shape)))}]"


def _check_classes(entry: Entry, outputs: Sequence[int], data: DataAnswer) -> None:
    """Raise ``UsageError`` if a model of the user's own does not give a score for each class of the data.

    Its classes are the folders of images. Scores of another number of classes are always a mistake, outputs
    of another shape only if there are labels. A workload plugin may have other outputs on purpose: there each
    metric decides whether it applies.
    """
    classes = data.classes
    if not workload(entry).takes_model or not classes or list(outputs) == [len(classes)]:
        return
    if data.task not in (None, CLASSIFICATION):
        # Of other tasks, such as one class for each token, outputs have other shapes.
        return
    if len(outputs) != 1 and data.labels is None:
        return
    names = ", ".join(classes[:3]) + (", ..." if len(classes) > 3 else "")
    shape = ", ".join(map(str, ("batch", *outputs)))
    actual = f"{outputs[0]} outputs" if len(outputs) == 1 else f"[{shape}], expected [batch, classes]"
    raise UsageError(
        f"workload {entry.name}: the data have {len(classes)} classes ({names}), but the model gives {actual}"
    )
