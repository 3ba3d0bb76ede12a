"""The traceback of a plugin's error, and what plugins print, are in a file that the message names."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from qx.api.result import load
from qx.processes.workers import Worker
from qx.results import results_file

#: A plugin that does nothing but wrap, as the page on plugins shows one.
WRAPPER = """
    import time

    from qx import hookimpl

    @hookimpl(wrapper=True)
    def convert(model):
        started = time.perf_counter()
        result = yield
        print(f"convert took {time.perf_counter() - started:.1f} s")
        return result
"""
#: What the ``convert`` of each config does first.
CONFIGS = {
    "deep": "inner = lambda: {}['missing']; inner()",
    "plain": "pass",
    "dies": "import os; print('about to die', flush=True); os.kill(os.getpid(), 11)",
    "hangs": "import time; time.sleep(1000)",
    "hostile": r"import os; os.write(2, b'\x1b[2J\xff\x00red\n' * 20_000); raise ValueError('\x1b[31mred')",
}


@pytest.fixture(scope="module")
def run(qx: Callable[..., Any], toy: Any, write_plugin: Any, write_metric: Any, tmp_path_factory: Any) -> Any:
    """One run with ``--debug`` of configs and metrics that fail, and a wrapper that prints."""
    plugins = [toy.config(name, first=first) for name, first in CONFIGS.items()]
    plugins.append(write_plugin("wrap", WRAPPER))
    plugins.append(write_metric("torn_exact", "artifact", "print('measuring'); return [].pop()"))
    plugins.append(write_metric("torn_block", "block", "print('in a block'); return 1 / 0"))
    message = Worker._next_message

    def message_or_timeout(worker: Worker, deadline: float, timeout: float) -> Any:
        """Let the config that hangs reach its timeout after 1 s, and all else take as long as it needs."""
        if "build-hangs" in worker._log.name and worker._stage == "convert":
            deadline = min(deadline, monotonic() + 1)
        return message(worker, deadline, timeout)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Worker, "_next_message", message_or_timeout)
        return qx(
            *("run", *toy.arguments(*plugins), "--quick", "--budget", 0.01, "--batch-size", 1, "--rebuild"),
            *("-m", "torn_exact", "-m", "torn_block", "-m", "file_size", "--out", "out", "--debug"),
            cwd=tmp_path_factory.mktemp("logs"),
        )


def log(run: Any, config: str) -> str:
    """Return the text of the log of a config's cell, which its message names."""
    name = run.cell(config)["log"]
    assert re.fullmatch(rf"logs-[0-9T]{{15}}-[0-9a-f]{{6}}/toy-{config}[.]log", name)
    assert run.results["run"]["id"] in name
    text = (run.folder / name).read_text()
    assert all(line.isprintable() for line in text.split("\n"))
    return text


def test_a_failed_cell_keeps_its_traceback(run: Any) -> None:
    """The log has the whole traceback, and the message its path; with ``--debug`` the plugin's part shows."""
    text = log(run, "deep")
    assert re.search(r"deep\.py\", line \d+, in <lambda>\n", text)
    assert "KeyError: 'missing'" in text
    assert "qx/worker/build.py" in text
    (message,) = re.findall(r"^qx: deep: failed in convert: (.*)$", run.err, re.MULTILINE)
    assert message == f"KeyError: 'missing'; log: out/{run.cell('deep')['log']}"
    shown = re.search(r"^Traceback \(most.*\n  File \"(.*)\", line \d+, in convert\n", run.err, re.MULTILINE)
    assert shown is not None and shown[1].endswith(".py")
    assert "qx/worker/build.py" not in run.err[shown.start() : shown.end()]


def test_what_a_plugin_prints_is_kept_and_shown(run: Any) -> None:
    """A wrapper's line is in the log of a cell that ended well, and shown with ``--debug``."""
    assert re.search(r"^Printed in build \(\d+ bytes\):\n\nconvert took \d\.\d s$", log(run, "plain"), re.M)
    assert re.search(r"^plain build \| convert took \d\.\d s$", run.err, re.MULTILINE)


def test_a_process_that_dies_leaves_its_stack(run: Any) -> None:
    """What a process printed before it died, and where it was, are in its log."""
    text = log(run, "dies")
    assert "crashed in convert: " in text
    assert "about to die\n" in text
    assert re.search(r'Segmentation fault\n(?s:.*)File ".*dies\.py", line \d+ in convert\n', text)


