"""A whole run on a device that is pretended: real processes, and kernels whose true times are known."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from qx.cli import main
from qx.contract.devices import DeviceFacts, DeviceMemory, DeviceProcess, DeviceReading
from qx.devices import finding
from qx.devices.finding import Found, FoundDevice
from qx.processes.job_answers import DeviceAnswer
from qx.results import results_file
from qx.results.records import Results
from qx.runner.devices import RunDevice

#: A config whose network takes a known time on the device, and the loader that serves it there.
PLUGINS = """
import sys
from pathlib import Path

from qx import Artifact, Config, Loader, hookimpl

sys.path.insert(0, {tests!r})


class Plugin:
    def __init__(self, name, milliseconds, reference=False):
        self.name, self.milliseconds, self.reference = name, milliseconds, reference

    @hookimpl
    def describe(self):
        return Config(
            name=self.name, summary="It.", devices=["cuda"], reference=self.reference, keeps_outputs=True
        )

    @hookimpl
    def convert(self, model, context):
        assert context.device == "cuda:0", context.device
        import numpy
        weights = {{name: value.numpy() for name, value in model.state_dict().items()}}
        numpy.savez(context.folder / "weights.npz", **weights)
        details = {{"milliseconds": self.milliseconds}}
        return Artifact(folder=context.folder, files=["weights.npz"], loader="on_device", details=details)


class LoaderPlugin:
    @hookimpl
    def describe(self):
        return Loader(name="on_device", summary="It.", imports=["numpy"], devices=["cuda"])

    @hookimpl
    def load(self, artifact, context):
        assert context.device == "cuda:0" and Path(context.cache).is_dir()
        return Subject(artifact.details["milliseconds"])


class Subject:
    def __init__(self, milliseconds):
        self.milliseconds = milliseconds

    def prepare(self, arrays):
        return next(iter(arrays.values()))

    def call(self, native):
        DEVICES[-1].kernel(self.milliseconds / 1e3)
        return native

    def outputs(self, native):
        import numpy
        return {{"output": numpy.repeat(native.reshape(len(native), -1)[:, :1], {classes}, axis=1)}}


DEVICES = []


def open_pretended(name):
    from pretend_device import PretendDevice, ramp

    DEVICES.append(PretendDevice(name=name, speed=ramp(0.4, 1.0), limits=("power limit",)))
    return DEVICES[-1]


from qx.devices import cuda

cuda.CudaDevice = open_pretended

base = Plugin("base", 2.0, reference=True)
half = Plugin("half", 1.0)
loader = LoaderPlugin()
"""
A100 = FoundDevice(name="cuda:0", uuid="GPU-1", product="NVIDIA A100", capability=(8, 0), memory=40 << 30)
FACTS = DeviceFacts(product="NVIDIA A100", driver="580.1", capability="8.0", max_clock=1410.0)
#: Seconds that the pretended device takes beside the kernels: to start one, and until the host notices.
START, NOTICE = 5e-6, 8e-6


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """A run of two configs on the pretended device."""
    folder = tmp_path_factory.mktemp("device")
    file = folder / "pretended.py"
    file.write_text(PLUGINS.format(tests=str(Path(__file__).parents[2]), classes=10))
    others = DeviceProcess(pid=1, name="init", memory=1 << 30)
    answer = DeviceAnswer(
        facts=FACTS,
        reading=DeviceReading(processes=(others,)),
        memory=DeviceMemory(of_process=400.0, free=30_000.0, total=40_960.0),
    )
    plugins = [f"{file}:{name}" for name in ("base", "half", "loader")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(finding.FINDERS, "cuda", lambda: Found(devices=(A100,)))
        running = sys.modules["qx.runner.run"]
        patch.setattr(running, "open_run_device", lambda *_: RunDevice("cuda:0", answer))
        words = ["run", "digits_cnn", "--device", "cuda", "-c", "half", "--batch-size", "1"]
        words += ["--quick", "--budget", "0.01"]
        metrics = [word for name in ("latency", "device_latency", "device_memory") for word in ("-m", name)]
        options = [word for plugin in plugins for word in ("-p", plugin)]
        assert main([*options, "-p", "no:fp32_baseline", *words, *metrics, "--out", str(folder / "out")]) == 0
    return results_file.read(folder / "out")


def value(results: Results, config: str, metric: str) -> Any:
    """Return the measurement of a metric of a config."""
    cell = f"digits_cnn/{config}@cuda:0"
    return next(entry for entry in results.measurements if (entry.cell, entry.metric) == (cell, metric))


@pytest.mark.parametrize(("config", "seconds"), [("base", 2e-3), ("half", 1e-3)])
def test_both_clocks_are_within_a_percent_of_the_truth(results: Results, config: str, seconds: float) -> None:
    """What the table says is what the device's kernels take, although its clocks ramp for a second."""
    wall, device = (value(results, config, name).value for name in ("latency", "device_latency"))
    assert device == pytest.approx(1e3 * (seconds + START), rel=0.01)
    assert wall == pytest.approx(1e3 * (seconds + START + NOTICE), rel=0.01)
    assert wall == pytest.approx(device, rel=0.02)


def test_speedups_are_those_of_the_kernels(results: Results) -> None:
    """The config whose kernels are half as long is twice as fast, by both clocks."""
    for name in ("latency", "device_latency"):
        assert value(results, "half", name).vs_baseline.value == pytest.approx(2.0, rel=0.02)


def test_cells_and_the_environment_have_the_device(results: Results) -> None:
    """Every cell is on the device, which the environment describes; its memory is measured."""
    assert {cell.device for cell in results.cells.values()} == {"cuda:0"}
    assert results.run.baseline == "digits_cnn/base@cuda:0"
    assert results.environment.devices == {"cuda:0": FACTS}
    memory = value(results, "half", "device_memory")
    assert (memory.value, memory.details["source"]) == (420.0, "driver")


def test_what_the_device_showed_is_recorded(results: Results) -> None:
    """Each launch of each wave leaves a reading, and each cell the time of its first call."""
    measuring = results.run.measuring
    assert measuring is not None
    assert {reading.clock for reading in measuring.readings} == {2000.0}
    assert {reading.wave for reading in measuring.readings} == {0, 1, 2}
    assert {reading.limits for reading in measuring.readings} == {("power limit",)}
    # The device begins at 40 % of its speed.
    (first,) = measuring.first_calls["digits_cnn/half@cuda:0"].values()
    assert 1.5e-3 < first < 2.5e-3
    assert not measuring.unsteady


def test_reports_name_the_device(results: Results) -> None:
    """Rows and the environment name it, with what it showed while it was timed."""
    from qx.report import markdown

    text = markdown.render(results)
    assert "half@cuda:0" in text
    assert "NVIDIA A100, compute capability 8.0, driver 580.1, clocks up to 1,410 MHz" in text
    assert "clocks held down in 9 of 9 readings (power limit)" in text


def test_the_file_fits_its_schema(results: Results) -> None:
    """What was written is read again, and so are its devices."""
    fields = json.loads(results_file.to_json(results))
    assert fields["environment"]["devices"]["cuda:0"]["product"] == "NVIDIA A100"
    assert fields["run"]["measuring"]["readings"][0]["clock"] == 2000.0
