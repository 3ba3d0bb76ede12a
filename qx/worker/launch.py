"""One launch: load one artifact, serve it, and obey the host's commands."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import asdict, evolve

from qx.contract.figures import CALL, Point
from qx.contract.records import Block, Fresh, Mark, MetricData, Subject
from qx.host.host import Reference
from qx.processes.answers import Answer, HoldAnswer, LaunchAnswer, Measurement, WarmAnswer
from qx.processes.jobs import LaunchJob
from qx.values import Native
from qx.worker.calls import Calls
from qx.worker.channel import Channel
from qx.worker.memory import MarkTaker
from qx.worker.plugins import BoundPlugin, bind, seed_everything
from qx.worker.samples import samples_of, stage_of
from qx.worker.serving import host_of_artifact, import_runtime, load
from qx.worker.warming import warm_up


def run(job: LaunchJob, channel: Channel) -> None:
    """Start up, taking a mark after each stage, and obey commands until the host hangs up."""
    marker = MarkTaker(job.spawned_ns)
    marks = [marker.mark("spawn")]

    channel.stage("import")
    import_runtime(job)
    marks.append(marker.mark("imports"))

    channel.stage("load")
    seed_everything(job.seed)
    calls = load(job, host_of_artifact(job))
    subject = calls.subject()
    marks.append(marker.mark("load"))

    channel.stage("first_answer")
    natives = _Natives(job, subject)
    subject.call(natives.at(job.points[0]))
    marks.append(marker.mark("first_answer"))
    channel.answer(LaunchAnswer(marks=tuple(marks)))

    launch = _Launch(job, calls, natives, marks, marker, channel)
    for command in channel.commands():
        try:
            channel.answer(launch.obey(**command))
        # KeyboardInterrupt too: only plugins raise it here, since Ctrl-C does not reach a worker's session.
        except BaseException as error:
            from qx.processes.failures import outcome_of
            from qx.tracebacks import traceback_of

            channel.fail(*outcome_of(error), traceback_of(error))


class _Natives:
    """A batch of native inputs for each point.

    Those of the run are prepared at once. Those that only a metric asks for are prepared when they are first
    used, so that they change nothing for the metrics before it.
    """

    def __init__(self, job: LaunchJob, subject: Subject) -> None:
        from qx.worker.arrays import Split

        self._subject = subject
        folders: Mapping[int | None, str] = {None: job.inputs} | dict(job.lengths)
        self._splits = {length: Split.read(Path(folder)) for length, folder in folders.items()}
        self._by_point: dict[Point, Native] = {}
        self.of_run: Mapping[Point, Native] = {point: self.at(point) for point in job.points}

    def at(self, point: Point) -> Native:
        """Return the batch of a point, whatever the kind of call."""
        point = evolve(point, call=CALL)
        if point not in self._by_point:
            rows = self._splits[point.length].rows(0, point.batch_size)
            self._by_point[point] = self._subject.prepare(rows)
        return self._by_point[point]


class _Launch:
    """A loaded artifact with the metrics that are measured in its process."""

    def __init__(
        self,
        job: LaunchJob,
        calls: Calls,
        natives: _Natives,
        marks: list[Mark],
        marker: MarkTaker,
        channel: Channel,
    ) -> None:
        self.job, self.calls, self.natives, self.marks = job, calls, natives, marks
        self.marker, self.channel = marker, channel
        self.metrics = {metric.name: self._import_metric(metric) for metric in job.metrics}
        channel.stage("ready")

    def _import_metric(self, metric: Reference) -> BoundPlugin | BaseException:
        """Return a metric's plugin, or the error of its import, which its measurement raises."""
        self.channel.stage(stage_of(metric.name))
        try:
            return bind(self.job, metric, self.job.metric_options.get(metric.name))
        except BaseException as error:
            return error

    def obey(self, do: str, **arguments: Any) -> Answer:
        """Carry out a command and return its answer."""
        self.channel.stage(arguments.get("stage", do))
        arguments.pop("stage", None)
        answer: Answer = getattr(self, f"do_{do}")(**arguments)
        return answer

    def do_fresh(self, metric: str) -> Measurement:
        """Measure a metric of phase ``fresh``."""
        data = Fresh(
            marks=tuple(self.marks),
            natives=self.natives.of_run,
            mark=self._mark,
            device=self.calls.device,
        )
        return self._measure(metric, self.calls.subject(), data)

    def do_warm(self, point: str, seconds: float) -> WarmAnswer:
        """Call at a point until the times are steady, and switch off garbage collection afterwards."""
        import gc

        at = Point.parse(point)
        native = self.natives.at(at)
        if self.calls.device is None:
            answer = warm_up(self.calls.call(at.call), native, seconds, self.calls.reset(native, at.call))
        else:
            answer = WarmAnswer(**asdict(self.calls.warm_up_on_device(native, at.call), recurse=False))
        gc.collect()
        gc.freeze()
        gc.disable()
        return answer

    def do_hold(self, cpus: list[int]) -> HoldAnswer:
        """Pin all threads of the process to these CPUs."""
        import os

        for thread in os.listdir("/proc/self/task"):
            # A thread that ends meanwhile need not be pinned.
            with suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread), cpus)
        return HoldAnswer()

    def do_block(self, metric: str, point: str, calls: int, warm: int) -> Measurement:
        """Measure a metric of phase ``block`` at a point, after ``warm`` calls that refill the caches."""
        at = Point.parse(point)
        native = self.natives.at(at)
        try:
            subject = self.calls.subject(at.call)
            for _ in range(warm):
                subject.call(native)
        except BaseException:
            # The metric is not to blame. Naming the stage beforehand would wake the host at every block.
            self.channel.stage("warm")
            raise
        data = Block(
            native=native,
            point=at,
            calls=calls,
            call=self.calls.call(at.call),
            reset=self.calls.reset(native, at.call),
            device=self.calls.device,
            time_calls=self.calls.timer(native, at.call, calls),
        )
        return self._measure(metric, subject, data)

    def _mark(self, stage: str) -> Mark:
        # Kept for the metrics that follow, since taking a mark resets the high-water mark.
        self.marks.append(self.marker.mark(stage))
        return self.marks[-1]

    def _measure(self, metric: str, subject: Subject, data: MetricData) -> Measurement:
        plugin = self.metrics[metric]
        if isinstance(plugin, BaseException):
            raise plugin
        return Measurement(samples=samples_of(plugin, subject, data))
