"""Answers of workers are records: each job has its own, they survive the channel, and nothing else does."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import attrs
import pytest

from qx.contract.description import Description
from qx.contract.devices import DeviceFacts, DeviceMemory, DeviceProcess, DeviceReading
from qx.contract.records import BuildStep, Config, Mark
from qx.contract.rounding import Rounding
from qx.contract.structure import Structure
from qx.contract.tasks import Labels
from qx.processes import answers, job_answers
from qx.processes.answers import Answer, to_fields
from qx.processes.jobs import Job, SpinJob
from qx.processes.structuring import Misfit, structure
from qx.testing import answers as kit
from qx.testing.jobs import WatchJob

QX = Path(answers.__file__).parents[1]
SAMPLES = answers.PlainSamples(
    values=[0.5, 2.0],
    details={"k": [1, None, {"deep": "text"}]},
    waves=[0, 1],
    rounds=[3, 4],
    groups=[1, 0],
    group_names=("a", "b"),
    resampled=(
        answers.Resampling(value=0.5, items=2, influence=[0.1, -0.1], draws=[0.5, None], step=0.25),
        answers.Resampling(value=0.0, items=0, reason="it has no value for these items"),
    ),
)
MEASUREMENT = answers.Measurement(samples=SAMPLES)
FAILED = answers.Measurement(failure=answers.MetricFailure("out_of_memory", "MemoryError"))
READING = DeviceReading(
    clock=1980.0,
    temperature=61.0,
    limits=("power limit",),
    processes=(DeviceProcess(pid=7, name="python", memory=1 << 30), DeviceProcess(pid=8)),
)
MEMORY = DeviceMemory(reserved_peak=20.0, of_process=420.5, free=1000.0, total=2000.0)
SERVING = job_answers.Serving(
    loaded=100.5, peak=200.0, timed_peak=150.5, kinds=("decode",), device_peak=MEMORY
)
DERIVED = job_answers.DerivedMeasurement(key="rate|", samples=SAMPLES, read=("latency",))
SPLIT = kit.ExaminedSplit(
    lengths={"image": 4, "labels": 4},
    dtypes={"image": "<f4"},
    shapes={"image": (1, 12, 12)},
    finite=True,
    targets={"labels": kit.ExaminedTarget(lowest=0, highest=3.5, dtype="<f8", dimensions=1)},
    classes=4,
    source="strokes",
    fingerprint="ab",
)
MODEL = kit.ExaminedModel(
    types=("torch.float32",),
    examples=(kit.ExaminedExample(batch_size=2, shapes=((2, 1, 12, 12),), dtypes=("<f4",), outputs=(2, 4)),),
    repeats=True,
    outputs=(16, 4),
    company=0.0,
    correct=kit.CorrectItems(correct=3, items=4),
    stubs="",
)
OBSERVATIONS = kit.Observations(
    changed=("convert changed the example inputs",),
    modules=("qx",),
    strays=(),
    build=kit.BuildObservations(
        fp32=(), state={"number of threads": kit.StateChange(before="1", now="2")}, names=("", "head.weight")
    ),
)
#: Answers of every kind.
ANSWERS: tuple[Answer, ...] = (
    job_answers.Started(),
    MEASUREMENT,
    FAILED,
    answers.Measurement(),
    DERIVED,
    job_answers.InspectAnswer(
        runtime=job_answers.Runtime(torch="2.9", cpu_capability="AVX2", engines=("x86",), mkldnn=True),
        weights_sha256="ab",
        weights_note="",
        trained=True,
        sources_sha256="cd",
        versions={"torch": "2.9"},
        parameters=5,
        outputs={"output": (10,), "boxes": (4, 2)},
        answers={"place": ()},
        structure=Structure(outputs=("output", "boxes"), paths=((0,), (1, "boxes"))),
        refusals={"int8": job_answers.Refusal(stage="check_model", cause="no kernel")},
        layers={"dynamic": {"head": 40}},
    ),
    job_answers.DataAnswer(
        source="toy",
        items=2,
        total_items=5,
        item_bytes=8,
        inputs=(job_answers.ItemInput(name="words", dtype="int64", shape=(8,), lowest=0.0, highest=9.0),),
        classes=("a", "b"),
        labels=Labels(shape=(3,), dtype="int64", lowest=0, highest=1),
        evaluation="ab",
        calibrations={100: "cd", 5: "ef"},
        training=None,
        damaged={"ab": "it has no digests.json"},
        folder="/cache",
    ),
    job_answers.BuildAnswer(
        seconds=1.5, steps=(BuildStep(name="convert", seconds=1.5, peak=400.0, peak_of_all=812.5),)
    ),
    job_answers.DeviceAnswer(
        facts=DeviceFacts(product="NVIDIA H100", driver="580.1", memory=80 << 30, persistence=True),
        reading=READING,
        memory=MEMORY,
    ),
    answers.WarmAnswer(seconds_per_call=1e-3, fastest=9e-4, calls=7, steady=True, first=0.5, reading=READING),
    SERVING,
    job_answers.EvaluateAnswer(serving=SERVING, metrics={"accuracy": MEASUREMENT, "rate": FAILED}),
    job_answers.DeriveAnswer(metrics=(DERIVED,)),
    job_answers.LayersAnswer(
        items=64,
        items_alone=16,
        is_simulated=True,
        rounding=Rounding(weight_bits=4, group_size=32, activation_bits=None),
        layers=(
            job_answers.LayerFigures(
                name="head",
                elements=40,
                made=31.5,
                arrived=None,
                alone=35.0,
                weights=job_answers.WeightRange(low=-1.0, high=0.5, channels=4, dead_channels=0, spread=2.5),
                outputs=job_answers.OutputRange(
                    low=0.0, high=8.5, channels=4, constant_channels=1, peak=3.5, is_finite=True, clipped=None
                ),
            ),
            job_answers.LayerFigures(name="tail", elements=0, made=None, arrived=None, alone=None),
        ),
    ),
    job_answers.LayerOutputsAnswer(arrived={"head": 31.5, "tail": None}),
    job_answers.ProfileAnswer(
        seconds=0.002,
        profiled_seconds=0.0025,
        calls=100,
        operators=(
            job_answers.OperatorRow(
                name="conv", type="Conv", seconds=0.001, count=2.5, module="a.b", precision="", converts=False
            ),
        ),
        notes=("a note",),
    ),
    job_answers.TrainAnswer(output="weights.pt"),
    job_answers.ShipAnswer(
        inputs=(job_answers.Arrangement(name="image", dtype="float32", shape=(3, 8, 8)),),
        outputs=(job_answers.Arrangement(name="scores", dtype="float32", shape=(10,)),),
        files=("model.onnx",),
        requires=("numpy==2.0",),
        notes=("a note",),
    ),
    answers.LaunchAnswer(
        marks=(
            Mark(stage="spawn", seconds=0.5, rss=10.0, peak=11.0),
            Mark(stage="load", seconds=1, rss=20.5, peak=21.0, private=3.0),
        )
    ),
    answers.WarmAnswer(seconds_per_call=0.5, fastest=0.25, calls=7, steady=False),
    answers.HoldAnswer(),
    kit.CombineAnswer(shapes=((2,), (3, 4))),
    kit.LayerValuesAnswer(
        values=(
            kit.LayerValue(name="body.0", shape=(4, 8), finite=True),
            kit.LayerValue(name="head", shape=(4, 5), finite=False, distances=(0.0, 1e-7)),
        ),
        modules=("body", "body.0", "head"),
        changed=("an output",),
    ),
    kit.LayerValuesAnswer(refusal="it names no values"),
    job_answers.SpinAnswer(values=[0.25, 0.5]),
    job_answers.DescribeAnswer(
        description=Description(
            outcome="ready", record=Config(name="int8", summary="Int8."), hooks=["convert"]
        ),
        files=("/plugin.py",),
        seconds=0.25,
        modules=("plugin",),
        printed="a line",
    ),
    kit.ServeAnswer(
        probed=True,
        newly_imported=(),
        during_load=("torch",),
        served=(
            kit.ServedBatch(
                batch_size=3,
                names=(("output",), ("output",), ("output",)),
                types={"output": "ndarray"},
                dtypes={"output": "<f4"},
                shapes={"output": (3, 4)},
                finite=True,
                inputs_kept=True,
                repeats=True,
                repeats_anew=False,
            ),
        ),
        repeated_kinds={"decode": True},
        busy_threads=(0.5, 0.0),
    ),
    kit.ExamineAnswer(splits={"train": SPLIT, "test": SPLIT}, shared=0.0, model=MODEL),
    kit.ExamineAnswer(splits={}, shared=0.0, model=None),
)


def kinds(parent: type[Any]) -> set[type[Any]]:
    """Return all classes that are derived from another, at any distance."""
    # attrs makes each class anew for its slots, and the former ones live until they are collected.
    children = {getattr(sys.modules[kind.__module__], kind.__name__) for kind in parent.__subclasses__()}
    return children.union(*map(kinds, children - {parent}))


def travel(answer: Answer) -> Any:
    """Return what the host reads of an answer, before it becomes a record."""
    return json.loads(json.JSONEncoder(default=to_fields).encode(answer))


# Jobs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "job", sorted((kind for kind in kinds(Job) if "do" in vars(kind)), key=lambda kind: kind.do)
)
def test_every_job_has_an_answer(job: type[Job[Answer]]) -> None:
    """Every job names the record of its answer, the same to the type checker and to the host."""
    (declared,) = get_args(job.__orig_bases__[0])
    if job is WatchJob:
        answer_type = WatchJob(job=SpinJob(), folder="f").answer_type
        assert get_origin(answer_type) is kit.Watched
        assert get_args(answer_type) == (job_answers.Started,)
        return
    # Without its fields, on which the answer does not depend.
    answer_type = object.__new__(job).answer_type
    assert answer_type.__name__ == declared.__forward_arg__
    assert issubclass(answer_type, Answer) and attrs.has(answer_type)


def test_a_watched_job_answers_with_what_the_inner_job_answers() -> None:
    """The answer of a job that is watched is read as the record of the inner job's answer."""
    served = next(answer for answer in ANSWERS if isinstance(answer, kit.ServeAnswer))
    kind = kit.Watched[kit.ServeAnswer]
    watched = kit.Watched(answer=served, watched=OBSERVATIONS)
    assert structure(kind, travel(watched)) == watched
    with pytest.raises(Misfit, match=r"answer\.serving is missing"):
        structure(kit.Watched[job_answers.EvaluateAnswer], travel(watched) | {"answer": {"metrics": {}}})


