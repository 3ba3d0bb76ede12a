"""A distribution with a broken entry point beside qx: every command still works, and names it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qx.cli import COMMANDS

Qx = Callable[..., Any]
WARNING = (
    "qx: warning: plugin 'torn_plugin' (torn 1.0) is broken: cannot be imported: ModuleNotFoundError: "
    "No module named 'no_such_module'"
)


@pytest.fixture
def torn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the distribution as pip does; its module imports a module that does not exist."""
    info = tmp_path / "site" / "torn-1.0.dist-info"
    info.mkdir(parents=True)
    info.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: torn\nVersion: 1.0\n")
    info.joinpath("entry_points.txt").write_text("[qx]\ntorn_plugin = torn_module\n")
    info.with_name("torn_module.py").write_text("import no_such_module\n")
    monkeypatch.syspath_prepend(info.parent)


@pytest.mark.usefixtures("torn")
def test_every_command_works_and_names_it(qx: Qx, toy: Any) -> None:
    """Every command warns of the plugin in one line on standard error, and ``list`` shows it in its table."""
    Path("rules.toml").write_text('[[rule]]\nmetric = "file_size"\nlargest = 1_000_000\n')
    ran = qx("run", *toy.arguments(toy.config("plain")), "-m", "file_size", "--out", "out")
    another = json.loads(Path("out/full_results.json").read_text())
    another["run"]["id"] = "another"
    Path("other").write_text(json.dumps(another))
    listed = toy.config("listed", record="float_layers=True")
    commands = {
        "run": ran,
        "report": qx("report", "out"),
        "profile": qx("profile", *toy.arguments(), "-c", "toy_fp32"),
        "layers": qx("layers", *toy.arguments(listed), "-c", "listed", "--list"),
        "search": qx(
            *("search", *toy.arguments(toy.config("plain")), "-c", "plain"),
            *("--max-drop", "30pt", "--minimize", "size"),
        ),
        "quantize": qx("quantize", *toy.arguments(), "-c", "toy_fp32"),
        "train": qx("train", "--workload", "toy", *toy.plugin_arguments()),
        "show": qx("show", "latency"),
        "doctor": qx("doctor", "--seconds", 0.2, "--quick"),
        "compare": qx("compare", "out", "again=out"),
        "gate": qx("gate", "out", "--rules", "rules.toml"),
        "history": qx("history", "out", "other"),
        "check": qx("check", "file_size"),
        "new": qx("new", "config", "mine"),
    }
    # The cache is no plugin's affair.
    assert {*commands, "list", "cache"} == {*COMMANDS}
    for command, done in commands.items():
        assert done.code == 0, (command, done.err)
        assert done.err.splitlines().count(WARNING) == 1, command
    assert set(ran.results["configs"]) == {"toy_fp32", "plain"}
    listed = qx("list")
    assert listed.code == 0
    (line,) = (line for line in listed.out.splitlines() if "torn_plugin" in line)
    assert line.split()[:3] == ["?", "torn_plugin", "broken"]
    assert qx("--help").code == 0
