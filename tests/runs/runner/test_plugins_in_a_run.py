"""What other people's plugins can do in a run: add columns, rows and wrappers with short files."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

from qx import Metric
from qx.contract.figures import Figure, Point
from qx.processes.answers import PlainSamples
from qx.results.recording import Recording
from qx.runner.evaluation import sample_failure

#: Metrics of the phases that no built-in one has, each as short as its author would write it.
SHARE_OF_ZEROS = """
    from qx import Metric, Samples, hookimpl

    @hookimpl
    def describe():
        return Metric(
            name="share_of_zeros", summary="Weights that are zero.", unit="fraction", better="higher",
            samples="exact", compare="difference", phase="artifact", pick="the emptiest weights",
        )

    @hookimpl
    def measure(data):
        import numpy
        with numpy.load(data.folder / data.files[0]) as arrays:
            zeros = (arrays["weight"] == 0).mean()
        return Samples(zeros, details={"share": zeros, "shape": numpy.array([3, 4]), "none": float("nan")})
"""
SAME_ANSWER = """
    from qx import Metric, hookimpl

    @hookimpl
    def describe():
        return Metric(
            name="same_answer", summary="Answers as the baseline's.", unit="fraction", better="higher",
            samples="per_item", compare="difference", phase="derived",
        )

    @hookimpl
    def measure(data):
        ours, theirs = data.outputs["output"], data.baseline_outputs["output"]
        return (ours.argmax(axis=1) == theirs.argmax(axis=1)).astype(float)
"""
ITEMS_A_MILLISECOND = """
    import numpy
    from qx import Figure, Metric, hookimpl

    @hookimpl
    def describe():
        return Metric(
            name="items_a_millisecond", summary="Items served.", unit="1/ms", better="higher",
            samples="exact", compare="ratio", phase="derived", per_point=True,
        )

    @hookimpl
    def measure(data):
        latency = Figure("latency", data.point)
        return data.point.batch_size / numpy.median(data.samples[latency])
"""
BUILD_SECONDS = """
    from qx import Metric, hookimpl

    @hookimpl
    def describe():
        return Metric(
            name="build_seconds", summary="Time of the hooks.", unit="s", better="lower",
            samples="exact", compare="ratio", phase="build",
        )

    @hookimpl
    def measure(data):
        return sum(step.seconds for step in data.steps if step.name not in ("import", "save"))
"""
CPU_TIME = """
    import time
    from qx import Metric, hookimpl

    @hookimpl
    def describe():
        return Metric(
            name="cpu_time", summary="CPU time of an item.", unit="ms", better="lower",
            samples="per_round", compare="ratio", phase="block", per_point=True, batch_sizes=[3, 5],
        )

    @hookimpl
    def measure(subject, data):
        before = time.process_time_ns()
        for _ in range(data.calls):
            subject.call(data.native)
        return (time.process_time_ns() - before) / 1e6 / data.calls / data.point.batch_size
"""
WORST_KIND = """
    from qx import Metric, hookimpl

    @hookimpl
    def describe():
        return Metric(
            name="worst_kind", summary="Accuracy of the worst kind.", unit="fraction", better="higher",
            samples="per_set", compare="difference", phase="predictions",
        )

    @hookimpl
    def statistic(outputs, targets, indices):
        labels = targets["labels"]
        right = outputs["output"][indices].argmax(axis=1) == labels[indices]
        return min(right[labels[indices] == label].mean() for label in set(labels[indices]))
"""
NEW_ERRORS = """
    from qx import Metric, hookimpl

    @hookimpl
    def describe():
        return Metric(
            name="new_errors", summary="Wrong where the baseline is right.", unit="fraction", better="lower",
            samples="per_set", compare="difference", phase="derived",
        )

    @hookimpl
    def statistic(outputs, targets, indices, baseline):
        labels = targets["labels"][indices]
        scores = (outputs["output"], baseline["output"])
        ours, theirs = (values[indices].argmax(axis=1) == labels for values in scores)
        return (theirs & ~ours).sum() / max(1, theirs.sum())
"""
NOT_HERE = """
    from qx import Metric, hookimpl

    @hookimpl
    def describe():
        return Metric(
            name="not_here_{phase}", summary="Not applicable.", unit="things", better="higher",
            samples="{samples}", compare="ratio", phase="{phase}", axis=True, pick="nothing",
        )

    @hookimpl
    def measure():
        return None