# Travel -------------------------------------------------------------------------------------------


def test_every_answer_is_tried() -> None:
    """The answers of this module are of all kinds."""
    assert {type(answer) for answer in ANSWERS} == kinds(Answer) - {kit.Watched}


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: type(answer).__name__)
def test_an_answer_is_the_same_after_its_travel(answer: Answer) -> None:
    """Every answer can be written as JSON, from which the same answer is read."""
    assert structure(type(answer), travel(answer)) == answer


WRONG = {
    "a field is missing": ({"calls": ...}, "calls is missing, which must be a whole number"),
    "a field is unknown": (
        {"more": 1},
        "more is no field of it (it has seconds_per_call, fastest, calls, steady, reset, first, reading)",
    ),
    "a text for a number": ({"fastest": "0.5"}, "fastest must be a number, and is '0.5'"),
    "a fraction for a count": ({"calls": 1.5}, "calls must be a whole number, and is a number"),
    "a truth for a count": ({"calls": True}, "calls must be a whole number, and is true or false"),
    "a count for a truth": ({"steady": 1}, "steady must be true or false, and is a whole number"),
    "null for a number": ({"fastest": None}, "fastest must be a number, and is null"),
    "a list for a number": ({"fastest": [0.5]}, "fastest must be a number, and is a list"),
}


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    """Fields that are missing, unknown or of a wrong type are refused, with what is expected."""
    answer = answers.WarmAnswer(seconds_per_call=0.5, fastest=0.25, calls=7, steady=True)
    fields = {name: value for name, value in (travel(answer) | change).items() if value is not ...}
    with pytest.raises(Misfit) as caught:
        structure(answers.WarmAnswer, fields)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (job_answers.SpinAnswer, {"values": [0.5, "1"]}, "values[1] must be a number, and is '1'"),
        (job_answers.SpinAnswer, {"values": 0.5}, "values must be a list, and is a number"),
        (job_answers.SpinAnswer, [0.5], "the top level must be an object, and is a list"),
        (
            answers.Measurement,
            {"samples": None, "failure": travel(FAILED)["failure"] | {"outcome": "lost"}},
            "failure.outcome must be one of ok, unsupported, unavailable, failed, crashed, timeout, "
            "out_of_memory, and is 'lost'",
        ),
        (
            answers.Measurement,
            {"samples": 5, "failure": None},
            "samples must be an object, and is a whole number",
        ),
        (answers.LaunchAnswer, {"marks": [{}]}, "marks[0].stage is missing, which must be a text"),
        (
            job_answers.EvaluateAnswer,
            {
                "serving": travel(SERVING),
                "metrics": {"a\nb": 5},
            },
            "metrics['a b'] must be an object, and is a whole number",
        ),
    ],
)
def test_the_place_of_what_does_not_fit_is_named(kind: type[Answer], fields: Any, message: str) -> None:
    """A nested value that does not fit is named by its path from the answer."""
    with pytest.raises(Misfit) as caught:
        structure(kind, fields)
    assert str(caught.value) == message


