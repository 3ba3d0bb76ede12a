"""``qx.run``: what the command line does, with models and data of a session, and nothing left behind."""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import qx as api
from qx.api import run as run_module
from qx.contract.installation import extra_command
from qx.leftovers import TEMPORARY

NETS = """
    import torch
    from torch import nn
    from torch.ao.quantization import DeQuantStub, QuantStub, fuse_modules

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.quant, self.dequant = QuantStub(), DeQuantStub()
            self.conv, self.relu = nn.Conv2d(3, 8, 3), nn.ReLU()
            self.pool, self.flat = nn.AdaptiveAvgPool2d(1), nn.Flatten()
            self.head = nn.Linear(8, 2)

        def forward(self, images):
            features = self.relu(self.conv(self.quant(images)))
            return self.dequant(self.head(self.flat(self.pool(features))))

        def fuse_model(self):
            fuse_modules(self, [["conv", "relu"]], inplace=True)
"""
CONFIGS = ["dynamic_int8", "fx_static_int8", "static_int8_per_channel"]
if os.environ.get("QX_SLOW"):
    CONFIGS += ["bf16", "static_int8_per_tensor", "onnxruntime_static_int8_per_channel", "openvino_int8"]
METRICS = ("accuracy", "file_size")
#: Settings of a run that is over soon.
QUICK: dict[str, Any] = {
    "quick": True,
    "budget": 0.01,
    "batch_sizes": 1,
    "calibration_n": 8,
    "progress": False,
}


