"""``qx list``, ``qx show``, and what all commands have in common."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import qx.cli
from qx.cli import main

CONFIG = """
    '''The docstring of the module.'''
    from qx import Config, Option, hookimpl
    @hookimpl
    def describe():
        return Config(
            name="{name}",
            summary="Weights in half precision, arithmetic in half precision as well.",
            requires=["attrs>=20"],
            options=[Option(name="bits", default=8, help="Bits of a weight.")],
        )
    @hookimpl
    def convert(model):
        return model
"""

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a distribution with one plugin as pip does, and return the folder to put on the path."""
    before = set(sys.modules)

    def install(distribution: str, plugin: str, source: str) -> Path:
        site = tmp_path / f"site-{distribution}"
        info = site / f"{distribution}-1.0.dist-info"
        info.mkdir(parents=True)
        info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        info.joinpath("entry_points.txt").write_text(f"[qx]\n{plugin} = {distribution}_module\n")
        site.joinpath(f"{distribution}_module.py").write_text(dedent(source))
        monkeypatch.syspath_prepend(site)
        return site

    yield install
    for module in set(sys.modules) - before:
        del sys.modules[module]


def python(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python as a process of its own, with one more folder on its path."""
    folders = [str(Path(qx.__file__).parents[1]), *([str(path)] if path else [])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(folders), "COLUMNS": "100"}
    environment.pop("PYTHONUNBUFFERED", None)  # output is to be buffered, as it is for people
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment)


def test_list_shows_every_plugin(
    install: Install, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table has kind, name, state, provider, and summary or reason, also of broken plugins."""
    monkeypatch.setenv("COLUMNS", "100")
    install("acme", "acme_half", CONFIG.format(name="acme_half"))
    install("torn", "torn_plugin", "import no_such_module")
    assert main(["list"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = [line.split() for line in out.splitlines()]
    assert ["acme", "1.0"] in lines and ["torn", "1.0"] in lines
    assert any(line[:4] == ["config", "acme_half", "ready", "Weights"] for line in lines)
    assert any(line[:3] == ["?", "torn_plugin", "broken"] for line in lines)
    assert "ModuleNotFoundError:" in out


@pytest.mark.parametrize("columns", [80, 100, 300])
def test_list_fits_the_terminal(
    install: Install, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    """No line of the table is longer than the terminal is wide, nor than can be read at a glance."""
    monkeypatch.setenv("COLUMNS", str(columns))
    install("acme", "acme_static_int8_per_channel", CONFIG.format(name="acme_static_int8_per_channel"))
    assert main(["list", "--kind", "config"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= min(columns, 120)


@pytest.mark.parametrize("columns", [60, 100])
def test_a_terminal_gets_a_short_list(
    install: Install, qx_on_terminal: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    """On a terminal the list says first what is ready and what is not and why, then the names by kind."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    lacking = CONFIG.format(name="acme_half").replace("attrs>=20", "no-such-distribution>=2")
    install("acme", "acme_half", lacking)
    install("torn", "torn_plugin", "import no_such_module")
    done = qx_on_terminal("list", "--kind", "config")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert max(map(len, lines)) <= columns
    assert lines[0].startswith("ready: ") and "1 BROKEN" in lines[0]
    assert any(line.startswith("BROKEN (1): torn_plugin: ") for line in lines)
    assert any(line.startswith("not installed (") and "pip install" in line for line in lines)
    assert "acme_half" not in done.out
    assert any(line.startswith("configs    fp32_baseline, ") for line in lines)
    assert "The trained model in IEEE" in " ".join(qx_on_terminal("list", "-v").out.split())


def test_list_can_be_narrowed_to_a_kind(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    """``--kind`` leaves the plugins of that kind, and those too broken to have one."""
    install("acme", "acme_half", CONFIG.format(name="acme_half"))
    install("torn", "torn_plugin", "import no_such_module")
    assert main(["list", "--kind", "metric"]) == 0
    out = capsys.readouterr().out
    assert "acme_half" not in out
    assert "torn_plugin" in out


def test_list_json_is_for_programs(install: Install) -> None:
    """``qx list --json`` prints JSON and nothing else, whatever the plugins print."""
    site = install("acme", "acme_half", "print('noise')\n" + dedent(CONFIG.format(name="acme_half")))
    done = python("-m", "qx", "list", "--json", path=site)
    assert done.returncode == 0
    (plugin,) = (plugin for plugin in json.loads(done.stdout) if plugin["name"] == "acme_half")
    assert plugin | {"summary": ""} == {
        "kind": "config",
        "name": "acme_half",
        "state": "ready",
        "reason": "",
        "summary": "",
        "distribution": "acme",
        "version": "1.0",
        "module": "acme_module",
        "path": None,
        "attribute": None,
    }
    assert done.stderr == ""


def test_starting_up_imports_nothing_heavy() -> None:
    """``qx --help``, ``list`` and ``show`` import neither torch nor numpy, nor others of their weight."""
    program = (
        "import sys\n"
        "from qx.cli import main\n"
        "for command in (['--help'], ['list'], ['list', '--json'], ['show', 'no_such_plugin']):\n"
        "    main(command)\n"
        "heavy = {'torch', 'torchvision', 'numpy', 'scipy', 'sklearn', 'pandas', 'tabulate', 'psutil'}\n"
        "heavy |= {'rich', 'matplotlib', 'plotly'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = python("-X", "utf8", "-c", program)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_a_broken_plugin_does_not_stop_help(install: Install) -> None:
    """``qx --help`` and ``qx list --help`` work whatever the plugins do."""
    site = install("torn", "torn_plugin", "raise SystemExit(5)")
    for arguments in (["--help"], ["list", "--help"]):
        done = python("-m", "qx", *arguments, path=site)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("usage: qx")


def test_other_commands_name_the_broken_ones(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    """A command that works names each broken or conflicting plugin in one line on standard error."""
    install("acme", "acme_half", CONFIG.format(name="acme_half"))
    install("torn", "torn_plugin", "import no_such_module")
    install("first", "twice", CONFIG.format(name="twice"))
    install("second", "twice", CONFIG.format(name="twice"))
    assert main(["show", "acme_half"]) == 0
    assert capsys.readouterr().err.splitlines() == [
        "qx: warning: plugin 'torn_plugin' (torn 1.0) is broken: cannot be imported: ModuleNotFoundError: "
        "No module named 'no_such_module'",
        "qx: warning: plugin name 'twice' is in conflict: it is claimed by first 1.0 (first_module) "
        "and by second 1.0 (second_module)",
    ]


def test_show_tells_all_of_a_plugin(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    """``qx show`` gives summary, kind, state, provider, needs, options, hooks, module and its docstring."""
    install("acme", "acme_half", CONFIG.format(name="acme_half"))
    assert main(["show", "acme_half"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("acme_half: config, ready\n  Weights in half precision")
    facts = {line.strip().partition("  ")[0]: line.split("  ")[-1].strip() for line in out.splitlines()}
    assert facts["from"] == "acme 1.0"
    assert facts["module"] == "acme_module"
    assert facts["hooks"] == "describe, convert"
    assert facts["requires"] == "attrs>=20"
    assert facts["calibration"] == "no"
    assert "bits (int, default 8)\n      Bits of a weight.\n" in out
    assert out.endswith("\n  The docstring of the module.\n")


def test_show_json_is_for_programs(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    """``qx show --json`` gives the same as ``qx show``, as JSON."""
    install("acme", "acme_half", CONFIG.format(name="acme_half"))
    assert main(["show", "--json", "acme_half"]) == 0
    (plugin,) = json.loads(capsys.readouterr().out)
    assert plugin["record"]["options"][0]["name"] == "bits"
    assert plugin["hooks"] == ["describe", "convert"]
    assert plugin["documentation"] == "The docstring of the module."


def test_show_of_a_broken_one_tells_why(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    """A broken plugin can be shown, with the reason and its provider."""
    install("torn", "torn_plugin", "import no_such_module")
    assert main(["show", "torn_plugin"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("torn_plugin: a plugin of unknown kind, broken\n")
    assert "cannot be imported: ModuleNotFoundError" in out
    assert "torn 1.0" in out


def test_show_of_an_unknown_name_lists_the_names(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown name is an error that lists the choices, the likeliest first."""
    install("acme", "acme_half", CONFIG.format(name="acme_half"))
    assert main(["show", "acme_hlf"]) == 2
    assert "qx: error: unknown plugin 'acme_hlf' (choose from acme_half" in capsys.readouterr().err


def test_plugins_are_given_before_or_after_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``-p`` counts on either side of the command, and on both at once."""
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        tmp_path.joinpath(f"{name}.py").write_text(dedent(CONFIG.format(name=f"mine_{name}")))
    assert main(["-p", "one.py", "list", "-p", "two.py", "--json"]) == 0
    names = [plugin["name"] for plugin in json.loads(capsys.readouterr().out)]
    assert {"mine_one", "mine_two"} <= set(names)
    assert main(["-p", "one.py", "list", "-p", "no:mine_one"]) == 0
    assert "left_out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND (see qx --help)"),
        (["lst"], "invalid choice: 'lst'"),
        (["list", "--kind", "thing"], "argument --kind: invalid choice: 'thing'"),
        (["list", "--js"], "unrecognized arguments: --js"),
        (["-p", "no_such_module", "list"], "-p no_such_module cannot be imported: ModuleNotFoundError"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """A mistake on the command line is one line on standard error and exit code 2."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("qx: error: ")
    assert message in err


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "qx: interrupted\n"),
        (qx.DataError("no\nimages"), 2, "qx: error: no images\n"),
        (qx.PluginError("None"), 1, "qx: error: None\n"),
        (RuntimeError("oops"), 3, "RuntimeError: oops\nqx: this is a bug in qx; please report"),
    ],
)
def test_what_goes_wrong_has_its_exit_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    message: str,
) -> None:
    """Ctrl-C, an error of the user, one of a plugin, and a bug have exit codes of their own."""

    def fail(cls: type, *arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("qx.host.host.Host.discover", classmethod(fail))
    assert main(["list"]) == code
    assert message in capsys.readouterr().err


def test_a_reader_that_goes_is_no_error() -> None:
    """``qx list | head`` ends without a complaint."""
    program = "import os, sys; r, w = os.pipe(); os.close(r); os.dup2(w, 1); from qx.cli import main; "
    done = python("-c", program + "sys.exit(main(['list']))")
    assert (done.returncode, done.stderr) == (141, "")


def test_the_version_can_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    """``qx --version`` prints one line."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("qx")
