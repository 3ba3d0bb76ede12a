"""Import a plugin, and check it against the hooks in ``qx.contract.hookspecs``."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import pathlib
import re
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import attrs
import pluggy

from qx.contract import hookspecs
from qx.contract.records import CONTROL, Config, Loader, Metric, Record, Workload
from qx.contract.references import Reference, import_file
from qx.foreign import one_line

if TYPE_CHECKING:
    from pathlib import Path

#: Hooks that a plugin of each kind must implement, and those that it may; see ``qx.contract.hookspecs``.
REQUIRED: dict[str, tuple[str, ...]] = {
    "config": ("convert",),
    "metric": ("measure",),
    "workload": ("make_model", "load_data", "example_inputs"),
    "loader": ("load",),
}
OPTIONAL: dict[str, tuple[str, ...]] = {
    "config": (
        *("check_model", "quantized_layers", "rounding"),
        *("prepare_model", "calibrate", "read_weights"),
    ),
    "workload": ("train", "postprocess", "score", "input_lengths"),
    "loader": ("read_weights", "serving_code", "profile", "layer_outputs"),
}
#: Hooks of a metric of a whole set, whose samples are ``per_set``: those that belong together, of which it
#: must implement one row at least.
PER_SET = (("statistic",), ("measure", "combine"))
#: Hooks and arguments of version 1 of the contract, each with what stands in its place.
REPLACED_HOOKS = {"can_treat": "check_model"}
REPLACED_ARGUMENTS = {("statistic", "labels"): "targets"}
#: Page that says how a plugin for an earlier version of the contract is changed.
MIGRATION = "docs/migration.md"
#: Hooks that may return None ('not applicable here', 'no objection', 'not known'); elsewhere it is an error.
MAY_GIVE_NONE = frozenset(
    {
        *("measure", "statistic", "check_model", "postprocess", "score", "input_lengths"),
        *("read_weights", "serving_code", "profile", "layer_outputs", "quantized_layers", "rounding"),
    }
)


class Breach(Exception):
    """The plugin cannot be used: the reason, and its record where it returned one."""

    def __init__(self, reason: str, record: Record | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.record = record


class CannotImport(Breach):
    """The plugin's module cannot be imported, or has no such attribute."""


class Incompatible(Breach):
    """The plugin was made for a version of the contract that this qx does not have."""


@attrs.frozen
class Loaded:
    """A plugin that was imported into this process, and keeps the contract."""

    #: Reference to the plugin, with the name in its record.
    reference: Reference
    plugin: object
    #: Record of the plugin; None where it only wraps.
    record: Record | None
    #: Hooks that it implements, in the order of ``qx.contract.hookspecs``.
    hooks: tuple[str, ...]


def load(reference: Reference, specs: pluggy.HookRelay, *, named: bool = True) -> Loaded:
    """Import a plugin and check it against the contract. Raises ``Breach``.

    Without ``named`` the reference's name is a guess, and the name in the plugin's record is used.
    """
    try:
        plugin = import_plugin(reference)
    except CannotImport:
        check_contract(declared_in_source(reference.module, reference.path))
        raise
    check_contract(declared(plugin))
    record, hooks = check(specs, plugin, reference.name if named else None)
    if record is not None:
        reference = attrs.evolve(reference, name=record.name)
    return Loaded(reference, plugin, record, hooks)


