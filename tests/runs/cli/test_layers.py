"""``qx layers``: which layers cost a config quality, and what leaving them in float gives back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qx.host.host import Host

Qx = Callable[..., Any]

INJURED = Path(__file__).parents[3] / "examples" / "layers" / "injured.py"
READY = {entry.name for entry in Host.discover().ready("config")}


@pytest.fixture(scope="module")
def injured(tmp_path_factory: pytest.TempPathFactory, qx: Qx) -> Path:
    """Train the injured network of the examples in a folder of its own."""
    folder = tmp_path_factory.mktemp("injured")
    shutil.copy(INJURED, folder)
    done = qx("train", "injured.py", "--epochs", 8, "--out", "injured.pt", cwd=folder)
    assert done.code == 0, done.err
    return folder


@pytest.mark.parametrize(
    "config",
    [
        "fx_static_int8",
        pytest.param("onnxruntime_static_int8_per_channel", marks=pytest.mark.slow),
        pytest.param("openvino_int8", marks=pytest.mark.slow),
    ],
)
def test_the_injured_layer_comes_first(injured: Path, config: str, qx: Qx) -> None:
    """The layer with large useless weights is found, its quality comes back, and the command says so."""
    if config not in READY:
        pytest.skip(f"{config} cannot be used here")
    out = f"{config}.json"
    command = ("layers", "injured.py", "--weights", "injured.pt", "-c", config)
    done = qx(*command, "--top", 2, "--out", out, cwd=injured)
    assert done.code == 0, done.err
    found = json.loads((injured / out).read_text())
    assert [layer["name"] for layer in found["layers"]] == ["0", "2", "5", "9"]
    gains = found["gains"]
    assert len(gains) == 2
    low, high = gains["2"]["ci"]
    assert 0.3 < low < gains["2"]["difference"] < high
    assert gains["2"]["p"] < 1e-6
    assert found["recipe"].split("+")[0] == "2"
    assert found["quantized"]["value"] + 0.3 < found["baseline"]["value"]
    last = done.out.splitlines()[-1]
    assert last.startswith("    qx run injured.py --weights=injured.pt -c ")
    assert f"--set {config}.float_layers=2" in last


def test_a_run_has_it_as_a_part_of_its_report(injured: Path, qx: Qx) -> None:
    """``--out DIR`` adds to the page of the run in it, which ``qx report`` draws again."""
    model = ("injured.py", "--weights", "injured.pt")
    quick = ("-m", "accuracy", "-m", "file_size", "--quick", "--out", "run")
    assert qx("run", *model, "-c", "fx_static_int8", *quick, cwd=injured).code == 0
    done = qx("layers", *model, "-c", "fx_static_int8", "--quick", "--out", "run", cwd=injured)
    assert done.code == 0, done.err
    assert "has a part about the layers of fx_static_int8" in done.err
    for _ in range(2):
        assert "Layers of <code>fx_static_int8</code>" in (injured / "run" / "report.html").read_text()
        assert qx("report", "run", cwd=injured).code == 0
    done = qx("layers", *model, "-c", "dynamic_int8", "--quick", "--out", "run", cwd=injured)
    assert done.code == 2
    assert "config dynamic_int8 took no part in its run" in done.err


def test_names_are_listed(qx: Qx) -> None:
    """``--list`` prints the names that ``float_layers`` takes, one in a line, and nothing else."""
    done = qx("layers", "-c", "dynamic_int8", "--workload", "digits_cnn", "--list")
    assert (done.code, done.out) == (0, "classifier\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-c", "bf16"), "config bf16 leaves no layers in float: it has no option 'float_layers'"),
        (("-c", "nothing"), "unknown config 'nothing'"),
        (("-c", "dynamic_int8", "--top", 0), "--top must be at least 1, not 0"),
        (("-c", "dynamic_int8", "--items", -1), "--items must be at least 1, not -1"),
        (("-c", "dynamic_int8", "--out", "x.pdf"), "--out x.pdf: its suffix must be .html, .md or .json"),
        (
            ("-c", "dynamic_int8", "--set", "dynamic_int8.float_layers=a,b"),
            "one set of options is expected here, not 2: give each option one value",
        ),
    ],
)
def test_a_mistake_is_one_line(words: tuple[object, ...], message: str, qx: Qx) -> None:
    """What cannot be done is refused with exit 2 before anything is prepared."""
    done = qx("layers", "--workload", "digits_cnn", *words)
    assert done.code == 2
    (line,) = done.err.splitlines()
    assert message in line


@pytest.mark.parametrize(
    ("command", "text", "message"),
    [
        ("layers", "clasifier", "the model has no layer 'clasifier' (nearest: classifier"),
        ("quantize", "features.0", "'features.0' names no layer that this config quantizes"),
    ],
)
def test_a_wrong_layer_is_refused_before_anything_is_built(
    command: str, text: str, message: str, qx: Qx
) -> None:
    """A name that matches nothing ends every command with exit 2, one line and the nearest names."""
    setting = f"dynamic_int8.float_layers={text}"
    done = qx(command, "-c", "dynamic_int8", "--workload", "digits_cnn", "--set", setting)
    assert done.code == 2
    line = done.err.splitlines()[-1]
    assert line.startswith(f"qx: error: --set {setting}: {message}")
    assert "log:" not in line
