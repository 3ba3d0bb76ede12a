"""Waves: launches that die are tried again, cells that go on dying are given up, groups are joined."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from qx.environment import cpu_numbers
from qx.recording import Recording

#: A metric that kills its launch: in ``fresh``, of the config ``config``, the first ``times`` times.
REAPER = """
    import os, pathlib
    from qx import Metric, hookimpl

    @hookimpl
    def describe():
        return Metric(
            name="reaper_{config}", summary="Kills.", unit="things", better="neither",
            samples="{samples}", compare="difference", phase="{phase}",
        )

    @hookimpl
    def measure(subject):
        if subject.config == "{config}":
            folder = pathlib.Path({folder!r})
            deaths = len(list(folder.iterdir()))
            if deaths < {times}:
                (folder / str(deaths)).touch()
                os.kill(os.getpid(), 9)
        return [1.0]
"""
#: A loader like the toy's, whose subject kills its launch at its first call of three items.
SHY_LOADER = """
    import os, pathlib
    from qx import Loader, hookimpl

    @hookimpl
    def describe():
        return Loader(name="shy_loader", summary="Dies once.", imports=["numpy"])

    @hookimpl
    def load(artifact):
        import numpy
        with numpy.load(artifact.folder / artifact.files[0]) as arrays:
            return Subject(arrays["weight"], arrays["bias"])

    class Subject:
        config = "shy"

        def __init__(self, weight, bias):
            self.weight, self.bias = weight, bias

        def prepare(self, arrays):
            return arrays["point"]

        def call(self, native):
            marker = pathlib.Path({marker!r})
            if len(native) == 3 and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), 11)
            return native @ self.weight.T + self.bias

        def outputs(self, native):
            return native
"""


#: A metric that tells the only CPU that its launch may run on, or minus one.
WHERE = """
    import os
    from qx import Metric, hookimpl

    @hookimpl
    def describe():
        return Metric(
            name="where", summary="Which CPU.", unit="", better="neither",
            samples="per_launch", compare="difference", phase="fresh",
        )

    @hookimpl
    def measure():
        allowed = os.sched_getaffinity(0)
        return float(allowed.pop()) if len(allowed) == 1 else -1.0
