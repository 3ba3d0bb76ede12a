"""What plugins there are: found through entry points or named by the user, and in which state each is."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args
from zlib import crc32

from attrs import evolve, frozen

from qx.contract import (
    Breach,
    CannotImport,
    Incompatible,
    cause,
    check,
    check_contract,
    declared,
    declared_in_source,
    import_plugin,
    new_manager,
)
from qx.errors import UsageError
from qx.hookspecs import PROJECT
from qx.records import Kind, Record

if TYPE_CHECKING:
    from importlib.metadata import Distribution

    import pluggy

State: TypeAlias = Literal["ready", "unavailable", "incompatible", "broken", "conflict", "left_out"]
KINDS: tuple[Kind, ...] = get_args(Kind)
#: What a distribution is called whose metadata do not say it.
NAMELESS = "a distribution without a name"


@frozen
class Reference:
    """How to import a plugin in another process; nothing in it that JSON cannot hold."""

    name: str
    module: str
    #: The file, where the user gave one: it is imported under the name ``module``.
    path: str | None = None
    #: The plugin is this object of the module, and not the module itself.
    attribute: str | None = None
    #: Whose it is; None where the user named it with ``-p``.
    distribution: str | None = None
    version: str | None = None

    @property
    def target(self) -> str:
        """Where it is, as one writes it after ``-p``."""
        return (self.path or self.module) + (f":{self.attribute}" if self.attribute else "")

    @property
    def provider(self) -> str:
        """Who brings it: the distribution with its version, or ``-p MODULE``."""
        if self.distribution is None:
            return f"-p {self.target}"
        return f"{self.distribution} {self.version or '(no version)'}"


def to_reference(value: Reference | Mapping[str, Any]) -> Reference:
    """For fields: a reference, or the fields of one as they come from JSON."""
    return value if isinstance(value, Reference) else Reference(**value)


@frozen
class Entry:
    """A plugin of the catalogue."""

    name: str
    #: None where it did not get as far as telling.
    kind: Kind | None
    state: State
    #: Why it is not ready.
    reason: str
    distribution: str | None
    version: str | None
    reference: Reference | None
    record: Record | None
    #: The hooks that it implements, in the order of ``qx.hookspecs``.
    hooks: tuple[str, ...] = ()

    @property
    def provider(self) -> str:
        """Who brings it: the distribution with its version, or ``-p MODULE``."""
        if self.reference is not None:
            return self.reference.provider
        return " ".join(filter(None, (self.distribution, self.version)))

    @property
    def usable(self) -> bool:
        """It can take a row in a table, though it may be that it cannot run here."""
        return self.state in ("ready", "unavailable")

    @property
    def complaint(self) -> str:
        """One line that says why it is not ready."""
        if self.state == "conflict":  # the reason names all providers
            return f"plugin name {self.name!r} is in conflict: {self.reason}"
        return f"plugin {self.name!r} ({self.provider}) is {self.state.replace('_', ' ')}: {self.reason}"


@frozen
class Found:
    """An entry, and the plugin itself where it is usable."""

    entry: Entry
    plugin: object = None


def load(reference: Reference, specs: pluggy.HookRelay, *, named: bool = True) -> Found:
    """Import a plugin and hold it against the contract. Raises ``Breach``.

    Without ``named`` the reference's name is a guess, and its record says how it is called.
    """
    try:
        plugin = import_plugin(reference.module, reference.path, reference.attribute)
    except CannotImport:
        check_contract(declared_in_source(reference.module, reference.path))
        raise
    check_contract(declared(plugin))
    record, hooks = check(specs, plugin, reference.name if named else None)
    if record is not None:
        reference = evolve(reference, name=record.name)
    return Found(_entry(reference, "ready", record=record, hooks=hooks, wraps=record is None), plugin)


def discover(plugins: Sequence[str] = ()) -> list[Found]:
    """Everything that is installed or given with ``-p``, each in its state, in a stable order.

    Raises ``UsageError`` for a ``-p`` that cannot be imported, or a ``-p no:NAME`` that leaves nothing out.
    """
    specs = new_manager().hook
    without = {argument[3:] for argument in plugins if argument.startswith("no:")}
    installed, found = _installed()
    places = {(reference.module, reference.path, reference.attribute) for reference in installed}
    for argument in plugins:
        reference = None if argument.startswith("no:") else reference_of(argument)
        if reference and (place := (reference.module, reference.path, reference.attribute)) not in places:
            places.add(place)
            found.append(_load_given(argument, reference, specs))
    names = {reference.name for reference in installed}
    for name in without:
        if name not in (choices := names | {item.entry.name for item in found}):
            raise unknown(f"-p no:{name}: no plugin", name, sorted(choices))
    # An installed plugin goes first, so that one given with -p can be put in its place.
    found = [_left_out(item) if item.entry.name in without - names else item for item in found]
    for reference in installed:
        if reference.name in without:
            # It is not even imported: this is the way round a plugin that brings the program down.
            found.append(_left_out(Found(_entry(reference, "left_out"))))
            continue
        try:
            found.append(load(reference, specs))
        except Breach as breach:
            found.append(_broken(reference, breach))
    found = _with_conflicts(found)
    return sorted((_with_availability(item) for item in found), key=_order)


def _entry(
    reference: Reference,
    state: State,
    reason: str = "",
    *,
    record: Record | None = None,
    hooks: tuple[str, ...] = (),
    wraps: bool = False,
) -> Entry:
    kind: Kind | None = "wrapper" if wraps else record.kind if record else None
    distribution, version = reference.distribution, reference.version
    return Entry(reference.name, kind, state, reason, distribution, version, reference, record, hooks)


def _broken(reference: Reference, breach: Breach) -> Found:
    if breach.record is not None and reference.distribution is None:
        reference = evolve(reference, name=breach.record.name)
    state: State = "incompatible" if isinstance(breach, Incompatible) else "broken"
    return Found(_entry(reference, state, breach.reason, record=breach.record))


def _order(found: Found) -> tuple[int, bool, str, str]:
    entry = found.entry
    first = getattr(entry.record, "reference", False) or getattr(entry.record, "default", False)
    kind = KINDS.index(entry.kind) if entry.kind else len(KINDS)
    return kind, not first, entry.name, entry.provider


# Entry points -------------------------------------------------------------------------------------


def _installed() -> tuple[list[Reference], list[Found]]:
    # Not `entry_points()`: that fails as a whole when a single distribution's file is damaged.
    from importlib.metadata import distributions

    references: dict[Reference, None] = {}
    damaged: list[Found] = []
    seen: set[str] = set()
    for distribution in distributions():
        try:
            text = distribution.read_text("entry_points.txt") or ""
            if f"[{PROJECT}]" not in text:
                continue
            name, version = distribution.metadata["Name"] or NAMELESS, distribution.metadata["Version"]
            # The same distribution may lie on the path twice (installed, and in the current folder).
            if (normal := re.sub(r"[-_.]+", "-", name).lower()) in seen:
                continue
            seen.add(normal)
            for point in distribution.entry_points:
                if point.group == PROJECT:
                    module, _, attribute = point.value.partition("[")[0].partition(":")
                    place = module.strip(), None, attribute.strip() or None
                    references[Reference(point.name, *place, name, version)] = None
        except Exception as error:
            known, release = _known_of(distribution)
            reason = f"entry_points.txt or METADATA cannot be read: {cause(error)}"
            damaged.append(Found(Entry(known, None, "broken", reason, known, release, None, None)))
    return list(references), damaged


def _known_of(distribution: Distribution) -> tuple[str, str | None]:
    """Name and version of a damaged distribution, as far as they can be read."""
    try:
        return distribution.metadata["Name"] or NAMELESS, distribution.metadata["Version"]
    except Exception:  # whatever the parser of METADATA runs into
        return NAMELESS, None


# What the user names ------------------------------------------------------------------------------


def reference_of(argument: str) -> Reference:
    """What ``-p ARGUMENT`` names. The plugin's own name is a guess, until it has described itself."""
    if file := re.fullmatch(r"(?P<path>.*\.py)(:(?P<attribute>[\w.]+))?", argument):
        path = Path(file["path"]).resolve()
        if not path.is_file():
            raise UsageError(f"-p {argument}: there is no such file")
        # Two files may share a name, and none may take the name of a module that is there already.
        module = f"_qx_{re.sub(r'[^0-9A-Za-z_]', '_', path.stem)}_{crc32(os.fsencode(path)):08x}"
        return Reference(file["attribute"] or path.stem, module, str(path), file["attribute"])
    module, _, attribute = argument.partition(":")
    # As with `python -m`: modules of the current folder can be named. qx's own are not looked for there.
    own = module.partition(".")[0] == __name__.partition(".")[0]
    if not own and (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    return Reference((attribute or module).rpartition(".")[2], module, None, attribute or None)


def _load_given(argument: str, reference: Reference, specs: pluggy.HookRelay) -> Found:
    try:
        return load(reference, specs, named=False)
    except CannotImport as breach:
        raise UsageError(f"-p {argument} {breach.reason}") from breach
    except Breach as breach:
        return _broken(reference, breach)


def _left_out(found: Found) -> Found:
    return Found(evolve(found.entry, state="left_out", reason=f"-p no:{found.entry.name}"))


def unknown(what: str, name: str, choices: Sequence[str]) -> UsageError:
    """The error for a name that is none of the choices: it lists them, those that look like it first."""
    from difflib import get_close_matches

    close = get_close_matches(name, choices)
    listed = ", ".join([*close, *(choice for choice in choices if choice not in close)])
    return UsageError(f"{what} {name!r} ({f'choose from {listed}' if listed else 'there are none'})")


# States -------------------------------------------------------------------------------------------


def _with_conflicts(found: list[Found]) -> list[Found]:
    """Names that more than one claims are nobody's: which of them were meant cannot be known."""
    claims: dict[str, list[Entry]] = {}
    for item in found:
        entry = item.entry
        # A plugin named with -p that cannot describe itself claims nothing: its name is a guess.
        if entry.reference and entry.state != "left_out" and (entry.distribution or entry.kind):
            claims.setdefault(entry.name, []).append(entry)
    return [_in_conflict(item.entry, claims) or item for item in found]


def _in_conflict(entry: Entry, claims: dict[str, list[Entry]]) -> Found | None:
    claimants = claims.get(entry.name, [])
    if entry not in claimants or len(claimants) < 2 or entry.state in ("broken", "incompatible"):
        return None
    providers = sorted(
        f"{each.provider} ({each.reference.target})" if each.distribution else each.provider
        for each in claimants
        if each.reference
    )
    reason = f"it is claimed by {' and by '.join(providers)}"
    return Found(evolve(entry, state="conflict", reason=reason))


def _with_availability(found: Found) -> Found:
    entry = found.entry
    if entry.state != "ready" or entry.record is None:
        return found
    from qx.requirements import lacking

    try:
        reason = lacking(entry.record, entry.distribution)
    except ValueError as error:
        return Found(evolve(entry, state="broken", reason=f"its record is wrong: {cause(error)}", hooks=()))
    return Found(evolve(entry, state="unavailable", reason=reason), found.plugin) if reason else found
