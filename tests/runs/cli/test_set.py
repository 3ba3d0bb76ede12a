"""``--set``: options of configs, metrics and workloads, and sweeps over them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qx.results.results_file import read, schema

Qx = Callable[..., Any]
Write = Callable[[str, str], str]

#: A config that keeps its options, and the number of images it saw, in the artifact.
RECORDER = """
    from qx import Artifact, Config, Option, hookimpl

    @hookimpl
    def describe():
        return Config(
            name="recorder", summary="Keeps its options.", calibration=True,
            options=[
                Option(name="bits", default=8, help="Bits of a weight.", choices=[4, 8]),
                Option(name="scale", default=1.0, help="Of all weights.", minimum=0),
                Option(name="note", default="", help="Kept."),
            ],
        )

    @hookimpl
    def calibrate(model, batches):
        model.seen = sum(len(batch.inputs["point"]) for batch in batches)
        return model

    @hookimpl
    def convert(model, context):
        import numpy
        weight, bias = (tensor.detach().numpy() for tensor in (model.weight, model.bias))
        weight = weight * context.options["scale"]
        numpy.savez(context.folder / "model.npz", weight=weight, bias=bias)
        details = {"config": "recorder", "options": dict(context.options), "seen": model.seen}
        return Artifact(folder=context.folder, files=["model.npz"], loader="toy_numpy", details=details)
"""

#: A metric whose value is its own option, so that the value shows which option reached it.
ECHO = """
    from qx import Metric, Option, Samples, hookimpl

    @hookimpl
    def describe():
        return Metric(
            name="{name}", summary="Its own option.", unit="times", better="neither",
            samples="{samples}", compare="difference", phase="{phase}",
            options=[Option(name="times", default=1.5, help="Returned.")],
        )

    @hookimpl
    def measure(data, context):
        return context.options["times"]
"""
PHASES = {
    "artifact": "exact",
    "fresh": "per_launch",
    "block": "per_block",
    "predictions": "exact",
    "derived": "exact",
}


@pytest.fixture(scope="module")
def plugins(write_plugin: Write) -> list[str]:
    """Return the config, and a metric of each phase."""
    echoes = [
        write_plugin(f"echo_{phase}", ECHO.format(name=f"echo_{phase}", samples=samples, phase=phase))
        for phase, samples in PHASES.items()
    ]
    return [write_plugin("recorder", RECORDER), *echoes]


@pytest.fixture(scope="module")
def swept(qx: Qx, toy: Any, plugins: list[str], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Run a sweep over two options of a config, with options of a metric of each phase."""
    metrics = [word for phase in PHASES for word in ("-m", f"echo_{phase}")]
    settings = [f"echo_{phase}.times={2 + place}" for place, phase in enumerate(PHASES)]
    settings += ["recorder.scale=0.5,2", "recorder.calibration_n=32,40", "recorder.note=a/b"]
    words = [word for setting in settings for word in ("--set", setting)]
    return qx(
        "run", *toy.arguments(*plugins), *metrics, *words, "--quick", "--budget", 0.01, "--batch-size", 1,
        "--out", "out", cwd=tmp_path_factory.mktemp("swept"),
    )  # fmt: skip


def rows(done: Any) -> list[str]:
    return [name for name, cell in done.results["cells"].items() if not cell["control"]]


def test_a_sweep_makes_a_cell_of_every_combination(swept: Any) -> None:
    """Two values of two options are four cells, in the order of the record's options and of the values."""
    assert swept.code == 0, swept.err
    assert rows(swept) == ["toy/toy_fp32"] + [
        f"toy/recorder[scale={scale},note=a%2Fb,calibration_n={count}]"
        for scale in ("0.5", "2.0")
        for count in (32, 40)
    ]


def test_the_options_of_a_cell_are_recorded_and_reach_the_config(swept: Any, cache: Path) -> None:
    """All options stand in the cell, defaults too, and the config receives them and as many images."""
    from qx.storage.manifest import Manifest

    cells = [cell for cell in swept.results["cells"].values() if cell["config"] == "recorder"]
    for cell, (scale, count) in zip(cells, [(0.5, 32), (0.5, 40), (2.0, 32), (2.0, 40)], strict=True):
        expected = {"bits": 8, "scale": scale, "note": "a/b", "calibration_n": count}
        assert cell["options"] == expected
        details = Manifest.read(cache / "builds" / cell["build"] / "artifact").details
        assert details["options"] == expected
        assert details["seen"] == count
    assert len({cell["build"] for cell in cells}) == 4