"""


@pytest.fixture(scope="module")
def deaths(
    qx: Callable[..., Any],
    toy: Any,
    write_plugin: Callable[[str, str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:
    """A run in which launches die: of one config at its start, in a round, in warming, and in every wave."""
    home = tmp_path_factory.mktemp("deaths")

    def reaper(config: str, phase: str, samples: str, times: int) -> str:
        (home / config).mkdir()
        arguments = {"config": config, "phase": phase, "samples": samples, "times": times}
        return write_plugin(f"reaper_{config}", REAPER.format(**arguments, folder=str(home / config)))

    plugins = [
        *(toy.config(name) for name in ("late", "frail", "mortal")),
        toy.config("shy", loader="shy_loader"),
        write_plugin("shy_loader", SHY_LOADER.format(marker=str(home / "shy"))),
        reaper("late", "fresh", "per_launch", 2),
        reaper("frail", "block", "per_block", 1),
        reaper("mortal", "block", "per_block", 1000),
    ]
    with pytest.MonkeyPatch.context() as patch:
        # In one group, however little memory there is.
        patch.setattr(import_module("qx.runner.timing"), "_room", lambda part, reporter: 9)
        # Nobody else's processes are killed here for want of memory.
        patch.setattr(import_module("qx.runner.processes"), "_out_of_memory_kills", lambda: 0)
        return qx(
            *("run", *toy.arguments(*plugins), "-m", "latency", "-m", "accuracy"),
            *("-m", "reaper_late", "-m", "reaper_frail", "-m", "reaper_mortal"),
            *("--quick", "--budget", 0.01, "--batch-size", 1, "--batch-size", 3, "--out", "out"),
            cwd=home,
        )


def died(run: Any, config: str) -> list[dict[str, Any]]:
    return [one for one in run.results["run"]["measuring"]["deaths"] if one["cell"] == f"toy/{config}"]


@pytest.mark.parametrize(
    ("config", "stages", "signal"),
    [
        ("late", ["measure reaper_late"] * 2, "SIGKILL"),
        ("frail", ["measure reaper_frail"], "SIGKILL"),
        ("shy", ["warm"], "SIGSEGV"),
    ],
)
def test_a_launch_that_dies_is_counted_and_tried_again(
    deaths: Any, config: str, stages: list[str], signal: str
) -> None:
    """Each death is told with wave, stage and cause; the cell goes on, and has figures of the other waves."""
    told = died(deaths, config)
    assert [one["stage"] for one in told] == stages
    assert {one["outcome"] for one in told} == {"crashed"}
    assert all(signal in one["cause"] for one in told)
    assert deaths.cell(config)["outcome"] == "ok"
    for one in deaths.measurements(config, "latency"):
        assert one["outcome"] == "ok"
        assert one["vs_baseline"]["ci"] is not None


def test_a_launch_that_dies_at_its_start_is_replaced_in_its_wave(deaths: Any) -> None:
    """A launch that never came to be timed is started again at once: its cell misses no wave."""
    measuring = deaths.results["run"]["measuring"]
    assert {one["wave"] for one in died(deaths, "late")} == {0}
    assert deaths.cell("late")["launches"] == measuring["waves"] + 2
    recording = Recording.read(deaths.folder / deaths.results["run"]["samples"])
    waves = {
        name: set(recording.series[f"toy/{name}"]["latency", 1].wave) for name in ("toy_fp32", "late", "shy")
    }
    assert waves["late"] == waves["toy_fp32"] == set(range(measuring["waves"]))
    # One that dies later is not: the others do not wait for it.
    assert waves["shy"] == waves["toy_fp32"] - {0}


def test_a_cell_that_goes_on_dying_is_given_up(deaths: Any) -> None:
    """After three deaths a cell has failed: its row says of what, and the others are measured to the end."""
    assert deaths.code == 1, deaths.err
    assert [one["wave"] for one in died(deaths, "mortal")] == [0, 1, 2]
    cell = deaths.cell("mortal")
    assert (cell["outcome"], cell["stage"], cell["launches"]) == ("crashed", "measure reaper_mortal", 3)
    assert {one["value"] for one in deaths.measurements("mortal")} == {None}
    assert "toy/mortal" not in deaths.results["front"]
    assert deaths.cell("toy_fp32")["launches"] == deaths.results["run"]["measuring"]["waves"]
    assert "toy/toy_fp32" in deaths.results["front"]


@pytest.mark.parametrize("phase", ["fresh", "block"])
def test_when_the_baseline_goes_on_dying_the_run_ends(
    qx: Callable[..., Any], toy: Any, write_plugin: Callable[[str, str], str], tmp_path: Any, phase: str
) -> None:
    """Without the baseline nothing can be compared: the waves end, and the others keep what they have."""
    (tmp_path / "kills").mkdir()
    samples = {"fresh": "per_launch", "block": "per_block"}[phase]
    arguments = {"config": "toy_fp32", "phase": phase, "samples": samples, "times": 1000}
    reaper = write_plugin("reaper_toy_fp32", REAPER.format(**arguments, folder=str(tmp_path / "kills")))
    others = [toy.config(name) for name in ("other", "third")]
    done = qx(
        *("run", *toy.arguments(*others, reaper), "-m", "latency", "-m", "reaper_toy_fp32"),
        *("-m", "accuracy", "--batch-size", 1, "--quick", "--budget", 0.01, "--out", "out"),
    )
    assert done.code == 1, done.err
    assert done.results["run"]["measuring"]["ended_by"] == "the baseline failed"
    assert done.results["run"]["measuring"]["waves"] <= 3
    assert done.cell("toy_fp32")["outcome"] == "crashed"
    assert done.cell("other")["outcome"] == "ok"
    assert done.measurement("other", "accuracy")["value"] > 0


def test_groups_are_compared_through_the_baseline(
    qx: Callable[..., Any], toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cells that memory does not hold at once come in groups, each with the baseline and the control."""
    # As on a machine with memory for three launches.
    monkeypatch.setattr(import_module("qx.runner.timing"), "_room", lambda part, reporter: 1)
    plugins = [toy.config(name) for name in ("first", "second")]
    done = qx(
        *("run", *toy.arguments(*plugins), "-m", "latency", "-m", "rss"),
        *("--batch-size", 1, "--quick", "--budget", 0.01, "--out", "out"),
    )
    assert done.code == 0, done.err
    waves = done.results["run"]["measuring"]["waves"]
    assert waves == 6
    recording = Recording.read(done.folder / done.results["run"]["samples"])
    seen = {
        name: set(np.unique(recording.series[f"toy/{name}"]["latency", 1].wave))
        for name in ("toy_fp32", "control", "first", "second")
    }
    assert seen["toy_fp32"] == seen["control"] == set(range(waves))
    assert {frozenset(seen["first"]), frozenset(seen["second"])} == {
        frozenset(range(3)),
        frozenset(range(3, 6)),
    }
    for config in ("first", "second"):
        for metric in ("latency", "rss"):
            delta = done.measurement(config, metric)["vs_baseline"]
            assert delta["ci"][0] <= delta["value"] <= delta["ci"][1]
    assert set(done.results["front"]) == {"toy/toy_fp32", "toy/first", "toy/second"}


