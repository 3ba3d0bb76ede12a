"""The catalogue of plugins: one entry for each plugin, with its state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from attrs import Factory, frozen

from qx.contract.description import Description
from qx.contract.records import Kind, Record
from qx.contract.references import Reference, reference_of, to_reference
from qx.errors import UsageError

__all__ = ["Entry", "Reference", "State", "entry_of", "reference_of", "to_reference", "unknown"]

State: TypeAlias = Literal["ready", "unavailable", "incompatible", "broken", "conflict", "left_out"]


@frozen
class Entry:
    """A plugin of the catalogue."""

    name: str
    #: Kind of the plugin; None where the plugin failed before it returned its record.
    kind: Kind | None
    state: State
    #: Reason why it is not ready.
    reason: str
    distribution: str | None
    version: str | None
    reference: Reference | None
    record: Record | None
    #: Hooks that it implements, in the order of ``qx.contract.hookspecs``.
    hooks: tuple[str, ...] = ()
    #: Answer of the process that imported it; None where there was none.
    description: Description | None = None
    #: Options that the run itself sets: those that say which model a workload runs that takes models.
    fixed_options: Mapping[str, str] = Factory(dict)

    @property
    def plugin(self) -> str:
        """The name of the plugin: that of the entry, but where the run has a plugin under several names."""
        return self.name if self.reference is None else self.reference.name

    @property
    def provider(self) -> str:
        """Where the plugin comes from: the distribution with its version, or ``-p MODULE``."""
        if self.reference is not None:
            return self.reference.provider
        return " ".join(filter(None, (self.distribution, self.version)))

    @property
    def traceback(self) -> str:
        """The traceback of the error for which it is not ready; empty if there is none."""
        return self.description.traceback if self.description is not None else ""

    @property
    def usable(self) -> bool:
        """Whether it has a row in tables, even where it cannot run on this machine."""
        return self.state in ("ready", "unavailable")

    @property
    def complaint(self) -> str:
        """One line that says why it is not ready."""
        if self.state == "conflict":  # the reason names all providers
            return f"plugin name {self.name!r} is in conflict: {self.reason}"
        return f"plugin {self.name!r} ({self.provider}) is {self.state.replace('_', ' ')}: {self.reason}"


def entry_of(
    reference: Reference, state: State, reason: str = "", description: Description | None = None
) -> Entry:
    """Return the entry of the plugin behind a reference."""
    kind: Kind | None = None
    hooks: tuple[str, ...] = ()
    record = None
    if description is not None:
        record, hooks = description.record, description.hooks
        kind = record.kind if record is not None else "wrapper" if state == "ready" else None
    distribution, version = reference.distribution, reference.version
    return Entry(
        reference.name, kind, state, reason, distribution, version, reference, record, hooks, description
    )


def unknown(subject: str, name: str, choices: Sequence[str]) -> UsageError:
    """Return the error for a name that is none of the choices: it lists them, similar names first."""
    from difflib import get_close_matches

    close = get_close_matches(name, choices)
    listed = ", ".join([*close, *(choice for choice in choices if choice not in close)])
    return UsageError(f"{subject} {name!r} ({f'choose from {listed}' if listed else 'there are none'})")
