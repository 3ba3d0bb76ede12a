"""The commits that a run records: of real repositories, with git and without it, and never an error."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qx import repositories
from qx.repositories import describe_repositories


def git(folder: Path, *words: str) -> str:
    """Run git in a folder, as nobody in particular, and return what it prints."""
    identity = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org", "-c", "commit.gpgsign=false")
    command = ["git", *identity, "-c", "init.defaultBranch=main", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's own configuration of git out of the way."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a repository with a model, and go into a folder of it."""
    folder = tmp_path / "repository"
    (folder / "inner").mkdir(parents=True)
    git(folder, "init", "-q")
    (folder / "net.py").write_text("def make(): ...\n")
    (folder / "inner" / "file").write_text("")
    git(folder, "remote", "add", "origin", "https://user:secret@example.org/private")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "one")
    monkeypatch.chdir(folder / "inner")
    return folder


def test_the_commit_of_the_current_folder_is_recorded(repository: Path) -> None:
    """The commit is that which is checked out, also from a folder within, and nothing else is recorded."""
    commit = git(repository, "rev-parse", "HEAD")
    assert describe_repositories() == [{"role": "command", "commit": commit, "dirty": False}]


def test_changes_are_noticed(repository: Path) -> None:
    """A tracked file that differs makes it dirty; files that git does not have, such as results, do not."""
    (repository / "full_results.json").write_text("{}")
    assert describe_repositories()[0]["dirty"] is False
    (repository / "net.py").write_text("def make(): return None\n")
    assert describe_repositories()[0]["dirty"] is True


def test_a_model_has_a_repository_of_its_own(repository: Path, tmp_path: Path) -> None:
    """The commit of the model's file is recorded beside that of the command, where it is another."""
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    (other / "net.py").write_text("")
    git(other, "add", ".")
    git(other, "commit", "-q", "-m", "model")
    described = describe_repositories(other / "net.py")
    assert [entry["role"] for entry in described] == ["command", "model"]
    assert described[1] == {"role": "model", "commit": git(other, "rev-parse", "HEAD"), "dirty": False}
    assert len(describe_repositories(repository / "net.py")) == 1


def test_a_model_that_git_does_not_have_is_a_change(repository: Path) -> None:
    """Nobody gets a model from a commit that it is not in."""
    (repository / "draft.py").write_text("")
    assert describe_repositories(repository / "net.py")[0]["dirty"] is False
    assert describe_repositories(repository / "draft.py")[0]["dirty"] is True


def test_outside_of_any_repository_there_is_nothing(tmp_path: Path) -> None:
    """A folder that belongs to no repository, and one without a commit, have none."""
    assert describe_repositories() == []
    git(tmp_path, "init", "-q")
    assert describe_repositories(tmp_path / "net.py") == []


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("layout", ["plain", "worktree", "detached"])
def test_without_git_its_files_are_read(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str, packed: bool
) -> None:
    """Where there is no git the commit is known all the same, and whether files differ is not."""
    folder = repository
    if layout == "worktree":
        folder = tmp_path / "tree"
        git(repository, "worktree", "add", "-q", str(folder))
    elif layout == "detached":
        git(repository, "checkout", "-q", "--detach")
    if packed:
        git(repository, "pack-refs", "--all")
    commit = git(repository, "rev-parse", "HEAD")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(repositories, "which", lambda name: None)
    assert describe_repositories() == [{"role": "command", "commit": commit, "dirty": None}]


def test_a_git_that_hangs_costs_little(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A git that never answers is ended, and the commit is read from the files."""
    program = tmp_path / "bin" / "git"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    commit = git(repository, "rev-parse", "HEAD")
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    monkeypatch.setattr(repositories, "PATIENCE", 0.2)
    began = time.monotonic()
    assert describe_repositories() == [{"role": "command", "commit": commit, "dirty": None}]
    assert time.monotonic() - began < 30


def test_no_program_of_the_repository_is_run(repository: Path) -> None:
    """What a repository's configuration names for ``git status`` to run is not run."""
    mark = repository / "mark"
    git(repository, "config", "core.fsmonitor", f"touch {mark}; false")
    assert describe_repositories()[0]["dirty"] is False
    assert not mark.exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "HEAD").write_text("ref: refs/heads/../../../../etc/passwd\n"),
        lambda folder: (folder / "HEAD").write_text("x" * 100_000),
        lambda folder: (folder / "HEAD").write_bytes(b"\xff\xfe\x00"),
        lambda folder: (folder / "HEAD").unlink(),
    ],
    ids=["leads out", "long", "no text", "missing"],
)
def test_a_damaged_repository_is_none(
    repository: Path, damage: Callable[[Path], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever lies in its files, nothing fails, and nothing but a commit is ever recorded."""
    damage(repository / ".git")
    assert describe_repositories() == []
    monkeypatch.setattr(repositories, "which", lambda name: None)
    assert describe_repositories() == []


def test_a_damaged_repository_is_not_taken_for_one_around_it(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit of a folder around a damaged repository is not that of what lies in it."""
    broken = repository / "broken"
    (broken / ".git").mkdir(parents=True)
    monkeypatch.chdir(broken)
    assert describe_repositories() == []


def test_the_repository_of_a_hook_is_not_taken_for_it(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a hook of another repository the commit is still that of the folder."""
    commit = git(repository, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    assert describe_repositories() == [{"role": "command", "commit": commit, "dirty": False}]
