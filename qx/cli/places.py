"""Choose the folders that commands write into, and check that they can be written."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qx.errors import UsageError

if TYPE_CHECKING:
    from qx.host.host import Host


def results_folder(host: Host, workloads: Sequence[str], root: Path) -> Path:
    """Return the folder for the results of workloads.

    It is ``root`` for the default workload alone and a folder within for others, so that no workload's
    results overwrite another's.
    """
    from qx.runner.request import workload as record_of

    defaults = [entry.name for entry in host.ready("workload") if record_of(entry).default]
    if len(workloads) == 1 and workloads[0] in defaults:
        return root
    return root / "+".join(workloads)


def check_writable(folder: Path) -> Path:
    """Return the folder if files can be written there. Raises ``UsageError``; leaves nothing behind."""
    try:
        existing = folder
        # A broken link counts as existing, since no folder can be created in its place.
        while not (existing.exists() or existing.is_symlink()):
            existing = existing.parent
        if not existing.is_dir():
            raise NotADirectoryError(f"{existing} is a file")
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise UsageError(f"cannot write into {folder}: {error.strerror or error}") from error
    return folder


def check_written_files(files: Sequence[Path], suffixes: Sequence[str]) -> None:
    """Raise ``UsageError`` unless each file of ``--out`` can be written and has one of these suffixes."""
    for file in files:
        if file.suffix not in suffixes:
            expected = " or ".join([", ".join(suffixes[:-1]), suffixes[-1]])
            raise UsageError(f"--out {file}: its suffix must be {expected}")
        check_writable_file(file)


def check_writable_file(file: Path) -> None:
    """Raise ``UsageError`` unless this file can be written."""
    if file.is_dir():
        raise UsageError(f"cannot write {file}: it is a folder")
    check_writable(file.parent)
