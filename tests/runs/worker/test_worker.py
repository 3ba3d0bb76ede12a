"""Workers: what they draw and load, how they check artifacts, and that they end with all they started."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import psutil
import pytest
from attrs import asdict

from qx.contract.figures import Point
from qx.errors import DataError, UsageError
from qx.host.host import Host, Reference
from qx.processes.job_answers import EvaluateAnswer
from qx.processes.jobs import (
    BuildJob,
    DataJob,
    DeriveJob,
    DescribeJob,
    EvaluateJob,
    InspectJob,
    Job,
    LaunchJob,
    SpinJob,
    StoredArtifact,
    TrainJob,
    to_job,
)
from qx.processes.workers import Failure, Processes
from qx.testing.jobs import ExamineJob, ServeJob, WatchJob
from qx.worker.arrays import Split, drawn_over_classes

CONFIGS = ("fp32_baseline", "dynamic_int8", "static_int8_per_tensor", "static_int8_per_channel")


# Drawing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "expected"),
    [(3, [1, 1, 1]), (12, [4, 4, 4]), (14, [5, 5, 4]), (40, [18, 17, 5]), (128, [90, 33, 5])],
)
def test_calibration_images_are_drawn_evenly_over_classes(count: int, expected: list[int]) -> None:
    """As many images are drawn of each class until it has no more, and none is drawn twice."""
    labels = np.repeat([0, 1, 2], [90, 33, 5])
    chosen = drawn_over_classes(labels, len(labels), count, seed=3)
    assert len(set(chosen.tolist())) == count
    assert sorted(np.bincount(labels[chosen], minlength=3), reverse=True) == expected


def test_calibration_images_go_by_the_seed() -> None:
    """A seed decides the images and their order, and fewer images are the first of more."""
    labels = np.repeat([0, 1, 2], 50)
    first = drawn_over_classes(labels, 150, 60, seed=3)
    assert (first == drawn_over_classes(labels, 150, 60, seed=3)).all()
    assert (first[:20] == drawn_over_classes(labels, 150, 20, seed=3)).all()
    assert set(first) != set(drawn_over_classes(labels, 150, 60, seed=4))
    assert len(set(drawn_over_classes(None, 150, 60, seed=3))) == 60


def test_batches_cannot_be_spoilt_for_the_next_config() -> None:
    """A batch that a config has changed is as before when it is read again."""
    split = Split({"image": np.arange(10.0)}, {"labels": np.arange(10)}, ("a",), "ten")
    for batches in (split.batches(4), split.shuffled(4, seed=0)):
        assert [len(batch.inputs["image"]) for batch in batches] == [4, 4, 2]
        before = batches[0].inputs["image"].tolist()
        for array in (*batches[0].inputs.values(), *batches[0].targets.values()):
            array[:] = -1
        assert batches[0].inputs["image"].tolist() == batches[0].targets["labels"].tolist() == before


def test_calibration_batches_come_with_their_targets() -> None:
    """The batches of a split hold the targets of their items, in the order of the items."""
    targets = {"labels": np.arange(10), "weight": np.arange(10.0)}
    batches = Split({"image": np.arange(10.0)}, targets, ("a",), "ten").batches(4)
    assert [batch.targets["labels"].tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert all(list(batch.targets) == ["labels", "weight"] for batch in batches)
    assert all((batch.targets["weight"] == batch.inputs["image"]).all() for batch in batches)


def test_training_batches_are_the_whole_split_shuffled_with_labels() -> None:
    """Training batches hold every item once with its label, in an order that the seed decides."""
    split = Split({"image": np.arange(10.0)}, {"labels": np.arange(10)}, ("a",), "ten")
    first, repeated, other = (
        np.concatenate([batch.inputs["image"] for batch in split.shuffled(4, seed)]).tolist()
        for seed in (0, 0, 1)
    )
    assert sorted(first) == list(range(10)) != first
    assert first == repeated != other
    for batch in split.shuffled(4, 0):
        assert (batch.inputs["image"] == batch.targets["labels"]).all()
    unlabelled = Split({"image": np.arange(10.0)}, {}, (), "ten")
    assert [(list(batch.inputs), batch.targets) for batch in unlabelled.shuffled(4, 0)] == [
        (["image"], {})
    ] * 3


class Lazy:
    """Squares that are computed when they are read, as a workload may provide them."""

    def __len__(self) -> int:
        return 3000

    def __getitem__(self, index: Any) -> Any:
        return (np.arange(3000, dtype=np.float32)[index] ** 2)[..., np.newaxis]


def test_a_split_is_laid_down_as_it_is(tmp_path: Path) -> None:
    """A split that is computed in chunks is read back unchanged, with the fingerprint of plain arrays."""
    lazy = Split({"x": Lazy()}, {"labels": np.arange(3000)}, ("a", "b"), "squares")
    plain = lazy.take(slice(None))
    lazy.write(tmp_path)
    read = Split.read(tmp_path)
    assert np.array_equal(read.inputs["x"], plain.inputs["x"])
    assert read.inputs["x"].dtype == np.float32
    assert lazy.fingerprint() == plain.fingerprint() == read.fingerprint()
    assert lazy.nbytes() == plain.inputs["x"].nbytes + plain.targets["labels"].nbytes


#: Names that are no names of files.
NAMES = ("../image", "a/b", "ünï|code\x00", "")


def test_a_split_may_have_several_targets_of_any_name(tmp_path: Path) -> None:
    """Inputs and targets are read back under their names, in their order, whatever the names are."""
    inputs = {name: np.full((3, 2), index, dtype=np.float32) for index, name in enumerate(NAMES)}
    targets = {name: np.full((3, 1 + index), index) for index, name in enumerate(reversed(NAMES))}
    split = Split(inputs, targets, (), "several")
    split.write(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == split.files
    read = Split.read(tmp_path)
    assert list(read.inputs) == list(inputs)
    assert list(read.targets) == list(targets)
    for arrays, expected in ((read.inputs, inputs), (read.targets, targets)):
        for name, array in arrays.items():
            assert array.dtype == expected[name].dtype
            assert np.array_equal(array, expected[name])
    assert read.fingerprint() == split.fingerprint()
    part = split.take(np.array([2, 0]))
    assert [array.shape for array in part.targets.values()] == [(2, 1), (2, 2), (2, 3), (2, 4)]


def test_the_fingerprint_goes_by_names_and_by_what_is_input_or_target() -> None:
    """Other names, another order, and a target in place of an input give another fingerprint."""
    one, two = np.zeros((3, 1)), np.ones((3, 1))
    splits = [
        Split({"a": one}, {"b": two}, (), "s"),
        Split({"a": one}, {"c": two}, (), "s"),
        Split({"a": one, "b": two}, {}, (), "s"),
        Split({"b": two, "a": one}, {}, (), "s"),
        Split({"a": one}, {"b": two}, ("b",), "s"),
    ]
    assert len({split.fingerprint() for split in splits}) == len(splits)


class Ragged(Lazy):
    """Items of changing shapes, or of another number than promised."""

    def __init__(self, shape: tuple[int, ...], last: int) -> None:
        self.shape, self.last = shape, last

    def __getitem__(self, index: Any) -> Any:
        return np.zeros((len(range(self.last)[index]), *(self.shape if index.start else (2,))))


@pytest.mark.parametrize(
    ("shape", "last", "words"),
    [
        ((3,), 3000, r"item 0 has shape \(2,\), items from 1024 on have \(3,\)"),
        ((2,), 2999, "3000 items were expected, and 2999 came"),
    ],
)
def test_a_split_of_odd_items_is_not_laid_down(
    tmp_path: Path, shape: tuple[int, ...], last: int, words: str
) -> None:
    """Items of different shapes, or fewer than promised, are an error of the data."""
    with pytest.raises(DataError, match=words):
        Split({"x": Ragged(shape, last)}, {}, (), "odd").write(tmp_path)


def test_a_batch_larger_than_the_data_begins_again() -> None:
    """A batch that is larger than the number of items repeats them."""
    split = Split({"image": np.arange(3.0)}, {}, (), "three")
    assert split.rows(0, 7)["image"].tolist() == [0, 1, 2, 0, 1, 2, 0]


# Artifacts ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits(qx: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run of torch's eager configs on the digits, built without launches."""
    configs = [word for name in CONFIGS for word in ("-c", name)]
    home = tmp_path_factory.mktemp("digits")
    return qx("run", "--workload", "digits_cnn", *configs, "-m", "file_size", "--out", "out", cwd=home)


