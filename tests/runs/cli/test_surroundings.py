"""Commands in poor surroundings: each works, or says in one line why it does not, with exit code 2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from qx.cli import COMMANDS, main
from qx.results import results_file as results

Qx = Callable[..., Any]

slow = pytest.mark.slow


@pytest.fixture
def folder(builders: ModuleType) -> Path:
    """Write results into the folder ``results``, and rules that they keep."""
    run = builders.small(items=40)
    results.write(Path("results"), run.results(), "", run.recording())
    Path("rules.toml").write_text('[[rule]]\nmetric = "weight"\nconfig = "quick"\nlargest = 1_000_000\n')
    return Path.cwd()


# Paths --------------------------------------------------------------------------------------------

#: Commands that take a path; where a command takes more than one, ``{path}`` is the wrong one.
PATHS = [
    ("report", "{path}"),
    ("report", "results", "--out", "{path}"),
    ("compare", "results", "{path}"),
    ("compare", "results", "label={path}"),
    ("compare", "results", "results", "--out", "{path}.md"),
    ("history", "{path}", "results"),
    ("history", "results", "--out", "{path}.md"),
    ("gate", "{path}", "--rules", "rules.toml"),
    ("gate", "results", "--rules", "{path}"),
    ("gate", "results", "--rules", "rules.toml", "--against", "{path}"),
    ("gate", "results", "--rules", "rules.toml", "--junit", "{path}"),
    ("gate", "results", "--rules", "rules.toml", "--markdown", "{path}"),
    ("run", "--workload", "digits_cnn", "--out", "{path}"),
    ("run", "--workload", "digits_cnn", "--weights", "{path}"),
    ("run", "--workload", "{path}"),
    ("run", "--resume", "{path}"),
    ("layers", "--workload", "{path}", "-c", "dynamic_int8"),
    ("layers", "--workload", "digits_cnn", "-c", "dynamic_int8", "--out", "{path}.md"),
    ("search", "digits_cnn", "-c", "dynamic_int8", "--max-drop", "5pt", "--out", "{path}.md"),
    ("run", "digits_cnn", "--recipe", "{path}"),
    ("quantize", "digits_cnn", "--recipe", "{path}"),
    ("gate", "results", "--recipe", "{path}"),
    ("quantize", "--workload", "digits_cnn", "-c", "dynamic_int8", "--to", "{path}"),
    ("quantize", "--workload", "digits_cnn", "-c", "dynamic_int8", "--weights", "{path}"),
    ("profile", "digits_cnn", "-c", "dynamic_int8", "--out", "{path}.md"),
    ("train", "--workload", "digits_cnn", "--out", "{path}"),
    ("new", "config", "mine", "--dir", "{path}"),
    ("check", "file_size", "--workload", "{path}.py"),
    ("show", "{path}"),
    ("list", "-p", "{path}.py"),
    ("list", "-p", "{path}"),
]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("words", PATHS, ids=lambda words: " ".join(words))
@pytest.mark.parametrize(
    "path", ["x" * 5000, "x/" * 3000 + "x", "a\0b", "loop/x"], ids=["long", "deep", "nul", "loop"]
)
def test_no_path_is_more_than_a_mistake(qx: Qx, words: tuple[str, ...], path: str) -> None:
    """A path that no system can have, or that leads in a circle, is a mistake of one line."""
    Path("loop").symlink_to("loop")
    done = qx(*(word.format(path=path) for word in words))
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), done.err
    assert done.err.startswith("qx: error: ")


def test_every_command_has_a_path_here() -> None:
    """Every command that takes a path or a name is in the list above."""
    assert {words[0] for words in PATHS} == {*COMMANDS} - {"doctor", "cache"}


@pytest.mark.parametrize("kind", ["fifo", "/dev/zero", "folder", "socket"])
def test_only_regular_files_are_read(qx: Qx, folder: Path, kind: str) -> None:
    """A pipe, a device, a socket and a folder are refused at once, and not waited for."""
    import socket

    for place in ("results/full_results.json", "rules.toml", next(folder.glob("results/*.npz"))):
        former = Path(place).read_bytes()
        Path(place).unlink()
        if kind == "fifo":
            os.mkfifo(place)
        elif kind == "folder":
            Path(place).mkdir()
        elif kind == "socket":
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(os.path.relpath(place))
        else:
            Path(place).symlink_to(kind)
        # A file of samples that is not a regular file is ignored, and the figures are those of the results.
        samples = str(place).endswith(".npz")
        done = qx("gate", "results", "--rules", "rules.toml")
        assert (done.code, done.err.count("\n")) == ((0, 0) if samples else (2, 1)), done.err
        if kind == "socket":
            listener.close()
        Path(place).rmdir() if kind == "folder" else Path(place).unlink()
        Path(place).write_bytes(former)


def test_a_file_that_is_too_large_is_not_read(qx: Qx, folder: Path) -> None:
    """Sparse files of a terabyte are refused by their size."""
    for place, words in (
        ("results/full_results.json", "more than 134,217,728 bytes"),
        ("rules.toml", "1,048,576"),
    ):
        former = Path(place).read_bytes()
        with open(place, "r+b") as file:
            file.truncate(1 << 40)
        done = qx("gate", "results", "--rules", "rules.toml")
        assert done.code == 2 and words in done.err, done.err
        Path(place).write_bytes(former)


# Streams, variables, folders ----------------------------------------------------------------------

#: Commands that are quick; the first ``WELL`` of them succeed.
WORDS = [
    ["list"],
    ["show", "latency"],
    ["report", "{folder}/results", "--out", "{folder}/out"],
    ["compare", "{folder}/results", "again={folder}/results"],
    ["gate", "{folder}/results", "--rules", "{folder}/rules.toml"],
    ["--help"],
    ["report", "{folder}/nowhere"],
    ["lst"],
]
WELL = 6
PROGRAM = """
import json, os, sys
from qx.cli import main
# Once for all of them.
import cattrs, jsonschema, qx.comparison, qx.gate, qx.host.host, qx.comparison.changes
codes = []
for words in json.loads(sys.argv[1]):
    child = os.fork()
    if not child:
        sys.exit(main(words))
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
with open(sys.argv[2], "w") as file:
    json.dump(codes, file)
