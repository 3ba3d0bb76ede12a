"""The host: it knows every plugin with its state; in a worker it calls the hooks of one at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qx.contract.description import Description
from qx.contract.records import Kind
from qx.errors import PluginError, UsageError
from qx.host.catalogue import Entry, Reference, entry_of, unknown

if TYPE_CHECKING:
    import pluggy

__all__ = ["Entry", "Host", "Reference"]


class Host:
    """The plugins of one run. Make a fresh one for each: nothing is kept between them."""

    #: All plugins, usable or not, by kind and name; the reference and the default come first.
    entries: tuple[Entry, ...]

    def __init__(self, entries: Sequence[Entry], plugins: Mapping[str, object] | None = None) -> None:
        """``plugins`` are those that were imported into this process, by their names."""
        self.entries = tuple(entries)
        self._usable = {entry.name: entry for entry in entries if entry.usable}
        self._plugins = dict(plugins or {})
        self._callers: dict[tuple[str, str], pluggy.HookCaller] = {}
        self._descriptions: dict[Reference, Description] = {}

    @classmethod
    def discover(
        cls, plugins: Sequence[str] = (), *, known: Host | None = None, trust_cache: Path | None = None
    ) -> Host:
        """All plugins that are installed, and those of ``plugins``: the arguments of ``-p``.

        Each is a module, a ``.py`` file, either with ``:attribute``, or ``no:NAME``. Raises ``UsageError``.
        None of them is imported into this process, so the host can call none. What a ``known`` host has asked
        of a plugin is not asked again. What is kept in the cache is believed where nobody else can write it,
        or where it is in ``trust_cache``.
        """
        from qx.host.discovery import discover

        descriptions = dict(known._descriptions) if known is not None else {}
        host = cls(discover(plugins, descriptions, trust_cache))
        host._descriptions = descriptions
        return host

    @classmethod
    def of(cls, references: Sequence[Reference]) -> Host:
        """Just these plugins, imported into this process, which is a worker; no entry point is looked at.

        Whether what they require is installed is not asked again. Raises ``PluginError`` where one cannot be
        imported or breaks the contract.
        """
        from qx.contract.checks import Breach, load, new_manager

        specs = new_manager().hook
        entries, plugins = [], {}
        for reference in dict.fromkeys(references):
            try:
                loaded = load(reference, specs)
            except Breach as breach:
                whose = f"plugin {reference.name!r} ({reference.provider})"
                raise PluginError(f"{whose}: {breach.reason}") from breach
            description = Description(outcome="ready", record=loaded.record, hooks=loaded.hooks)
            entries.append(entry_of(loaded.reference, "ready", description=description))
            plugins[reference.name] = loaded.plugin
        return cls(entries, plugins)

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

    def call(self, name: str, hook: str, /, **arguments: object) -> Any:
        """Call a hook of one plugin, inside the plugins that wrap it, and give what it gave.

        What the plugin raises comes through as it is. Raises ``PluginError`` where it gives None and a value
        is due, and ``LookupError`` where it was not imported into this process, or does not implement the
        hook: ask ``implements`` first.
        """
        from qx.contract.checks import MAY_GIVE_NONE

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
            if name not in self._plugins:
                raise LookupError(f"plugin {name!r} is not imported here: its hooks are called in workers")
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

    @cached_property
    def _manager(self) -> pluggy.PluginManager:
        from qx.contract.checks import new_manager

        manager = new_manager()
        for name, plugin in self._plugins.items():
            # One that only wraps may be there under two names, and is to be called once.
            if not manager.is_registered(plugin):
                manager.register(plugin, name=name)
        return manager