#: A program that compares an artifact's outputs bit for bit with those of a build without qx's workers.
COMPARE = """
    import importlib, inspect, json, pathlib, sys
    import numpy, torch
    from qx import Artifact, Context
    from qx_plugins.loaders import torch_eager
    from qx_plugins.networks.cifar_cnn import CifarCNN
    from qx.worker.arrays import Split
    from qx.worker.outputs import unpack

    weights, calibration, engine, build = sys.argv[1:]
    build = pathlib.Path(build)
    manifest = json.loads((build / "artifact" / "manifest.json").read_text())
    plugin = importlib.import_module(f"qx_plugins.configs.{manifest['origin']['config']['name']}")
    record = plugin.describe()

    def converted(*, build):
        model = CifarCNN(quantizable=record.quantizable).eval()
        if build:
            model.load_state_dict(torch.load(weights, weights_only=True))
        if hasattr(plugin, "prepare_model"):
            model = plugin.prepare_model(model, (torch.zeros(1, 3, 32, 32),), Context(engine=engine))
        if build and record.calibration:
            model = plugin.calibrate(model, Split.read(pathlib.Path(calibration)).batches(32))
        takes_context = "context" in inspect.signature(plugin.convert).parameters
        return plugin.convert(model, **({"context": Context(engine=engine)} if takes_context else {}))

    artifact = Artifact(folder=build / "artifact", loader="torch_eager", files=list(manifest["files"]))
    context = Context(engine=engine, rebuild=lambda: converted(build=False))
    subject = torch_eager.load(artifact, context)
    with numpy.load(build / "probe.npz") as probe:
        inputs, expected = probe["input_0"], unpack(probe)["output"]
    served = subject.outputs(subject.call(subject.prepare({"image": inputs})))["output"]
    ours = converted(build=True)(torch.from_numpy(inputs)).numpy()
    same = [served.tobytes() == other.tobytes() for other in (expected, ours)]
    print(json.dumps([*same, len(set(expected.flat))]))
"""


