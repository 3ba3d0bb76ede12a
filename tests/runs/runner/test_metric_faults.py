"""A metric that ends its process costs its own figure in one row, and nothing is measured twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from attrs import evolve

from qx.contract.figures import Figure, Point
from qx.host.host import Host, Reference
from qx.processes.answers import LaunchAnswer, Measurement, WarmAnswer
from qx.processes.jobs import EvaluateJob, LaunchJob, StoredArtifact
from qx.processes.workers import Failure, Processes
from qx.results.cells import CellId
from qx.results.recording import Recording
from qx.runner.blame import Hangs, run_past_metrics
from qx.runner.measure.plan import Measured
from qx.runner.request import references

#: First statements of each metric, which log in a file that it is measured.
LOGGED = """
with pathlib.Path({log!r}).open("a") as log:
    log.write("{name}\\n")
"""
BEFORE = """
    import os, pathlib

    class Wicked(Exception):
        def __str__(self):
            raise RuntimeError("in str")
"""
#: What a metric does, its outcome, and a part of the cause.
FAULTS = {
    "exit": ("os._exit(0)", "crashed", "ended itself with status 0"),
    "segfault": ("import ctypes; ctypes.string_at(0)", "crashed", "killed by SIGSEGV"),
    "interrupt": ("raise KeyboardInterrupt", "failed", "KeyboardInterrupt"),
    "base": ("raise BaseException('base')", "failed", "BaseException: base"),
    "wicked": ("raise Wicked", "failed", "Wicked: the text of what was raised cannot be had"),
}
#: A loader like the toy's that logs in a file when it loads.
LOADER = """
    import os, pathlib
    from qx import Loader, hookimpl

    @hookimpl
    def describe():
        return Loader(name="counting", summary="Counts.", imports=["numpy"])

    @hookimpl
    def load(artifact):
        import numpy
        with pathlib.Path({log!r}).open("a") as log:
            log.write("load\\n")
        if "DIES_IN_LOAD" in os.environ:
            os._exit(5)
        with numpy.load(artifact.folder / artifact.files[0]) as arrays:
            return Subject(arrays["weight"], arrays["bias"])

    class Subject:
        def __init__(self, weight, bias):
            self.weight, self.bias = weight, bias

        def prepare(self, arrays):
            return arrays["point"]

        def call(self, native):
            return native @ self.weight.T + self.bias

        def outputs(self, native):
            return {{"output": native}}
"""
PHASES = ("artifact", "fresh", "block", "predictions", "derived")
BAD = [f"{fault}_{phase}" for phase in PHASES for fault in FAULTS]
COUNTED = [f"counted_{phase}" for phase in ("artifact", "predictions", "derived")]
GOOD = ("accuracy", "file_size", "latency", "rss")


Write = Callable[..., str]


@pytest.fixture(scope="session")
def write_logged(write_metric: Write) -> Write:
    """Write a metric that logs in the file ``log`` that it is measured, and then runs a body."""

    def write(name: str, phase: str, body: str, log: Path) -> str:
        return write_metric(name, phase, LOGGED.format(log=str(log), name=name) + body, before=BEFORE)

    return write


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the run and of the logs of its metrics."""
    return tmp_path_factory.mktemp("deadly")


@pytest.fixture(scope="module")
def deadly(
    qx: Callable[..., Any],
    toy: Any,
    write_plugin: Callable[[str, str], str],
    write_logged: Write,
    home: Path,
) -> Any:
    """One run with every fault in a metric of every phase, and good ones around them, on two configs."""
    log = home / "log"
    plugins = [
        write_plugin("counting", LOADER.format(log=str(home / "loads"))),
        toy.config("other", loader="counting"),
        *(write_logged(name, name.partition("_")[2], "return 1.0", log) for name in COUNTED),
        *(
            write_logged(name, phase, FAULTS[fault][0], log)
            for name in BAD
            for fault, _, phase in [name.partition("_")]
        ),
    ]
    # Good metrics come first, in between, and last.
    order = [*COUNTED[:1], *GOOD[:2], *BAD, *GOOD[2:], *COUNTED[1:]]
    return qx(
        *("run", *toy.arguments(*plugins), "--quick", "--budget", 0.01, "--batch-size", 1),
        *(word for name in order for word in ("-m", name)),
        *("--out", "out"),
        cwd=home,
    )


