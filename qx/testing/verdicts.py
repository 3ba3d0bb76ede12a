"""What comes of a check."""

from __future__ import annotations

from typing import Literal, TypeAlias

from attrs import frozen

from qx.contract.records import Kind

#: ``not_run``: a check that must come first did not pass. ``expected``: it failed, as its author said.
State: TypeAlias = Literal["passed", "failed", "not_applicable", "not_run", "expected"]
#: Kinds of plugins that have hooks of their own; what only wraps is not checked.
KINDS: tuple[Kind, ...] = ("config", "metric", "workload", "loader")


class Failed(Exception):
    """The plugin does not do what the check asks; the message says what it did, and what is asked."""


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
