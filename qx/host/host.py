"""The host, which has an entry for every plugin, and in a worker calls the hooks of one plugin at a time."""

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
    """The plugins of one run. Make a new host for each run."""

    #: Entries of all plugins, usable or not, by kind and name; the reference and the default come first.
    entries: tuple[Entry, ...]

    def __init__(self, entries: Sequence[Entry], plugins: Mapping[str, object] | None = None) -> None:
        """``plugins`` maps names to the plugins that were imported into this process."""
        self.entries = tuple(entries)
        self._usable = {entry.name: entry for entry in entries if entry.usable}
        self._plugins = dict(plugins or {})
        self._callers: dict[tuple[str, str], pluggy.HookCaller] = {}
        self._descriptions: dict[Reference, Description] = {}

    @classmethod
    def discover(
        cls, plugins: Sequence[str] = (), *, known: Host | None = None, trust_cache: Path | None = None
    ) -> Host:
        """Return a host with all installed plugins, and with ``plugins``, the arguments of ``-p``.

        Each argument is a module, a ``.py`` file, either with ``:attribute``, or ``no:NAME``. No plugin is
        imported into this process, so the host can call none. Plugins that a ``known`` host has described are
        not described again. The cache is trusted where nobody else can write it, or where it is in
        ``trust_cache``. Raises ``UsageError``.
        """
        from qx.host.discovery import discover

        descriptions = dict(known._descriptions) if known is not None else {}
        host = cls(discover(plugins, descriptions, trust_cache))
        host._descriptions = descriptions
        return host

    @classmethod
    def of(cls, references: Sequence[Reference]) -> Host:
        """Return a host with just these plugins, imported into this process, which is a worker.

        Entry points and requirements are not checked again. Raises ``PluginError`` where a plugin cannot be
        imported or breaks the contract.
        """
        from qx.contract.checks import Breach, load, new_manager

        specs = new_manager().hook
        entries, plugins = [], {}
        for reference in dict.fromkeys(references):
            try:
                loaded = load(reference, specs)
            except Breach as breach:
                plugin = f"plugin {reference.name!r} ({reference.provider})"
                raise PluginError(f"{plugin}: {breach.reason}") from breach
            description = Description(outcome="ready", record=loaded.record, hooks=loaded.hooks)
            entries.append(entry_of(loaded.reference, "ready", description=description))
            plugins[reference.name] = loaded.plugin
        return cls(entries, plugins)

    @property
    def wrappers(self) -> tuple[Entry, ...]:
        """The plugins that only wrap the hooks of all others."""
        return self.ready("wrapper")

    def ready(self, kind: Kind) -> tuple[Entry, ...]:
        """Return the plugins of a kind that can be used."""
        return tuple(entry for entry in self.entries if entry.kind == kind and entry.state == "ready")

    def get(self, kind: Kind, name: str) -> Entry:
        """Return the plugin of that kind and name, ready or unavailable.

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
        choices = [entry.name for entry in self.entries if entry.usable and entry.kind == kind]
        raise unknown(f"unknown {kind}", name, choices)

    def get_ready(self, kind: Kind, name: str) -> Entry:
        """Return the plugin of that kind and name, which is ready. Raises ``UsageError`` with the reason."""
        entry = self.get(kind, name)
        if entry.state != "ready":
            raise UsageError(f"{kind} {entry.name} is {entry.state}: {entry.reason}")
        return entry

    def named(self, name: str) -> tuple[Entry, ...]:
        """Return all plugins of that name, in any state. Raises ``UsageError`` with the choices."""
        entries = tuple(entry for entry in self.entries if entry.name == name)
        if not entries:
            raise unknown("unknown plugin", name, list(dict.fromkeys(entry.name for entry in self.entries)))
        return entries

    def implements(self, name: str, hook: str) -> bool:
        """Return whether a usable plugin implements a hook. Raises ``LookupError`` for an unknown name."""
        return hook in self._usable[name].hooks

    def takes(self, name: str, hook: str, argument: str) -> bool:
        """Return whether a hook of a plugin takes an argument, or a plugin that wraps it does.

        Raises ``LookupError`` as ``call`` does.
        """
        implementations = self._caller(name, hook).get_hookimpls()
        return any(argument in implementation.argnames for implementation in implementations)

    def call(self, name: str, hook: str, /, **arguments: object) -> Any:
        """Call a hook of one plugin, inside the plugins that wrap it, and return its result.

        Errors of the plugin are passed on unchanged. Raises ``PluginError`` where it returns None and a value
        is required. Raises ``LookupError`` where the plugin was not imported into this process, or does not
        implement the hook: check ``implements`` first.
        """
        from qx.contract.checks import MAY_GIVE_NONE

        result = self._caller(name, hook)(**arguments)
        if result is None and hook not in MAY_GIVE_NONE:
            wrappers = [entry.name for entry in self.wrappers if hook in entry.hooks]
            hint = f" (or {', '.join(wrappers)}, which wraps it, did)" if wrappers else ""
            provider = self._usable[name].provider
            raise PluginError(
                f"plugin {name!r} ({provider}): hook {hook!r} returned None, expected a value{hint}"
            )
        return result

    def _caller(self, name: str, hook: str) -> pluggy.HookCaller:
        if (name, hook) not in self._callers:
            if name not in self._plugins:
                raise LookupError(f"plugin {name!r} is not imported here: its hooks are called in workers")
            if not self.implements(name, hook):
                raise LookupError(f"plugin {name!r} does not implement {hook!r}")
            # pluggy calls all plugins, and a cell needs the answer of one.
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
            # A plugin that only wraps may have two names, and must be called once.
            if not manager.is_registered(plugin):
                manager.register(plugin, name=name)
        return manager