@pytest.mark.parametrize("config", CONFIGS)
def test_an_artifact_gives_what_the_converted_module_gave(digits: Any, cache: Path, config: str) -> None:
    """Loaded in a fresh process, an artifact gives the outputs of the converted module bit for bit."""
    run = digits.results["run"]
    weights = files("qx_weights") / "digits_cnn.pt"
    calibration = cache / "splits" / run["workloads"]["digits_cnn"]["calibrations"]["256"]
    build = cache / "builds" / digits.cell(config)["build"]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", dedent(COMPARE), weights, calibration, run["engine"], build],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    as_probe, as_converted, different_outputs = json.loads(done.stdout)
    assert as_probe
    assert as_converted
    assert different_outputs > 5


def evaluate(processes: Processes, artifact: Path, inputs: Path, outputs: Path) -> EvaluateAnswer:
    host = Host.discover()
    stored = StoredArtifact(
        folder=str(artifact),
        files=["model.pt"],
        loader=host.get("loader", "torch_eager").reference,
        config=host.get("config", "fp32_baseline").reference,
        workload=host.get("workload", "digits_cnn").reference,
    )
    job = EvaluateJob(engine="x86", artifact=stored, inputs=str(inputs), batch_size=100, outputs=str(outputs))
    return processes.run(job, "evaluate", timeout=300)


def test_an_artifact_that_was_tampered_with_is_detected(
    digits: Any, cache: Path, tmp_path: Path, processes: Processes
) -> None:
    """The evaluation of an artifact fails where its outputs are not those of the converted module."""
    import torch

    inputs = cache / "splits" / digits.results["run"]["workloads"]["digits_cnn"]["evaluation_sha256"]
    build = tmp_path / "build"
    shutil.copytree(cache / "builds" / digits.cell("fp32_baseline")["build"], build)
    state = build / "artifact" / "model.pt"
    tensors = torch.load(state, weights_only=True)
    tensors["classifier.bias"][3] += 1e-3
    torch.save(tensors, state)
    with pytest.raises(Failure) as failed:
        evaluate(processes, build / "artifact", inputs, tmp_path / "outputs")
    assert (failed.value.outcome, failed.value.stage) == ("failed", "probe")
    words = "does not give the outputs of the converted module: they differ by up to 0.001"
    assert words in failed.value.cause