def new_manager() -> pluggy.PluginManager:
    """Return a manager that knows the hooks and no plugin."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


def import_plugin(reference: Reference) -> object:
    """Import a plugin: a module, or an object in it. Raises ``CannotImport``, whatever the module raises."""
    module, path, attribute = reference.place
    reference.extend_search_path()
    try:
        # What a plugin prints must not get into the output of a worker.
        with contextlib.redirect_stdout(sys.stderr):
            plugin: object = import_file(module, path) if path else importlib.import_module(module)
            for part in attribute.split(".") if attribute else ():
                plugin = getattr(plugin, part)
    except (Exception, SystemExit) as error:
        raise CannotImport(f"cannot be imported: {one_line(error)}") from error
    return plugin


#: Name in a module of the version of the contract that it was written for.
CONTRACT_NAME = "QX_CONTRACT"


def declared(plugin: object) -> object:
    """Return the version of the contract that a plugin declares; None where it declares none."""
    module = sys.modules.get(getattr(type(plugin), "__module__", ""))
    # Statically, so that no code of the plugin runs.
    versions = (inspect.getattr_static(owner, CONTRACT_NAME, None) for owner in (plugin, module))
    return next((version for version in versions if version is not None), None)


def declared_in_source(module: str, path: str | Path | None) -> str | None:
    """Return the version of the contract in the source of a module that cannot be imported, or None.

    A module often cannot be imported because it was written for another version.
    """
    try:
        if path is None:
            spec = importlib.util.find_spec(module)
            path = spec.origin if spec is not None else None
        text = pathlib.Path(path or "").read_text(encoding="utf-8")
    except (Exception, SystemExit):  # whatever a parent package raises when it is imported
        return None
    match = re.search(rf"^{CONTRACT_NAME}\b[^=\n]*=\s*[\"']([^\"']*)[\"']", text, re.MULTILINE)
    return match[1] if match else None


def check_contract(version: object) -> None:
    """Check the version of the contract that a plugin declares.

    Raises ``Incompatible`` where this qx cannot use it, and ``Breach`` where it is no version.
    """
    if version is None:
        return
    match = re.fullmatch(r"([0-9]{1,9})(?:\.([0-9]{1,9}))?", version) if isinstance(version, str) else None
    if match is None:
        raise Breach(f"{CONTRACT_NAME} is {version!r}, and must be a version such as {hookspecs.CONTRACT!r}")
    major, minor = int(match[1]), int(match[2] or 0)
    ours = tuple(map(int, hookspecs.CONTRACT.split(".")))
    if major == ours[0] and minor <= ours[1]:
        return
    is_newer = (major, minor) > ours
    advice = "upgrade quant-explorer" if is_newer else f"change the plugin as {MIGRATION} says"
    raise Incompatible(
        f"was made for version {version} of qx's contract, and this qx has {hookspecs.CONTRACT}: {advice}"
    )


def check(specs: pluggy.HookRelay, plugin: object, name: str | None) -> tuple[Record | None, tuple[str, ...]]:
    """Check a plugin against the contract, and return its record and the hooks that it implements.

    The record is None for a plugin that only wraps. ``name`` is the name of its entry point, or None where it
    has none. Raises ``Breach``.
    """
    if inspect.isclass(plugin):
        raise Breach(f"is a class: make an object of it (attribute = {plugin.__name__}())")
    implementations = _implementations(plugin)
    contract_hooks = [hook for hook in vars(hookspecs) if hook in vars(specs)]  # in the order of the file
    for hook, implementation in implementations.items():
        if hook in contract_hooks:
            _check_arguments(getattr(specs, hook), implementation)
        elif hook in REPLACED_HOOKS:
            raise _outdated(f"implements {hook!r}, which is now {REPLACED_HOOKS[hook]!r}")
        elif not implementation.optionalhook:
            raise Breach(f"{hook!r} is not a hook of qx{_did_you_mean(hook, contract_hooks)}")
    hooks = tuple(hook for hook in contract_hooks if hook in implementations)
    if "describe" not in hooks:
        _check_wraps_only(plugin, implementations)
        return None, hooks
    record = _call_describe(implementations["describe"])
    if name is not None and record.name != name:
        raise Breach(
            f"its record is named {record.name!r} and its entry point {name!r}; they must be the same", record
        )
    try:
        _check_kind(plugin, record, implementations)
    except Breach as breach:
        raise Breach(breach.reason, record) from None
    return record, hooks


def _outdated(reason: str) -> Incompatible:
    return Incompatible(
        f"{reason}: it was made for an earlier version of qx's contract; change it as {MIGRATION} says"
    )


def _implementations(plugin: object) -> dict[str, pluggy.HookImpl]:
    # A manager without specs accepts any hook, so that each flaw gets a message of its own here.
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    try:
        hash(plugin)  # pluggy keeps plugins in sets
        manager.register(plugin)
    except Exception as error:
        raise Breach(f"cannot be registered: {one_line(error)}") from error
    implementations = {}
    for caller in manager.get_hookcallers(plugin) or ():
        hook_implementations = caller.get_hookimpls()
        if len(hook_implementations) > 1:
            raise Breach(f"hook {caller.name!r} is implemented {len(hook_implementations)} times")
        implementations[caller.name] = hook_implementations[0]
    return implementations


def _check_arguments(caller: pluggy.HookCaller, implementation: pluggy.HookImpl) -> None:
    assert caller.spec is not None
    hook, allowed = caller.name, caller.spec.argnames
    allowance = f"it may take {', '.join(allowed)}" if allowed else "it may take none"
    for parameter in inspect.signature(implementation.function).parameters.values():
        argument = parameter.name
        if argument in implementation.argnames:
            if replacement := REPLACED_ARGUMENTS.get((hook, argument)):
                raise _outdated(f"its hook {hook!r} takes {argument!r}, which is now {replacement!r}")
            if argument not in allowed:
                hint = _did_you_mean(argument, allowed)
                raise Breach(f"hook {hook!r} has an unknown argument {argument!r}{hint} ({allowance})")
        elif argument in allowed or parameter.default is parameter.empty:
            # pluggy passes plain arguments only, and would silently leave this one at its default.
            raise Breach(
                f"hook {hook!r}: '{parameter}' must be a plain argument without a default ({allowance})"
            )
    is_wrapper = implementation.wrapper or implementation.hookwrapper
    if is_wrapper and not inspect.isgeneratorfunction(implementation.function):
        raise Breach(f"hook {hook!r} is marked as a wrapper, but has no yield")


def _check_wraps_only(plugin: object, implementations: dict[str, pluggy.HookImpl]) -> None:
    if inspect.isroutine(getattr(plugin, "describe", None)):
        raise Breach("hook 'describe' lacks @hookimpl")
    if not implementations:
        raise Breach("implements no hook (is @hookimpl missing?)")
    for hook, implementation in implementations.items():
        if not (implementation.wrapper or implementation.hookwrapper):
            raise Breach(
                f"hook 'describe' is missing; only plugins that do nothing but wrap may lack it, and "
                f"{hook!r} is not a wrapper"
            )


def _call_describe(implementation: pluggy.HookImpl) -> Record:
    if implementation.wrapper or implementation.hookwrapper:
        raise Breach("hook 'describe' cannot be wrapped")
    try:
        with contextlib.redirect_stdout(sys.stderr):
            record = implementation.function()
    except (Exception, SystemExit) as error:
        raise Breach(f"hook 'describe' failed: {one_line(error)}") from error
    if not isinstance(record, (Config, Metric, Workload, Loader)):
        shown = "None" if record is None else f"an object of type {type(record).__name__!r}"
        raise Breach(f"hook 'describe' returned {shown}, expected a Config, Metric, Workload or Loader")
    return record


def _check_kind(plugin: object, record: Record, implementations: dict[str, pluggy.HookImpl]) -> None:
    required, optional = REQUIRED[record.kind], OPTIONAL.get(record.kind, ())
    if isinstance(record, Metric):
        required, optional = _hooks_of_metric(record, implementations)
    allowed = (*required, *optional)
    for hook, implementation in implementations.items():
        if hook == "describe" or implementation.optionalhook:
            continue
        if hook not in allowed:
            raise Breach(f"a {record.kind} has no hook {hook!r} (it may have {', '.join(allowed)})")
        if implementation.wrapper or implementation.hookwrapper:
            raise Breach(f"hook {hook!r} is a wrapper, but a {record.kind} must implement it itself")
    for hook in allowed:
        if hook not in implementations and inspect.isroutine(getattr(plugin, hook, None)):
            raise Breach(f"hook {hook!r} lacks @hookimpl")
    for hook in required:
        if hook not in implementations:
            raise Breach(f"a {record.kind} must implement {hook!r}")
    if isinstance(record, Config):
        _check_config(record, implementations)


def _hooks_of_metric(
    record: Metric, implementations: Mapping[str, pluggy.HookImpl]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the hooks that a metric must implement, and those that it may. Raises ``Breach``."""
    of_sets = [hook for hook in ("statistic", "combine") if hook in implementations]
    if record.samples != "per_set":
        if of_sets:
            raise Breach(
                f"implements {of_sets[0]!r}, so its record must say samples='per_set', not {record.samples!r}"
            )
        return REQUIRED["metric"], ()
    if not any(implementations.keys() >= set(hooks) for hooks in PER_SET):
        choices = ", or ".join(" and ".join(map(repr, hooks)) for hooks in PER_SET)
        raise Breach(f"its record says samples='per_set', so it must implement {choices}")
    if record.by_parts and "combine" not in implementations:
        raise Breach("its record says by_parts, so it must implement 'measure' and 'combine'")
    return (), ("measure", "statistic", "combine")


def _check_config(record: Config, implementations: dict[str, pluggy.HookImpl]) -> None:
    if record.name == CONTROL:
        raise Breach(f"the name {CONTROL!r} is reserved for the second measurement of the baseline")
    needs_calibrate = record.calibration or record.training
    if needs_calibrate and "calibrate" not in implementations:
        raise Breach("its record asks for calibration or training, but hook 'calibrate' is missing")
    if not needs_calibrate and "calibrate" in implementations:
        raise Breach("implements 'calibrate', but its record asks for neither calibration nor training")


def _did_you_mean(name: str, choices: Iterable[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, list(choices), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
