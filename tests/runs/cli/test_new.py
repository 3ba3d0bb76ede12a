"""``qx new``: what it makes installs, passes its tests and shows up, as it is."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from qx.host.host import Host


def _installed(folder: Path) -> Path:
    """Make the distribution importable with its metadata, without an installer, and return its ``src``."""
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


@frozen
class NewDistribution:
    """A new distribution, importable, with its own tests and a run of its plugin in progress side by side."""

    kind: str
    name: str
    folder: Path
    environment: dict[str, str]
    tests: subprocess.Popen[str]
    run: subprocess.Popen[str]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("config", marks=pytest.mark.slow),
        "metric",
        pytest.param("workload", marks=pytest.mark.slow),
        pytest.param("loader", marks=pytest.mark.slow),
    ],
)
def distribution(
    request: Any, qx: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NewDistribution]:
    """Make a new distribution of each kind, and start its tests and a run of its plugin."""
    kind, name = request.param, f"fresh_{request.param}"
    home = tmp_path_factory.mktemp("new")
    done = qx("new", kind, name, cwd=home)
    assert done.code == 0, done.err
    folder = home / f"qx-{name.replace('_', '-')}"
    assert f"made the {kind} {name}" in done.out
    path = os.pathsep.join(filter(None, (str(_installed(folder)), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path}
    what = {
        "config": ("--workload", "digits_cnn", "-c", name, "-m", "file_size"),
        "metric": ("--workload", "digits_cnn", "-c", "fp32_baseline", "-m", name),
        "workload": ("--workload", name, "-c", "fp32_baseline", "-m", "accuracy"),
        "loader": ("--workload", "digits_cnn", "-c", f"{name}_int8", "-m", "file_size"),
    }[kind]
    with (
        _started(folder, environment, "pytest", "-q", "-p", "no:cacheprovider") as tests,
        _started(
            *(folder, environment, "qx", "run", *what, "--quick", "--budget", "0.01", "--out", home / "out")
        ) as run,
    ):
        yield NewDistribution(kind, name, folder, environment, tests, run)


def _started(folder: Path, environment: dict[str, str], *words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", *map(str, words)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=folder, env=environment, text=True, **pipes)


def test_it_passes_its_own_tests(distribution: NewDistribution) -> None:
    """The tests of the distribution, the conformance kit among them, pass as they are."""
    output, errors = distribution.tests.communicate()
    assert distribution.tests.returncode == 0, output + errors
    assert "failed" not in output


def test_it_shows_up(distribution: NewDistribution) -> None:
    """``qx list`` names it with its distribution; a run shows a config as a row and a metric as a column."""
    listed, _ = _started(distribution.folder, distribution.environment, "qx", "list").communicate()
    assert f"qx-{distribution.name.replace('_', '-')} 0.1.0" in listed
    _, errors = distribution.run.communicate()
    assert distribution.run.returncode == 0, errors
    tables = "".join(path.read_text() for path in (distribution.folder.parent / "out").rglob("pareto.md"))
    assert distribution.name in tables


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        pytest.param("config", "torch", marks=pytest.mark.slow),
        ("metric", "np"),
        pytest.param("workload", "numpy", marks=pytest.mark.slow),
        pytest.param("loader", "torch", marks=pytest.mark.slow),
    ],
)
def test_any_name_will_do(qx: Callable[..., Any], kind: str, name: str) -> None:
    """Its own tests pass where the plugin is called as a package that they import."""
    assert qx("new", kind, name).code == 0
    folder = Path(f"qx-{name}").resolve()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder / "src"), *sys.path])}
    words = ("pytest", "-q", "-p", "no:cacheprovider", f"tests/test_{name}.py")
    with _started(folder, environment, *words) as tests:
        output, errors = tests.communicate()
    assert tests.returncode == 0, output + errors


def test_a_loader_comes_with_its_config(qx: Callable[..., Any]) -> None:
    """Both are in one distribution, each with its entry point; ``--config`` gives the config its name."""
    done = qx("new", "loader", "boxed", "--config", "boxed_bytes")
    assert done.code == 0, done.err
    assert "made the loader boxed and the config boxed_bytes in qx-boxed" in done.out
    assert "qx check boxed boxed_bytes" in done.out
    assert "qx run --config boxed_bytes " in done.out
    setup = configparser.ConfigParser()
    setup.read("qx-boxed/setup.cfg")
    points = setup["options.entry_points"]["qx"].split("\n")
    assert points[1:] == ["boxed = qx_boxed.boxed", "boxed_bytes = qx_boxed.boxed_bytes"]
    sources = Path("qx-boxed", "src", "qx_boxed")
    assert 'loader="boxed"' in (sources / "boxed_bytes.py").read_text()
    host = Host.discover([str(sources / "boxed.py"), str(sources / "boxed_bytes.py")])
    assert host.get("loader", "boxed").state == host.get("config", "boxed_bytes").state == "ready"


def test_its_readme_says_what_works_at_once(distribution: NewDistribution) -> None:
    """The command in the README needs no data but those that come with qx, and is a first look."""
    readme = (distribution.folder / "README.md").read_text()
    (command,) = (line.strip() for line in readme.splitlines() if line.startswith("    qx run "))
    workload = distribution.name if distribution.kind == "workload" else "digits_cnn"
    assert f"--workload {workload}" in command and command.endswith("--quick")
    assert "artifacts/" in (distribution.folder / ".gitignore").read_text().splitlines()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("config", "latency"), "the name 'latency' is taken by quant-explorer"),
        (("config", "control"), "the name 'control' is taken"),
        (("config", "plugins"), "is taken by the installed package 'qx_plugins'"),
        (("config", "My-Recipe"), "'My-Recipe' cannot be the name of a plugin"),
        (("config", "class"), "'class' cannot be the name of a plugin"),
        (("config", "my_"), "'my_' cannot be the name of a plugin"),
        (("workload", "testbench"), "the name 'testbench' is taken by qx itself"),
        (("wrapper", "mine"), "invalid choice: 'wrapper'"),
        (
            ("loader", "mine", "--config", "mine"),
            "--config mine: the loader has this name, and no two plugins may",
        ),
        (("loader", "mine", "--config", "latency"), "the name 'latency' is taken by quant-explorer"),
        (("metric", "mine", "--config", "my_int8"), "only a loader comes with a config, not a metric"),
        (("metric", "mine", "--dir", "."), ". exists already"),
    ],
)
def test_what_cannot_be_is_refused(qx: Callable[..., Any], words: tuple[str, ...], message: str) -> None:
    """One line says what is wrong, the exit code is 2, and nothing is made."""
    done = qx("new", *words)
    assert done.code == 2
    assert message in done.err
    assert len(done.err.splitlines()) == 1
    assert list(Path.cwd().iterdir()) == []


def test_its_tox_has_the_torch_versions_that_qx_is_tested_with(qx: Callable[..., Any]) -> None:
    """The factors are those of qx's own tox.ini; each environment runs the tests, and the plugin."""
    assert qx("new", "metric", "fresh").code == 0
    lines = [
        set(re.findall(r"^ +(torch\d+: torch.*)$", path.read_text(), re.MULTILINE))
        for path in (Path("qx-fresh/tox.ini"), Path(__file__).parents[3] / "tox.ini")
    ]
    assert lines[0] == lines[1] and len(lines[0]) > 10


def test_its_tox_has_environments_and_a_matrix(qx: Callable[..., Any]) -> None:
    """Tox reads it: environments for each Python and torch, with a run in each, and a table over two."""
    pytest.importorskip("tox", reason="pip install tox brings it")
    assert qx("new", "metric", "fresh").code == 0

    def tox(*words: str) -> str:
        command = [sys.executable, "-m", "tox", *words]
        environment = {**os.environ, "QUANT_EXPLORER": "/a/checkout"}
        done = subprocess.run(
            command, cwd="qx-fresh", env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    names = {line.split()[0] for line in tox("list", "--no-desc").splitlines() if line.strip()}
    assert {"py310", "py313", "torch26", "torch215", "matrix"} <= names
    shown = tox("config", "-e", "py312-torch29,matrix", "-k", "deps", "commands", "depends")
    assert "/a/checkout" in shown and "torch==2.9.*" in shown and "torchvision==0.24.*" in shown
    assert re.search(r"qx compare \S+torch26 \S+torch215 --out matrix.md", shown)
    assert re.search(r"qx run .*fresh.* --out \S+results\S+py312-torch29", shown)
