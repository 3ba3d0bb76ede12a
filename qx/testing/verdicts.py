"""The verdict of a check: what it can be, and the exceptions by which a check gives it."""

from __future__ import annotations

from typing import Literal, TypeAlias

from attrs import frozen

from qx.contract.records import Kind

#: ``not_run``: a check that must pass first did not. ``expected``: it failed, as the author said it would.
State: TypeAlias = Literal["passed", "failed", "not_applicable", "not_run", "expected"]
#: Kinds of plugins that are checked; a plugin that only wraps the hooks of others is of none.
KINDS: tuple[Kind, ...] = ("config", "metric", "workload", "loader")


class Failed(Exception):
    """The plugin does not do what the check asks; the message says what it did, and what is asked."""


class NotApplicable(Exception):
    """The check asks nothing of this plugin; the message says why."""


@frozen
class Verdict:
    """The result of one check of one plugin."""

    check: str
    state: State
    #: What the check saw, why it failed, or why it was not run.
    text: str = ""

    @property
    def well(self) -> bool:
        """Whether the verdict leaves the exit code at 0.

        A check that was not run does: the check that it depends on has a verdict of its own.
        """
        return self.state != "failed"
