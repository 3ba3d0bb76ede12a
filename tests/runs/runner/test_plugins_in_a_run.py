"""What plugins of others can do in a run: columns, rows and wrappers of the toy's, in short files."""

from __future__ import annotations

import os
from collections.abc import Callable
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

from qx import Metric
from qx.results.recording import Recording
from qx.runner.evaluation import sample_failure

#: A metric of each phase that the built-in ones leave open, each as short as its author would have it.
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
        ours, theirs = data.samples["outputs", None], data.baseline["outputs", None]
        return (ours.argmax(axis=1) == theirs.argmax(axis=1)).astype(float)
"""
ITEMS_A_MILLISECOND = """
    import numpy
    from qx import Metric, hookimpl

    @hookimpl
    def describe():
        return Metric(
            name="items_a_millisecond", summary="Items served.", unit="1/ms", better="higher",
            samples="exact", compare="ratio", phase="derived", per_batch_size=True,
        )

    @hookimpl
    def measure(data):
        return data.batch_size / numpy.median(data.samples["latency", data.batch_size])
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
    def statistic(outputs, labels, indices):
        right = outputs[indices].argmax(axis=1) == labels[indices]
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
    def statistic(outputs, labels, indices, baseline):
        ours, theirs = (one[indices].argmax(axis=1) == labels[indices] for one in (outputs, baseline))
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
    from qx import Metric, hookimpl

    @hookimpl
    def describe():
        return Metric(
            name="kilobytes", summary="Size of the files.", unit="kB", better="lower",
            samples="exact", compare="ratio", phase="derived",
        )

    @hookimpl
    def measure(data):
        return data.samples["file_size", None][0] / 1000
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
    """A run of the toy with plugins of all kinds that are not qx's own, and the folder where it ran."""
    home = tmp_path_factory.mktemp("toys")
    rounded = toy.config("rounded", first="model.weight.data = (model.weight * 1.26).round(decimals=1)")
    plugins = [
        rounded,
        loaded_modules,
        write_plugin("share_of_zeros", SHARE_OF_ZEROS),
        write_plugin("same_answer", SAME_ANSWER),
        write_plugin("items_a_millisecond", ITEMS_A_MILLISECOND),
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


@pytest.mark.parametrize("source", [SHARE_OF_ZEROS, SAME_ANSWER, ITEMS_A_MILLISECOND, WORST_KIND, NEW_ERRORS])
def test_a_metric_in_a_short_file_becomes_a_column(toys: Any, source: str) -> None:
    """A metric of at most 30 lines, given with ``-p``, has values, deltas and a column as built-in ones."""
    assert len(dedent(source).strip().splitlines()) <= 30
    name = source.partition('name="')[2].partition('"')[0]
    assert toys.code == 0, (toys.err, toys.results["run"]["due_failures"])
    for config in ("toy_fp32", "rounded"):
        for one in toys.measurements(config, name):
            assert one["outcome"] == "ok"
            assert one["value"] is not None
            assert one["vs_baseline"]["value"] is not None
            assert one["samples_ref"]
    assert name in toys.table
    assert name in toys.out


def test_a_statistic_of_the_whole_set_is_resampled_where_it_is_evaluated(toys: Any) -> None:
    """It has an interval in every cell, and one of its difference; details say how it was resampled."""
    for metric in ("worst_kind", "new_errors"):
        one = toys.measurement("rounded", metric)
        assert one["ci"][0] <= one["value"] <= one["ci"][1]
        assert one["vs_baseline"]["ci"][0] < one["vs_baseline"]["ci"][1]
        assert one["details"]["resampled"] == {
            "items": 36,
            "groups": 36,
            "draws": 512,
            "step": one["details"]["resampled"]["step"],
        }
        assert one["details"]["resampled"]["step"] > 0
    assert toys.measurement("toy_fp32", "new_errors")["value"] == 0.0


def test_what_is_derived_is_exact_only_where_its_sources_are(toys: Any) -> None:
    """One value that comes from latencies has no interval, one of the files alone is the whole truth."""
    for one in toys.measurements("rounded", "items_a_millisecond"):
        assert (one["ci"], one["vs_baseline"]["ci"], one["vs_baseline"]["clear"]) == (None, None, None)
        assert "derived from samples" in one["without_interval"]
    one = toys.measurement("rounded", "kilobytes")
    assert one["ci"] == [one["value"]] * 2
    assert one["without_interval"] is None


def test_throughput_is_compared_as_latency_is(toys: Any) -> None:
    """Of the same calls: the ratio of throughputs is the speedup, and not that of other calls."""
    of = {
        (metric, one["params"]["batch_size"]): one["vs_baseline"]
        for metric in ("latency", "throughput")
        for one in toys.measurements("rounded", metric)
    }
    for size in (1, 3):
        speedup, ratio = of["latency", size], of["throughput", size]
        assert ratio["value"] == pytest.approx(speedup["value"], rel=1e-9)
        assert ratio["ci"] == pytest.approx(speedup["ci"], rel=1e-9)


def test_nothing_is_derived_from_what_failed(
    qx: Callable[..., Any], toy: Any, write_plugin: Callable[[str, str], str]
) -> None:
    """Samples that a metric left before it failed are not those of a figure: none comes of them."""
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
        from qx import Metric, Samples, hookimpl

        @hookimpl
        def describe():
            return Metric(
                name="from_tired", summary="Twice as tired.", unit="ms", better="lower", samples="per_launch",
                compare="ratio", phase="derived",
            )

        @hookimpl
        def measure(data):
            key = ("tired", None)
            return Samples(2 * data.samples[key], waves=data.waves[key]) if key in data.samples else None
        """,
    )
    done = qx(
        *("run", *toy.arguments(failing, derived), "-m", "tired", "-m", "from_tired"),
        *("--quick", "--budget", 0.01, "--batch-size", 1, "--out", "out"),
    )
    assert done.measurement("toy_fp32", "tired")["outcome"] == "failed"
    assert done.measurement("toy_fp32", "from_tired")["outcome"] == "unsupported"
    recording = Recording.read(done.folder / done.results["run"]["samples"])
    assert recording.get("toy/toy_fp32", ("tired", None)) is not None


def test_derived_calls_need_their_rounds() -> None:
    """A derived metric of calls that does not tell their rounds is told what to do."""
    calls = Metric(
        name="calls", summary="Calls.", unit="ms", better="lower",
        samples="per_block", compare="speedup", phase="derived",
    )  # fmt: skip
    whole = {"values": [1.0, 2.0], "waves": [0, 0], "rounds": [0, 1]}
    assert sample_failure(calls, whole, items=9) is None
    for what in ("waves", "rounds"):
        without = {name: one for name, one in whole.items() if name != what}
        for given in (without, {**whole, what: [0, -1]}):
            failure = sample_failure(calls, given, items=9)
            assert failure is not None
            assert "`data.waves` and `data.rounds`" in failure.cause


def test_a_config_in_a_file_becomes_a_row(toys: Any) -> None:
    """A config given with ``-p`` is built, measured and compared as the built-in ones are."""
    assert toys.results["configs"]["rounded"]["outcome"] == "ok"
    assert "rounded" in toys.table
    assert "rounded" in toys.out
    assert toys.cell("rounded")["artifact"] == toys.measurement("rounded", "file_size")["details"]["files"]
    assert "toy/rounded" in toys.results["front"]


def test_each_phase_is_given_what_the_contract_says(toys: Any) -> None:
    """Metrics of artifacts see the files, derived ones the samples of the cell and of the baseline."""
    assert toys.measurement("toy_fp32", "share_of_zeros")["value"] == 0.75
    assert toys.measurement("toy_fp32", "same_answer")["value"] == 1.0
    assert toys.measurement("rounded", "same_answer")["n"] == 36
    for served, latency in zip(
        toys.measurements("rounded", "items_a_millisecond"),
        toys.measurements("rounded", "latency"),
        strict=True,
    ):
        assert served["params"] == latency["params"]
        with np.load(toys.folder / toys.results["run"]["samples"]) as arrays:
            median = np.median(arrays[latency["samples_ref"].partition("#")[2]])
        assert served["value"] == pytest.approx(served["params"]["batch_size"] / median)


def test_latency_is_told_for_each_batch_size(toys: Any) -> None:
    """There is a measurement for each batch size, in the order asked for; the first is the front's."""
    assert toys.results["run"]["batch_sizes"] == [3, 1]
    for config in ("toy_fp32", "rounded"):
        sizes = [one["params"]["batch_size"] for one in toys.measurements(config, "latency")]
        assert sizes == [3, 1]
    (axis,) = (axis for axis in toys.results["axes"] if axis["metric"] == "latency")
    assert axis["batch_size"] == 3


@pytest.mark.parametrize("phase", PHASES)
def test_a_metric_that_does_not_apply_is_no_failure(toys: Any, phase: str) -> None:
    """None means 'not applicable here': no value, no failure, and the front is as without it."""
    assert toys.code == 0
    for config in ("toy_fp32", "rounded"):
        one = toys.measurement(config, f"not_here_{phase}")
        assert (one["value"], one["outcome"], one["cause"]) == (None, "unsupported", "not applicable here")
        assert toys.cell(config)["outcome"] == "ok"
    assert any(one["on_front"] for one in toys.results["front"].values())
    assert f"not_here_{phase}" not in {axis["metric"] for axis in toys.results["axes"]}


def test_details_may_be_of_numpy(toys: Any) -> None:
    """Numbers and arrays of numpy in a metric's details stand in the results as plain ones."""
    details = toys.measurement("toy_fp32", "share_of_zeros")["details"]
    assert details == {"share": 0.75, "shape": [3, 4], "none": None}


def test_a_launch_without_torch_never_imports_it(toys: Any) -> None:
    """What an artifact's loader does not need is not in its launches: neither torch nor anything of its."""
    for config in ("toy_fp32", "rounded"):
        details = toys.measurement(config, "loaded_modules")["details"]
        assert "numpy" in details["packages"]
        assert not set(details["packages"]) & {"torch", "torchvision", "sklearn", "PIL", "scipy"}
        assert details["threads"] == "1"
        # Python, numpy and what a launch itself needs: MiB.
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
    # Every launch, and the evaluation of both configs.
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
