"""A plugin that wraps the hooks of others and detects which of their arguments they change in place."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from qx.contract.hookspecs import hookimpl
from qx.testing.worker.digest import digest

if TYPE_CHECKING:
    from qx.worker.arrays import Batches

#: A hook of a wrapper: a generator that is sent the result of the wrapped hook, and returns it.
Wrapped = Generator[None, object, object]


class Watcher:
    """A wrapper that lists in ``changed`` the arguments which hooks changed in place, as messages."""

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
        """Watch every batch, from its delivery until the next one is delivered."""
        delivered: list[tuple[int, object, str]] = []

        def compare() -> None:
            for index, batch, before in delivered:
                if digest(batch) != before:
                    self._note(f"calibrate changed batch {index}")
            delivered.clear()

        def watch_batch(index: int, batch: object) -> None:
            compare()
            delivered.append((index, batch, digest(batch)))

        batches.on_batch = watch_batch
        result = yield
        compare()
        batches.on_batch = None
        return result

    @hookimpl(wrapper=True)
    def measure(self, data: object) -> Wrapped:
        """Watch the data, which later metrics are called with as well."""
        return (yield from self._unchanged(f"measure changed its data ({type(data).__name__})", data))

    def _unchanged(self, complaint: str, value: object) -> Wrapped:
        before = digest(value)
        result = yield
        if digest(value) != before:
            self._note(complaint)
        return result

    def _note(self, complaint: str) -> None:
        if complaint not in self.changed:
            self.changed.append(complaint)


WATCHER = Watcher()
