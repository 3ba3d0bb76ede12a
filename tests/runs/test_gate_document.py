"""The workflow in ``docs/gate.md`` is one, and its steps run one after another as they are printed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
import venv
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
import yaml

from qx.cli import _parser
from qx.gate import read_rules

TOP = Path(__file__).parents[2]


def printed(name: str) -> str:
    """Return the file that the page prints under this name."""
    page = (TOP / "docs" / "gate.md").read_text(encoding="utf-8").partition("## In CI")[2]
    blocks = re.findall(r"(?:^    .*\n|^\n)+", page, re.MULTILINE)
    files = [textwrap.dedent(block).strip() + "\n" for block in blocks]
    (file,) = [file for file in files if file.startswith(f"# {name}\n")]
    return file


def workflow() -> dict[Any, Any]:
    """Return the workflow as YAML has it."""
    content = yaml.safe_load(printed(".github/workflows/gate.yml"))
    assert isinstance(content, dict)
    return content


def steps() -> list[dict[str, Any]]:
    """Return the steps of the only job."""
    (job,) = workflow()["jobs"].values()
    return list(job["steps"])


def commands() -> dict[str, str]:
    """Return the command of each step that has one, by its name."""
    return {step["name"]: step["run"] for step in steps() if "run" in step}


def test_the_workflow_has_the_form_of_one() -> None:
    """It has a trigger, a runner, steps that use an action or run a command, and nothing else."""
    content = workflow()
    # YAML 1.1 reads the word `on` as a truth value.
    assert content.keys() == {"name", True, "jobs"}
    (job,) = content["jobs"].values()
    assert job.keys() <= {"runs-on", "timeout-minutes", "env", "steps"} and job["runs-on"]
    for step in job["steps"]:
        assert step.keys() <= {"uses", "with", "name", "if", "run"}
        assert ("uses" in step) != ("run" in step)
        if "uses" in step:
            assert re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"])
        else:
            assert step.keys() >= {"name", "run"} and "with" not in step
    caches = [step["with"] for step in job["steps"] if step.get("uses", "").startswith("actions/cache@")]
    # An immutable cache needs a key of its own in each run, and a prefix of it to begin with.
    (cache,) = caches
    assert cache["key"].startswith(cache["restore-keys"])
    assert job["env"]["QX_CACHE"].endswith(f"/{cache['path']}")


def test_its_commands_are_those_of_the_program() -> None:
    """Every line is valid for the shell, and every option exists."""
    for command in commands().values():
        subprocess.run(["bash", "-n", "-c", command], check=True)
        words = shlex.split(command, comments=True)
        if words[0] == "qx":
            _parser(words[1:]).parse_args(words[1:])


def test_its_rules_are_rules(tmp_path: Path) -> None:
    """The rules beside it can be read, and all compare with the base that the step names."""
    file = tmp_path / "qx-gate.toml"
    file.write_text(printed("qx-gate.toml"))
    assert all(rule.against_base for rule in read_rules(file).rules)


def make_environment(folder: Path) -> dict[str, str]:
    """Make a virtual environment with pip, which has what this one has, and return its variables.

    pip installs into it from what is here: it builds with what is installed, and asks no index.
    """
    venv.create(folder / "venv", with_pip=True)
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    # Python 3.11 brings a setuptools that is too old to build qx, and would be found before this one's.
    for old in site.glob("setuptools*"):
        shutil.rmtree(old)
    (site / "rest.pth").write_text("\n".join(path for path in sys.path if "site-packages" in path))
    names = ("PYTHONPATH", "QX_CACHE")
    return {name: value for name, value in os.environ.items() if name not in names} | {
        "PATH": f"{folder / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "QX_CACHE": str(folder / ".qx-cache"),
        "QX_OFFLINE": "1",
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",
    }


@pytest.mark.slow
def test_its_steps_work_as_printed(tmp_path: Path) -> None:
    """In an empty folder with the printed files, each step ends well after those before it."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("requirements.txt", "qx-gate.toml"):
        (folder / name).write_text(printed(name))
    ignored = shutil.ignore_patterns(".*", "build", "__pycache__", "*.egg-info", "tests")
    shutil.copytree(TOP, folder / "quant-explorer", ignore=ignored)
    environment = make_environment(folder)

    def run(command: str) -> None:
        # As GitHub runs it.
        words = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", command]
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"

    for name, command in commands().items():
        if name == "Measure":
            run(command.replace("--out now", "--out baseline"))
        run(command)
    assert ET.parse(folder / "gate.xml").getroot().get("failures") == "0"
    assert (folder / "summary.md").read_text() == (folder / "gate.md").read_text()
    assert (folder / "now" / "report.html").stat().st_size > 0
    assert any((folder / ".qx-cache" / "builds").iterdir())
    program = [folder / "venv" / "bin" / "python", "-c", "import qx; print(qx.__file__)"]
    imported = subprocess.run(
        program, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    assert imported.stdout.startswith(str(folder / "venv"))
