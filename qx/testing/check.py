"""A named check of a plugin."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from attrs import frozen

from qx.testing.bench import Bench


@frozen
class Check:
    """One named check."""

    #: The function that raises ``Failed`` or ``NotApplicable``, else may return what it saw, in words.
    run: Callable[[Bench], str | None]
    #: Names of the checks that must pass before this one is run.
    after: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the check, which is that of its function."""
        return self.run.__name__

    @property
    def summary(self) -> str:
        """The sentence that says what the check asks of a plugin."""
        return " ".join((inspect.getdoc(self.run) or "").split("\n\n")[0].split())