def test_options_reach_a_metric_of_every_phase(swept: Any) -> None:
    """The values that were set are those that ``measure`` saw, and they stand in the results."""
    expected = {f"echo_{phase}": {"times": 2.0 + place} for place, phase in enumerate(PHASES)}
    assert swept.results["run"]["metric_options"] == expected
    for metric, options in expected.items():
        values = {measurement["value"] for measurement in swept.measurements(metric=metric)}
        assert values == {options["times"]}


def test_the_table_tells_the_cells_apart(swept: Any, qx: Qx) -> None:
    """Each row has its options beside its name, in pareto.md, on the terminal and in ``qx report``."""
    report = qx("report", swept.folder)
    for row in rows(swept):
        name = row.partition("/")[2]
        assert f"| `{name}`" in swept.table
        assert name in swept.out
        assert name in report.out
    assert "Options: `echo_artifact` times=2.0;" in swept.table


def test_the_results_of_a_sweep_keep_the_schema(swept: Any) -> None:
    """The results of a sweep can be read again, and are valid."""
    import jsonschema

    jsonschema.validate(swept.results, schema())
    assert read(swept.folder).run.metric_options == swept.results["run"]["metric_options"]


@pytest.mark.slow
def test_a_build_of_a_sweep_is_found_by_itself(swept: Any, qx: Qx, toy: Any, plugins: list[str]) -> None:
    """The first 32 images, and the build, are the same whether 40 are drawn as well or not."""
    cell = next(cell for name, cell in swept.results["cells"].items() if "scale=2.0" in name)
    assert cell["options"]["calibration_n"] == 32
    settings = ["--set", "recorder.scale=2", "--set", "recorder.note=a/b"]
    done = qx("quantize", "-c", "recorder", *toy.arguments(*plugins), *settings, "--calibration-n", 32)
    assert done.code == 0, done.err
    assert cell["build"] in done.out
    assert "found in the cache" in done.err
    settings += ["--set", "recorder.calibration_n=33"]
    other = qx("quantize", "-c", "recorder", *toy.arguments(*plugins), *settings)
    assert other.code == 0
    assert cell["build"] not in other.out


