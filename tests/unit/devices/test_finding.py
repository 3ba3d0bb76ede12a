"""Finding devices: what is missing is distinguished, and each plugin says what it needs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qx import Config, Metric, UsageError
from qx.devices import driver, finding
from qx.devices.finding import Found, FoundDevice, missing_device, require_device

A10 = FoundDevice(name="cuda:0", uuid="GPU-1", product="NVIDIA A10", capability=(8, 6), memory=24 << 30)
H100 = FoundDevice(name="cuda:1", uuid="GPU-2", product="NVIDIA H100", capability=(9, 0), memory=80 << 30)
FP8 = Config(name="fp8", summary="It.", devices=["cuda"], compute_capability="8.9")


def pretend(monkeypatch: pytest.MonkeyPatch, *devices: FoundDevice, reason: str = "") -> None:
    """Have these devices found, or the reason why there is none."""
    found = Found(devices=devices, reason=reason)
    monkeypatch.setitem(finding.FINDERS, "cuda", lambda: found)


@pytest.fixture
def driver_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pretend that a driver is loaded, and forget what was found before."""
    file = tmp_path / "version"
    file.write_text("NVRM")
    monkeypatch.setattr(finding, "DRIVER_FILES", (str(file),))
    finding.find_cuda.cache_clear()
    return file


@pytest.fixture(autouse=True)
def _forget() -> Any:
    yield
    finding.find_cuda.cache_clear()


def answer(monkeypatch: pytest.MonkeyPatch, output: str) -> None:
    """Have the process that asks the driver print this."""
    done = subprocess.CompletedProcess([], 0, output, "a stack\n")
    monkeypatch.setattr(finding.subprocess, "run", lambda *_, **__: done)


def test_no_driver_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a driver nothing is asked, and that is the reason."""
    monkeypatch.setattr(finding, "DRIVER_FILES", (str(tmp_path / "none"),))
    finding.find_cuda.cache_clear()
    with pytest.raises(UsageError, match=r"^--device cuda:0: no NVIDIA driver is loaded on this machine$"):
        require_device("cuda:0")
    require_device("cpu")


@pytest.mark.usefixtures("driver_files")
def test_a_torch_without_cuda_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With a driver, a torch that was built without CUDA is the reason, with its version."""
    package = tmp_path / "torch"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "version.py").write_text("__version__ = '2.15.0+cpu'\ncuda: Optional[str] = None\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    with pytest.raises(UsageError, match=r"this torch \(2.15.0\+cpu\) was built without CUDA"):
        require_device("cuda:0")


@pytest.mark.usefixtures("driver_files")
@pytest.mark.parametrize(
    ("output", "message"),
    [
        ('{"error": "CUDA_ERROR_NO_DEVICE"}', "CUDA_VISIBLE_DEVICES hides them"),
        (
            '{"error": "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"}',
            "cannot be used: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
        ),
        ("", "ended its process: a stack"),
        ('{"cuda": "13.0", "devices": []}', "has no device"),
    ],
)
def test_a_driver_that_gives_no_device_is_told(
    monkeypatch: pytest.MonkeyPatch, output: str, message: str
) -> None:
    """Whatever the driver answers in place of devices is the reason, in one line."""
    monkeypatch.setattr(finding, "_torch_without_cuda", lambda: None)
    answer(monkeypatch, output)
    with pytest.raises(UsageError, match=message):
        require_device("cuda:0")


@pytest.mark.usefixtures("driver_files")
def test_devices_of_the_driver_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver's devices have the names of cells, in its order; a larger number is refused with them."""
    monkeypatch.setattr(finding, "_torch_without_cuda", lambda: None)
    fields = {"uuid": "GPU-1", "product": "NVIDIA A10", "capability": [8, 6], "memory": 24 << 30}
    answer(monkeypatch, json.dumps({"cuda": "13.0", "devices": [fields]}))
    assert finding.find_cuda().devices == (A10,)
    require_device("cuda:0")
    with pytest.raises(UsageError, match=r"no such device; this machine has cuda:0 \(NVIDIA A10\)$"):
        require_device("cuda:1")


def test_the_program_that_asks_the_driver_answers_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    """It says in a line of JSON which devices there are, or why there is none."""
    driver.main()
    assert json.loads(capsys.readouterr().out).keys() in ({"error"}, {"cuda", "devices"})


def test_what_a_plugin_needs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plugins for the CPU need nothing; others a device, and a config perhaps a compute capability."""
    pretend(monkeypatch, reason="no NVIDIA driver is loaded on this machine")
    metric = Metric(
        name="it",
        summary="It.",
        unit="ms",
        better="lower",
        samples="per_block",
        compare="ratio",
        phase="block",
        devices=["cuda"],
    )
    assert missing_device(FP8) == missing_device(metric)
    assert missing_device(FP8) == "needs a CUDA device: no NVIDIA driver is loaded on this machine"
    assert missing_device(Config(name="it", summary="It.", devices=["cpu", "cuda"])) == ""
    pretend(monkeypatch, A10)
    assert missing_device(metric) == ""
    assert missing_device(FP8) == ("needs a device of compute capability 8.9 or higher: NVIDIA A10 has 8.6")
    pretend(monkeypatch, A10, H100)
    assert missing_device(FP8) == ""
