"""The finished steps of a job, kept on the disk: if its process dies, another one continues from there.

The result of a step is a record of ``qx.processes.answers``, written as JSON.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import sha256

# Bound before any plugin is imported, as in `qx.worker.samples`.
from json import dumps, loads
from pathlib import Path
from typing import TypeVar

from qx.processes.answers import Answer, to_fields
from qx.processes.structuring import structure

A = TypeVar("A", bound=Answer)


class Finished:
    """The results of the finished steps of a job, one JSON file each; without a folder nothing is kept."""

    def __init__(self, folder: str | None) -> None:
        self._folder = None if folder is None else Path(folder)

    def step(self, name: str, kind: type[A], work: Callable[[], A]) -> A:
        """Return the result of a step: the one that is kept under this name, or that of calling ``work``."""
        if self._folder is None:
            return work()
        if name in self:
            return self.read(name, kind)
        path = self._path(self._folder, name)
        result = work()
        part = path.with_suffix(".part")
        with part.open("w", encoding="ascii") as file:
            file.write(dumps(result, default=to_fields))
            file.flush()
            # What another sitting of the run goes on from must not be a name without content.
            os.fsync(file.fileno())
        part.replace(path)
        return result

    def read(self, name: str, kind: type[A]) -> A:
        """Return the result of a step.

        Raises ``LookupError`` if the step is not finished, and ``ValueError`` if its file was damaged.
        """
        if self._folder is None or name not in self:
            raise LookupError(name)
        return structure(kind, loads(self._path(self._folder, name).read_text(encoding="ascii")))

    def __contains__(self, name: str) -> bool:
        return self._folder is not None and self._path(self._folder, name).is_file()

    def forget(self, name: str) -> None:
        """Remove the result of a step, if there is one, so that the step is done again."""
        if self._folder is not None:
            self._path(self._folder, name).unlink(missing_ok=True)

    @staticmethod
    def _path(folder: Path, name: str) -> Path:
        # The name of a step may be too long for a file.
        return folder / f"{sha256(name.encode()).hexdigest()[:32]}.json"