"""


def run_all(
    folder: Path, redirection: str = "", before: str = "", **environment: str | None
) -> tuple[list[int], str, str]:
    """Run each command in a process of its own; return exit codes, standard output and standard error."""
    words = [[word.format(folder=folder) for word in command] for command in WORDS]
    script = f'{before} exec "$0" -c "$1" "$2" "$3" {redirection}'
    arguments = [sys.executable, PROGRAM, json.dumps(words), str(folder / "codes.json")]
    variables = {**os.environ, **environment}
    done = subprocess.run(
        ["sh", "-c", script, *arguments],
        env={name: value for name, value in variables.items() if value is not None},
        capture_output=True,
        check=False,
    )
    codes: list[int] = json.loads((folder / "codes.json").read_text()) if done.returncode == 0 else []
    return codes, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")


GOOD = [0] * WELL + [2] * (len(WORDS) - WELL)


@pytest.mark.parametrize(
    ("redirection", "codes", "mistakes"),
    [
        pytest.param("", GOOD, 2, marks=slow),
        (">&-", GOOD, 2),
        pytest.param("2>&-", GOOD, 0, marks=slow),
        pytest.param(">&- 2>&-", GOOD, 0, marks=slow),
        ("<&- >&- 2>&-", GOOD, 0),
        pytest.param("2>/dev/full", GOOD, 0, marks=slow),
        (">/dev/full", [2] * len(WORDS), len(WORDS)),
        pytest.param("</dev/null >&0", [2] * len(WORDS), len(WORDS), marks=slow),
        pytest.param(">/dev/full 2>/dev/full", [2] * len(WORDS), 0, marks=slow),
    ],
)
def test_streams_may_be_closed_or_full(
    folder: Path, redirection: str, codes: list[int], mistakes: int
) -> None:
    """With closed, full or read-only streams nothing is printed elsewhere, and lost output is an error."""
    ended, _, err = run_all(folder, redirection)
    assert ended == codes, err
    assert err.count("\n") == err.count("qx: error: ") == mistakes, err
    assert "cannot write to standard output: " in err or mistakes < 3


@pytest.mark.parametrize(
    "environment",
    [
        pytest.param({"PYTHONIOENCODING": "ascii"}, marks=slow),
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": None},
        pytest.param({"HOME": None, "QX_CACHE": None, "XDG_CACHE_HOME": None}, marks=slow),
        pytest.param({"HOME": "/nonexistent", "QX_CACHE": "~nobody_is_called_so/x"}, marks=slow),
        {"QX_CACHE": "x" * 5000},
        {"TMPDIR": "/nonexistent"},
        pytest.param({"TERM": "dumb", "COLUMNS": "0", "LINES": "none"}, marks=slow),
        pytest.param({"COLUMNS": "100000000"}, marks=slow),
        pytest.param({"PATH": None}, marks=slow),
    ],
    ids=lambda environment: ",".join(environment),
)
def test_the_environment_may_be_poor(folder: Path, environment: dict[str, str | None]) -> None:
    """These commands need no particular encoding, home, temporary folder or terminal."""
    codes, out, err = run_all(folder, **environment)
    assert codes == GOOD, err
    assert err.count("\n") == 2, err
    assert ("\\xb1" in out) == ("ascii" in environment.values() or "LC_ALL" in environment)


def test_the_current_folder_may_be_gone(folder: Path) -> None:
    """Files that are named by a whole path are read and written though the current folder is gone."""
    codes, _, err = run_all(folder, before="mkdir gone && cd gone && rmdir ../gone &&")
    assert codes == GOOD, err


@pytest.mark.parametrize(
    "words",
    [
        ["report"],
        ["-p", "no_such_module", "list"],
        ["new", "config", "mine"],
        ["train", "--workload", "digits_cnn"],
        ["run", "--workload", "digits_cnn"],
    ],
)
def test_what_the_current_folder_lacks_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    """A command that would read from or write into the current folder says that it is gone."""
    Path("gone").mkdir()
    monkeypatch.chdir("gone")
    Path("../gone").rmdir()
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1), err


def can_unmount() -> bool:
    """Return whether ``/proc`` can be covered here, in a namespace of its own."""
    command = ["unshare", "-m", "sh", "-c", "mount -t tmpfs none /proc"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(not can_unmount(), reason="needs the right to mount")
def test_there_may_be_no_proc(folder: Path, start: Callable[..., Any]) -> None:
    """Without ``/proc`` results are shown and held against rules, and what measures says that it cannot."""
    inner = "mount -t tmpfs none /proc && "
    script = ["unshare", "-m", "sh", "-c", inner + '"$@"', "sh", sys.executable, "-m", "qx"]
    for words, code in (
        (["list"], 0),
        (["report", "results"], 0),
        (["gate", "results", "--rules", "rules.toml"], 0),
        (["doctor", "--seconds", "0.1"], 2),
        (["run", "--workload", "digits_cnn"], 2),
    ):
        done = subprocess.run([*script, *words], capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        assert code == 0 or done.stderr.startswith("qx: error: /proc is missing"), done.stderr
        assert done.stderr.count("\n") == (1 if code else 0), done.stderr