def test_an_option_goes_before_the_count_for_all(qx: Qx, toy: Any, plugins: list[str]) -> None:
    """``--calibration-n`` holds for configs whose own option is not set."""
    done = qx(
        "run", *toy.arguments(*plugins, toy.config("plain")), "-m", "file_size", "--out", "out",
        "--calibration-n", 20, "--set", "recorder.calibration_n=10,30",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert [cell["options"].get("calibration_n") for cell in done.results["cells"].values()][:4] == [
        None,
        None,
        10,
        30,
    ]
    assert done.results["run"]["calibration_n"] == 20


def test_the_baseline_may_have_options(qx: Qx, toy: Any, plugins: list[str], write_plugin: Write) -> None:
    """The baseline is called by its options, the others are compared with it, and the control is its copy."""
    source = Path(toy.plugins[2]).read_text()
    option = 'reference=True, options=[Option(name="bits", default=8, help="Bits.")]'
    source = source.replace("reference=True", option).replace("import Artifact,", "import Artifact, Option,")
    based = [write_plugin("toy_fp32", source) if "toy_fp32" in plugin else plugin for plugin in toy.plugins]
    words = [word for plugin in (*based, toy.config("plain")) for word in ("-p", plugin)]
    done = qx(
        "run", "--workload", "toy", "--weights", toy.weights, *words, "-m", "file_size", "-m", "latency",
        "--quick", "--budget", 0.01, "--batch-size", 1, "--set", "toy_fp32.bits=4", "--out", "out",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.results["run"]["baseline"] == "toy/toy_fp32[bits=4]"
    assert done.cell("control")["options"] == done.cell("toy_fp32")["options"] == {"bits": 4}
    assert done.measurement("plain", "latency")["vs_baseline"]["value"] > 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["recorder"], ["--set recorder: expected NAME.OPTION=VALUE"]),
        (["recordr.bits=4"], ["unknown plugin 'recordr'", "choose from recorder"]),
        (
            ["recorder.bit=4"],
            ["config recorder has no option 'bit'", "choose from bits, scale, note, calibration_n"],
        ),
        (["plain.bits=4"], ["config plain has no option 'bits' (there are none)"]),
        (["recorder.bits=four"], ["bits must be one of 4, 8, not 'four'"]),
        (["recorder.bits=5"], ["bits must be one of 4, 8, not '5'"]),
        (["recorder.scale=-1"], ["scale must be at least 0, not '-1'"]),
        (["recorder.calibration_n=0"], ["calibration_n must be at least 1, not '0'"]),
        (["recorder.calibration_n=8.5"], ["calibration_n must be a whole number, not '8.5'"]),
        (["recorder.bits=4,8,4"], ["the value '4' is given twice"]),
        (["recorder.scale=1,1.0"], ["the value '1.0' is given twice"]),
        (["recorder.bits=4", "recorder.bits=8"], ["--set recorder.bits=8: recorder.bits was set before"]),
        (["echo_block.times=1,2"], ["a metric takes one value; only options of configs can have several"]),
        (["toy.epochs=1,2"], ["a workload takes one value"]),
        (["based.bits=4,8"], ["others are compared with based, so it takes one value"]),
        (["digits_cnn.epochs=2"], ["workload digits_cnn is not used here (used are: toy)"]),
        (["accuracy.times=2"], ["metric accuracy is not used here (used are: echo_block)"]),
        (["fp32_baseline.bits=2"], ["plugin 'fp32_baseline'", "is left out"]),
        (["torch_eager.bits=2"], ["torch_eager is a loader; only options of configs, metrics and workloads"]),
        (["recorder.calibration_n=301"], ["301 calibration items are asked for, but toy has 300"]),
        (
            [f"recorder.scale={','.join(map(str, range(501)))}", "recorder.bits=4,8"],
            ["this run would have 1,004 cells, more than 1,000: give --yes if that is meant"],
        ),
    ],
    ids=lambda value: " ".join(value)[:40],
)
def test_a_mistake_is_told_in_one_line(
    qx: Qx,
    toy: Any,
    plugins: list[str],
    write_plugin: Write,
    tmp_path: Path,
    settings: list[str],
    words: list[str],
) -> None:
    """A mistake ends with exit code 2 before anything is built, and nothing is written."""
    source = Path(toy.plugins[2]).read_text().replace("toy_fp32", "based")
    option = 'reference=True, options=[Option(name="bits", default=8, help="Bits.")]'
    source = source.replace("reference=True", option).replace("import Artifact,", "import Artifact, Option,")
    based = [plugin for plugin in toy.plugins if "toy_fp32" not in plugin] + [write_plugin("based", source)]
    plugin_words = [word for plugin in (*based, *plugins, toy.config("plain")) for word in ("-p", plugin)]
    set_words = [word for setting in settings for word in ("--set", setting)]
    done = qx(
        *("run", "--workload", "toy", "--weights", toy.weights, *plugin_words, "-m", "echo_block"), *set_words
    )
    assert done.code == 2, done.err
    (line,) = [line for line in done.err.splitlines() if not line.startswith("[")]
    assert line.startswith("qx: error: ")
    for word in words:
        assert word in line
    assert "build: " not in done.err
    assert list(tmp_path.iterdir()) == []


def test_one_artifact_has_one_value(qx: Qx, toy: Any, plugins: list[str]) -> None:
    """``qx quantize`` builds one artifact, and takes no sweep."""
    done = qx("quantize", "-c", "recorder", *toy.arguments(*plugins), "--set", "recorder.bits=4,8")
    assert done.code == 2
    assert "one artifact is built, so one value is expected" in done.err


def test_an_option_of_a_workload_reaches_its_training(qx: Qx, toy: Any) -> None:
    """``--set toy.epochs=3`` is ``--epochs 3``; both at once are refused."""
    import torch

    assert qx("train", "--workload", "toy", *toy.plugin_arguments(), "--set", "toy.epochs=3").code == 0
    assert torch.load("artifacts/weights/toy.pt")["weight"].max() == 3
    both = qx("train", "--workload", "toy", *toy.plugin_arguments(), "--set", "toy.epochs=3", "--epochs", 4)
    assert both.code == 2
    assert both.err == "qx: error: give --epochs or --set toy.epochs, not both\n"


def test_show_tells_what_can_be_set(qx: Qx, plugins: list[str]) -> None:
    """``qx show`` gives each option with type, default, choices, limits and help."""
    done = qx("show", "recorder", "-p", plugins[0])
    assert "options, set with --set recorder.OPTION=VALUE" in done.out
    assert "bits (int, default 8, one of 4, 8)\n      Bits of a weight." in done.out
    assert "scale (float, default 1.0, at least 0)" in done.out
    assert "note (str, default '')" in done.out
    assert "calibration_n (int, default 256, at least 1)" in done.out
