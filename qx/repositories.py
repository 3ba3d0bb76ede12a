"""The git repositories that a run is made in: their commits, read by ``git`` or from its files.

Nothing here fails or waits for long, and nothing but commits is read: no names, no branches, no addresses.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from shutil import which

from qx.files import read_bounded
from qx.values import JsonObject

#: The longest time that ``git`` may take for one question, in seconds.
PATIENCE = 5.0
#: Largest file of git's that is read without ``git``, in bytes.
LARGEST = 8 << 20
#: The name of a commit: SHA-1 or SHA-256, in hexadecimal digits.
COMMIT = re.compile("[0-9a-f]{40}(?:[0-9a-f]{24})?")
#: Environment variables that name the repository of a hook, within one of git's.
OF_A_HOOK = frozenset(
    f"GIT_{name}"
    for name in ("DIR", "WORK_TREE", "INDEX_FILE", "OBJECT_DIRECTORY", "COMMON_DIR", "PREFIX", "NAMESPACE")
)
#: Configuration under which ``git status`` starts no program of the repository's, and writes nothing.
_QUIETLY = ("--no-optional-locks", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")


def describe_repositories(model: Path | None = None) -> list[JsonObject]:
    """Return the repository of the current folder, and that of the file of the ``model`` if it is another.

    Each has the fields of ``qx.results.run_record.Repository``. Folders outside of any repository, and
    repositories without a commit, are left out.
    """
    places = {"command": _current_folder(), "model": None if model is None else model.parent}
    found: list[JsonObject] = []
    tops = set()
    for role, folder in places.items():
        top = None if folder is None else _top(folder)
        if top is None or top in tops or (commit := _commit(top)) is None:
            continue
        tops.add(top)
        found.append({"role": role, "commit": commit, "dirty": _is_dirty(top)})
    top = None if model is None else _top(model.parent)
    if model is not None and top in tops and top is not None and not _is_tracked(top, model):
        # What is not in the commit cannot be had from it.
        found[-1]["dirty"] = True
    return found


def _current_folder() -> Path | None:
    try:
        return Path.cwd()
    except OSError:
        return None


def _top(folder: Path) -> Path | None:
    """Return the folder of the repository that a folder lies in; None outside of any."""
    try:
        resolved = folder.resolve()
        return next((place for place in (resolved, *resolved.parents) if (place / ".git").exists()), None)
    except (OSError, RuntimeError):
        return None


def _commit(top: Path) -> str | None:
    commit = (_git(top, "rev-parse", "--verify", "--quiet", "HEAD^{commit}") or "").strip()
    return commit if COMMIT.fullmatch(commit) else _commit_in_files(top)


def _is_dirty(top: Path) -> bool | None:
    """Return whether tracked files differ from the commit; None where ``git`` does not say."""
    status = _git(top, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules=dirty")
    return None if status is None else bool(status.strip())


def _is_tracked(top: Path, file: Path) -> bool:
    """Return whether git has a file; also where there is no ``git`` to ask."""
    listed = _git(top, "ls-files", "--", str(file.resolve()))
    return listed is None or bool(listed.strip())


def _git(top: Path, *words: str) -> str | None:
    """Return what ``git`` prints of a repository; None where it is missing, refuses, or takes too long."""
    # A program of that name in the current folder is not taken for git.
    program = which("git")
    if program is None or not Path(program).is_absolute():
        return None
    environment = {name: value for name, value in os.environ.items() if name not in OF_A_HOOK}
    # A damaged repository must not be taken for that of a folder around it.
    environment |= {"LC_ALL": "C", "GIT_CEILING_DIRECTORIES": str(top.parent)}
    try:
        answer = subprocess.run(
            [program, *_QUIETLY, *words],
            cwd=top,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            check=True,
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return answer.stdout.decode("utf-8", "replace")


def _commit_in_files(top: Path) -> str | None:
    """Return the commit that is checked out, from the files of git's folder; None where they do not say."""
    try:
        folder = top / ".git"
        if folder.is_file():
            # The working tree of a submodule, or a further one of a repository.
            folder = top / _read(folder).partition("gitdir:")[2].strip()
        common = folder / "commondir"
        shared = folder / _read(common).strip() if common.is_file() else folder
        head = _read(folder / "HEAD").strip()
        reference = head.removeprefix("ref:").strip() if head.startswith("ref:") else None
        if reference is None:
            return head if COMMIT.fullmatch(head) else None
        if ".." in reference or not reference.startswith("refs/"):
            return None
        for place in (folder, shared):
            if (place / reference).is_file():
                commit = _read(place / reference).strip()
                return commit if COMMIT.fullmatch(commit) else None
        for line in _read(shared / "packed-refs").splitlines():
            commit, _, name = line.partition(" ")
            if name == reference and COMMIT.fullmatch(commit):
                return commit
    except (OSError, ValueError):
        pass
    return None


def _read(path: Path) -> str:
    return read_bounded(path, LARGEST).decode("utf-8", "replace")