@pytest.fixture
def images(tmp_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return images ``[48, 3, 16, 16]`` of two classes and their labels; they lie in folders, too."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 128, (48, 16, 16, 3), dtype=np.uint8)
    labels = np.repeat([0, 1, 0, 1], 12)
    pixels[labels == 1] += 127
    for index, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        split = "train" if index < 24 else "test"
        folder = tmp_path / "images" / split / ("dark", "light")[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{index}.png")
    return (pixels.transpose(0, 3, 1, 2) / np.float32(255) - 0.5) / 0.25, labels


def in_session() -> Any:
    """Return the namespace of a session that has run the source of the model."""
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(textwrap.dedent(NETS), space)
    return space


@pytest.mark.slow
def test_a_sessions_model_is_treated_as_one_from_a_file(
    qx: Callable[..., Any],
    images: tuple[np.ndarray, np.ndarray],
    tmp_path: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same configs are ok for a model and arrays of a session as for the model's file and a folder.

    They answer as many items rightly, nothing of the session is left in a temporary folder, and no pickle of
    it is in the cache.
    """
    (tmp_path / "nets.py").write_text(textwrap.dedent(NETS))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)
    options = [word for name in CONFIGS for word in ("-c", name)]
    options += [word for name in METRICS for word in ("-m", name)]
    from_file = qx(
        *("run", "--model", "./nets.py:Net", "--trained", "--data", "images", "--input-shape", "3,16,16"),
        *("--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25", "--set", "own_model.crop=1"),
        *("--quick", "--budget", 0.01, "--batch-size", 1, "--calibration-n", 8, "--out", "file", *options),
    )
    pixels, labels = images
    data = {"train": (pixels[:24], labels[:24]), "test": (pixels[24:], labels[24:])}
    result = api.run(
        model=in_session()["Net"](), data=data, configs=CONFIGS, metrics=METRICS, out="session", **QUICK
    )
    expected = {cell["config"]: cell["outcome"] for cell in from_file.results["cells"].values()}
    outcomes = {cell.config: cell.outcome for cell in result.results.cells.values()}
    assert outcomes == expected
    assert list(outcomes.values()).count("ok") >= 4, result.failures
    for config, outcome in outcomes.items():
        if outcome == "ok":
            figures = from_file.measurement(config, "accuracy")
            (ours,) = (
                record
                for record in result.to_records()
                if (record["config"], record["metric"], record["outcome"]) == (config, "accuracy", "ok")
            )
            assert (ours["value"], ours["n"]) == (figures["value"], 24)
    assert not list((tmp_path / "temporary").glob(f"{TEMPORARY}*"))
    digest = result.results.run.workloads["own_model"].options["model"].rpartition(":")[2]
    assert not list(cache.rglob(f"*{digest}*"))
    written = json.loads((tmp_path / "session" / "full_results.json").read_text())
    assert written["run"]["command"] == [result.results.run.command[0]]
    assert written["run"]["command"][0].startswith(
        "qx.run(model=<Net>, data=<dict>, configs=['dynamic_int8',"
    )
    assert result.folder == Path("session")


def test_other_data_meet_no_build_of_the_first(images: tuple[np.ndarray, np.ndarray]) -> None:
    """The same model and data find their build in the cache; with other data it is built anew."""
    model = in_session()["Net"]()

    def cached(data: Any) -> bool:
        result = api.run(model=model, data=data, configs="dynamic_int8", metrics="file_size", **QUICK)
        (cell,) = (cell for cell in result.results.cells.values() if cell.config == "dynamic_int8")
        assert cell.outcome == "ok", cell.cause
        return cell.build_cached

    assert [cached(data) for data in (images, images, images[0])] == [False, True, False]


def test_every_option_of_the_command_line_is_an_argument() -> None:
    """``qx.run`` has an argument for each option of ``qx run``, by the name that the command has for it."""
    commands = argparse.ArgumentParser().add_subparsers()
    importlib.import_module("qx.cli.commands.run").register(commands)
    options = {action.dest for action in commands.choices["run"]._actions}
    # How the command prints its table is nothing of a function, whose model is a keyword. Every command has
    # the option ``debug``. Objects of a session are gone with it, so no other can go on with its runs, and a
    # cluster does not get them.
    elsewhere = {"resume", "executor", "on"}
    expected = options - {"help", "format", "verbose", "models"} - elsewhere | {"plugins", "debug"}
    arguments = set(inspect.signature(api.run).parameters)
    assert arguments - expected == {"progress"} and expected <= arguments
    documented = inspect.getdoc(api.run) or ""
    for name in arguments:
        assert f"{name} :" in documented or f"{name}," in documented or f", {name} " in documented, name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"workloads": "nothing"}, "unknown workload 'nothing'"),
        ({"configs": ["nothing"], "workloads": "digits_cnn"}, "unknown config 'nothing'"),
        ({"calibration_n": 0}, "calibration_n must be at least 1, not 0"),
        ({"batch_sizes": 0}, "batch_sizes must be at least 1, not 0"),
        ({"data": np.ones((3, 2))}, "data of a session go with a model"),
        ({"input_shape": (3, 4, 4)}, "input_shape can only be used with a model of your own"),
        ({"model": "nets.py:net", "data": np.ones((600, 2))}, "model nets.py:net: there is no such file"),
        ({"model": "nets.py:net"}, "model nets.py:net: there is no such file"),
        ({"examples": "x:float32[1]"}, "examples can only be used with a model of your own"),
        ({"model": 3}, "model is of type int"),
        ({"settings": {"dynamic_int8.nothing": 1}, "workloads": "digits_cnn"}, "no option 'nothing'"),
    ],
)
def test_mistakes_are_usage_errors_in_the_words_of_python(arguments: dict[str, Any], message: str) -> None:
    """A mistake is a ``UsageError`` that names the argument, and never the end of the session."""
    with pytest.raises(api.UsageError) as caught:
        api.run(**{"progress": False, **arguments})
    assert message in str(caught.value)


def test_settings_are_written_as_the_command_line_takes_them() -> None:
    """Lists make several values, text is quoted where it may hold a comma, and truth is a word."""
    settings = {"a.bits": [4, 8], "a.mode": "x,y", "a.on": True, "a.rate": 0.5}
    assert run_module._settings(settings) == ("a.bits=4,8", 'a.mode="x,y"', "a.on=true", "a.rate=0.5")
    assert run_module._settings(["a.bits=4"]) == ("a.bits=4",)


def script(tmp_path: Path, source: str) -> subprocess.Popen[str]:
    """Start a script, with a folder ``temporary`` for temporary files."""
    (tmp_path / "script.py").write_text(textwrap.dedent(source))
    (tmp_path / "temporary").mkdir()
    return subprocess.Popen(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env=os.environ | {"TMPDIR": str(tmp_path / "temporary")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_script_needs_no_guard(tmp_path: Path) -> None:
    """A plain script with a model and a Dataset of its own is run once, and not again by workers.

    A class that makes the model gives no trained one, so nothing is said of accuracy.
    """
    source = """
        import torch, qx
        print("once")
        class Twice(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = torch.nn.Linear(4, 3)
            def forward(self, x):
                return 2 * self.layer(x)
        class Points(torch.utils.data.Dataset):
            classes = ("a", "b", "c")
            def __len__(self):
                return 40
            def __getitem__(self, index):
                return torch.full((4,), float(index)), index % 3
        result = qx.run(
            model=Twice, data=Points(), configs="dynamic_int8", metrics=["file_size", "accuracy"],
            quick=True, budget=0.01, batch_sizes=1, calibration_n=8,
        )
        print(result.ended_well, len(result.table), result.table[0]["accuracy"])
        workload = result.results.run.workloads["own_model"]
        print(workload.trained, workload.source, workload.classes)
    """
    out, err = script(tmp_path, source).communicate(timeout=300)
    assert out.splitlines() == [
        "once",
        "True 2 None",
        "False Points of a Python session, 20 of 40 items set aside for calibration ('a', 'b', 'c')",
    ], err
    assert "] prepare: own_model" in err
    assert not list((tmp_path / "temporary").iterdir())


def test_an_interrupt_ends_the_run_and_not_the_session(tmp_path: Path) -> None:
    """Ctrl-C raises ``KeyboardInterrupt`` from ``qx.run``; workers and pickles are gone, the rest goes on."""
    source = """
        import os, stat, time, torch, qx
        def slow():
            open("began", "w").close()
            time.sleep(600)
        try:
            qx.run(model=slow, data=torch.ones(20, 4), configs="dynamic_int8", quick=True)
        except KeyboardInterrupt:
            print("caught", os.listdir(os.environ["TMPDIR"]))
    """
    process = script(tmp_path, source)
    until = time.monotonic() + 120
    while not (tmp_path / "began").exists() and time.monotonic() < until:
        time.sleep(0.1)
    (folder,) = [
        path for path in (tmp_path / "temporary").glob(f"{TEMPORARY}*") if not list(path.glob("*.log"))
    ]
    assert folder.stat().st_mode & 0o777 == 0o700 and len(list(folder.iterdir())) == 3
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert out.splitlines() == ["caught []"], err
    assert process.returncode == 0


def test_importing_qx_imports_nothing_heavy() -> None:
    """``import qx`` imports neither numpy nor what runs, results and plots need; ``qx --help`` neither."""
    program = textwrap.dedent("""
        import sys
        import qx
        light = [name for name in sys.modules if name.startswith("qx.")]
        from qx.cli import main
        main(["--help"])
        heavy = {"torch", "numpy", "scipy", "pandas", "matplotlib", "cloudpickle", "IPython", "rich"}
        print(sorted(heavy & set(sys.modules)), [name for name in light if name.startswith("qx.api")])
        print(sorted({"run", "load", "Result"} & set(dir(qx))), qx.load.__module__)
    """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-2:] == ["[] []", "['Result', 'load', 'run'] qx.api.result"], done.stderr


def test_optional_libraries_are_named_where_they_are_missing(tmp_path: Path) -> None:
    """Without pandas and matplotlib frames and plots are errors that name the extra; all else works."""
    results = Path(__file__).parents[3] / "artifacts" / "results"
    program = textwrap.dedent(f"""
        import sys
        sys.modules["pandas"] = sys.modules["matplotlib"] = None
        import qx
        result = qx.load({str(results)!r})
        print(len(result.table), len(result.to_records()) > 0, "<table>" in result._repr_html_())
        for ask in (result.to_pandas, result.samples_to_pandas, result.plot.pareto, result.plot.waves):
            try:
                ask()
            except qx.UsageError as error:
                print(error)
    """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    frames = f"frames need pandas, which is not installed: {extra_command('notebook')}"
    plots = f"plots need matplotlib, which is not installed: {extra_command('plot')}"
    assert "quant-explorer[" not in frames.replace("quant-explorer[notebook] @", "")
    assert done.stdout.splitlines() == ["4 True True", frames, frames, plots, plots], done.stderr
