"""``qx doctor``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qx.cli import main
from qx.devices import finding
from qx.doctor import checks as doctor
from qx.errors import UsageError
from qx.runner import Request


def test_doctor_examines_and_measures(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Doctor names what it looked at, each with a state, and ends with the noise floor and its interval."""
    # A machine without a device, whatever this one has.
    monkeypatch.setattr(finding, "DRIVER_FILES", ())
    finding.find_cuda.cache_clear()
    assert main(["doctor", "--seconds", "0.2", "--quick", "--json"]) == 0
    finding.find_cuda.cache_clear()
    report = json.loads(capsys.readouterr().out)
    assert {finding["state"] for finding in report["findings"]} <= {"good", "bad", "unknown"}
    assert [finding["name"] for finding in report["findings"]] == [
        "frequency governor", "turbo", "simultaneous multithreading", "other load", "hypervisor",
        "control group", "swap", "threads", "device",
    ]  # fmt: skip
    assert report["findings"][-1]["found"] == "no device: no NVIDIA driver is loaded on this machine"
    assert all(finding["advice"] for finding in report["findings"] if finding["state"] == "bad")
    low, high = report["noise"]["ratio"]["ci"]
    assert low <= report["noise"]["ratio"]["value"] <= high
    assert report["noise"]["rounds"] >= 6
    assert report["resolution"] is None and report["not_resolved"] is None


@pytest.mark.parametrize("model", ["toy", pytest.param("built-in", marks=pytest.mark.slow)])
def test_doctor_ends_with_what_this_machine_can_resolve(
    model: str, toy: Any, write_plugin: Callable[[str, str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Launches of the baseline beside itself say in how many seconds an interval is so narrow."""
    words, baseline = ["doctor", "--seconds", "0.2", "--json"], "fp32_baseline"
    if model == "toy":
        source = Path(toy.plugins[0]).read_text(encoding="utf-8")
        default = source.replace('name="toy",', 'name="toy", default=True, random_weights=True,')
        plugins = (write_plugin("toy", default), *toy.plugins[1:], "no:cifar10_cnn")
        words += [word for plugin in plugins for word in ("-p", plugin)]
        baseline = "toy_fp32"
    assert main(words) == 0
    resolution = json.loads(capsys.readouterr().out)["resolution"]
    assert (resolution["config"], resolution["batch_size"], resolution["waves"]) == (baseline, 1, 6)
    assert resolution["deviation"] > 0 and resolution["wave_seconds"] > 0
    assert resolution["wave_seconds_of_configs"] == pytest.approx(3 * resolution["wave_seconds"])
    assert [goal["precision"] for goal in resolution["goals"]] == [0.02, 0.01]
    waves = [goal["waves"] for goal in resolution["goals"] if goal["waves"] is not None]
    assert waves == sorted(waves) and min(waves, default=6) >= 6


def test_doctor_says_why_it_could_launch_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a baseline to launch, the rest is there and the reason in place of what can be resolved."""
    assert main(["-p", "no:fp32_baseline", "doctor", "--seconds", "0.2"]) == 0
    out = capsys.readouterr().out
    assert "Noise floor" in out
    assert "What this machine can resolve was not measured: no baseline is ready" in out


def test_a_limit_of_any_group_around_this_process_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quota on processors, however far up it was set, is reported with the tightest limit of memory."""
    inner = tmp_path / "system.slice" / "qx.service"
    inner.mkdir(parents=True)
    (tmp_path / "system.slice" / "cpu.max").write_text("150000 100000\n")
    (inner / "cpu.max").write_text("max 100000\n")
    (inner / "memory.max").write_text(f"{2 * 2**30}\n")
    monkeypatch.setattr(doctor, "CGROUP", tmp_path)
    monkeypatch.setattr(doctor, "control_group", lambda: inner)
    (finding,) = [finding for finding in doctor.examine() if finding.name == "control group"]
    assert (finding.state, finding.found) == (
        "bad",
        "1.5 processors, by a quota that stops processes in between; 2.0 GiB of memory",
    )


def test_doctor_refuses_no_time(capsys: pytest.CaptureFixture[str]) -> None:
    """Seconds that are not above 0 are refused in one line."""
    assert main(["doctor", "--seconds", "0"]) == 2
    assert "--seconds must be above 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"cpus": (99_999,)}, "--cpus: there is no CPU 99999"),
        ({"precision": 0.0}, "--precision"),
        ({"precision": float("inf")}, "--precision"),
        ({"budget": -1.0}, "--budget"),
        ({"timeout": float("inf")}, "--timeout"),
    ],
)
def test_what_no_run_can_be_made_of_is_refused(fields: dict[str, object], named: str) -> None:
    """CPUs that do not exist, and a precision, budget or timeout out of range, are refused by name."""
    with pytest.raises(UsageError, match=named):
        Request(**fields).check()
