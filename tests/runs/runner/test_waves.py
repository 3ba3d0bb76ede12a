"""Waves: launches that die are tried again, cells that keep dying are dropped, groups are joined."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest

from qx.contract.figures import Figure, Point
from qx.environment import cpu_numbers
from qx.results.recording import Recording

#: A metric that kills each launch of one config.
REAPER = """
    import os
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
            os.kill(os.getpid(), 9)
        return [1.0]
"""
#: A metric that fails in one config, and leaves its launch so that it cannot warm up.
BRUISER = """
    import gc
    from qx import Metric, hookimpl

    @hookimpl
    def describe():
        return Metric(
            name="bruiser", summary="Harms.", unit="things", better="neither",
            samples="per_launch", compare="difference", phase="fresh",
        )

    @hookimpl
    def measure(subject):
        if subject.config == "bruised":
            gc.collect = None
            raise ValueError("harmed")
        return 1.0
"""
#: A loader like the toy's that kills ``times`` of its processes, in ``load`` or in a call of three items, but
#: not the first one, which evaluates.
MORTAL_LOADER = """
    import os, pathlib
    from qx import Loader, hookimpl

    FOLDER = pathlib.Path({folder!r})

    @hookimpl
    def describe():
        return Loader(name="{config}_loader", summary="Dies.", imports=["numpy"])

    @hookimpl
    def load(artifact):
        import numpy
        with numpy.load(artifact.folder / artifact.files[0]) as arrays:
            subject = Subject(arrays["weight"], arrays["bias"])
        (FOLDER / str(os.getpid())).touch()
        if {in_load}:
            perish()
        return subject

    def perish():
        if 1 < len(list(FOLDER.iterdir())) <= 1 + {times}:
            os.kill(os.getpid(), 11)

    class Subject:
        config = "{config}"

        def __init__(self, weight, bias):
            self.weight, self.bias = weight, bias

        def prepare(self, arrays):
            return arrays["point"]

        def call(self, native):
            if len(native) == 3:
                perish()
            return native @ self.weight.T + self.bias

        def outputs(self, native):
            return {{"output": native}}