@pytest.mark.parametrize("name", BAD)
def test_a_metric_that_ends_its_process_costs_itself(deadly: Any, name: str) -> None:
    """A metric that ends its process has outcome and cause in each row, and the exit code is 1."""
    _, outcome, cause = FAULTS[name.partition("_")[0]]
    assert deadly.code == 1, deadly.err
    for config in ("toy_fp32", "other"):
        measurement = deadly.measurement(config, name)
        assert (measurement["outcome"], measurement["value"]) == (outcome, None)
        assert cause in measurement["cause"]
        line = f"qx: {config}: metric {name} {outcome}: {measurement['cause']}"
        assert any(text.partition("; log: ")[0] == line for text in deadly.err.splitlines())


def test_the_rows_of_deadly_metrics_are_complete(deadly: Any) -> None:
    """Both cells end well, every good metric has its value and its delta, and the front is decided."""
    for config in ("toy_fp32", "other"):
        assert deadly.cell(config)["outcome"] == "ok"
        for name in (*GOOD, *COUNTED):
            measurement = deadly.measurement(config, name)
            assert measurement["outcome"] == "ok", measurement["cause"]
            assert measurement["vs_baseline"]["value"] is not None
    assert set(deadly.results["front"]) == {"toy/toy_fp32", "toy/other"}


def test_what_ends_a_process_is_not_asked_again(deadly: Any, home: Path) -> None:
    """A metric that ended the process of a cell, or was measured before that, is measured there once.

    A metric that raised an error is tried once more, alone, where others had been measured before it.
    """
    assert deadly.code == 1, deadly.err
    counts = Counter(home.joinpath("log").read_text().split())
    for name in (*BAD, *COUNTED):
        # The control has launches of its own, and so values that are derived from them.
        cells = 2 if name.endswith(("artifact", "predictions")) else 3
        fault, _, phase = name.partition("_")
        may_repeat = fault in FAULTS and FAULTS[fault][1] == "failed" and phase not in ("fresh", "block")
        assert counts[name] in ({cells, 2 * cells} if may_repeat else {cells}), name


def test_predictions_are_made_once(deadly: Any, home: Path) -> None:
    """Metrics that end the process of an evaluation do not have the artifact loaded again."""
    loads = home.joinpath("loads").read_text().split()
    assert len(loads) == 1 + deadly.cell("other")["launches"]


def test_a_wave_in_which_a_launch_died_is_no_wave_of_its_cell(deadly: Any) -> None:
    """No sample of a launch that died is used, and each cell has as many waves as were asked for."""
    measuring = deadly.results["run"]["measuring"]
    deaths = [death for death in measuring["deaths"] if death["stage"].endswith("_block")]
    recording = Recording.read(deadly.folder / deadly.results["run"]["samples"])
    for cell in ("toy/toy_fp32", "toy/other", "toy/control"):
        lost_waves = {death["wave"] for death in deaths if death["cell"] == cell}
        assert len(lost_waves) == 2
        complete_waves = set(range(measuring["waves"])) - lost_waves
        assert len(complete_waves) == 3
        for figure in (Figure("latency", Point(1)), Figure("rss")):
            assert set(recording.series[cell][figure].wave) == complete_waves
        # A launch that died at its start was replaced in its wave, and nothing of it is kept.
        assert len(recording.series[cell][Figure("rss")].values) == len(complete_waves)


def test_a_metric_that_damages_modules_costs_no_other(
    qx: Callable[..., Any], toy: Any, write_metric: Callable[..., str]
) -> None:
    """A metric that fails after another one in a process is measured once more, in a separate process."""
    damage = "import numpy; numpy.median = None; return 1.0"
    plugins = [
        write_metric("damaging", "predictions", damage),
        write_metric("later", "predictions", "import numpy; return float(numpy.median([1.0, 2.0, 3.0]))"),
        write_metric("wrong", "predictions", "raise ValueError('always')"),
    ]
    done = qx(
        *("run", *toy.arguments(*plugins), "-c", "toy_fp32"),
        *("-m", "damaging", "-m", "later", "-m", "wrong"),
        *("--quick", "--budget", 0.01, "--batch-size", 1, "--out", "out"),
    )
    assert done.measurement("toy_fp32", "damaging")["value"] == 1.0, done.err
    assert done.measurement("toy_fp32", "later")["value"] == 2.0, done.err
    assert done.measurement("toy_fp32", "wrong")["outcome"] == "failed"


