"""Evaluation: the metrics of builds, artifacts and predictions, one process per cell."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from attrs import asdict, evolve, frozen

from qx.contract.figures import Figure
from qx.contract.records import Metric
from qx.contract.structure import lengths_of
from qx.contract.tasks import CLASSIFICATION
from qx.errors import UsageError
from qx.leftovers import remove_tree
from qx.processes.answers import Measurement, MetricFailure, PlainSamples
from qx.processes.job_answers import EvaluateAnswer, Serving
from qx.processes.jobs import EvaluateJob
from qx.processes.workers import Failure, Progress
from qx.results.output_traces import OutputTrace, traces_of
from qx.results.recording import Series
from qx.runner import devices
from qx.runner.blame import Hangs, read_step, run_past_metrics
from qx.runner.builds import Build
from qx.runner.journal import EvaluationRecord
from qx.runner.preparation import Prepared
from qx.runner.request import Chosen, metric, references
from qx.runner.workload_run import Run, WorkloadRun
from qx.worker.derive import OUTPUTS
from qx.worker.finished import Finished
from qx.worker.memory import MIB
from qx.worker.output_files import ANSWERS, read_outputs, room_needed
from qx.worker.samples import stage_of

R = TypeVar("R")

#: Names in the folder of an evaluation: its finished steps, and the outputs of the model. The step of these.
FINISHED, MODEL, PREDICT = "finished", "model", "predict"
#: Fields of a job that do not decide its result, or do by their content alone. Items grow from look to look.
UNDECIDING = ("artifact", "inputs", "lengths", "outputs", "finished", "compiled", "items", "grows")
#: Number of items evaluated in one call, unless their inputs or their outputs take more than this many bytes:
#: the activations of a network take many times as much memory as these.
BATCH_SIZE, BATCH_BYTES = 100, 16 << 20
#: Number of positions of all texts evaluated in one call: of more, the scores of each token leave the caches
#: of the processor (64 texts of 512 tokens take up to 1.5 times as long in one call as two by two).
BATCH_POSITIONS = 1024
#: Memory that a launch is expected to take at least, in bytes.
LEAST_LAUNCH_BYTES = 2.0**29


@frozen
class EvaluationResult:
    """The result of a cell's evaluation, besides the recorded samples."""

    #: The metrics that could not be measured, by name.
    failures: dict[str, MetricFailure]
    #: Memory that a launch of the cell is expected to take, in bytes.
    launch_bytes: float
    #: Memory of the device that it is expected to take, in bytes; 0 on the CPU.
    device_bytes: float
    #: Kinds of call of the loaded artifact, beside the one that all have.
    kinds: tuple[str, ...]
    #: Reasons why it is not served at lengths that the user named, by length.
    refused_lengths: Mapping[int, str]