# Weights ------------------------------------------------------------------------------------------


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.marker,)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing", "does not exist"),
        ("empty", "is empty"),
        ("text", "is damaged, or was not written by torch.save"),
        ("truncated", "is damaged, or was not written by torch.save"),
        ("evil", "holds more than tensors, and loading it could run code"),
        ("evil_pickle", "holds more than tensors, and loading it could run code"),
        ("module", "holds more than tensors, and loading it could run code"),
        ("checkpoint", "holds several state dicts (model, average): save the one you mean"),
        ("one_tensor", "must hold a state dict (names to tensors)"),
        ("shape", "does not fit Linear: weight is [3, 5], expected [3, 4]"),
        ("names", "does not fit Linear: missing weight, bias; unexpected fc.weight, head.bias"),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path: Path, name: str, words: str) -> None:
    """A wrong weights file is an error that says what was expected, and no code in it is run."""
    import torch

    from qx.worker.weights import load_weights

    path, marker = tmp_path / f"{name}.pt", tmp_path / "it_ran"
    good = {"weight": torch.ones(3, 4), "bias": torch.ones(3)}
    match name:
        case "empty":
            path.touch()
        case "text":
            path.write_text("weights: yes")
        case "truncated":
            torch.save(good, path)
            path.write_bytes(path.read_bytes()[:-400])
        case "evil":
            torch.save({"weight": Evil(marker)}, path)
        case "evil_pickle":
            path.write_bytes(pickle.dumps({"weight": Evil(marker)}, protocol=2))
        case "module":
            torch.save(torch.nn.Linear(4, 3), path)
        case "checkpoint":
            torch.save({"model": good, "average": good, "epoch": 3}, path)
        case "one_tensor":
            torch.save(good["weight"], path)
        case "shape":
            torch.save(good | {"weight": torch.ones(3, 5)}, path)
        case "names":
            torch.save({"fc.weight": good["weight"], "head.bias": good["bias"]}, path)
    model = torch.nn.Linear(4, 3)
    before = model.weight.clone()
    with pytest.raises(UsageError) as caught:
        load_weights(model, path)
    assert str(caught.value).startswith(f"weights file {path} ")
    assert words in str(caught.value)
    assert not marker.exists()
    assert (model.weight == before).all()


# Processes ----------------------------------------------------------------------------------------


JOBS = (
    *(InspectJob, DataJob, BuildJob, LaunchJob, EvaluateJob, DeriveJob, TrainJob, SpinJob, DescribeJob),
    *(ServeJob, ExamineJob, WatchJob),
)


@pytest.mark.parametrize("kind", JOBS, ids=lambda kind: kind.do)
def test_a_job_is_the_same_after_its_travel(kind: type) -> None:
    """Every job can be written as one line of JSON, from which the same job is read."""
    first, second = Reference("one", "package.one"), Reference("two", "file", "/two.py", "it", "dist", "1.0")
    stored = StoredArtifact(
        folder="f", files=["a"], details={"b": [1]}, notes=["c"], loader=first, config=second, workload=first
    )
    fields: dict[type, dict[str, Any]] = {
        InspectJob: {"workload": first, "weights": "w.pt"},
        DataJob: {"workload": first, "cache": "c", "calibration_counts": (3, 4), "training": True},
        BuildJob: {
            "workload": first,
            "config": second,
            "config_options": {"bits": 4},
            "loaders": [first, second],
            "weights": "w.pt",
            "calibration": None,
            "training": "t",
            "folder": "f",
        },
        LaunchJob: {
            "artifact": stored,
            "inputs": "i",
            "points": [Point(1), Point(32, length=128, call="decode")],
            "metrics": [second],
            "spawned_ns": 7,
            "cpus": [0, 1],
            "wrappers": [first],
        },
        EvaluateJob: {"artifact": stored, "inputs": "i", "batch_size": 5, "outputs": "o"},
        DeriveJob: {"samples": "s", "baseline": "b", "points": (Point(1),), "metrics": (first,)},
        TrainJob: {"workload": first, "cache": "c", "output": "o", "workload_options": {"epochs": 2}},
        SpinJob: {},
        DescribeJob: {},
        ServeJob: {"artifact": stored, "inputs": "i", "batch_sizes": (1, 3), "outputs": "o"},
        ExamineJob: {"workload": first, "weights": None, "cache": "c"},
    }
    fields[WatchJob] = {"job": SpinJob(seed=3), "absent": ("numpy",), "folder": "f"}
    job = kind(**fields[kind], seed=9)
    line = job.to_json()
    assert "\n" not in line
    travelled = json.loads(line)
    assert to_job(travelled) == job
    for name, value in fields[kind].items():
        expected = value.fields() if isinstance(value, Job) else value
        assert travelled[name] == json.loads(json.dumps(expected, default=asdict))


