"""The host: it knows every plugin with its state, and calls the hooks of one at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pluggy
from attrs import evolve

from qx.catalogue import Entry, Found, Reference, discover, load, unknown
from qx.contract import MAY_GIVE_NONE, Breach, new_manager
from qx.errors import PluginError, UsageError
from qx.records import Kind

__all__ = ["Entry", "Host", "Reference"]


class Host:
    """The plugins of one run. Make a fresh one for each: nothing is kept between them."""

    #: Everything that was found, usable or not, by kind and name; the reference and the default come first.
    entries: tuple[Entry, ...]

    def __init__(self, found: Iterable[Found]) -> None:
        self._manager = new_manager()
        self._callers: dict[tuple[str, str], pluggy.HookCaller] = {}
        self._usable: dict[str, Entry] = {}
        self._plugins: dict[str, object] = {}
        entries = []
        for item in found:
            entry = item.entry
            if entry.usable and self._manager.is_registered(item.plugin):
                other = self._manager.get_name(item.plugin)
                entry = evolve(entry, state="broken", reason=f"is the same as plugin {other!r}")
            if entry.usable:
                self._manager.register(item.plugin, name=entry.name)
                self._usable[entry.name] = entry
                self._plugins[entry.name] = item.plugin
            entries.append(entry)
        self.entries = tuple(entries)

    @classmethod
    def discover(cls, plugins: Sequence[str] = ()) -> Host:
        """All plugins that are installed, and those of ``plugins``: the arguments of ``-p``.

        Each is a module, a ``.py`` file, either with ``:attribute``, or ``no:NAME``. Raises ``UsageError``.
        """
        return cls(discover(plugins))

    @classmethod
    def of(cls, references: Sequence[Reference]) -> Host:
        """Just these plugins, for a process that has been told which; no entry point is looked at.

        Whether what they require is installed is not asked again. Raises ``PluginError`` where one cannot be
        imported or breaks the contract.
        """
        specs = new_manager().hook
        found = []
        for reference in dict.fromkeys(references):
            try:
                found.append(load(reference, specs))
            except Breach as breach:
                whose = f"plugin {reference.name!r} ({reference.provider})"
                raise PluginError(f"{whose}: {breach.reason}") from breach
        return cls(found)

    @property
    def wrappers(self) -> tuple[Entry, ...]:
        """The plugins that only wrap, around the hooks of all others."""
        return self.ready("wrapper")

    def ready(self, kind: Kind) -> tuple[Entry, ...]:
        """The plugins of a kind that can be used."""
        return tuple(entry for entry in self.entries if entry.kind == kind and entry.state == "ready")

    def get(self, kind: Kind, name: str) -> Entry:
        """The plugin of that kind and name, ready or unavailable.

        Raises ``UsageError`` where there is none, with the choices; or where it is broken, in conflict or
        left out, with the reason.
        """
        entry = self._usable.get(name)
        if entry is not None and entry.kind == kind:
            return entry
        if entry is not None:
            raise UsageError(f"{name!r} is a {entry.kind}, not a {kind}")
        for entry in self.entries:
            if entry.name == name:
                raise UsageError(entry.complaint)
        raise unknown(f"unknown {kind}", name, [e.name for e in self.entries if e.usable and e.kind == kind])

    def named(self, name: str) -> tuple[Entry, ...]:
        """Every plugin of that name, in whatever state. Raises ``UsageError`` with the choices."""
        entries = tuple(entry for entry in self.entries if entry.name == name)
        if not entries:
            raise unknown("unknown plugin", name, list(dict.fromkeys(entry.name for entry in self.entries)))
        return entries

    def implements(self, name: str, hook: str) -> bool:
        """Whether a usable plugin implements a hook. Raises ``LookupError`` for a name that is none's."""
        return hook in self._usable[name].hooks

    def plugin(self, name: str) -> object:
        """A usable plugin itself: a module or an object. Raises ``LookupError`` for a name that is none's."""
        return self._plugins[name]

    def call(self, name: str, hook: str, /, **arguments: Any) -> Any:
        """Call a hook of one plugin, inside the plugins that wrap it, and give what it gave.

        What the plugin raises comes through as it is. Raises ``PluginError`` where it gives None and a value
        is due, and ``LookupError`` where it does not implement the hook: ask ``implements`` first.
        """
        result = self._caller(name, hook)(**arguments)
        if result is None and hook not in MAY_GIVE_NONE:
            around = [entry.name for entry in self.wrappers if hook in entry.hooks]
            or_those = f" (or {', '.join(around)}, which wraps it, did)" if around else ""
            provider = self._usable[name].provider
            raise PluginError(
                f"plugin {name!r} ({provider}): hook {hook!r} gave None where a value is due{or_those}"
            )
        return result

    def _caller(self, name: str, hook: str) -> pluggy.HookCaller:
        if (name, hook) not in self._callers:
            if not self.implements(name, hook):
                raise LookupError(f"plugin {name!r} does not implement {hook!r}")
            # pluggy broadcasts, and a cell wants the answer of one.
            others = [
                plugin
                for other, plugin in self._plugins.items()
                if other != name and self._usable[other].kind != "wrapper"
            ]
            self._callers[name, hook] = self._manager.subset_hook_caller(hook, others)
        return self._callers[name, hook]
