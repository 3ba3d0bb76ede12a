"""Finding all plugins, those that are installed and those that the user names, each in its state."""

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

KINDS: tuple[Kind, ...] = get_args(Kind)


class NotImported(UsageError):
    """A plugin that the user names cannot be imported."""

    def __init__(self, message: str, missing_module: str | None) -> None:
        super().__init__(message)
        #: The module that is not there, where that is why.
        self.missing_module = missing_module


def discover(
    plugins: Sequence[str], known: dict[Reference, Description], trust_cache: Path | None = None
) -> list[Entry]:
    """Everything that is installed or given with ``-p``, each in its state, in a stable order.

    No plugin is imported into this process, but for qx's own. Of plugins that are in ``known`` no description
    is asked for again, and those that are asked for go into it. Raises ``UsageError`` for a ``-p`` that
    cannot be imported, or a ``-p no:NAME`` that leaves nothing out.
    """
    here = installation()
    installed = [plugin for distribution in here.distributions for plugin in distribution.plugins]
    without = {argument[3:] for argument in plugins if argument.startswith("no:")}
    given = _given(plugins, {reference.place for reference in installed})
    # A plugin that is left out is not even imported: this is the way round one that takes seconds, or more.
    groups = [
        Group(tuple(plugin for plugin in distribution.plugins if plugin.name not in without))
        for distribution in here.distributions
    ]
    groups += [Group((reference,), is_named=False) for reference in given]
    unknown_groups = (group.without(known) for group in groups)
    groups = [group for group in unknown_groups if group.plugins]
    known.update(describe_all(groups, here, trust_cache))
    entries = [_damaged(distribution) for distribution in here.distributions if distribution.flaw]
    entries += [_given_entry(argument, reference, known[reference]) for reference, argument in given.items()]
    names = {reference.name for reference in installed}
    for name in without:
        if name not in (choices := names | {entry.name for entry in entries}):
            raise unknown(f"-p no:{name}: no plugin", name, sorted(choices))
    # An installed plugin goes first, so that one given with -p can be put in its place.
    entries = [_left_out(entry) if entry.name in without - names else entry for entry in entries]
    for reference in installed:
        left_out = reference.name in without
        entries.append(
            _left_out(entry_of(reference, "left_out"))
            if left_out
            else _described(reference, known[reference])
        )
    entries = [_with_availability(entry) for entry in _with_conflicts(_with_doubles(entries))]
    return sorted(entries, key=_order)


def _given(plugins: Sequence[str], installed: Container[Place]) -> dict[Reference, str]:
    """The plugins that the arguments of ``-p`` name, with the arguments; without those that are installed."""
    given: dict[Place, tuple[Reference, str]] = {}
    for argument in plugins:
        if not argument.startswith("no:"):
            reference = reference_of(argument)
            if reference.place not in installed:
                given.setdefault(reference.place, (reference, argument))
    return dict(given.values())


def _described(reference: Reference, description: Description) -> Entry:
    if description.record is not None and reference.distribution is None:
        reference = evolve(reference, name=description.record.name)
    outcome = description.outcome
    state: State = "broken" if outcome == "not_imported" else outcome
    return entry_of(reference, state, description.reason, description)


def _given_entry(argument: str, reference: Reference, description: Description) -> Entry:
    if description.outcome == "not_imported":
        raise NotImported(f"-p {argument} {description.reason}", description.missing_module)
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
    """A plugin that only wraps would be called twice where two entry points name it."""
    first: dict[Place, str] = {}
    seen = []
    for entry in entries:
        if entry.state == "ready" and entry.reference is not None:
            name = first.setdefault(entry.reference.place, entry.name)
            if name != entry.name:
                entry = evolve(entry, state="broken", reason=f"is the same as plugin {name!r}")
        seen.append(entry)
    return seen


def _with_conflicts(entries: Sequence[Entry]) -> list[Entry]:
    """Names that more than one claims are nobody's: which of them were meant cannot be known."""
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
        f"{each.provider} ({each.reference.target})" if each.distribution else each.provider
        for each in claimants
        if each.reference
    )
    return evolve(entry, state="conflict", reason=f"it is claimed by {' and by '.join(providers)}")


def _with_availability(entry: Entry) -> Entry:
    if entry.state != "ready" or entry.record is None or entry.description is None:
        return entry
    from qx.contract.requirements import missing_on_machine

    try:
        reason = entry.description.lacking or missing_on_machine(entry.record)
    except ValueError as error:
        return evolve(entry, state="broken", reason=f"its record is wrong: {error}", hooks=())
    return evolve(entry, state="unavailable", reason=reason) if reason else entry
