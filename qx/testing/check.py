"""A named check of a plugin."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from attrs import frozen

from qx.testing.bench import Bench


@frozen
class Check:
    """One named check."""

    #: Raises ``Failed`` or ``NotApplicable``; else it may give what was seen, in words.
    run: Callable[[Bench], str | None]
    #: Names of the checks that must have passed; else this one is not run.
    after: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of its function."""
        return self.run.__name__

    @property
    def summary(self) -> str:
        """What it holds a plugin to, in a sentence."""
        return " ".join((inspect.getdoc(self.run) or "").split("\n\n")[0].split())