"""
KILOBYTES = """
    from qx import Figure, Metric, hookimpl

    @hookimpl
    def describe():
        return Metric(
            name="kilobytes", summary="Size of the files.", unit="kB", better="lower",
            samples="exact", compare="ratio", phase="derived",
        )

    @hookimpl
    def measure(data):
        return data.samples[Figure("file_size")][0] / 1000
"""
WRAPPER = """
    import os
    from qx import hookimpl

    def note(hook):
        with open({log!r}, "a") as file:
            file.write(f"{{hook}} {{os.getpid()}}\\n")

    @hookimpl(wrapper=True)
    def convert():
        note("convert")
        return (yield)

    @hookimpl(wrapper=True)
    def load():
        note("load")
        return (yield)

    @hookimpl(wrapper=True)
    def measure():
        note("measure")
        return (yield)
"""
PHASES = {"artifact": "exact", "fresh": "per_launch", "block": "per_block", "derived": "exact"}


@pytest.fixture(scope="session")
def toys(
    qx: Callable[..., Any],
    toy: Any,
    write_plugin: Callable[[str, str], str],
    loaded_modules: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:
    """A run of the toy with plugins of all kinds that are not qx's own."""
    home = tmp_path_factory.mktemp("toys")
    rounded = toy.config("rounded", first="model.weight.data = (model.weight * 1.26).round(decimals=1)")
    plugins = [
        rounded,
        loaded_modules,
        write_plugin("share_of_zeros", SHARE_OF_ZEROS),
        write_plugin("same_answer", SAME_ANSWER),
        write_plugin("items_a_millisecond", ITEMS_A_MILLISECOND),
        write_plugin("cpu_time", CPU_TIME),
        write_plugin("build_seconds", BUILD_SECONDS),
        write_plugin("worst_kind", WORST_KIND),
        write_plugin("new_errors", NEW_ERRORS),
        write_plugin("kilobytes", KILOBYTES),
        *(
            write_plugin(f"not_here_{phase}", NOT_HERE.format(phase=phase, samples=samples))
            for phase, samples in PHASES.items()
        ),
        write_plugin("wrapper", WRAPPER.format(log=str(home / "wrapped"))),
    ]
    return qx(
        *("run", *toy.arguments(*plugins), "--out", home / "out"),
        *("--quick", "--budget", 0.01, "--batch-size", 3, "--batch-size", 1, "--seed", 7),
        cwd=home,
    )


SHORT = [SHARE_OF_ZEROS, SAME_ANSWER, ITEMS_A_MILLISECOND, CPU_TIME, BUILD_SECONDS, WORST_KIND, NEW_ERRORS]


@pytest.mark.parametrize("source", SHORT)
def test_a_metric_in_a_short_file_becomes_a_column(toys: Any, source: str) -> None:
    """A metric of at most 30 lines, given with ``-p``, has values, deltas and a column as built-in ones."""
    assert len(dedent(source).strip().splitlines()) <= 30
    name = source.partition('name="')[2].partition('"')[0]
    assert toys.code == 0, (toys.err, toys.results["run"]["failures"])
    for config in ("toy_fp32", "rounded"):
        for measurement in toys.measurements(config, name):
            assert measurement["outcome"] == "ok"
            assert measurement["value"] is not None
            assert measurement["vs_baseline"]["value"] is not None
            assert measurement["samples_ref"]
    assert name in toys.table
    assert name in toys.out


def test_a_statistic_of_the_whole_set_is_resampled_where_it_is_evaluated(toys: Any) -> None:
    """A statistic has an interval in every cell, one for its difference, and details of its resampling."""
    for metric in ("worst_kind", "new_errors"):
        measurement = toys.measurement("rounded", metric)
        assert measurement["ci"][0] <= measurement["value"] <= measurement["ci"][1]
        assert measurement["vs_baseline"]["ci"][0] < measurement["vs_baseline"]["ci"][1]
        assert measurement["details"]["resampled"] == {
            "heavy_tail": 0.0,
            "items": 36,
            "groups": 36,
            "draws": 512,
            "step": measurement["details"]["resampled"]["step"],
        }
        assert measurement["details"]["resampled"]["step"] > 0
    assert toys.measurement("toy_fp32", "new_errors")["value"] == 0.0


