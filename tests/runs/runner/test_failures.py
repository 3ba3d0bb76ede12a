"""Whatever a plugin does costs its own row, or its own column, and never those of other plugins."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

import pytest

from qx.cli import _parser
from qx.cli.arguments import build_request
from qx.cli.display import Lines
from qx.errors import QxError
from qx.host.host import Host
from qx.processes.workers import Processes, Worker
from qx.runner.preparation import prepare
from qx.runner.request import Request

#: What the ``convert`` of a config does, and how its row ends: outcome, stage, and a part of the cause.
BAD_CONFIGS = {
    "raises": ("raise ValueError('no such layer')", "failed", "convert", "ValueError: no such layer"),
    "hangs": ("import time; time.sleep(1000)", "timeout", "convert", "not finished after 60 s"),
    "segfaults": ("import os; os.kill(os.getpid(), 11)", "crashed", "convert", "killed by SIGSEGV"),
    "vanishes": ("import os; os._exit(7)", "crashed", "convert", "ended itself with status 7"),
    "exits": ("import sys; sys.exit(3)", "failed", "convert", "exit status 3"),
    "wants_memory": ("raise MemoryError('80 GB')", "out_of_memory", "convert", "MemoryError: 80 GB"),
    "cannot": (
        "import qx; raise qx.Unsupported('layer 3 is a loop')",
        "unsupported",
        "convert",
        "layer 3 is a loop",
    ),
    "blames_the_data": ("import qx; raise qx.DataError('bad image')", "failed", "convert", "bad image"),
    "gives_nothing": (
        "return None",
        "failed",
        "convert",
        "hook 'convert' returned None, expected a value",
    ),
    "forgets_its_file": (
        "return Artifact(folder=context.folder, files=['lost.npz'], loader='toy_numpy')",
        "failed",
        "save",
        "without its file 'lost.npz'",
    ),
    "writes_rubbish": (
        "import os\n"
        "    for fd in range(3, 64):\n"
        "        try:\n"
        "            os.write(fd, b'rubbish')\n"
        "        except OSError:\n"
        "            pass",
        "crashed",
        "convert",
        "other than a message to its host (it lacks the token of this worker): 'rubbish",
    ),
    "replaces_json": (
        "import json; json.dumps = lambda *words, **named: 'junk'",
        "crashed",
        "save",
        "left no complete artifact in ",
    ),
    "serves_nonsense": ("model = __import__('torch').nn.Linear(9, 3)", "failed", "predict", "ValueError"),
}
#: Configs that the fast tier runs: each outcome and each way to end occurs once.
FAST = (
    *("raises", "hangs", "segfaults", "wants_memory", "cannot", "gives_nothing", "forgets_its_file"),
    *("writes_rubbish", "serves_nonsense"),
)
GOOD_CONFIGS = {
    "floods": "[print('x' * 1000) for _ in range(30_000)]",
    "prints": r"""print('{"answer": {}}'); import os; os.write(1, b'{"failure": "crashed"}\n')""",
}


@pytest.fixture(scope="module")
def configs(qx: Callable[..., Any], toy: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One run with every bad config, two good ones, and one that is not available."""
    message = Worker._next_message

    def message_or_timeout(worker: Worker, deadline: float, timeout: float) -> Any:
        """Let the config that hangs reach its timeout after 3 s, and all else take as long as it needs."""
        if "build-hangs" in worker._log.name and worker._stage == "convert":
            deadline = min(deadline, monotonic() + 3)
        return message(worker, deadline, timeout)

    names = BAD_CONFIGS if os.environ.get("QX_SLOW") else FAST
    plugins = [toy.config(name, first=BAD_CONFIGS[name][0]) for name in names]
    plugins += [toy.config(name, first=first) for name, first in GOOD_CONFIGS.items()]
    plugins.append(toy.config("lacking", record="requires=['no-such-distribution>=2']"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Worker, "_next_message", message_or_timeout)
        return qx(
            *("run", *toy.arguments(*plugins), "--timeout", 60, "--quick", "--budget", 0.01),
            *("--batch-size", 1),
            *("-m", "accuracy", "-m", "file_size", "-m", "latency", "--out", "out"),
            cwd=tmp_path_factory.mktemp("configs"),
        )


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in BAD_CONFIGS]
)
def test_a_bad_config_keeps_its_row(configs: Any, name: str) -> None:
    """The row of a bad config has outcome, stage and cause, no values, and is not on the front."""
    _, outcome, stage, cause = BAD_CONFIGS[name]
    cell = configs.cell(name)
    assert (cell["outcome"], cell["stage"]) == (outcome, stage)
    assert cause in cell["cause"]
    assert configs.results["configs"][name]["outcome"] == outcome
    endings = {(measurement["outcome"], measurement["value"]) for measurement in configs.measurements(name)}
    assert endings == {(outcome, None)}
    assert f"toy/{name}" not in configs.results["front"]
    assert name in configs.table
    assert re.search(rf"^qx: {name}: {outcome} in {stage}: ", configs.err, re.MULTILINE)