def test_a_named_config_brings_its_runtime_baseline(
    qx: Callable[..., Any], toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fp32 config of the same runtime takes part unasked, is said to, and shares every wave."""
    monkeypatch.setattr(import_module("qx.runner.timing"), "_room", lambda part, reporter: 1)
    plugins = [
        toy.config("own_fp32"),
        toy.config("own_int8", record='runtime_baseline="own_fp32"'),
        toy.config("other"),
        toy.config("lonely", record='runtime_baseline="nowhere"'),
    ]
    chosen = [word for name in ("own_int8", "other", "lonely") for word in ("-c", name)]
    done = qx(
        *("run", *toy.arguments(*plugins), *chosen, "-m", "latency"),
        *("--batch-size", 1, "--quick", "--budget", 0.01, "--out", "out"),
    )
    assert done.code == 0, done.err
    assert "own_fp32 takes part, as the runtime baseline of own_int8\n" in done.err
    assert list(done.results["configs"]) == ["toy_fp32", "own_fp32", "own_int8", "other", "lonely"]
    recording = Recording.read(done.folder / done.results["run"]["samples"])
    waves = {
        name: set(np.unique(recording.series[f"toy/{name}"]["latency", 1].wave))
        for name in ("own_fp32", "own_int8")
    }
    assert waves["own_fp32"] == waves["own_int8"] != set(range(done.results["run"]["measuring"]["waves"]))
    compared = {one["against"]: one for one in done.measurement("own_int8", "latency")["comparisons"]}
    assert compared["toy/own_fp32"]["kind"] == "speedup"
    assert compared["toy/own_fp32"]["ci"] is not None
    assert "not in this run" in done.table.replace("\N{NO-BREAK SPACE}", " ")


def test_a_runtime_baseline_brings_nothing_else(qx: Callable[..., Any], toy: Any) -> None:
    """Without names every config takes part anyway, and nobody is told so."""
    plugins = [toy.config("own_fp32"), toy.config("own_int8", record='runtime_baseline="own_fp32"')]
    done = qx("run", *toy.arguments(*plugins), "-m", "accuracy", "--out", "out")
    assert done.code == 0, done.err
    assert "takes part" not in done.err
    assert list(done.results["configs"]) == ["toy_fp32", "own_fp32", "own_int8"]


def test_launches_keep_to_the_cpus_that_are_named(
    qx: Callable[..., Any], toy: Any, write_plugin: Callable[[str, str], str]
) -> None:
    """``--cpus`` holds every launch, and more threads than CPUs are told with what they do to the figures."""
    one = str(cpu_numbers()[-1]) if cpu_numbers() else "0"
    where = write_plugin("where", WHERE)
    done = qx(
        *("run", *toy.arguments(where), "-m", "where", "-m", "latency", "--batch-size", 1, "--quick"),
        *("--budget", 0.01, "--cpus", one, "--threads", 3, "--out", "out"),
    )
    assert done.code == 0, done.err
    assert {one["value"] for one in done.measurements("toy_fp32", "where")} == {float(one)}
    assert "--threads 3 on 1 CPUs: threads wait for each other, so latencies are longer" in done.err
    about = done.results["run"]["measuring"]
    assert (about["cpus"], about["held_to"]) == ([int(one)], 0)


def test_there_are_six_waves_however_soon_precision_is_reached(qx: Callable[..., Any], toy: Any) -> None:
    """Fewer would give intervals that claim too much; and it is said what ended them, and what was held."""
    done = qx("run", *toy.arguments(), "-m", "latency", "--precision", 9, "--batch-size", 1, "--out", "out")
    assert done.code == 0, done.err
    about = done.results["run"]["measuring"]
    assert (about["waves"], about["ended_by"]) == (6, "precision")
    assert about["rounds"] == {"latency": {"1": 40}}
    assert about["held_to"] == (1 if len(cpu_numbers()) > 1 else 0)
    assert [len(cpus) for cpus in about["held"]] == [about["held_to"]] * 6
    assert about["garbage_collection"] == "off once warm"