# One cell by itself -------------------------------------------------------------------------------


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """Worker processes of one test."""
    logs = tmp_path / "logs"
    logs.mkdir()
    with Processes(logs) as processes:
        yield processes


@pytest.fixture
def evaluation(
    deadly: Any,
    cache: Path,
    home: Path,
    write_plugin: Callable[[str, str], str],
    write_logged: Write,
    toy: Any,
    tmp_path: Path,
) -> Callable[..., EvaluateJob]:
    """Make the job that evaluates an artifact of the run above, with metrics of these bodies."""

    def job(config: str, /, **bodies: str) -> EvaluateJob:
        finished = tmp_path / config
        finished.mkdir(exist_ok=True)
        log = tmp_path / "log"
        log.touch()
        plugins = [write_logged(name, "artifact", body, log) for name, body in bodies.items()]
        counting = write_plugin("counting", LOADER.format(log=str(home / "loads")))
        host = Host.discover([*toy.plugins, toy.config("other", loader="counting"), counting, *plugins])
        metrics = [entry for entry in host.ready("metric") if entry.name in bodies]
        parts = {"loader": deadly.cell(config)["loader"], "config": config, "workload": "toy"}

        def reference(kind: Any, name: str) -> Reference:
            entry = host.get(kind, name)
            assert entry.reference is not None
            return entry.reference

        return EvaluateJob(
            artifact=StoredArtifact(
                folder=str(cache / "builds" / deadly.cell(config)["build"] / "artifact"),
                files=("model.npz",),
                details={"config": config},
                imports=("numpy",),
                **{kind: reference(kind, name) for kind, name in parts.items()},
            ),
            inputs=str(cache / "splits" / deadly.results["run"]["workloads"]["toy"]["evaluation_sha256"]),
            batch_size=36,
            artifact_metrics=references(metrics),
            outputs=str(finished / "outputs"),
            finished=str(finished),
        )

    return job


@pytest.mark.slow
def test_a_metric_that_hangs_costs_its_time_in_two_cells(
    processes: Processes, evaluation: Callable[..., EvaluateJob], tmp_path: Path
) -> None:
    """A metric that hangs costs its timeout in two cells, and is not measured in later ones."""
    job = evaluation("toy_fp32", slow="import time; time.sleep(1000)", sound="return 1.0")
    hangs = Hangs()
    _, measured, failures = run_past_metrics(processes, job, Measurement, "first", hangs, timeout=9)
    assert measured["sound"].samples.values == [1.0]
    assert (failures["slow"].outcome, failures["slow"].cause) == ("timeout", "not finished after 9 s")
    assert hangs.skip_reason("slow") is None
    hangs.note("slow", "second", Failure("timeout", "measure slow", "not finished after 9 s"))
    # Another cell, in which nothing is finished yet.
    job = evaluation("other", slow="import time; time.sleep(1000)", sound="return 1.0")
    _, measured, failures = run_past_metrics(processes, job, Measurement, "third", hangs, timeout=120)
    assert measured["sound"].samples.values == [1.0]
    assert (failures["slow"].outcome, failures["slow"].cause) == (
        "timeout",
        "not measured here, since it timed out in first and in second",
    )
    assert Counter(tmp_path.joinpath("log").read_text().split()) == {"slow": 1, "sound": 2}


def test_a_metric_that_dies_at_once_is_not_held_off() -> None:
    """A metric that dies without costing time is measured in every cell."""
    hangs = Hangs()
    for cell in ("first", "second", "third"):
        hangs.note("brittle", cell, Failure("crashed", "measure brittle", "killed by SIGSEGV"))
    assert hangs.skip_reason("brittle") is None