@pytest.mark.parametrize("name", ["toy_fp32", *GOOD_CONFIGS])
def test_the_other_rows_are_complete(configs: Any, name: str) -> None:
    """Every row beside those that crash and hang has all its figures, and the run ends with 1."""
    assert configs.code == 1
    assert configs.cell(name)["outcome"] == "ok"
    assert len(configs.measurements(name)) == 3
    for measurement in configs.measurements(name):
        assert measurement["outcome"] == "ok"
        assert measurement["value"] is not None
        assert measurement["vs_baseline"]["value"] is not None
    assert f"toy/{name}" in configs.results["front"]


def test_an_error_of_a_plugin_names_whose_it_is(configs: Any) -> None:
    """A breach of the contract is reported with the plugin, where that comes from, and the hook."""
    cause = configs.cell("gives_nothing")["cause"]
    assert cause.startswith("plugin 'gives_nothing' (-p ")
    assert "gives_nothing.py)" in cause


def test_an_unavailable_config_keeps_its_row(configs: Any) -> None:
    """The row of a config whose packages are not installed says what to install."""
    cell = configs.cell("lacking")
    assert (cell["outcome"], cell["stage"]) == ("unavailable", "plan")
    assert "pip install 'no-such-distribution>=2'" in cell["cause"]
    assert "lacking" in configs.table


@pytest.mark.parametrize(("named", "code"), [(False, 0), (True, 1)])
def test_an_unavailable_config_counts_only_when_it_was_named(
    qx: Callable[..., Any], toy: Any, named: bool, code: int
) -> None:
    """A run without a config that is not available ends well, unless the config was asked for by name."""
    lacking = toy.config("lacking", record="requires=['no-such-distribution>=2']")
    names = ["-c", "lacking"] if named else []
    done = qx("run", *toy.arguments(lacking), "-m", "file_size", *names, "--out", "out")
    assert done.code == code, done.err
    assert done.cell("lacking")["outcome"] == "unavailable"
    assert done.cell("toy_fp32")["outcome"] == "ok"


@pytest.mark.parametrize(("named", "code"), [(False, 0), (True, 1)])
def test_a_config_that_cannot_treat_the_model_counts_only_when_it_was_named(
    qx: Callable[..., Any], toy: Any, named: bool, code: int
) -> None:
    """A run ends well with a config that cannot treat the model, unless the config was asked for by name."""
    cannot = toy.config("cannot", first="from qx import Unsupported; raise Unsupported('it has a loop')")
    names = ["-c", "cannot"] if named else []
    done = qx("run", *toy.arguments(cannot), "-m", "file_size", *names, "--out", "out")
    assert done.code == code, done.err
    assert done.cell("cannot")["outcome"] == "unsupported"
    assert done.results["run"]["failures"] == (["cannot: unsupported"] if named else [])


def test_a_baseline_that_cannot_treat_the_model_makes_the_run_fail(qx: Callable[..., Any], toy: Any) -> None:
    """Nothing can be compared without it, so that counts though nobody named it."""
    baseline = toy.config(
        "picky",
        first="from qx import Unsupported; raise Unsupported('it has a loop')",
        record="reference=True",
    )
    done = qx("run", *toy.arguments(baseline, "no:toy_fp32"), "-m", "file_size", "--out", "out")
    assert done.code == 1, done.err


def test_without_the_baseline_the_rest_is_reported(qx: Callable[..., Any], toy: Any) -> None:
    """Where the baseline cannot be built, the others keep what needs no comparison, and nothing is timed."""
    baseline = toy.config("broken_baseline", first="raise ValueError('torn')", record="reference=True")
    plugins = (baseline, toy.config("other"), "no:toy_fp32")
    done = qx("run", *toy.arguments(*plugins), "-m", "file_size", "-m", "latency", "--out", "out")
    assert done.code == 1, done.err
    assert done.cell("broken_baseline")["outcome"] == "failed"
    assert done.cell("other")["outcome"] == "ok"
    size = done.measurement("other", "file_size")
    assert size["value"] > 0
    assert size["vs_baseline"] is None
    for measurement in done.measurements("other", "latency"):
        assert (measurement["outcome"], measurement["value"]) == ("failed", None)
        assert "broken_baseline did not end well, so nothing was timed" in measurement["cause"]


