"""``benchmarks/gpu.py``, the checks on a real device: its plan, and what a part that fails costs."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from qx.devices import finding
from qx.devices.finding import Found

TOP = Path(__file__).parents[2]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, as ``python -m`` finds it in the root of the checkout."""
    monkeypatch.chdir(TOP)
    monkeypatch.syspath_prepend(TOP)
    return importlib.import_module("benchmarks.gpu")


def test_the_plan_says_what_is_run_and_for_how_long(
    gpu: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each part has a line with its limit, and all of them take eight minutes at most."""
    monkeypatch.setattr(sys, "argv", ["gpu", "--plan"])
    assert gpu.main() == 0
    *lines, total = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(gpu.PARTS)
    seconds = [float(line.split()[1]) for line in lines]
    assert sum(seconds) == float(total.split()[1]) <= 480


def test_every_config_for_a_device_is_checked(gpu: Any) -> None:
    """The script knows the type of arithmetic of each config that is for a GPU."""
    from qx.host.host import Host
    from qx.runner.request import config

    configs = [entry for entry in Host.discover().entries if entry.kind == "config" and entry.record]
    assert set(gpu.TYPES) == {entry.name for entry in configs if "cuda" in config(entry).devices}


def test_a_part_that_fails_costs_itself(
    gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Parts are processes: where one fails for want of a device, the one after it is run all the same."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    report = gpu.Report(tmp_path / "gpu.json")
    assert gpu.run_all(["clocks", "peak"], report) == 1
    parts = json.loads(report.path.read_text())["parts"]
    printed = capsys.readouterr().out
    for name in ("clocks", "peak"):
        assert parts[name]["failed"].startswith("ended with status 1: ")
        assert "cuda:0" in parts[name]["failed"]
        assert f"{name}: FAILED" in printed


@pytest.mark.parametrize("workload", ["digits_cnn", "stdlib_lm"])
def test_the_operations_of_a_model_are_counted(gpu: Any, workload: str) -> None:
    """Two operations for each weight, at each place that it is used at, or more are what a call takes."""
    model, item = gpu._model_and_item(workload)
    weights = sum(weight.numel() for name, weight in model.named_parameters() if "tokens" not in name)
    places = item.shape[-1] if workload == "stdlib_lm" else 1
    assert gpu._operations(workload) > 2 * 0.9 * weights * places


def test_a_part_that_takes_too_long_is_ended(
    gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its limit a part is ended, and the file says so."""
    monkeypatch.setitem(gpu.PARTS, "clocks", gpu.PARTS["clocks"]._replace(limit=0.01))
    report = gpu.Report(tmp_path / "gpu.json")
    assert gpu.run_all(["clocks"], report) == 1
    assert report.parts["clocks"] == {"failed": "took longer than 0 s"}


def test_without_a_device_the_file_says_so(gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is none, nothing is run, and what is committed says that there was none, and when."""
    monkeypatch.setattr(finding, "find_cuda", lambda: Found(reason="no driver"))
    path = tmp_path / "gpu.json"
    path.write_text('{"parts": {"clocks": {"checks": {}}}}')
    monkeypatch.setattr(sys, "argv", ["gpu", "--out", str(path)])
    assert gpu.main() == 0
    written = json.loads(path.read_text())
    assert (written["device"], written["reason"], written["parts"]) == (None, "no driver", {})
    committed = json.loads((TOP / "benchmarks" / "results" / "gpu.json").read_text())
    assert committed["when"] and (committed["device"] is None) == bool(committed.get("reason"))
