"""``qx quantize``: one artifact, and where it is."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Qx = Callable[..., Any]


def test_it_gives_the_artifact_that_a_run_built(qx: Qx, toy: Any, cache: Path) -> None:
    """``qx quantize`` prints the folder of the artifact that ``qx run`` built, and nothing else."""
    arguments = toy.arguments(toy.config("measured"))
    run = qx("run", *arguments, "-m", "file_size", "--out", "out")
    assert run.code == 0, run.err
    done = qx("quantize", "-c", "measured", *arguments)
    assert done.code == 0, done.err
    cell = run.cell("measured")
    assert done.out == f"{cache / 'builds' / cell['build'] / 'artifact'}\n"
    (size,) = cell["artifact"].values()
    assert done.err.splitlines()[-1].startswith(
        f"qx: model.npz: {size:,} bytes, found in the cache, built in "
    )


def test_it_copies_the_artifact_where_it_is_wanted(qx: Qx, toy: Any, tmp_path: Path) -> None:
    """``--to`` makes a folder with the files and the manifest of the cache, a README and examples.

    The toy's loader does not say how it is served without qx, which a line and the README say.
    """
    done = qx("quantize", "-c", "toy_fp32", *toy.arguments(), "--to", "new/place")
    assert done.code == 0, done.err
    assert done.out == "new/place\n"
    files = {path.name: path.read_bytes() for path in (tmp_path / "new" / "place").iterdir()}
    added = {"README.md", "example_inputs.npz", "example_outputs.npz"}
    assert files.keys() == {"manifest.json", "model.npz"} | added
    assert "no serve.py, which would serve it without qx: its loader does not say" in done.err
    readme = files.pop("README.md").decode()
    assert "The loader is a file that does not lie here" in readme
    assert str(tmp_path.parent) not in readme
    for name in added & files.keys():
        del files[name]
    assert json.loads(files["manifest.json"])["origin"]["config"]["name"] == "toy_fp32"
    again = qx("quantize", "-c", "toy_fp32", *toy.arguments())
    assert "found in the cache" in again.err
    assert {path.name: path.read_bytes() for path in Path(again.out.strip()).iterdir()} == files
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_rebuild_builds_anew(qx: Qx, toy: Any) -> None:
    """With ``--rebuild`` the artifact is built again though it is in the cache."""
    arguments = ("quantize", "-c", "toy_fp32", *toy.arguments())
    assert qx(*arguments).code == 0
    done = qx(*arguments, "--rebuild")
    assert "bytes, built in " in done.err


def test_it_never_writes_over_anything(qx: Qx, toy: Any, tmp_path: Path) -> None:
    """A folder for ``--to`` that exists is an error, and stays as it is."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("mine")
    done = qx("quantize", "-c", "toy_fp32", *toy.arguments(), "--to", "mine")
    assert done.code == 2
    assert done.err == "qx: error: mine exists already: give --to a folder that does not exist yet\n"
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes"]


def test_a_build_that_fails_is_told_with_stage_and_cause(qx: Qx, toy: Any, tmp_path: Path) -> None:
    """A build that fails ends with exit code 1 and one line, and makes no folder."""
    torn = toy.config("torn", first="raise ValueError('no such layer')")
    done = qx("quantize", "-c", "torn", *toy.arguments(torn), "--to", "place")
    assert done.code == 1
    message, _, log = done.err.splitlines()[-1].partition("; log: ")
    assert message == "qx: torn: failed in convert: ValueError: no such layer"
    assert re.search(r"torn\.py\", line \d+, in convert\n", Path(log).read_text())
    assert done.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-c", "int4"], "unknown config 'int4' (choose from "),
        (["-c", "lacking"], "config lacking is unavailable: needs no-such-distribution"),
        (["-c", "toy_fp32", "--calibration-n", "0"], "--calibration-n must be at least 1, not 0"),
        (["-c", "toy_fp32", "--to", "/proc/place"], "cannot write into /proc/place"),
        ([], "one config is built: give -c NAME, or --recipe FILE"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_told_in_one_line(
    qx: Qx, toy: Any, tmp_path: Path, arguments: list[str], words: str
) -> None:
    """A mistake ends with exit code 2 and a line that names it and what was expected; nothing is written."""
    lacking = toy.config("lacking", record="requires=['no-such-distribution']")
    done = qx("quantize", *toy.arguments(lacking), *arguments)
    assert done.code == 2
    (line,) = done.err.splitlines()
    assert line.startswith("qx: error: ")
    assert words in line
    assert list(tmp_path.iterdir()) == []
