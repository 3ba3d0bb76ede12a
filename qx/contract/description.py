"""Descriptions of plugins: made in a process that imports the plugin, and passed to others as JSON."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Container, Iterable, Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias

import attrs
from attrs import Factory, field, frozen
from attrs.validators import deep_iterable, in_, instance_of, optional

from qx.contract import hookspecs
from qx.contract.conformance import ATTRIBUTE, to_json
from qx.contract.fields import optional_text_field, to_strings
from qx.contract.records import Config, Kind, Loader, Metric, Option, Record, Workload
from qx.contract.references import Reference
from qx.foreign import one_line
from qx.tracebacks import traceback_of
from qx.values import Json, JsonMapping, JsonObject

if TYPE_CHECKING:
    import pluggy

Outcome: TypeAlias = Literal["ready", "broken", "incompatible", "not_imported"]

#: Number of letters of a docstring that are kept.
LONGEST = 20_000
RECORDS: Mapping[Kind, type[Record]] = {kind.kind: kind for kind in (Config, Metric, Workload, Loader)}
HOOKS = frozenset(
    name for name, hook in vars(hookspecs).items() if hasattr(hook, f"{hookspecs.PROJECT}_spec")
)


@frozen(kw_only=True)
class Description:
    """The answer about a plugin of the process that imported it."""

    #: Outcome of the import and the checks; ``not_imported`` means that its module cannot be imported.
    outcome: Outcome = field(validator=in_(("ready", "broken", "incompatible", "not_imported")))
    #: Reason why it is not ready.
    reason: str = field(default="", validator=instance_of(str))
    #: Record of the plugin; None where it only wraps, or failed before it returned one.
    record: Record | None = field(default=None, validator=optional(instance_of(tuple(RECORDS.values()))))
    #: Hooks that it implements, in the order of ``qx.contract.hookspecs``.
    hooks: tuple[str, ...] = field(default=(), converter=to_strings, validator=deep_iterable(in_(HOOKS)))
    #: Docstring of its module.
    documentation: str = field(default="", validator=instance_of(str))
    #: Distributions that its record requires and that are missing here, in words.
    lacking: str = field(default="", validator=instance_of(str))
    #: File of a workload's weights; None where it has none, or their package is not installed.
    weights: str | None = optional_text_field()
    #: Its author's hints to the conformance kit, or why they cannot be read; None where there are none.
    conformance: JsonMapping | str | None = field(default=None, validator=optional(instance_of((dict, str))))
    #: Traceback of the error for which it is not ready, or the end of what its process printed as it died.
    traceback: str = field(default="", validator=instance_of(str))
    #: Name of the missing module, where that is why the plugin cannot be imported.
    missing_module: str | None = optional_text_field()

    def to_json(self) -> JsonObject:
        """Return the fields for JSON."""
        fields = attrs.asdict(self, recurse=False)
        if self.record is not None:
            fields["record"] = _record_to_json(self.record)
        return fields

    @classmethod
    def from_json(cls, value: Json) -> Description:
        """Read what ``to_json`` returned. Raises ``ValueError`` for anything else: it comes from outside."""
        try:
            fields = dict(value)
            if fields.get("record") is not None:
                fields["record"] = _record_from_json(fields["record"])
            return cls(**fields)
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise ValueError(f"this is not the description of a plugin: {error}") from error


@frozen
class Group:
    """Plugins that are imported into one process: those of a distribution, or one given with ``-p``."""

    plugins: tuple[Reference, ...]
    #: Whether the plugins' names come from entry points; else they are guesses until the plugins answer.
    is_named: bool = True

    @property
    def is_own(self) -> bool:
        """Whether all of them are qx's own, which can be trusted by every process that has imported qx."""
        return all(plugin.is_own for plugin in self.plugins)

    def without(self, plugins: Container[Reference]) -> Group:
        """Return the group of the other plugins."""
        others = tuple(plugin for plugin in self.plugins if plugin not in plugins)
        return attrs.evolve(self, plugins=others)