def evaluation_batch_size(prepared: Prepared) -> int:
    """Return the number of items that are evaluated in one call."""
    largest = max(1, prepared.item_bytes, prepared.output_bytes)
    most = min(BATCH_SIZE, BATCH_BYTES // largest, prepared.items)
    if (lengths := lengths_of(prepared.structure)) is not None:
        most = min(most, BATCH_POSITIONS // lengths.highest)
    return max(1, most)


def evaluate_cells(run: Run, workload_run: WorkloadRun) -> None:
    """Evaluate every built cell of a workload, as many in parallel as there are processors for their threads.

    A metric that ends the process of a cell is not measured again for that cell. Results that were finished
    before are kept.
    """
    for cell, result in _evaluate(run, workload_run).items():
        if isinstance(result, Failure):
            workload_run.mark_failed(cell, result, run.reporter, "evaluate")
            continue
        workload_run.launch_bytes[cell] = max(LEAST_LAUNCH_BYTES, result.launch_bytes)
        workload_run.device_bytes = max(workload_run.device_bytes, result.device_bytes)
        workload_run.kinds[cell] = result.kinds
        workload_run.refuse_lengths(cell, result.refused_lengths, run.reporter)
        failures = {(cell, name): failure for name, failure in result.failures.items()}
        workload_run.mark_metrics_failed(failures, run.reporter)


def _evaluate(run: Run, workload_run: WorkloadRun) -> dict[str, Failure | EvaluationResult]:
    """Return for each cell its failure, or its failed metrics and the memory that a launch takes."""
    cells = workload_run.successful_builds()
    run.reporter.phase("evaluate", f"{workload_run.ready.items} items, {len(cells)} cells")
    records = {entry.name: metric(entry) for entry in run.chosen.metrics}
    hangs = Hangs()

    def evaluate(cell: str, progress: Progress) -> Failure | EvaluationResult:
        build = workload_run.builds[cell]
        try:
            evaluation = evaluate_artifact(run, workload_run, cell, build, hangs, progress)
        except Failure as failure:
            return failure
        run.recording.outputs[cell] = read_outputs(evaluation.outputs)
        if evaluation.answers:
            run.recording.answer_traces[cell] = evaluation.answers
        workload_run.outputs[cell] = evaluation.outputs
        for name, samples in evaluation.samples.items():
            series = Series.plain(samples, looked=workload_run.is_looked_at(records[name]))
            run.recording.add(cell, Figure(name), series)
        scale = _timed_batch_size(run) / evaluation_batch_size(workload_run.ready)
        serving = evaluation.serving
        launch_bytes = _launch_bytes(serving, scale)
        device_bytes = 0.0
        if run.device is not None:
            device_bytes = devices.launch_bytes(serving, scale, run.device.answer.memory)
        return EvaluationResult(
            evaluation.failures, launch_bytes, device_bytes, serving.kinds, serving.refused_lengths
        )

    return over_cells(run, workload_run, evaluate)


def cells_side_by_side(run: Run, workload_run: WorkloadRun) -> int:
    """Return how many cells of a workload are evaluated at once."""
    return run.most_side_by_side(run.executor.cpus // workload_run.threads, workload_run.ready.parameters)


def over_cells(run: Run, workload_run: WorkloadRun, evaluate: Callable[[str, Progress], R]) -> dict[str, R]:
    """Return what ``evaluate`` gives for each built cell, as many side by side as there are processors."""
    cells = workload_run.successful_builds()
    shares = dict.fromkeys(cells, 0.0)

    def progress(cell: str, done: float, text: str) -> None:
        shares[cell] = done
        ready = sum(share >= 1 for share in shares.values())
        text = f"{ready} of {len(shares)}, {workload_run.cells[cell].row}"
        run.reporter.step(sum(shares.values()) / len(shares), text)

    with run.processes.side_by_side(cells_side_by_side(run, workload_run)) as pool:
        futures = {cell: pool.submit(evaluate, cell, partial(progress, cell)) for cell in cells}
        return {cell: future.result() for cell, future in futures.items()}


@frozen
class Evaluation:
    """What the evaluation of one artifact gave."""

    #: Samples by the name of the metric.
    samples: dict[str, PlainSamples]
    #: The metrics that could not be measured, by name.
    failures: dict[str, MetricFailure]
    #: Folder of the outputs, as ``read_outputs`` reads it.
    outputs: Path
    #: What is kept of the answers that the ``postprocess`` of a classifier made of the outputs, by name.
    answers: dict[str, OutputTrace]
    serving: Serving


def evaluate_artifact(
    run: Run,
    workload_run: WorkloadRun,
    cell: str,
    build: Build,
    hangs: Hangs,
    progress: Progress | None = None,
    seed: int | None = None,
    only: Collection[str] | None = None,
) -> Evaluation:
    """Evaluate the artifact of a build of a cell in a process. Raises ``Failure``.

    One that an earlier sitting has finished is read from its folder, and one that it has begun goes on where
    it was. The outputs lie in a folder of their own, which stays until the run ends; those of a further
    build, which has a ``seed``, are removed. With ``only`` no other metrics than these are measured, and the
    evaluation is not finished by that.
    """
    key = _key(run, workload_run, cell, build, seed)
    place = run.outputs / key
    job = _job(run, workload_run, cell, build, place / FINISHED, place / MODEL)
    if job.grows:
        # What was measured of fewer items is no result of these.
        job = evolve(job, finished=f"{job.finished}-{job.items}")
    if only is not None:
        job = job.without(*(metric.name for metric in job.metrics if metric.name not in only))
    journal = run.journal
    failures: dict[str, MetricFailure]
    if is_finished := only is None and journal.has_evaluation(key):
        finished = Finished(job.finished)
        measured = {
            metric.name: read_step(finished, stage_of(metric.name), Measurement) for metric in job.metrics
        }
        serving, failures = read_step(finished, PREDICT, Serving), {}
    else:
        _make_ready(place, job)
        try:
            answer, measured, failures = run_past_metrics(
                run.processes,
                job,
                Measurement,
                workload_run.cells[cell].row,
                hangs,
                timeout=run.request.timeout,
                progress=progress,
                subject=workload_run.subject(cell),
            )
        except Failure as failure:
            if not failure.out_of_time:
                remove_tree(place)
            raise
        assert isinstance(answer, EvaluateAnswer)
        serving = answer.serving
        if seed is not None:
            remove_tree(place / MODEL)
        elif not job.makes_answers:
            remove_tree(place / MODEL / ANSWERS)
    samples, more_failures = _checked_samples(measured, run.chosen, workload_run.ready.items)
    if only is None and not is_finished and not failures and not more_failures:
        # What has failed is tried again in another sitting, with the outputs that there are.
        journal.finish_evaluation(EvaluationRecord(cell=cell, seed=seed, key=key))
    answers = _traces_of_answers(workload_run, place / MODEL / ANSWERS)
    return Evaluation(samples, failures | more_failures, place / MODEL, answers, serving)


def _traces_of_answers(workload_run: WorkloadRun, folder: Path) -> dict[str, OutputTrace]:
    """Return what is kept of a classifier's answers; empty where its outputs are its answers."""
    if workload_run.ready.task.name != CLASSIFICATION or not folder.exists():
        return {}
    return traces_of(read_outputs(folder))


def _are_answers_derived_from(run: Run, workload_run: WorkloadRun) -> bool:
    """Return whether a derived metric compares the answers of cells."""
    derived = workload_run.metrics_of(run.chosen, "derived")
    return any(OUTPUTS in metric(entry).derived_from for entry in derived)


def _key(run: Run, workload_run: WorkloadRun, cell: str, build: Build, seed: int | None) -> str:
    """Return a hash of everything that decides the result of an evaluation, but for sources and versions.

    It names no place, so that it is the same wherever the evaluation is carried out.
    """
    job = _job(run, workload_run, cell, build, Path(), Path())
    deciding = {
        "cell": [cell, seed],
        "job": {name: value for name, value in asdict(job).items() if name not in UNDECIDING},
        "build": [build.key, build.content],
        "inputs": Path(job.inputs).name,
        "lengths": {str(length): Path(folder).name for length, folder in job.lengths.items()},
        "looks": workload_run.planned_items,
    }
    return hashlib.sha256(json.dumps(deciding, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _make_ready(place: Path, job: EvaluateJob) -> None:
    """Make the folder of an evaluation; of one that was begun, forget the metrics that failed."""
    assert job.finished is not None
    Path(job.finished).mkdir(parents=True, exist_ok=True)
    finished = Finished(job.finished)
    for reference in job.metrics:
        step = stage_of(reference.name)
        try:
            if step in finished and finished.read(step, Measurement).has_failed:
                finished.forget(step)
        except (ValueError, RecursionError):
            finished.forget(step)
    try:
        if PREDICT in finished:
            finished.read(PREDICT, Serving)
            if any(len(array) != job.items for array in read_outputs(place / MODEL).values()):
                raise ValueError("outputs of other items")
    except (OSError, ValueError, RecursionError):
        finished.forget(PREDICT)


def check_room(run: Run, workload_runs: Sequence[WorkloadRun]) -> None:
    """Raise ``UsageError`` where the disk has too little room for the outputs of all cells.

    Their size is estimated from the example inputs, as that of 4 bytes for each element.
    """
    counts = [len(workload_run.cells.keys() - workload_run.failures) for workload_run in workload_runs]
    needed = sum(
        workload_run.ready.items * workload_run.ready.output_bytes * count
        for workload_run, count in zip(workload_runs, counts, strict=True)
    )
    free = shutil.disk_usage(run.outputs).free
    if needed > free:
        items = " and ".join(f"{workload_run.ready.items:,}" for workload_run in workload_runs)
        raise UsageError(
            room_needed(f"the outputs of {sum(counts)} cells with {items} items each", needed, free)
        )


def _job(
    run: Run, workload_run: WorkloadRun, cell: str, build: Build, folder: Path, outputs: Path
) -> EvaluateJob:
    return EvaluateJob(
        seed=run.request.seed,
        threads=workload_run.cells[cell].threads,
        engine=workload_run.ready.engine,
        wrappers=references(run.host.wrappers),
        device=workload_run.cells[cell].device,
        compiled=run.compiled,
        artifact=build.stored,
        inputs=str(workload_run.ready.evaluation),
        lengths={length: str(folder) for length, folder in workload_run.ready.lengths.items()},
        batch_size=evaluation_batch_size(workload_run.ready),
        timed_batch_size=_timed_batch_size(run),
        items=workload_run.ready.items,
        grows=len(workload_run.planned_items) > 1,
        steps=build.steps,
        build_metrics=references(workload_run.metrics_of(run.chosen, "build")),
        layers=build.manifest.layers,
        artifact_metrics=references(workload_run.metrics_of(run.chosen, "artifact")),
        prediction_metrics=references(workload_run.metrics_of(run.chosen, "predictions")),
        metric_options=run.chosen.metric_options,
        makes_answers=workload_run.ready.task.name == CLASSIFICATION
        or _are_answers_derived_from(run, workload_run),
        outputs=str(outputs),
        finished=str(folder),
    )


def _timed_batch_size(run: Run) -> int:
    """Return the number of items of the largest batch that launches time."""
    own = (size for entry in run.chosen.metrics for size in metric(entry).batch_sizes)
    return max((*run.request.batch_sizes, *own))


def _launch_bytes(memory: Serving, scale: float) -> float:
    """Return the memory of a launch in bytes: the loaded artifact, and a batch ``scale`` times as large.

    What a smaller batch takes was measured.
    """
    if memory.timed_peak is not None:
        return memory.timed_peak * MIB
    working = memory.peak - memory.loaded
    return (memory.loaded + max(1.0, scale) * working) * MIB


def sample_failure(
    record: Metric, samples: PlainSamples, items: int, waves: int | None = None
) -> MetricFailure | None:
    """Return a failure if the number of a metric's values, or their waves, break the promise of its record.

    ``waves`` is the number of waves that values can come from; None leaves the waves unchecked.
    """
    if record.phase == "derived" and record.samples in ("per_block", "per_round"):
        indices = [samples.waves or (-1,), samples.rounds or (-1,)]
        if min(map(min, indices)) < 0:
            cause = (
                f"{record.name}: its samples are {record.samples!r}, so each value needs a wave and a round: "
                f"pass on `data.waves` and `data.rounds` of a metric of phase 'block'"
            )
            return MetricFailure("failed", cause)
    last = max(samples.waves or (-1,))
    if waves is not None and last >= waves:
        cause = f"{record.name}: it gave samples of wave {last}, counted from 0, and there are {waves} waves"
        return MetricFailure("failed", cause)
    count = len(samples.values)
    is_single = record.phase == "fresh" or (record.phase == "block" and record.samples == "per_round")
    expected = {"exact": 1, "per_set": 1, "per_item": samples.units or items}.get(
        record.samples, 1 if is_single else count
    )
    if count == expected:
        return None
    values = "value is" if expected == 1 else "values are"
    promise = f"its samples are {record.samples!r}, so {expected} {values} expected"
    cause = f"{record.name}: {promise}, and it gave {count}"
    return MetricFailure("failed", cause)


def _checked_samples(
    measurements: Mapping[str, Measurement], chosen: Chosen, items: int
) -> tuple[dict[str, PlainSamples], dict[str, MetricFailure]]:
    """Return the samples that metrics answered with, and the failures, each by metric."""
    records = {entry.name: metric(entry) for entry in chosen.metrics}
    checked, failures = {}, {}
    for name, measurement in measurements.items():
        if measurement.failure is not None:
            failures[name] = measurement.failure
        elif measurement.samples is None:
            continue
        elif failure := sample_failure(records[name], measurement.samples, items, waves=0):
            failures[name] = failure
        else:
            checked[name] = measurement.samples
    return checked, failures