def test_keys_are_whole_numbers_where_the_record_says_so() -> None:
    """JSON has texts for keys; numbers are read from them, and nothing else is."""
    data = next(answer for answer in ANSWERS if isinstance(answer, job_answers.DataAnswer))
    assert structure(job_answers.DataAnswer, travel(data)).calibrations == {100: "cd", 5: "ef"}
    for key in ("", "5.0", "-5", "many", "\N{SUPERSCRIPT TWO}", "9" * 5000):
        with pytest.raises(Misfit, match="has a key that is no whole number"):
            structure(job_answers.DataAnswer, travel(data) | {"calibrations": {key: "cd"}})


def test_an_object_that_is_no_record_is_not_sent() -> None:
    """A worker that answers with a value that JSON cannot hold gets an error, as of ``json``."""
    with pytest.raises(TypeError, match="Object of type complex is not JSON serializable"):
        travel(job_answers.SpinAnswer(values=[1j]))


# How answers are used -----------------------------------------------------------------------------

#: Methods that return an answer or a result of a worker.
ASKING = {"ask", "answer", "run", "watch", "step", "read", "run_past_metrics"}


def looked_up(tree: ast.AST) -> Iterator[int]:
    """Yield the lines in which an answer is looked up by a text."""
    asked = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and _asks(node.value)
        for part in node.targets
        for target in ast.walk(part)
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            is_answer = isinstance(node.value, ast.Name) and node.value.id in asked | {"answer", "answers"}
            if isinstance(node.slice.value, str) and (is_answer or _asks(node.value)):
                yield node.lineno


def _asks(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return name in ASKING


def test_a_text_that_looks_an_answer_up_is_found() -> None:
    """The test below finds what it looks for."""
    source = 'inspected, data = run(job)\ninspected["a"]\nworker.ask("warm")["b"]\ndata.b["c"]\nother["d"]'
    assert list(looked_up(ast.parse(source))) == [2, 3]


@pytest.mark.parametrize("room", ["runner", "worker", "host", "processes", "testing", "doctor"])
def test_no_answer_is_looked_up_by_a_text(room: str) -> None:
    """Fields of answers are attributes, which a type checker knows."""
    for path in (QX / room).rglob("*.py"):
        assert list(looked_up(ast.parse(path.read_text()))) == [], path