@pytest.mark.parametrize(
    ("body", "outcome", "cause"),
    [
        ("time.sleep(1000)", "timeout", "not finished after 5 s"),
        ("os.kill(os.getpid(), 9)", "crashed", "killed by SIGKILL"),
        ("os.abort()", "crashed", "killed by SIGABRT; its last line of output: "),
        ("os._exit(0)", "crashed", "ended itself with status 0"),
        ("print('a last word'); os._exit(5)", "crashed", "status 5; its last line of output: a last word"),
        ("raise SystemExit", "failed", "exit status None"),
        ("raise KeyboardInterrupt", "failed", "KeyboardInterrupt"),
        ("raise ValueError('one\\n two')", "failed", "ValueError: one two"),
        ("raise MemoryError", "out_of_memory", "MemoryError"),
        ("assert os.read(0, 10) == b'' and input()", "failed", "EOFError"),
    ],
)
def test_however_a_worker_ends_it_is_reported(
    mischief: Callable[..., Any], body: str, outcome: str, cause: str
) -> None:
    """The end of a worker gives outcome, stage and cause, and the host waits no longer than the timeout."""
    with pytest.raises(Failure) as failed:
        mischief(body, timeout=5.0 if outcome == "timeout" else 300.0)
    assert failed.value.outcome == outcome
    assert failed.value.stage == "load_data test"
    assert cause in failed.value.cause


@pytest.mark.parametrize(
    ("progress", "cause"),
    [("(step + 1) / 8", "done"), pytest.param("0.5", "not finished after 6 s", marks=pytest.mark.slow)],
)
def test_a_plugin_that_makes_progress_is_not_timed_out(
    mischief: Callable[..., Any], progress: str, cause: str
) -> None:
    """The timeout begins again with progress, and only with progress."""
    steps = f"[(time.sleep(1), context.progress({progress}, 'on')) for step in range(8)]"
    with pytest.raises(Failure, match=cause) as failed:
        mischief(f"{steps}; raise ValueError('done')", timeout=6.0)
    assert failed.value.stage == "load_data test"


def test_a_worker_ends_with_all_that_it_started(mischief: Callable[..., Any], tmp_path: Path) -> None:
    """Processes that a plugin has started end with its worker, however that ended."""
    pid = tmp_path / "pid"
    start = f"p = subprocess.Popen(['sleep', '1000']); pathlib.Path({str(pid)!r}).write_text(str(p.pid))"
    for end in ("raise ValueError('leave it')", "os._exit(1)"):
        with pytest.raises(Failure):
            mischief(f"{start}; {end}")
        _check_that_it_ends(int(pid.read_text()))


def _check_that_it_ends(pid: int) -> None:
    """Fail unless a process ends, be it as a zombie that its new parent has not waited for."""
    for _ in range(6000):
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return
        except psutil.NoSuchProcess:
            return
        time.sleep(0.01)
    os.kill(pid, 9)
    pytest.fail(f"process {pid} still runs")


def test_a_plugin_in_the_current_folder_stands_in_for_no_module(
    mischief: Callable[..., Any], tmp_path: Path
) -> None:
    """A worker does not import a file of the current folder that has the name of a module it needs."""
    (tmp_path / "numpy.py").write_text("raise RuntimeError('not this one')")
    targets = "{'labels': numpy.zeros(2, int)}"
    data = f"import numpy; return Data(inputs={{'x': numpy.ones((2, 1))}}, targets={targets})"
    assert mischief(data).items == 2


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        ("{'boxes': numpy.array(['a', 'b'])}", "the targets 'boxes' of the test split are <U1 of shape [2]"),
        ("{'labels': numpy.zeros(2), 'boxes': numpy.zeros((3, 4))}", "'labels': 2, 'boxes': 3}"),
        ("{'x': numpy.zeros(3)}", "'x': 2, 'x (target)': 3}"),
        ("{3: numpy.zeros(2)}", "has an array with the name 3, and names are text"),
        ("numpy.zeros(2)", 'named arrays are expected, such as {"labels": array}'),
    ],
)
def test_targets_that_fit_nothing_are_an_error_of_the_data(
    mischief: Callable[..., Any], targets: str, words: str
) -> None:
    """Targets must be arrays of numbers by name, with as many items as the inputs, whatever their names."""
    body = f"import numpy; return Data(inputs={{'x': numpy.ones((2, 1))}}, targets={targets})"
    with pytest.raises(DataError) as caught:
        mischief(body)
    assert words in str(caught.value)


def test_a_split_with_two_targets_is_laid_down(mischief: Callable[..., Any], tmp_path: Path) -> None:
    """Evaluation and calibration splits keep all targets; the labels are described in the answer."""
    targets = "{'boxes': numpy.ones((2, 4)), 'labels': numpy.arange(2)}"
    answer = mischief(f"import numpy; return Data(inputs={{'x': numpy.ones((2, 1))}}, targets={targets})")
    assert answer.labels is not None
    assert (answer.labels.lowest, answer.labels.highest) == (0, 1)
    for name in (answer.evaluation, *answer.calibrations.values()):
        split = Split.read(Path(answer.folder) / name)
        assert list(split.targets) == ["boxes", "labels"]
        assert split.targets["boxes"].shape == (len(split), 4)