"""


#: A metric whose value is the only CPU that its launch may run on, or minus one.
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
    """A run in which launches die: while they load, while they warm up, in every wave, and of metrics."""
    home = tmp_path_factory.mktemp("deaths")

    def reaper(config: str, phase: str, samples: str) -> str:
        return write_plugin(f"reaper_{config}", REAPER.format(config=config, phase=phase, samples=samples))

    def mortal(config: str, in_load: bool, times: int) -> list[str]:
        (home / config).mkdir()
        arguments = {"config": config, "in_load": in_load, "times": times, "folder": str(home / config)}
        loader = write_plugin(f"{config}_loader", MORTAL_LOADER.format(**arguments))
        return [toy.config(config, loader=f"{config}_loader"), loader]

    plugins = [
        *mortal("late", in_load=True, times=2),
        # The second process is a fresh launch, which is not called with three items.
        *mortal("shy", in_load=False, times=2),
        *mortal("mortal", in_load=False, times=1000),
        *(toy.config(name) for name in ("frail", "stillborn", "bruised")),
        write_plugin("bruiser", BRUISER),
        reaper("frail", "block", "per_block"),
        reaper("stillborn", "fresh", "per_launch"),
        # This one is measured first, and kills no launch.
        write_plugin("pulse", REAPER.format(config="pulse", phase="fresh", samples="per_launch")),
    ]
    with pytest.MonkeyPatch.context() as patch:
        # All cells are in one group, however little memory there is.
        patch.setattr(import_module("qx.runner.measure.timing"), "_room", lambda *_: 9)
        # Processes that others lose for lack of memory do not count as deaths here.
        patch.setattr(import_module("qx.processes.workers"), "_out_of_memory_kills", lambda: 0)
        return qx(
            *("run", *toy.arguments(*plugins), "-m", "latency", "-m", "accuracy", "-m", "reaper_pulse"),
            *("-m", "reaper_frail", "-m", "reaper_stillborn", "-m", "bruiser"),
            *("--quick", "--budget", 0.01, "--batch-size", 1, "--batch-size", 3, "--out", "out"),
            cwd=home,
        )


def deaths_of(run: Any, config: str) -> list[dict[str, Any]]:
    return [death for death in run.results["run"]["measuring"]["deaths"] if death["cell"] == f"toy/{config}"]


def waves_of(run: Any, config: str, figure: Figure) -> list[int]:
    """Return the wave of each sample of a metric in a config."""
    recording = Recording.read(run.folder / run.results["run"]["samples"])
    waves: list[int] = recording.series[f"toy/{config}"][figure].wave.tolist()
    return waves


@pytest.mark.parametrize(
    ("config", "stages", "signal"),
    [
        ("late", ["load"] * 2, "SIGSEGV"),
        ("shy", ["warm"], "SIGSEGV"),
        ("frail", ["measure reaper_frail"], "SIGKILL"),
        ("stillborn", ["measure reaper_stillborn"], "SIGKILL"),
    ],
)
def test_a_launch_that_dies_is_counted_and_tried_again(
    deaths: Any, config: str, stages: list[str], signal: str
) -> None:
    """Each death is recorded with wave, stage and cause, and the cell has figures from the other waves."""
    recorded = deaths_of(deaths, config)
    assert [death["stage"] for death in recorded] == stages
    assert {death["wave"] for death in recorded} == {0}
    assert {death["outcome"] for death in recorded} == {"crashed"}
    assert all(signal in death["cause"] for death in recorded)
    assert deaths.cell(config)["outcome"] == "ok"
    for measurement in deaths.measurements(config, "latency"):
        assert measurement["outcome"] == "ok"
        assert measurement["vs_baseline"]["ci"] is not None


@pytest.mark.parametrize(("config", "deaths_at_start"), [("late", 2), ("stillborn", 1)])
def test_a_launch_that_dies_at_its_start_is_replaced_in_its_wave(
    deaths: Any, config: str, deaths_at_start: int
) -> None:
    """A launch that dies before it was timed is started again at once, so that its cell misses no wave."""
    waves = deaths.results["run"]["measuring"]["waves"]
    # One launch of each wave for memory and start-up, and one whose calls are timed.
    assert deaths.cell(config)["launches"] == 2 * waves + deaths_at_start
    assert set(waves_of(deaths, config, Figure("latency", Point(1)))) == set(range(waves))
    # No value of the launch that died is kept, so each wave has one.
    assert waves_of(deaths, config, Figure("reaper_pulse")) == list(range(waves))


@pytest.mark.parametrize("config", ["shy", "frail"])
def test_a_wave_in_which_a_launch_died_is_no_wave_of_its_cell(deaths: Any, config: str) -> None:
    """No sample of such a wave is used for the cell, not even one from before the death."""
    waves = deaths.results["run"]["measuring"]["waves"]
    assert deaths.cell(config)["launches"] == 2 * waves
    for figure in (Figure("latency", Point(1)), Figure("latency", Point(3)), Figure("reaper_pulse")):
        assert set(waves_of(deaths, config, figure)) == set(range(1, waves))
        assert set(waves_of(deaths, "toy_fp32", figure)) == set(range(waves))


@pytest.mark.parametrize(("config", "outcome"), [("frail", "crashed"), ("stillborn", "crashed")])
def test_a_metric_that_kills_launches_costs_itself(deaths: Any, config: str, outcome: str) -> None:
    """A metric that kills launches of a cell is not measured there again, and has values in the others."""
    measurement = deaths.measurement(config, f"reaper_{config}")
    assert (measurement["outcome"], measurement["value"]) == (outcome, None)
    assert "killed by SIGKILL" in measurement["cause"]
    assert deaths.measurement("toy_fp32", f"reaper_{config}")["value"] == 1.0


def test_what_a_metric_does_to_a_fresh_launch_harms_no_timing(deaths: Any) -> None:
    """The metric has failed, and its launch was damaged: calls are timed in another one."""
    assert deaths_of(deaths, "bruised") == []
    assert deaths.measurement("bruised", "bruiser")["cause"] == "ValueError: harmed"
    assert set(waves_of(deaths, "bruised", Figure("latency", Point(1)))) == {0, 1, 2}


def test_a_launch_that_a_metric_has_left_damaged_is_not_held_against_its_cell(
    qx: Callable[..., Any], toy: Any, write_plugin: Callable[[str, str], str]
) -> None:
    """Where one launch does both, its death after the metric has failed costs the wave, not the row."""
    plugins = (toy.config("bruised"), write_plugin("bruiser", BRUISER))
    # Launches with several threads are not forked.
    done = qx(
        *("run", *toy.arguments(*plugins), "-m", "latency", "-m", "bruiser", "--threads", 2),
        *("--quick", "--budget", 0.01, "--batch-size", 1, "--out", "out"),
    )
    (death,) = deaths_of(done, "bruised")
    assert (death["wave"], death["stage"], death["outcome"]) == (0, "warm", "failed")
    assert done.cell("bruised")["outcome"] == "ok"
    assert done.measurement("bruised", "bruiser")["cause"] == "ValueError: harmed"
    assert {measurement["outcome"] for measurement in done.measurements("bruised", "latency")} == {"ok"}
    assert set(waves_of(done, "bruised", Figure("latency", Point(1)))) == {1, 2}
    assert done.results["run"]["measuring"]["forked"] == []


def test_a_cell_that_keeps_dying_is_dropped(deaths: Any) -> None:
    """After three deaths a cell has failed and its row says why, and the others are measured to the end."""
    assert deaths.code == 1, deaths.err
    assert [death["wave"] for death in deaths_of(deaths, "mortal")] == [0, 1, 2]
    cell = deaths.cell("mortal")
    assert (cell["outcome"], cell["stage"], cell["launches"]) == ("crashed", "warm", 6)
    assert {measurement["value"] for measurement in deaths.measurements("mortal")} == {None}
    assert "toy/mortal" not in deaths.results["front"]
    assert deaths.cell("toy_fp32")["launches"] == 2 * deaths.results["run"]["measuring"]["waves"]
    assert "toy/toy_fp32" in deaths.results["front"]


def test_when_the_baseline_keeps_dying_the_waves_end(
    qx: Callable[..., Any], toy: Any, write_plugin: Callable[[str, str], str], tmp_path: Any
) -> None:
    """Without the baseline nothing can be compared, so the waves end, and the others keep their values."""
    (tmp_path / "mortal").mkdir()
    arguments = {"config": "mortal", "in_load": False, "times": 1000, "folder": str(tmp_path / "mortal")}
    plugins = [
        write_plugin("mortal_loader", MORTAL_LOADER.format(**arguments)),
        toy.config("mortal", loader="mortal_loader", record="reference=True"),
        *(toy.config(name) for name in ("other", "third")),
        "no:toy_fp32",
    ]
    done = qx(
        *("run", *toy.arguments(*plugins), "-m", "latency", "-m", "accuracy"),
        *("--batch-size", 3, "--quick", "--budget", 0.01, "--out", "out"),
    )
    assert done.code == 1, done.err
    assert done.results["run"]["measuring"]["ended_by"] == "the baseline failed"
    assert done.results["run"]["measuring"]["waves"] <= 3
    assert done.cell("mortal")["outcome"] == "crashed"
    assert done.cell("other")["outcome"] == "ok"
    assert done.measurement("other", "accuracy")["value"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["fresh", "block"])
def test_a_metric_that_kills_the_baseline_costs_itself(
    qx: Callable[..., Any], toy: Any, write_plugin: Callable[[str, str], str], phase: str
) -> None:
    """The baseline goes on without the metric, so all else is compared in as many waves as asked for."""
    samples = {"fresh": "per_launch", "block": "per_block"}[phase]
    reaper = write_plugin("reaper_toy_fp32", REAPER.format(config="toy_fp32", phase=phase, samples=samples))
    done = qx(
        *("run", *toy.arguments(toy.config("other"), reaper), "-m", "latency", "-m", "reaper_toy_fp32"),
        *("--batch-size", 1, "--quick", "--budget", 0.01, "--out", "out"),
    )
    assert done.code == 1, done.err
    failed = done.measurement("toy_fp32", "reaper_toy_fp32")
    assert (failed["outcome"], failed["value"]) == ("crashed", None)
    kept = done.measurement("other", "reaper_toy_fp32")
    assert (kept["outcome"], kept["value"], kept["vs_baseline"]) == ("ok", 1.0, None)
    assert done.measurement("other", "latency")["vs_baseline"]["ci"] is not None
    assert len(set(waves_of(done, "toy_fp32", Figure("latency", Point(1))))) == 3
    assert done.results["run"]["measuring"]["waves"] == {"fresh": 3, "block": 4}[phase]


#: A loader that only works in a process that is a program of its own, apart from the one that evaluates.
UNFORKABLE_LOADER = MORTAL_LOADER.replace(
    "if 1 < len(list(FOLDER.iterdir())) <= 1 + {times}:",
    'if "qx.worker.fork_server" in __import__("sys").modules and len(list(FOLDER.iterdir())) > 1:',
)


def test_a_runtime_that_cannot_be_forked_is_started_fresh(
    qx: Callable[..., Any], toy: Any, write_plugin: Callable[[str, str], str], tmp_path: Any
) -> None:
    """That is found out by the first launch that is forked, costs no wave and no row, and is said."""
    (tmp_path / "rigid").mkdir()
    arguments = {"config": "rigid", "in_load": True, "times": 0, "folder": str(tmp_path / "rigid")}
    loader = write_plugin("rigid_loader", UNFORKABLE_LOADER.format(**arguments))
    done = qx(
        *("run", *toy.arguments(toy.config("rigid", loader="rigid_loader"), loader)),
        *("-m", "latency", "-m", "rss", "--quick", "--budget", 0.01, "--batch-size", 1, "--out", "out"),
    )
    assert done.code == 0, done.err
    measuring = done.results["run"]["measuring"]
    assert measuring["deaths"] == []
    assert list(measuring["not_forked"]) == ["rigid_loader"]
    assert "SIGSEGV" in measuring["not_forked"]["rigid_loader"]
    assert measuring["forked"] == ["toy_numpy"]
    assert "Launches of `rigid_loader` could not be forked" in " ".join(done.table.split())
    for config in ("rigid", "toy_fp32"):
        for figure in (Figure("latency", Point(1)), Figure("rss")):
            assert set(waves_of(done, config, figure)) == {0, 1, 2}
    # After the first wave one launch of a wave does both.
    assert done.cell("rigid")["launches"] == 3 + 2
    assert done.cell("toy_fp32")["launches"] == 6


def test_memory_and_start_up_need_no_launch_in_every_wave(qx: Callable[..., Any], toy: Any) -> None:
    """As soon as their intervals are within the margins, waves only time calls."""
    done = qx(
        *("run", *toy.arguments(toy.config("other")), "-m", "latency", "-m", "rss"),
        *("--precision", 1e-9, "--budget", 12, "--batch-size", 1, "--out", "out"),
    )
    assert done.code == 0, done.err
    measuring = done.results["run"]["measuring"]
    assert measuring["waves"] >= 6
    assert 3 <= measuring["fresh_waves"] <= measuring["waves"]
    assert set(waves_of(done, "other", Figure("rss"))) == set(range(measuring["fresh_waves"]))
    assert set(waves_of(done, "other", Figure("latency", Point(1)))) == set(range(measuring["waves"]))
    assert done.measurement("other", "rss")["n"] == measuring["fresh_waves"]
    launches = measuring["waves"] + measuring["fresh_waves"]
    assert done.cell("other")["launches"] == launches


@pytest.fixture(scope="module")
def grouped(qx: Callable[..., Any], toy: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run of named configs, one with a runtime baseline, on a machine with memory for three launches."""
    plugins = [
        toy.config("own_fp32"),
        toy.config("own_int8", record='runtime_baseline="own_fp32"'),
        toy.config("other"),
        toy.config("lonely", record='runtime_baseline="nowhere"'),
    ]
    chosen = [word for name in ("own_int8", "other", "lonely") for word in ("-c", name)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(import_module("qx.runner.measure.timing"), "_room", lambda *_: 1)
        done = qx(
            *("run", *toy.arguments(*plugins), *chosen, "-m", "latency", "-m", "rss"),
            *("--batch-size", 1, "--quick", "--budget", 0.01, "--out", "out"),
            cwd=tmp_path_factory.mktemp("grouped"),
        )
    assert done.code == 0, done.err
    return done


def test_groups_are_compared_through_the_baseline(grouped: Any) -> None:
    """Cells that memory does not hold at once come in groups, each with the baseline and the control."""
    waves = grouped.results["run"]["measuring"]["waves"]
    assert waves == 9
    waves_by_config = {
        name: set(waves_of(grouped, name, Figure("latency", Point(1))))
        for name in ("toy_fp32", "control", "own_int8", "other", "lonely")
    }
    assert waves_by_config["toy_fp32"] == waves_by_config["control"] == set(range(waves))
    assert {frozenset(waves_by_config[name]) for name in ("own_int8", "other", "lonely")} == {
        frozenset(range(start, start + 3)) for start in (0, 3, 6)
    }
    for config in ("other", "lonely"):
        for metric in ("latency", "rss"):
            delta = grouped.measurement(config, metric)["vs_baseline"]
            assert delta["ci"][0] <= delta["value"] <= delta["ci"][1]
    assert set(grouped.results["front"]) == {
        f"toy/{name}" for name in ("toy_fp32", "own_fp32", "own_int8", "other", "lonely")
    }


def test_a_named_config_brings_its_runtime_baseline(grouped: Any) -> None:
    """The fp32 config of the same runtime takes part without being named, and shares every wave."""
    assert "own_fp32 is added, as the runtime baseline of own_int8\n" in grouped.err
    assert list(grouped.results["configs"]) == ["toy_fp32", "own_fp32", "own_int8", "other", "lonely"]
    waves = [set(waves_of(grouped, name, Figure("latency", Point(1)))) for name in ("own_fp32", "own_int8")]
    assert waves[0] == waves[1] != set(range(grouped.results["run"]["measuring"]["waves"]))
    compared = {
        comparison["against"]: comparison
        for comparison in grouped.measurement("own_int8", "latency")["comparisons"]
    }
    assert compared["toy/own_fp32"]["kind"] == "speedup"
    assert compared["toy/own_fp32"]["ci"] is not None
    assert "not in this run" in grouped.table.replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.slow
def test_a_runtime_baseline_brings_nothing_else(qx: Callable[..., Any], toy: Any) -> None:
    """Without names every config takes part anyway, and no line says so."""
    plugins = [toy.config("own_fp32"), toy.config("own_int8", record='runtime_baseline="own_fp32"')]
    done = qx("run", *toy.arguments(*plugins), "-m", "accuracy", "--out", "out")
    assert done.code == 0, done.err
    assert "is added" not in done.err
    assert list(done.results["configs"]) == ["toy_fp32", "own_fp32", "own_int8"]


def test_launches_keep_to_the_cpus_that_are_named(
    qx: Callable[..., Any], toy: Any, write_plugin: Callable[[str, str], str]
) -> None:
    """``--cpus`` binds every launch, and a line says how more threads than CPUs change the figures."""
    cpu = str(cpu_numbers()[-1]) if cpu_numbers() else "0"
    where = write_plugin("where", WHERE)
    done = qx(
        *("run", *toy.arguments(where), "-m", "where", "-m", "latency", "--batch-size", 1, "--quick"),
        *("--budget", 0.01, "--cpus", cpu, "--threads", 3, "--out", "out"),
    )
    assert done.code == 0, done.err
    assert {measurement["value"] for measurement in done.measurements("toy_fp32", "where")} == {float(cpu)}
    assert "--threads 3 on 1 CPUs: threads wait for each other, so latencies are longer" in done.err
    measuring = done.results["run"]["measuring"]
    assert (measuring["cpus"], measuring["pinned_to"]) == ([int(cpu)], 0)


def test_there_are_six_waves_however_soon_precision_is_reached(qx: Callable[..., Any], toy: Any) -> None:
    """There are at least six waves, and the results record what ended them and which CPUs were held."""
    done = qx("run", *toy.arguments(), "-m", "latency", "--precision", 9, "--batch-size", 1, "--out", "out")
    assert done.code == 0, done.err
    measuring = done.results["run"]["measuring"]
    assert (measuring["waves"], measuring["ended_by"]) == (6, "precision")
    assert measuring["rounds"] == {"latency": {"1": 40}}
    assert measuring["pinned_to"] == (1 if len(cpu_numbers()) > 1 else 0)
    assert [len(cpus) for cpus in measuring["pinned_cpus"]] == [measuring["pinned_to"]] * 6
    assert measuring["garbage_collection"] == "off once warm"