def test_a_metric_that_leaves_its_process_damaged_costs_nothing_else(
    processes: Processes, evaluation: Callable[..., EvaluateJob], tmp_path: Path
) -> None:
    """Where an evaluation fails after a metric was measured in its process, a new process goes on."""
    job = evaluation("toy_fp32", harmful="import numpy; numpy.load = numpy.savez = None; return 3.0")
    _, measured, failures = run_past_metrics(processes, job, Measurement, "toy_fp32", Hangs(), timeout=120)
    assert failures == {}
    assert measured["harmful"].samples.values == [3.0]
    assert (tmp_path / "toy_fp32" / "outputs").is_dir()
    assert tmp_path.joinpath("log").read_text().split() == ["harmful"]


@pytest.mark.parametrize(("bodies", "loads"), [({"sound": "return 1.0"}, 2), ({}, 1)])
def test_what_dies_outside_of_all_metrics_is_the_cells_own_fault(
    processes: Processes,
    evaluation: Callable[..., EvaluateJob],
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    bodies: dict[str, str],
    loads: int,
) -> None:
    """An evaluation that dies outside of metrics is repeated only if a metric was measured before it."""
    monkeypatch.setenv("DIES_IN_LOAD", "1")
    before = len(home.joinpath("loads").read_text().split())
    with pytest.raises(Failure) as failed:
        run_past_metrics(processes, evaluation("other", **bodies), Measurement, "other", Hangs(), timeout=120)
    assert (failed.value.outcome, failed.value.stage) == ("crashed", "load")
    assert "ended itself with status 5" in failed.value.cause
    assert len(home.joinpath("loads").read_text().split()) == before + loads


# Launches -----------------------------------------------------------------------------------------

SLOW = (Reference("slow", "slow"), Reference("brittle", "brittle"))


def test_a_launch_that_hangs_in_a_metric_drops_it_for_its_cell() -> None:
    """A metric that hung in two cells, the control aside, is measured only where it has had a value."""
    measured = Measured(waves=1)
    hung = Failure("timeout", "measure slow", "not finished after 5 s")
    first = CellId(workload="toy", config="first")
    for cell in (first, evolve(first, control=True)):
        measured.record_death(cell, hung, SLOW)
        assert not measured.should_measure(str(cell), "slow")
        assert measured.should_measure(str(cell), "brittle")
        assert measured.should_measure("toy/third", "slow")
    measured.answered.add(("toy/fourth", "slow"))
    measured.record_death(CellId(workload="toy", config="second"), hung, SLOW)
    assert not measured.should_measure("toy/third", "slow")
    assert measured.should_measure("toy/fourth", "slow")
    assert measured.metric_failures["toy/third", "slow"].outcome == "timeout"
    assert measured.metric_failures["toy/third", "slow"].cause == (
        "not measured here, since it timed out in first and in second"
    )
    assert measured.failures == {}


def test_a_launch_that_dies_in_a_metric_twice_was_not_in_it() -> None:
    """A launch cannot die of a metric that has been dropped: the cell itself has failed."""
    measured = Measured(waves=1)
    died = Failure("crashed", "measure brittle", "killed by SIGSEGV")
    measured.record_death(CellId(workload="toy", config="first"), died, SLOW)
    assert measured.failures == {}
    for _ in range(3):
        measured.record_death(CellId(workload="toy", config="first"), died, SLOW)
    assert measured.failures == {"toy/first": died}


def test_a_launch_that_dies_while_it_waits_did_not_die_of_what_it_was_asked_before(
    processes: Processes, deadly: Any, cache: Path, evaluation: Callable[..., EvaluateJob]
) -> None:
    """A launch that dies between two commands does not count against a metric."""
    job = evaluation("toy_fp32")
    launch = LaunchJob(artifact=job.artifact, inputs=job.inputs, points=(Point(1),), spawned_ns=0)
    worker = processes.start(launch, "launch")
    worker.answer(LaunchAnswer, timeout=120)
    worker.ask("warm", WarmAnswer, timeout=120, point="1", seconds=0.1, stage="measure latency")
    process = psutil.Process(worker.pid)
    worker.kill()
    process.wait(60)
    with pytest.raises(Failure) as failed:
        worker.ask("warm", WarmAnswer, timeout=120, point="1", seconds=0.1, stage="measure latency")
    assert (failed.value.outcome, failed.value.stage) == ("crashed", "wait")
    worker.close()
