"""A run that measures energy, by counters that a process of the test keeps at a known power."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qx.cli import main
from qx.results import results_file

#: Watts of the pretended package.
WATTS = 20
#: Process that brings the counter up to date as often as it can, in numbers of one width.
COUNTING = f"""
import os, sys, time
file, began = os.open(sys.argv[1], os.O_WRONLY), time.monotonic()
while os.getppid() == {{parent}}:
    os.pwrite(file, b"%015d" % ({WATTS} * 1e6 * (time.monotonic() - began)), 0)
    time.sleep(0.0005)
"""


@pytest.fixture
def powercap(tmp_path: Path) -> Iterator[Path]:
    """Return a folder of counters with one package, whose counter counts."""
    package = tmp_path / "powercap" / "intel-rapl:0"
    package.mkdir(parents=True)
    (package / "name").write_text("package-0\n")
    (package / "max_energy_range_uj").write_text("262143328850\n")
    (package / "energy_uj").write_text(f"{0:015}\n")
    code = COUNTING.format(parent=os.getpid())
    process = subprocess.Popen([sys.executable, "-c", code, str(package / "energy_uj")])
    yield package.parent
    process.kill()
    process.wait()


def test_a_run_measures_energy_where_the_processor_counts_it(
    powercap: Path,
    toy: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Joules for one item are there at each batch size, with an interval and the ratio to the baseline."""
    monkeypatch.setenv("QX_POWERCAP", str(powercap))
    out = tmp_path / "out"
    words = ["run", *toy.arguments(toy.config("other")), "-m", "latency", "-m", "energy", "--quick"]
    words += ["--budget", "0.01", "--batch-size", "1", "--batch-size", "8", "--out", str(out)]
    assert main(words) == 0
    results = results_file.read(out)
    figures = [entry for entry in results.measurements if entry.metric == "energy"]
    assert {(entry.config, entry.point.batch_size) for entry in figures if entry.point} >= {
        (config, size) for config in ("toy_fp32", "other") for size in (1, 8)
    }
    for entry in figures:
        assert (entry.unit, entry.outcome, entry.n) == ("J", "ok", 3)
        assert entry.value is not None and entry.value > 0 and entry.ci is not None
        assert entry.details["watts"] == pytest.approx(WATTS, rel=0.5)
        assert entry.vs_baseline is not None and entry.vs_baseline.kind == "ratio"
    by_size = {entry.point.batch_size: entry.value for entry in figures if entry.point}
    assert by_size[8] < by_size[1]
    assert "energy" in capsys.readouterr().out


def test_without_counters_the_metric_is_unavailable_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where no counter can be read, the list says why, and a run that asks for energy ends with exit 2."""
    if any(Path("/sys/class/powercap").glob("intel-rapl:*/energy_uj")):
        pytest.skip("this machine has counters")
    monkeypatch.setenv("QX_POWERCAP", str(tmp_path))
    assert main(["list", "--kind", "metric", "--json"]) == 0
    (entry,) = [entry for entry in json.loads(capsys.readouterr().out) if entry["name"] == "energy"]
    assert entry["state"] == "unavailable"
    assert f"needs a file {tmp_path}/intel-rapl:*/energy_uj or /sys/class/powercap/" in entry["reason"]
    assert main(["run", "digits_cnn", "-m", "+energy", "--out", str(tmp_path / "out")]) == 2
    assert "metric energy is unavailable: needs a file" in capsys.readouterr().err
