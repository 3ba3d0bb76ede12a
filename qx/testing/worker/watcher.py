"""A plugin that wraps the hooks of others and sees what they change of what they were given."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from qx.contract.hookspecs import hookimpl
from qx.testing.worker.digest import digest

if TYPE_CHECKING:
    from qx.worker.arrays import Batches

#: A hook of a wrapper: it is sent what the wrapped hook gave, and hands it on.
Wrapped = Generator[None, object, object]


class Watcher:
    """``changed``: hook and argument of everything that a hook was lent and changed in place."""

    def __init__(self) -> None:
        self.changed: list[str] = []

    @hookimpl(wrapper=True)
    def prepare_model(self, example_inputs: object) -> Wrapped:
        """Watch the example inputs."""
        return (yield from self._unchanged("prepare_model changed the example inputs", example_inputs))

    @hookimpl(wrapper=True)
    def convert(self, example_inputs: object) -> Wrapped:
        """Watch the example inputs."""
        return (yield from self._unchanged("convert changed the example inputs", example_inputs))

    @hookimpl(wrapper=True)
    def calibrate(self, batches: Batches) -> Wrapped:
        """Watch every batch, from when it is handed out until the next one is."""
        out: list[tuple[int, object, str]] = []

        def came_back() -> None:
            for index, batch, was in out:
                if digest(batch) != was:
                    self._note(f"calibrate changed batch {index}")
            out.clear()

        def handed(index: int, batch: object) -> None:
            came_back()
            out.append((index, batch, digest(batch)))

        batches.on_batch = handed
        result = yield
        came_back()
        batches.on_batch = None
        return result

    @hookimpl(wrapper=True)
    def measure(self, data: object) -> Wrapped:
        """Watch the data, which the metrics that come after see as well."""
        return (yield from self._unchanged(f"measure changed its data ({type(data).__name__})", data))

    def _unchanged(self, complaint: str, value: object) -> Wrapped:
        was = digest(value)
        result = yield
        if digest(value) != was:
            self._note(complaint)
        return result

    def _note(self, complaint: str) -> None:
        if complaint not in self.changed:
            self.changed.append(complaint)


WATCHER = Watcher()