def test_a_process_that_hangs_leaves_its_stack(run: Any) -> None:
    """Where a process was when it timed out is in its log."""
    stack = r'most recent call first\):\n  File ".*hangs\.py", line \d+ in convert\n'
    assert re.search(stack, log(run, "hangs"))


def test_hostile_output_is_bounded_text(run: Any) -> None:
    """Escape sequences, zero bytes and a flood are text of a bounded size, in the log and on the terminal."""
    text = log(run, "hostile")
    assert "(the last 65,536 of 200,000 bytes)" in text
    assert text.endswith("\\xff\\x00red\n")
    assert len(text) < 5 * 65_536
    assert all(line.isprintable() for line in run.err.split("\n"))


def test_a_failed_metric_keeps_its_traceback(run: Any) -> None:
    """The traceback of a metric is in the log of its cell, in every phase; so is what it printed."""
    text = log(run, "plain")
    assert "IndexError: pop from empty list" in text
    assert "ZeroDivisionError: division by zero" in text
    assert "\nmeasuring\n" in text
    assert "\nin a block" in text
    (message,) = re.findall(r"^qx: plain: metric torn_exact failed: (.*)$", run.err, re.MULTILINE)
    assert message.endswith(f"; log: out/{run.cell('plain')['log']}")
    assert re.search(r"^plain launch \| in a block$", run.err, re.MULTILINE)


def test_reports_name_the_logs(run: Any) -> None:
    """The table, the page and the last line name the logs, relative to where they lie."""
    name = run.cell("deep")["log"]
    assert name in run.table
    assert name in (run.folder / "report.html").read_text()
    folder = name.partition("/")[0]
    assert run.out.rstrip().endswith(f"out/{folder}/")
    assert load(run.folder).logs["toy/deep"] == run.folder / name


def test_a_saved_result_takes_its_logs_along(run: Any, tmp_path: Path) -> None:
    """``Result.save`` copies the logs, and results that are replaced leave with theirs."""
    result = load(run.folder)
    saved = result.save(tmp_path / "copy")
    name = run.cell("deep")["log"]
    assert saved.logs["toy/deep"] == tmp_path / "copy" / name
    assert saved.logs["toy/deep"].read_text() == result.logs["toy/deep"].read_text()
    results_file.remove_logs(tmp_path / "copy" / name.partition("/")[0])
    assert load(tmp_path / "copy").logs == {}


def test_a_later_run_replaces_the_logs(run: Any, qx: Callable[..., Any], toy: Any, tmp_path: Path) -> None:
    """The logs of results that are replaced go with them."""
    load(run.folder).save(tmp_path / "out")
    done = qx("run", *toy.arguments(toy.config("mended")), "-m", "file_size", "--out", "out")
    assert done.code == 0, done.err
    assert not list((tmp_path / "out").glob("logs-*"))
    assert {cell["log"] for cell in done.results["cells"].values()} == {None}
    assert "logs" not in done.out


def test_a_workload_that_fails_names_its_log(qx: Callable[..., Any], toy: Any, write_plugin: Any) -> None:
    """The message about a workload whose hook raises names the file with the traceback."""
    torn = write_plugin(
        "torn_data",
        """
        from qx import Workload, hookimpl

        @hookimpl
        def describe():
            return Workload(name="torn_data", summary="Raises.", random_weights=True)

        @hookimpl
        def make_model():
            import torch
            return torch.nn.Linear(4, 3)

        @hookimpl
        def load_data(split):
            return [][split]

        @hookimpl
        def example_inputs(batch_size):
            import torch
            return (torch.zeros(batch_size, 4),)
        """,
    )
    arguments = (*toy.plugin_arguments(torn), "--workload", "torn_data")
    done = qx("run", *arguments, "-m", "file_size", "--out", "out")
    assert done.code == 2
    message = done.err.splitlines()[-1]
    match = re.fullmatch(r"qx: error: workload torn_data: load_data test: TypeError: .*; log: (.*)", message)
    assert match is not None, message
    text = Path(match[1]).read_text()
    assert re.search(r"torn_data\.py\", line \d+, in load_data\n", text)
