"""``--device`` on a machine without one, and configs for a device where nobody asked for it."""

from __future__ import annotations

import json

import pytest

from qx.cli import main
from qx.contract.devices import CPU
from qx.devices import finding
from qx.devices.finding import Found, FoundDevice
from qx.host.host import Host
from qx.runner import Request
from qx.runner.request import choose, config, metric

REASON = "no NVIDIA driver is loaded on this machine"
A10 = FoundDevice(name="cuda:0", uuid="GPU-1", product="NVIDIA A10", capability=(8, 6), memory=24 << 30)


@pytest.fixture
def no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a device, whatever this one has."""
    monkeypatch.setitem(finding.FINDERS, "cuda", lambda: Found(reason=REASON))


@pytest.fixture
def one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a device that has no 8-bit floats."""
    monkeypatch.setitem(finding.FINDERS, "cuda", lambda: Found(devices=(A10,)))


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the only line on standard error."""
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.usefixtures("no_device")
@pytest.mark.parametrize("device", ["cuda", "cuda:3"])
def test_a_device_that_is_not_there_is_one_line(device: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A run on a device ends with 2 where there is none, before anything is prepared or written."""
    assert main(["run", "digits_cnn", "--device", device]) == 2
    name = device if ":" in device else f"{device}:0"
    assert one_line(capsys) == f"qx: error: --device {name}: {REASON}"


@pytest.mark.skipif(finding.find_cuda().reason == "", reason="there is a device")
@pytest.mark.usefixtures("one_device")
def test_a_device_that_torch_cannot_open_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A process opens the device before anything is prepared, and what torch says of it ends the run."""
    assert main(["run", "digits_cnn", "--device", "cuda", "-c", "bf16"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("qx: error: --device cuda:0: ")


@pytest.mark.usefixtures("no_device")
def test_a_wrong_device_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """What is no device is refused with the forms that there are."""
    assert main(["run", "digits_cnn", "--device", "gpu"]) == 2
    assert one_line(capsys) == "qx: error: --device gpu: expected cpu, cuda or cuda:N"


@pytest.mark.usefixtures("one_device")
def test_a_number_that_is_too_large_names_the_devices(capsys: pytest.CaptureFixture[str]) -> None:
    """The devices that there are stand in the line."""
    assert main(["run", "digits_cnn", "--device", "cuda:1"]) == 2
    assert one_line(capsys).endswith("no such device; this machine has cuda:0 (NVIDIA A10)")


@pytest.mark.usefixtures("one_device")
@pytest.mark.parametrize("command", ["run", "quantize", "profile"])
def test_a_config_for_a_device_is_refused_on_the_cpu(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where there is a device, but the command is not on it, a config for it is one line with what to do."""
    assert main([command, "digits_cnn", "-c", "fp16"]) == 2
    expected = "config fp16 is for cuda, and this is on cpu: qx run --device cuda takes it"
    assert one_line(capsys) == f"qx: error: {expected}"


@pytest.mark.usefixtures("one_device")
def test_a_config_for_the_cpu_is_refused_on_a_device(capsys: pytest.CaptureFixture[str]) -> None:
    """A config that is for the CPU alone has no cell on a device."""
    assert main(["run", "digits_cnn", "--device", "cuda", "-c", "dynamic_int8"]) == 2
    expected = "config dynamic_int8 is for cpu, and this is on cuda:0: leave --device out"
    assert one_line(capsys) == f"qx: error: {expected}"


@pytest.mark.usefixtures("no_device")
def test_list_shows_what_is_for_a_device_as_unavailable(capsys: pytest.CaptureFixture[str]) -> None:
    """Configs, metrics and loaders for a device have the reason why they cannot be used."""
    assert main(["list", "--json"]) == 0
    states = {
        entry["name"]: (entry["state"], entry["reason"]) for entry in json.loads(capsys.readouterr().out)
    }
    needed = ("unavailable", f"needs a CUDA device: {REASON}")
    for name in ("fp16", "compile_fp32", "compile_fp8_dynamic", "onnxruntime_tensorrt_fp16"):
        assert states[name] == needed
    for name in ("device_latency", "device_memory", "torch_compile", "onnxruntime_gpu"):
        assert states[name] == needed
    assert states["fp32_baseline"] == states["bf16"] == ("ready", "")


@pytest.mark.usefixtures("one_device")
def test_list_shows_which_compute_capability_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    """A device that lacks what a config needs makes it unavailable, and leaves the others."""
    assert main(["list", "--json", "--kind", "config"]) == 0
    states = {
        entry["name"]: (entry["state"], entry["reason"]) for entry in json.loads(capsys.readouterr().out)
    }
    reason = "needs a device of compute capability 8.9 or higher: NVIDIA A10 has 8.6"
    assert states["compile_fp8_dynamic"] == ("unavailable", reason)
    assert states["fp16"] == ("ready", "")


@pytest.mark.usefixtures("one_device")
def test_the_default_matrix_is_that_of_the_device() -> None:
    """A run on the CPU takes what it took before, and one on a device the configs that are for it."""
    host = Host.discover()
    on_cpu, on_device = (choose(host, Request(device=device)) for device in (CPU, "cuda"))
    names = {entry.name for entry in on_cpu.configs}
    assert len(names) == 31
    assert not [entry.name for entry in on_cpu.configs if CPU not in config(entry).devices]
    assert not [entry.name for entry in on_cpu.metrics if metric(entry).devices]
    names = {entry.name for entry in on_device.configs}
    assert {"fp32_baseline", "bf16", "fp16", "compile_bf16", "onnxruntime_cuda_fp32"} <= names
    assert not names & {"dynamic_int8", "inductor_fp32", "torchao_int8_dynamic"}
    assert {"latency", "device_latency", "device_memory"} <= {entry.name for entry in on_device.metrics}
    assert on_device.baseline.name == "fp32_baseline"


@pytest.mark.usefixtures("one_device")
def test_a_metric_for_a_device_is_refused_on_the_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is a device, but the run is not on it, the metric cannot be measured."""
    assert main(["run", "digits_cnn", "-m", "device_memory"]) == 2
    assert "metric device_memory is measured on cuda, and this run is on cpu" in one_line(capsys)
