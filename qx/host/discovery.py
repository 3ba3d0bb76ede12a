"""Discover all plugins, installed ones and those that the user names, each with its state."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import get_args

from attrs import evolve

from qx.contract.description import Description, Group
from qx.contract.records import Kind
from qx.contract.references import Place, Reference, reference_of
from qx.errors import UsageError
from qx.host.catalogue import Entry, State, entry_of, unknown
from qx.host.describing import describe_all
from qx.host.installed import Distribution, installation
from qx.host.recipes import with_recipes

KINDS: tuple[Kind, ...] = get_args(Kind)


class NotImported(UsageError):
    """A plugin that the user names cannot be imported."""

    def __init__(self, message: str, missing_module: str | None, traceback: str = "") -> None:
        super().__init__(message)
        #: Name of the missing module, where that is the cause.
        self.missing_module = missing_module
        self.traceback = traceback


def discover(
    plugins: Sequence[str], descriptions: dict[Reference, Description], trust_cache: Path | None = None
) -> list[Entry]:
    """Return an entry for each plugin that is installed or named with ``-p``, in a stable order.

    No plugin is imported into this process, except for qx's own. ``descriptions`` has those of plugins that
    need not be described again, and new descriptions are added to it. Raises ``UsageError`` for a ``-p`` that
    cannot be imported, or a ``-p no:NAME`` that leaves nothing out.
    """
    current = installation()
    installed = [plugin for distribution in current.distributions for plugin in distribution.plugins]
    excluded = {argument[3:] for argument in plugins if argument.startswith("no:")}
    named = _named_by_user(plugins, {reference.place for reference in installed})
    # An excluded plugin is not even imported, so one that takes seconds or hangs can be avoided.
    groups = [
        Group(tuple(plugin for plugin in distribution.plugins if plugin.name not in excluded))
        for distribution in current.distributions
    ]
    groups += [Group((reference,), is_named=False) for reference in named]
    undescribed = (group.without(descriptions) for group in groups)
    groups = [group for group in undescribed if group.plugins]
    descriptions.update(describe_all(groups, current, trust_cache))
    entries = [_damaged(distribution) for distribution in current.distributions if distribution.flaw]
    entries += [
        _entry_named_by_user(argument, reference, descriptions[reference])
        for reference, argument in named.items()
    ]
    names = {reference.name for reference in installed}
    for name in excluded:
        if name not in (choices := names | {entry.name for entry in entries}):
            raise unknown(f"-p no:{name}: no plugin", name, sorted(choices))
    # An installed plugin is excluded first, so that one named with -p can take its place.
    entries = [_left_out(entry) if entry.name in excluded - names else entry for entry in entries]
    for reference in installed:
        is_excluded = reference.name in excluded
        entries.append(
            _left_out(entry_of(reference, "left_out"))
            if is_excluded
            else _described(reference, descriptions[reference])
        )
    entries = [_with_availability(entry) for entry in _with_conflicts(_with_doubles(entries))]
    return sorted(with_recipes(entries), key=_order)


def _named_by_user(plugins: Sequence[str], installed: Container[Place]) -> dict[Reference, str]:
    """Return the plugins that arguments of ``-p`` name, with their arguments, except for installed ones."""
    named: dict[Place, tuple[Reference, str]] = {}
    for argument in plugins:
        if not argument.startswith("no:"):
            reference = reference_of(argument)
            if reference.place not in installed:
                named.setdefault(reference.place, (reference, argument))
    return dict(named.values())


def _described(reference: Reference, description: Description) -> Entry:
    if description.record is not None and reference.distribution is None:
        reference = evolve(reference, name=description.record.name)
    outcome = description.outcome
    state: State = "broken" if outcome == "not_imported" else outcome
    return entry_of(reference, state, description.reason, description)


def _entry_named_by_user(argument: str, reference: Reference, description: Description) -> Entry:
    if description.outcome == "not_imported":
        raise NotImported(
            f"-p {argument} {description.reason}", description.missing_module, description.traceback
        )
    return _described(reference, description)


def _damaged(distribution: Distribution) -> Entry:
    name = distribution.name
    return Entry(name, None, "broken", distribution.flaw, name, distribution.version, None, None)


def _left_out(entry: Entry) -> Entry:
    return evolve(entry, state="left_out", reason=f"-p no:{entry.name}")


def _order(entry: Entry) -> tuple[int, bool, str, str]:
    first = getattr(entry.record, "reference", False) or getattr(entry.record, "default", False)
    kind = KINDS.index(entry.kind) if entry.kind else len(KINDS)
    return kind, not first, entry.name, entry.provider


# States -------------------------------------------------------------------------------------------


def _with_doubles(entries: Sequence[Entry]) -> list[Entry]:
    """Mark further entry points of the same plugin as broken: a wrapper would be called twice."""
    first_names: dict[Place, str] = {}
    checked = []
    for entry in entries:
        if entry.state == "ready" and entry.reference is not None:
            name = first_names.setdefault(entry.reference.place, entry.name)
            if name != entry.name:
                entry = evolve(entry, state="broken", reason=f"is the same as plugin {name!r}")
        checked.append(entry)
    return checked


def _with_conflicts(entries: Sequence[Entry]) -> list[Entry]:
    """Mark plugins with the same name as in conflict, since it is not known which of them is meant."""
    claims: dict[str, list[Entry]] = {}
    for entry in entries:
        # A plugin named with -p that cannot describe itself claims nothing: its name is a guess.
        if entry.reference and entry.state != "left_out" and (entry.distribution or entry.kind):
            claims.setdefault(entry.name, []).append(entry)
    return [_in_conflict(entry, claims) or entry for entry in entries]


def _in_conflict(entry: Entry, claims: Mapping[str, list[Entry]]) -> Entry | None:
    claimants = claims.get(entry.name, [])
    if entry not in claimants or len(claimants) < 2 or entry.state in ("broken", "incompatible"):
        return None
    providers = sorted(
        f"{claimant.provider} ({claimant.reference.target})" if claimant.distribution else claimant.provider
        for claimant in claimants
        if claimant.reference
    )
    return evolve(entry, state="conflict", reason=f"it is claimed by {' and by '.join(providers)}")


def _with_availability(entry: Entry) -> Entry:
    if entry.state != "ready" or entry.record is None or entry.description is None:
        return entry
    from qx.contract.requirements import missing_on_machine
    from qx.devices.finding import missing_device

    try:
        # A device first: who has none need not install anything.
        reason = missing_device(entry.record) or entry.description.lacking or missing_on_machine(entry.record)
    except ValueError as error:
        return evolve(entry, state="broken", reason=f"its record is wrong: {error}", hooks=())
    return evolve(entry, state="unavailable", reason=reason) if reason else entry