@frozen
class Answers:
    """Descriptions of plugins of a group."""

    descriptions: Mapping[Reference, Description] = Factory(dict)
    #: Files that they were imported from and that belong to no installed distribution.
    files: frozenset[str] = frozenset()

    @classmethod
    def about(
        cls, plugin: Reference, description: Description, files: Iterable[str] = (), *, is_named: bool
    ) -> Answers:
        """Return the answer about one plugin. Raises ``ValueError`` where it describes another."""
        name = description.record.name if description.record is not None else plugin.name
        if is_named and description.outcome == "ready" and name != plugin.name:
            raise ValueError(f"this describes plugin {name!r}, not {plugin.name!r}")
        return cls({plugin: description}, frozenset(files))

    @property
    def ready(self) -> Answers:
        """The answers about plugins that keep the contract, and leave out those that are broken."""
        descriptions = {
            plugin: description
            for plugin, description in self.descriptions.items()
            if description.outcome == "ready"
        }
        return Answers(descriptions, self.files)

    def __or__(self, other: Answers) -> Answers:
        """Return the answers of both; those of ``other`` replace answers about the same plugin."""
        return Answers({**self.descriptions, **other.descriptions}, self.files | other.files)


def _record_to_json(record: Record) -> JsonObject:
    # Only the fields of qx's own class: a subclass of the plugin may have more.
    record_class = RECORDS[record.kind]
    fields = {attribute.name: getattr(record, attribute.name) for attribute in attrs.fields(record_class)}
    options = [
        {attribute.name: getattr(option, attribute.name) for attribute in attrs.fields(Option)}
        for option in record.options
    ]
    return {"kind": record.kind, **fields, "options": options}


def _record_from_json(value: JsonMapping) -> Record:
    fields = dict(value)
    kind = RECORDS[fields.pop("kind")]
    options = tuple(Option(**option) for option in fields.pop("options"))
    return kind(**fields, options=options)


def describe(reference: Reference, specs: pluggy.HookRelay, *, named: bool = True) -> Description:
    """Import a plugin into this process, check it against the contract, and describe it.

    Without ``named`` the reference's name is a guess, and the name in the plugin's record is used.
    """
    from qx.contract.checks import Breach, CannotImport, Incompatible, load

    try:
        loaded = load(reference, specs, named=named)
        return Description(
            outcome="ready",
            record=loaded.record,
            hooks=loaded.hooks,
            documentation=_documentation(reference),
            lacking=_lacking(loaded.record),
            weights=_weights(loaded.record),
            conformance=_conformance(loaded.plugin),
        )
    except CannotImport as breach:
        module = breach.__cause__.name if isinstance(breach.__cause__, ModuleNotFoundError) else None
        return Description(
            outcome="not_imported",
            reason=breach.reason,
            missing_module=module,
            traceback=traceback_of(breach).shown,
        )
    except Breach as breach:
        outcome: Outcome = "incompatible" if isinstance(breach, Incompatible) else "broken"
        documentation = _documentation(reference)
        return Description(
            outcome=outcome,
            reason=breach.reason,
            record=breach.record,
            documentation=documentation,
            # Without another error, the reason says all.
            traceback=traceback_of(breach).shown if breach.__cause__ is not None else "",
        )


def _documentation(reference: Reference) -> str:
    """Return the docstring of the plugin's module; empty where it has none."""
    documentation = getattr(sys.modules.get(reference.module), "__doc__", None)
    return inspect.cleandoc(documentation)[:LONGEST] if isinstance(documentation, str) else ""


def _lacking(record: Record | None) -> str:
    from qx.contract.checks import Breach
    from qx.contract.requirements import missing_distributions

    try:
        return missing_distributions(record) if record is not None else ""
    except ValueError as error:
        raise Breach(f"its record is wrong: {one_line(error)}", record) from error


def _weights(record: Record | None) -> str | None:
    from qx.contract.checks import Breach

    if not isinstance(record, Workload) or record.weights is None:
        return None
    from importlib.resources import files

    package, _, name = record.weights.partition(":")
    try:
        return str(files(package) / name)
    except ModuleNotFoundError:
        return None
    except Exception as error:
        raise Breach(
            f"its weights {record.weights!r} cannot be looked up: {one_line(error)}", record
        ) from error


def _conformance(plugin: object) -> JsonMapping | str | None:
    """Return its author's hints to the conformance kit, or why they cannot be read.

    Wrong hints are no breach of the contract: only the kit uses them.
    """
    try:
        conformance = getattr(plugin, ATTRIBUTE, None)
        return None if conformance is None else to_json(conformance)
    except Exception as error:
        return f"its attribute {ATTRIBUTE!r} cannot be read: {one_line(error)}"