def test_what_is_derived_is_exact_only_where_its_sources_are(toys: Any) -> None:
    """A value derived from latencies has no interval, and one derived from the files alone is exact."""
    for measurement in toys.measurements("rounded", "items_a_millisecond"):
        assert (measurement["ci"], measurement["vs_baseline"]["ci"], measurement["vs_baseline"]["clear"]) == (
            None,
            None,
            None,
        )
        assert "derived from samples" in measurement["without_interval"]
    measurement = toys.measurement("rounded", "kilobytes")
    assert measurement["ci"] == [measurement["value"]] * 2
    assert measurement["without_interval"] is None


def test_throughput_is_compared_as_latency_is(toys: Any) -> None:
    """The ratio of throughputs is the speedup of the same calls."""
    comparisons = {
        (metric, measurement["point"]["batch_size"]): measurement["vs_baseline"]
        for metric in ("latency", "throughput")
        for measurement in toys.measurements("rounded", metric)
    }
    for size in (1, 3):
        speedup, ratio = comparisons["latency", size], comparisons["throughput", size]
        assert ratio["value"] == pytest.approx(speedup["value"], rel=1e-9)
        assert ratio["ci"] == pytest.approx(speedup["ci"], rel=1e-9)


def test_nothing_is_derived_from_what_failed(
    qx: Callable[..., Any], toy: Any, write_plugin: Callable[[str, str], str]
) -> None:
    """Nothing is derived from the samples that a metric left before it failed."""
    failing = write_plugin(
        "tired",
        """
        from qx import Metric, hookimpl

        @hookimpl
        def describe():
            return Metric(
                name="tired", summary="Fails in the end.", unit="ms", better="lower", samples="per_block",
                compare="speedup", phase="block",
            )

        @hookimpl
        def measure(data):
            with open(__file__ + ".count", "a+") as file:
                file.write("x")
                if file.tell() > 20:
                    raise ValueError("tired")
            return [1.0, 2.0]
        """,
    )
    derived = write_plugin(
        "from_tired",
        """
        from qx import Figure, Metric, Samples, hookimpl

        @hookimpl
        def describe():
            return Metric(
                name="from_tired", summary="Twice as tired.", unit="ms", better="lower", samples="per_launch",
                compare="ratio", phase="derived",
            )

        @hookimpl
        def measure(data):
            tired = Figure("tired")
            if tired not in data.samples:
                return None
            return Samples(2 * data.samples[tired], waves=data.waves[tired])
        """,
    )
    done = qx(
        *("run", *toy.arguments(failing, derived), "-m", "tired", "-m", "from_tired"),
        *("--quick", "--budget", 0.01, "--batch-size", 1, "--out", "out"),
    )
    assert done.measurement("toy_fp32", "tired")["outcome"] == "failed"
    assert done.measurement("toy_fp32", "from_tired")["outcome"] == "unsupported"
    recording = Recording.read(done.folder / done.results["run"]["samples"])
    assert recording.get("toy/toy_fp32", Figure("tired")) is not None


def test_derived_calls_need_their_rounds() -> None:
    """A derived metric of calls that lacks their rounds fails with a cause that says what to do."""
    calls = Metric(
        name="calls", summary="Calls.", unit="ms", better="lower",
        samples="per_block", compare="speedup", phase="derived",
    )  # fmt: skip
    complete = {"values": [1.0, 2.0], "waves": [0, 0], "rounds": [0, 1]}
    assert sample_failure(calls, PlainSamples(**complete), items=9) is None
    for key in ("waves", "rounds"):
        incomplete = {name: values for name, values in complete.items() if name != key}
        for samples in (incomplete, {**complete, key: [0, -1]}):
            failure = sample_failure(calls, PlainSamples(**samples), items=9)
            assert failure is not None
            assert "`data.waves` and `data.rounds`" in failure.cause


def test_a_config_in_a_file_becomes_a_row(toys: Any) -> None:
    """A config given with ``-p`` is built, measured and compared as the built-in ones are."""
    assert toys.results["configs"]["rounded"]["outcome"] == "ok"
    assert "rounded" in toys.table
    assert "rounded" in toys.out
    assert toys.cell("rounded")["artifact"] == toys.measurement("rounded", "file_size")["details"]["files"]
    assert "toy/rounded" in toys.results["front"]


