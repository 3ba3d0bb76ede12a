"""``qx new``: what it makes installs, passes its tests and shows up, as it is."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def _installed(folder: Path) -> Path:
    """Where the distribution is importable with its metadata, without an installer: its ``src``."""
    setup = configparser.ConfigParser()
    setup.read(folder / "setup.cfg")
    metadata = setup["metadata"]
    source = folder / "src"
    place = source / f"{metadata['name'].replace('-', '_')}-{metadata['version']}.dist-info"
    place.mkdir()
    (place / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {metadata['name']}\nVersion: {metadata['version']}\n"
    )
    lines = setup["options.entry_points"]["qx"].strip()
    (place / "entry_points.txt").write_text(f"[qx]\n{lines}\n")
    (place / "top_level.txt").write_text(setup["options"]["packages"].strip() + "\n")
    return source


@pytest.fixture(scope="module", params=["config", "metric", "workload"])
def made(request: Any, qx: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A new distribution of each kind, importable; its kind, name, folder and environment."""
    kind, name = request.param, f"fresh_{request.param}"
    home = tmp_path_factory.mktemp("new")
    done = qx("new", kind, name, cwd=home)
    assert done.code == 0, done.err
    folder = home / f"qx-{name.replace('_', '-')}"
    assert f"made the {kind} {name}" in done.out
    path = os.pathsep.join(filter(None, (str(_installed(folder)), os.environ.get("PYTHONPATH"))))
    return kind, name, folder, {**os.environ, "PYTHONPATH": path}


def _run(folder: Path, environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, env=environment, text=True, capture_output=True
    )


def test_it_passes_its_own_tests(made: Any) -> None:
    """The tests of the distribution, the conformance kit among them, pass as they are."""
    _, _, folder, environment = made
    done = _run(folder, environment, "pytest", "-q", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "failed" not in done.stdout


def test_it_shows_up(made: Any) -> None:
    """``qx list`` names it with its distribution; a run shows a config as a row and a metric as a column."""
    kind, name, folder, environment = made
    assert f"qx-{name.replace('_', '-')} 0.1.0" in _run(folder, environment, "qx", "list").stdout
    what = {
        "config": ("--workload", "digits_cnn", "-c", name, "-m", "file_size"),
        "metric": ("--workload", "digits_cnn", "-c", "fp32_baseline", "-m", name),
        "workload": ("--workload", name, "-c", "fp32_baseline", "-m", "accuracy"),
    }[kind]
    done = _run(folder, environment, "qx", "run", *what, "--quick", "--budget", "0.01", "--out", "out")
    assert done.returncode == 0, done.stderr
    tables = "".join(path.read_text() for path in (folder / "out").rglob("pareto.md"))
    assert name in tables


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("config", "latency"), "the name 'latency' is taken, by quant-explorer"),
        (("config", "control"), "the name 'control' is taken"),
        (("config", "plugins"), "there is a package 'qx_plugins' already"),
        (("config", "My-Recipe"), "'My-Recipe' cannot be a plugin's name"),
        (("config", "class"), "'class' cannot be a plugin's name"),
        (("loader", "mine"), "invalid choice: 'loader'"),
        (("metric", "mine", "--dir", "."), ". is there already"),
    ],
)
def test_what_cannot_be_is_refused(qx: Callable[..., Any], words: tuple[str, ...], told: str) -> None:
    """One line says what is wrong, the exit code is 2, and nothing is made."""
    done = qx("new", *words)
    assert done.code == 2
    assert told in done.err
    assert len(done.err.splitlines()) == 1
    assert list(Path.cwd().iterdir()) == []
