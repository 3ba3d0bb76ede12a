"""Named checks, and what comes of one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, TypeAlias

from attrs import frozen

from qx.contract.records import Kind

if TYPE_CHECKING:
    from qx.testing.bench import Bench

#: ``not_run``: a check that must come first did not pass. ``expected``: it failed, as its author said.
State: TypeAlias = Literal["passed", "failed", "not_applicable", "not_run", "expected"]
#: Kinds of plugins that have hooks of their own; what only wraps is not checked.
KINDS: tuple[Kind, ...] = ("config", "metric", "workload", "loader")


class Failed(Exception):
    """The plugin does not do what the check asks; the message says what it did, and what was due."""


class NotApplicable(Exception):
    """The check asks nothing of this plugin; the message says why."""


@frozen
class Verdict:
    """What came of one check of one plugin."""

    check: str
    state: State
    #: What was seen, why it failed or why it was not run.
    text: str = ""

    @property
    def well(self) -> bool:
        """It is no reason for exit code 1: what was not run hangs on a check that has its own verdict."""
        return self.state != "failed"


@frozen
class Check:
    """One named check."""

    name: str
    kinds: tuple[Kind, ...]
    #: Raises ``Failed`` or ``NotApplicable``; else it may give what was seen, in words.
    run: Callable[[Bench], str | None]
    #: Checks that must have passed; else this one is not run.
    after: tuple[str, ...]

    @property
    def summary(self) -> str:
        """What it holds a plugin to, in a sentence."""
        return " ".join((inspect.getdoc(self.run) or "").split("\n\n")[0].split())


_checks: dict[tuple[str, Kind], Check] = {}


def check(*kinds: Kind, after: tuple[str, ...] = ()) -> Callable[..., Callable[[Bench], str | None]]:
    """Mark a function as the check of its name, for plugins of these kinds; run in the order marked."""

    def mark(function: Callable[[Bench], str | None]) -> Callable[[Bench], str | None]:
        made = Check(function.__name__, kinds, function, after)
        for kind in kinds:
            assert (made.name, kind) not in _checks, made.name
            _checks[made.name, kind] = made
        return function

    return mark


def checks_of(kind: Kind | None) -> tuple[Check, ...]:
    """The checks of a kind in their order; of a plugin whose kind is not known those that all have."""
    from qx.testing import for_all, for_configs, for_loaders, for_metrics, for_workloads  # noqa: F401

    every = tuple(dict.fromkeys(_checks.values()))
    if kind is None:
        return tuple(one for one in every if set(one.kinds) == set(KINDS))
    return tuple(one for one in every if kind in one.kinds)