def test_a_runtime_that_crashes_on_import_costs_its_own_rows(
    qx: Callable[..., Any],
    toy: Any,
    write_plugin: Callable[[str, str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A config whose loader's imports kill the process is crashed in the import, and others end well."""
    (tmp_path / "broken_runtime.py").write_text("import os\nos.kill(os.getpid(), 11)\n")
    monkeypatch.syspath_prepend(tmp_path)
    loader = """
        from qx import Loader, hookimpl

        @hookimpl
        def describe():
            return Loader(name="broken", summary="Crashes.", imports=["broken_runtime"])

        @hookimpl
        def load(artifact):
            raise NotImplementedError
    """
    plugins = [write_plugin("broken", loader), toy.config("theirs", loader="broken")]
    done = qx(
        *("run", *toy.arguments(*plugins), "--quick", "--budget", 0.01, "--batch-size", 1),
        *("-m", "accuracy", "-m", "latency", "--out", "out"),
    )
    assert done.code == 1, done.err
    cell = done.cell("theirs")
    assert (cell["outcome"], cell["stage"]) == ("crashed", "import")
    assert "killed by SIGSEGV" in cell["cause"]
    assert done.cell("toy_fp32")["outcome"] == "ok"
    assert {measurement["outcome"] for measurement in done.measurements("toy_fp32")} == {"ok"}


@pytest.mark.parametrize("wrong", ["model", "data"])
def test_what_is_wrong_is_reported_without_waiting_for_the_rest(
    qx: Callable[..., Any], write_plugin: Callable[[str, str], str], wrong: str
) -> None:
    """A model that cannot be made ends the decoding of its data, and missing data end the model's making."""
    bodies = {
        "model": {"make": "raise UsageError('no such net')", "load": "time.sleep(1000)"},
        "data": {"make": "time.sleep(1000)", "load": "raise DataError('no such folder')"},
    }[wrong]
    workload = """
        import time
        from qx import DataError, UsageError, Workload, hookimpl

        @hookimpl
        def describe():
            return Workload(name="slow", summary="One half never ends.", random_weights=True)

        @hookimpl
        def make_model():
            {make}

        @hookimpl
        def load_data(split):
            {load}

        @hookimpl
        def example_inputs(batch_size):
            raise NotImplementedError
    """
    path = write_plugin("slow", workload.format(**bodies))
    start = perf_counter()
    done = qx("run", "-p", path, "--workload", "slow", "-c", "dynamic_int8", "--timeout", 300, "--out", "out")
    assert perf_counter() - start < 250
    assert done.code == 2
    assert done.err.splitlines()[-1] == f"qx: error: no such {'net' if wrong == 'model' else 'folder'}"


SLOW_DATA = """
    import time
    from qx import DataError, Workload, hookimpl

    @hookimpl
    def describe():
        return Workload(name="slow", summary="Its data take their time.", random_weights=True)

    @hookimpl
    def make_model():
        import torch
        return torch.nn.Linear(4, 3)

    @hookimpl
    def load_data(split, context):
        for step in range(8):
            time.sleep(1)
            context.progress({progress}, "on")
        raise DataError("here at last")

    @hookimpl
    def example_inputs(batch_size):
        import torch
        return (torch.zeros(batch_size, 4),)
"""


@pytest.mark.parametrize(
    ("progress", "error"),
    [
        ("0.5", "workload slow: load_data test: not finished after 6 s"),
        pytest.param("(step + 1) / 8", "here at last", marks=pytest.mark.slow),
    ],
)
def test_data_may_take_as_long_as_the_user_says(
    write_plugin: Callable[[str, str], str], tmp_path: Path, progress: str, error: str
) -> None:
    """Loading a split ends the run after its timeout, which begins again with progress."""
    host = Host.discover([write_plugin("slow", SLOW_DATA.format(progress=progress))])
    request = Request(workload="slow", data_timeout=6.0)
    with Processes(tmp_path) as processes, pytest.raises(QxError) as caught:
        prepare(host, request, host.get("workload", "slow"), processes, Lines(), {}, ())
    assert str(caught.value) == error


@pytest.mark.parametrize(("words", "stage", "data"), [([], 600.0, 3600.0), (["--timeout", "15"], 15.0, 15.0)])
def test_without_a_timeout_data_have_an_hour(words: list[str], stage: float, data: float) -> None:
    """Data have an hour, since they may have to be downloaded, unless ``--timeout`` is set."""
    command = ["run", *words]
    request = build_request(_parser(command).parse_args(command))
    assert (request.timeout, request.data_timeout) == (stage, data)


# Metrics ------------------------------------------------------------------------------------------

METRIC = """
    import os
    from qx import DataError, Metric, Samples, hookimpl

    @hookimpl
    def describe():
        return Metric(
            name="{name}", summary="A metric of a test.", unit="things", better="lower",
            samples="{samples}", compare="ratio", phase="{phase}",
        )

    @hookimpl
    def measure(subject, data):
        {body}
"""
SAMPLES = {
    "artifact": "exact",
    "fresh": "per_launch",
    "block": "per_block",
    "predictions": "per_item",
    "derived": "exact",
}
#: Phase, body of ``measure``, cells in which it fails, and a part of the cause.
BAD_METRICS = {
    "raises_early": ("artifact", "raise ValueError('no file')", "both", "ValueError: no file"),
    "raises_at_start": ("fresh", "raise ValueError('no mark')", "both", "ValueError: no mark"),
    "raises_in_rounds": ("block", "raise ValueError('no clock')", "both", "ValueError: no clock"),
    "raises_late": ("derived", "raise ValueError('no latency')", "both", "ValueError: no latency"),
    "exits": ("block", "raise SystemExit(4)", "both", "exit status 4"),
    "gives_nan": ("predictions", "return [float('nan')] * 36", "both", "values that are not finite"),
    "gives_infinity": ("block", "return [1.0, float('inf')]", "both", "values that are not finite"),
    "gives_no_values": ("predictions", "return []", "both", "no values"),
    "gives_text": ("fresh", "return 'much'", "both", "not numbers"),
    "blames_the_data": ("predictions", "raise DataError('bad labels')", "both", "bad labels"),
    "blames_late": ("derived", "raise DataError('bad samples')", "both", "bad samples"),
    "blames_in_rounds": ("block", "raise DataError('bad input')", "both", "bad input"),
    "gives_odd_details": ("artifact", "return Samples(1.0, {'a': {1, 2}, (1, 2): 3})", "both", "not JSON"),
    "gives_odd_values": ("block", "return [0.0, -1.0]", "neither", ""),
    "fails_for_the_baseline": (
        "block",
        "return [1.0] if subject.config == 'other' else 1 / 0",
        "toy_fp32",
        "ZeroDivisionError",
    ),
    "fails_for_the_other": (
        "block",
        "return [1.0] if subject.config == 'toy_fp32' else 1 / 0",
        "other",
        "ZeroDivisionError",
    ),
}
GOOD_METRICS = ("accuracy", "file_size", "latency", "rss")


@pytest.fixture(scope="module")
def metrics(
    qx: Callable[..., Any],
    toy: Any,
    write_plugin: Callable[[str, str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:
    """One run with every bad metric, and good ones, on two configs."""
    plugins = [
        write_plugin(name, METRIC.format(name=name, phase=phase, samples=SAMPLES[phase], body=body))
        for name, (phase, body, *_) in BAD_METRICS.items()
    ]
    return qx(
        *("run", *toy.arguments(toy.config("other"), *plugins), "--quick", "--budget", 0.01),
        *("--batch-size", 1),
        *(word for name in (*GOOD_METRICS, *BAD_METRICS) for word in ("-m", name)),
        *("--out", "out"),
        cwd=tmp_path_factory.mktemp("metrics"),
    )


@pytest.mark.parametrize("name", BAD_METRICS)
def test_a_bad_metric_costs_its_own_values(metrics: Any, name: str) -> None:
    """A metric has outcome and cause where it fails, and values where it does not; the cells end well."""
    _, _, where, cause = BAD_METRICS[name]
    assert metrics.code == 1, metrics.err
    for config in ("toy_fp32", "other"):
        assert metrics.cell(config)["outcome"] == "ok"
        measurement = metrics.measurement(config, name)
        if where == "neither":
            assert (measurement["outcome"], measurement["value"]) == ("ok", -0.5)
        elif where in ("both", config):
            assert (measurement["outcome"], measurement["value"]) == ("failed", None)
            assert cause in measurement["cause"]
            line = f"qx: {config}: metric {name} failed: {measurement['cause']}"
            assert any(text.partition("; log: ")[0] == line for text in metrics.err.splitlines())
        else:
            assert (measurement["outcome"], measurement["value"]) == ("ok", 1.0)


def test_the_other_metrics_are_complete(metrics: Any) -> None:
    """Every built-in metric beside those that fail has value and difference, and the front is decided."""
    for config in ("toy_fp32", "other"):
        for name in GOOD_METRICS:
            measurement = metrics.measurement(config, name)
            assert measurement["outcome"] == "ok"
            assert measurement["vs_baseline"]["value"] is not None
    assert set(metrics.results["front"]) == {"toy/toy_fp32", "toy/other"}
    assert metrics.results["run"]["measuring"]["deaths"] == []
