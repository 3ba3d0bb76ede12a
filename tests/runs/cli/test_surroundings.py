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
    """A folder ``results`` in the current one, and rules that these results keep."""
    run = builders.small(items=40)
    results.write(Path("results"), run.results(), "", run.recording())
    Path("rules.toml").write_text('[[rule]]\nmetric = "weight"\nconfig = "quick"\nlargest = 1_000_000\n')
    return Path.cwd()


# Paths --------------------------------------------------------------------------------------------

#: Where a command takes a path; of more than one the one that is not right.
PATHS = [
    ("report", "{path}"),
    ("report", "results", "--out", "{path}"),
    ("compare", "results", "{path}"),
    ("compare", "results", "label={path}"),
    ("compare", "results", "results", "--out", "{path}.md"),
    ("gate", "{path}", "--rules", "rules.toml"),
    ("gate", "results", "--rules", "{path}"),
    ("gate", "results", "--rules", "rules.toml", "--against", "{path}"),
    ("gate", "results", "--rules", "rules.toml", "--junit", "{path}"),
    ("gate", "results", "--rules", "rules.toml", "--markdown", "{path}"),
    ("run", "--workload", "digits_cnn", "--out", "{path}"),
    ("run", "--workload", "digits_cnn", "--weights", "{path}"),
    ("run", "--workload", "{path}"),
    ("quantize", "--workload", "digits_cnn", "-c", "dynamic_int8", "--to", "{path}"),
    ("quantize", "--workload", "digits_cnn", "-c", "dynamic_int8", "--weights", "{path}"),
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
    """A path that no system can have, or that leads in a circle, is told in one line."""
    Path("loop").symlink_to("loop")
    done = qx(*(word.format(path=path) for word in words))
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), done.err
    assert done.err.startswith("qx: error: ")


def test_every_command_has_a_path_here() -> None:
    """No command is left out that takes a path or a name."""
    assert {words[0] for words in PATHS} == {*COMMANDS} - {"doctor"}


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
        # What is no regular file is no file of samples, and the figures are those of the results.
        samples = str(place).endswith(".npz")
        done = qx("gate", "results", "--rules", "rules.toml")
        assert (done.code, done.err.count("\n")) == ((0, 0) if samples else (2, 1)), done.err
        if kind == "socket":
            listener.close()
        Path(place).rmdir() if kind == "folder" else Path(place).unlink()
        Path(place).write_bytes(former)


def test_a_file_that_is_too_large_is_not_read(qx: Qx, folder: Path) -> None:
    """Files of terabytes are refused by their size; here they are all holes."""
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

#: Commands that are quick, those that succeed first; and how many succeed.
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
    """Run the commands, each in a process of its own: exit codes, and standard output and error of all."""
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
    """Closed, full and read-only standard streams: nothing is printed elsewhere, and what is lost is told."""
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
    """Another encoding, no home, no temporary folder, an odd terminal: these commands need nothing of it."""
    codes, out, err = run_all(folder, **environment)
    assert codes == GOOD, err
    assert err.count("\n") == 2, err
    assert ("\\xb1" in out) == ("ascii" in environment.values() or "LC_ALL" in environment)


def test_the_current_folder_may_be_gone(folder: Path) -> None:
    """What is named by a whole path is read and written; what would be looked for there is told."""
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
    """A command that would look there, or write there, says so."""
    Path("gone").mkdir()
    monkeypatch.chdir("gone")
    Path("../gone").rmdir()
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1), err


def can_unmount() -> bool:
    """Whether ``/proc`` can be covered here, in a namespace of its own."""
    command = ["unshare", "-m", "sh", "-c", "mount -t tmpfs none /proc"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(not can_unmount(), reason="needs the right to mount")
def test_there_may_be_no_proc(folder: Path, start: Callable[..., Any]) -> None:
    """Without ``/proc`` results are shown and held against rules; what measures says that it cannot."""
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
        assert code == 0 or done.stderr.startswith("qx: error: /proc is not there"), done.stderr
        assert done.stderr.count("\n") == (1 if code else 0), done.stderr