def test_each_phase_gets_what_the_contract_says(toys: Any) -> None:
    """Metrics of artifacts get the files, derived ones the samples of the cell and of the baseline."""
    assert toys.measurement("toy_fp32", "share_of_zeros")["value"] == 0.75
    assert toys.measurement("toy_fp32", "same_answer")["value"] == 1.0
    assert toys.measurement("rounded", "same_answer")["n"] == 36
    for served, latency in zip(
        toys.measurements("rounded", "items_a_millisecond"),
        toys.measurements("rounded", "latency"),
        strict=True,
    ):
        assert served["point"] == latency["point"]
        with np.load(toys.folder / toys.results["run"]["samples"]) as arrays:
            median = np.median(arrays[latency["samples_ref"].partition("#")[2]])
        assert served["value"] == pytest.approx(served["point"]["batch_size"] / median)


def test_latency_is_measured_for_each_batch_size(toys: Any) -> None:
    """Each batch size has a measurement, in the order asked for, and the first one is on the front."""
    assert toys.results["run"]["points"] == [{"batch_size": 3}, {"batch_size": 1}]
    for config in ("toy_fp32", "rounded"):
        sizes = [measurement["point"]["batch_size"] for measurement in toys.measurements(config, "latency")]
        assert sizes == [3, 1]
    (axis,) = (axis for axis in toys.results["axes"] if axis["metric"] == "latency")
    assert axis["point"]["batch_size"] == 3


@pytest.mark.parametrize("phase", PHASES)
def test_a_metric_that_does_not_apply_is_no_failure(toys: Any, phase: str) -> None:
    """A metric that returns None does not apply: it has no value, no failure, and no axis of the front."""
    assert toys.code == 0
    for config in ("toy_fp32", "rounded"):
        measurement = toys.measurement(config, f"not_here_{phase}")
        assert (measurement["value"], measurement["outcome"], measurement["cause"]) == (
            None,
            "unsupported",
            "not applicable here",
        )
        assert toys.cell(config)["outcome"] == "ok"
    assert any(entry["on_front"] for entry in toys.results["front"].values())
    assert f"not_here_{phase}" not in {axis["metric"] for axis in toys.results["axes"]}


def test_details_may_be_of_numpy(toys: Any) -> None:
    """NumPy numbers and arrays in a metric's details are plain ones in the results."""
    details = toys.measurement("toy_fp32", "share_of_zeros")["details"]
    assert details == {"share": 0.75, "shape": [3, 4], "none": None}


def test_a_launch_without_torch_never_imports_it(toys: Any) -> None:
    """A launch whose loader does not need torch imports neither that nor what comes with it."""
    for config in ("toy_fp32", "rounded"):
        details = toys.measurement(config, "loaded_modules")["details"]
        assert "numpy" in details["packages"]
        assert not set(details["packages"]) & {"torch", "torchvision", "sklearn", "PIL", "scipy"}
        assert details["threads"] == "1"
        # MiB for Python, NumPy and the launch itself.
        assert toys.measurement(config, "rss")["value"] < 60


def test_a_wrapper_is_called_around_the_hooks_of_others(toys: Any) -> None:
    """A plugin that only wraps, given with ``-p``, wraps hooks in builds, launches and evaluations."""
    lines = (toys.folder.parent / "wrapped").read_text().splitlines()
    calls = [line.split() for line in lines]
    launches = sum(cell["launches"] for cell in toys.results["cells"].values())
    by_hook = {
        hook: {pid for called, pid in calls if called == hook} for hook in ("convert", "load", "measure")
    }
    assert len(by_hook["convert"]) == 2
    # Artifacts are loaded in every launch, and in the evaluation of both configs.
    assert len(by_hook["load"]) == launches + 2
    assert by_hook["load"] <= by_hook["measure"]
    assert str(os.getpid()) not in {pid for _, pid in calls}


def test_memory_and_start_up_are_marked_stage_by_stage(toys: Any) -> None:
    """The details of ``rss`` have every stage of a launch in order, and its value is the highest of them."""
    rss = toys.measurement("toy_fp32", "rss")
    stages = rss["details"]["stages"]
    assert list(stages)[:4] == ["spawn", "imports", "load", "first_answer"]
    assert "served batches of 3" in stages
    for mark in stages.values():
        parts = [mark[name] for name in ("private", "shared")]
        assert None in parts or sum(parts) == pytest.approx(mark["rss"], abs=3)
    seconds = [mark["seconds"] for mark in stages.values()]
    assert seconds == sorted(seconds)
    assert rss["details"]["peak"] >= max(mark["rss"] for mark in stages.values())


