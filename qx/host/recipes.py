"""Configs that are composed of others, whose hooks they call by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import evolve

from qx.contract.records import Config
from qx.host.catalogue import Entry, unknown


def _names(entry: Entry) -> tuple[str, ...]:
    return entry.record.recipes if isinstance(entry.record, Config) else ()


def with_recipes(entries: Sequence[Entry]) -> list[Entry]:
    """Mark configs whose recipes are not there, or do not fit, as unavailable or broken."""
    by_name = {entry.name: entry for entry in entries if entry.kind == "config" or not entry.usable}
    by_name |= {entry.name: entry for entry in entries if entry.kind == "config" and entry.usable}
    checked: dict[str, Entry] = {}

    def check(entry: Entry, callers: tuple[str, ...]) -> Entry:
        """Return a config as its recipes leave it. ``callers`` are those that it was reached from."""
        if entry.name in checked or entry.state != "ready":
            return checked.get(entry.name, entry)
        path = (*callers, entry.name)
        result = entry
        for name in _names(entry):
            if name in path:
                loop = " -> ".join((*path[path.index(name) :], name))
                result = evolve(
                    entry, state="broken", reason=f"its recipes lead in a circle: {loop}", hooks=()
                )
            else:
                recipe = check(by_name[name], path) if name in by_name else None
                result = _composed(entry, name, recipe, by_name)
            if result.state != "ready":
                break
        checked[entry.name] = result
        return result

    return [check(entry, ()) if entry.kind == "config" else entry for entry in entries]


def _composed(entry: Entry, name: str, recipe: Entry | None, choices: Mapping[str, Entry]) -> Entry:
    """Return a config as one of its recipes leaves it."""
    if recipe is None:
        names = [other.name for other in choices.values() if other.usable and other.name != entry.name]
        reason = str(unknown("is composed of an unknown config", name, sorted(names)))
        return evolve(entry, state="unavailable", reason=reason)
    if recipe.state != "ready":
        state = recipe.state.replace("_", " ")
        reason = f"is composed of {name!r}, which is {state}: {recipe.reason}"
        return evolve(entry, state="unavailable", reason=reason)
    assert isinstance(entry.record, Config)
    assert isinstance(recipe.record, Config)
    for field in ("quantizable", "calibration", "training"):
        if getattr(recipe.record, field) and not getattr(entry.record, field):
            reason = f"is composed of {name!r}, whose record says {field}=True: its own must say it, too"
            return evolve(entry, state="broken", reason=reason, hooks=())
    return entry
