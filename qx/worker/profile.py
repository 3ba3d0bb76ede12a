"""Say where the time of a call goes: call the artifact as it is, then have its runtime's profiler watch."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from time import perf_counter

from qx.contract.records import Profile, Subject
from qx.errors import PluginError, Unsupported
from qx.foreign import to_line
from qx.processes.job_answers import OperatorRow, ProfileAnswer
from qx.processes.jobs import ProfileJob
from qx.values import Native
from qx.worker.arrays import Split
from qx.worker.channel import Channel
from qx.worker.serving import bind_loader, load_subject
from qx.worker.warming import warm_up

#: The longest warm-up, and the time for the calls that are timed, in seconds.
WARM_SECONDS, TIMED_SECONDS = 1.0, 1.0
#: Limits of the number of calls that a profiler watches: it keeps a record of every operator.
LEAST_CALLS, MOST_CALLS = 5, 100
#: Longest reason, name of an operator, and note, in characters.
MAX_TEXT = 300


def run(job: ProfileJob, channel: Channel) -> None:
    """Time calls without a profiler, then with it, and answer with the operators."""
    host, subject = load_subject(job, channel)
    inputs = Split.read(Path(job.inputs)).rows(0, job.batch_size)
    channel.stage("call")
    seconds = _time_calls(subject, subject.prepare(inputs))
    calls = max(LEAST_CALLS, min(MOST_CALLS, round(TIMED_SECONDS / seconds)))
    channel.stage("profile")
    loader = bind_loader(job, host)
    if not loader.implements("profile"):
        refusal = f"loader {loader.name} implements no profile"
        channel.answer(ProfileAnswer(seconds=seconds, refusal=refusal))
        return
    try:
        profile: object = loader.call("profile", artifact=job.artifact.record(), inputs=inputs, calls=calls)
    except Unsupported as error:
        channel.answer(ProfileAnswer(seconds=seconds, refusal=to_line(str(error), MAX_TEXT)))
        return
    if profile is None:
        channel.answer(ProfileAnswer(seconds=seconds, refusal=f"loader {loader.name} has no profiler"))
        return
    if not isinstance(profile, Profile):
        raise PluginError(f"{loader.name}: profile gave a {type(profile).__name__}, expected qx.Profile")
    channel.answer(_answer(profile, seconds, calls, loader.name))


def _time_calls(subject: Subject, native: Native) -> float:
    """Warm up, and return the median time of a call in seconds."""
    warm_up(subject.call, native, WARM_SECONDS)
    times: list[float] = []
    end = perf_counter() + TIMED_SECONDS
    while len(times) < LEAST_CALLS or perf_counter() < end:
        start = perf_counter()
        subject.call(native)
        times.append(perf_counter() - start)
    return median(times)


def _answer(profile: Profile, seconds: float, calls: int, loader: str) -> ProfileAnswer:
    if not profile.operators:
        raise PluginError(f"{loader}: profile gave no operators")
    if not profile.seconds > 0:
        raise PluginError(f"{loader}: profile gave calls of {profile.seconds:g} s, expected more than 0")
    rows = tuple(
        OperatorRow(
            name=to_line(operator.name, MAX_TEXT),
            type=to_line(operator.type, MAX_TEXT),
            seconds=operator.seconds,
            count=operator.count,
            module=to_line(str(operator.module), MAX_TEXT),
            precision=to_line(str(operator.precision), MAX_TEXT),
            converts=bool(operator.converts),
        )
        for operator in profile.operators
    )
    return ProfileAnswer(
        seconds=seconds,
        profiled_seconds=profile.seconds,
        calls=calls,
        operators=rows,
        notes=tuple(to_line(note, MAX_TEXT) for note in profile.notes),
    )