def test_a_metric_may_give_a_value_for_a_block(toys: Any) -> None:
    """Of ``per_round`` there is one sample for each block, at each batch size, of the control as well."""
    recording = Recording.read(next(toys.folder.glob("samples-*.npz")))
    for batch_size in (1, 3, 5):
        figure = Figure("cpu_time", Point(batch_size))
        for cell in ("toy/toy_fp32", "toy/rounded", "toy/control"):
            series = recording.series[cell][figure]
            places = list(zip(series.wave.tolist(), series.round.tolist(), strict=True))
            assert len(places) == len(set(places)) >= 3 * 5
            assert (series.values > 0).all()
    (measured,) = [
        entry for entry in toys.measurements("rounded", "cpu_time") if entry["point"] == {"batch_size": 3}
    ]
    assert measured["details"]["blocks"] == len(
        recording.series["toy/rounded"][Figure("cpu_time", Point(3))].values
    )
    assert measured["n"] == 3
    assert measured["ci"] is not None


@pytest.mark.parametrize(
    ("samples", "count", "is_right"),
    [("per_round", 1, True), ("per_round", 3, False), ("per_block", 3, True)],
)
def test_a_value_for_a_block_is_one(samples: Any, count: int, is_right: bool) -> None:
    """More values than one for a block are refused, with the number that is expected."""
    record = Metric(
        name="joules", summary="S", unit="mJ", better="lower", samples=samples, compare="ratio", phase="block"
    )
    failure = sample_failure(record, PlainSamples(values=[1.0] * count), items=1)
    assert (failure is None) == is_right
    assert failure is None or "'per_round', so 1 value is expected, and it gave 3" in failure.cause


def test_a_metric_may_ask_for_batch_sizes(toys: Any) -> None:
    """It is measured at those of the run and at its own, once each, and no other metric is."""
    points: dict[str, set[int]] = {}
    for entry in toys.measurements("rounded"):
        if entry["point"] is not None:
            points.setdefault(entry["metric"], set()).add(entry["point"]["batch_size"])
    assert points.pop("cpu_time") == {1, 3, 5}
    assert "latency" in points and set(map(tuple, points.values())) == {(1, 3)}
    assert toys.results["run"]["points"] == [{"batch_size": 3}, {"batch_size": 1}]
    assert toys.results["metrics"]["cpu_time"]["batch_sizes"] == [3, 5]
    assert "batch 5" in toys.table
    rounds = toys.results["run"]["measuring"]["rounds"]
    assert set(rounds["cpu_time"]) == {"1", "3", "5"} and set(rounds["latency"]) == {"1", "3"}


@pytest.mark.parametrize(
    ("sizes", "fields", "message"),
    [
        ([0], {}, "whole numbers from 1 to 65,536, not 0"),
        ([True], {}, "not True"),
        (["8"], {}, "not '8'"),
        ([100_000], {}, "not 100000"),
        ([8, 8], {}, "has a number twice: 8, 8"),
        ([8], {"per_point": False}, "phase 'block' with per_point=True"),
        ([8], {"phase": "derived"}, "phase 'block' with per_point=True"),
    ],
)
def test_batch_sizes_that_cannot_be_measured_are_refused(
    sizes: Any, fields: dict[str, Any], message: str
) -> None:
    """A record says in one line which batch sizes a metric may ask for."""
    usual: dict[str, Any] = {"phase": "block", "per_point": True, "compare": "ratio", "samples": "per_block"}
    with pytest.raises(ValueError, match=re.escape(message)):
        Metric(name="m", summary="S", unit="ms", better="lower", batch_sizes=sizes, **(usual | fields))


def test_a_metric_of_the_build_has_a_value_and_no_verdict(toys: Any) -> None:
    """Of one build there is a value and a ratio, without an interval, and the reason why."""
    for name in ("build_seconds", "build_memory"):
        measured = toys.measurement("rounded", name)
        assert measured["outcome"] == "ok" and measured["value"] > 0
        assert (measured["ci"], measured["vs_baseline"]["ci"], measured["vs_baseline"]["clear"]) == (
            None, None, None,
        )  # fmt: skip
        assert measured["without_interval"] == "one build does not say how much builds differ"
    memory = toys.measurement("rounded", "build_memory")
    assert memory["details"]["stages"]["convert"] <= memory["value"]
    assert memory["unit"] == "MiB" and 50 < memory["value"] < 20_000
