"""Cells that no open decision needs get fewer rounds, and results say which, in how many waves."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from qx.analysis.recompute import differences, recompute
from qx.contract.figures import Figure, Point
from qx.processes.workers import Processes
from qx.results.recording import Recording
from qx.results.results_file import read
from qx.runner.measure import timing
from qx.runner.measure.orders import WaveOrder, WaveOutcome
from qx.runner.measure.plan import Measured, Plan
from qx.runner.measure.rounds import count_settled_rounds
from qx.runner.measure.waves import carry_out, measure_in_waves
from qx.statistics.undisturbed import spread_rounds

#: A loader like the toy's whose calls take milliseconds.
SLOW_LOADER = """
    import time
    from qx import Loader, hookimpl

    @hookimpl
    def describe():
        return Loader(name="slow_loader", summary="Takes its time.", imports=["numpy"])

    @hookimpl
    def load(artifact):
        import numpy
        with numpy.load(artifact.folder / artifact.files[0]) as arrays:
            return Subject(arrays["weight"], arrays["bias"])

    class Subject:
        config = "slow"

        def __init__(self, weight, bias):
            self.weight, self.bias = weight, bias

        def prepare(self, arrays):
            return arrays["point"]

        def call(self, native):
            end = time.perf_counter() + 0.003
            while time.perf_counter() < end:
                pass
            return native @ self.weight.T + self.bias

        def outputs(self, native):
            return {"output": native}
"""


def measure_elsewhere(plan: Plan, processes: Processes, recording: Recording, *others: Any) -> Measured:
    """Measure as a run does whose waves another machine measures: orders and outcomes are pickled."""

    def measure(order: WaveOrder) -> WaveOutcome:
        outcome = carry_out(pickle.loads(pickle.dumps(order)), processes)
        returned: WaveOutcome = pickle.loads(pickle.dumps(outcome))
        return returned

    step, log, _ = others
    return measure_in_waves(plan, processes, recording, step, log, measure)


@pytest.fixture(scope="module", params=["here", "elsewhere"])
def done(
    request: pytest.FixtureRequest,
    qx: Callable[..., Any],
    toy: Any,
    write_plugin: Callable[[str, str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:
    """A run of a config that is slower than the baseline and as large, and of one that is its equal."""
    loader = write_plugin("slow_loader", SLOW_LOADER)
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "elsewhere":
            patch.setattr(timing, "measure_in_waves", measure_elsewhere)
        return qx(
            *("run", *toy.arguments(toy.config("slow", loader="slow_loader"), toy.config("equal"), loader)),
            *("-m", "latency", "-m", "file_size", "--batch-size", 1, "--precision", 1e-9, "--budget", 15),
            *("--out", tmp_path_factory.mktemp("fewer") / "out"),
        )


def test_a_cell_that_is_dominated_for_sure_has_fewer_rounds(done: Any) -> None:
    """After three waves the slow cell has a third of the rounds, spread over the wave; others have all."""
    assert done.code == 0, done.err
    measuring = done.results["run"]["measuring"]
    fewer = measuring["fewer_rounds"]
    assert set(fewer) <= {"toy/slow", "toy/equal"}
    assert 1 <= fewer["toy/slow"] <= measuring["waves"] - 3
    recording = Recording.read(done.folder / done.results["run"]["samples"])
    waves_with_fewer = 0
    for wave in range(measuring["waves"]):
        numbers = {
            name: rounds_of(recording, f"toy/{name}", wave) for name in ("toy_fp32", "control", "slow")
        }
        count = len(numbers["toy_fp32"])
        assert numbers["toy_fp32"] == numbers["control"] == list(range(count))
        if numbers["slow"] != numbers["toy_fp32"]:
            waves_with_fewer += 1
            assert wave >= 3
            calls = min(calls["1"] for calls in measuring["calls_per_block"].values())
            assert numbers["slow"] == spread_rounds(count, count_settled_rounds(count, calls))
    assert waves_with_fewer == fewer["toy/slow"]


def test_it_is_compared_in_all_waves_and_computed_again(done: Any) -> None:
    """Waves in which it had fewer rounds count like others, and all figures can be computed anew."""
    measuring = done.results["run"]["measuring"]
    slow = done.measurement("slow", "latency")
    assert slow["n"] == measuring["waves"]
    assert slow["vs_baseline"]["ci"][1] < 0.5
    written = read(done.folder / "full_results.json")
    recording = Recording.read(done.folder / written.run.samples)
    assert differences(recompute(written, recording), written) == []


def test_the_reports_say_so(done: Any) -> None:
    """The page says for how many waves fewer rounds were enough, and why."""
    waves, fewer = (done.results["run"]["measuring"][name] for name in ("waves", "fewer_rounds"))
    text = " ".join(done.table.split())
    assert f"`slow` in {fewer['toy/slow']} of {waves} waves" in text
    assert "since nothing that is decided here needs more" in text


def rounds_of(recording: Recording, cell: str, wave: int) -> list[int]:
    """Return the numbers of the rounds that a cell had in a wave."""
    series = recording.series[cell][Figure("latency", Point(1))]
    return [int(number) for number in np.unique(series.round[series.wave == wave])]
