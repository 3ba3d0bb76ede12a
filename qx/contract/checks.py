"""Import a plugin, and check it against the hooks of ``qx.contract.hookspecs``."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import pathlib
import re
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

import attrs
import pluggy

from qx.contract import hookspecs
from qx.contract.records import CONTROL, Config, Loader, Metric, Record, Workload
from qx.contract.references import Reference
from qx.foreign import to_line

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

#: What a plugin of each kind must implement, and what it may; the table in ``qx.contract.hookspecs``.
REQUIRED: dict[str, tuple[str, ...]] = {
    "config": ("convert",),
    "metric": ("measure",),
    "workload": ("make_model", "load_data", "example_inputs"),
    "loader": ("load",),
}
OPTIONAL: dict[str, tuple[str, ...]] = {
    "config": ("can_treat", "prepare_model", "calibrate"),
    "workload": ("train",),
    "loader": ("read_weights",),
}
#: The same of a metric of a whole set, whose samples are ``per_set``.
REQUIRED_PER_SET, OPTIONAL_PER_SET = ("statistic",), ("measure",)
#: Hooks whose None says something ('not applicable here', 'nothing against it', 'not known'); for all others
#: it is an error.
MAY_GIVE_NONE = frozenset({"measure", "statistic", "can_treat", "read_weights"})


class Breach(Exception):
    """The plugin cannot be used, and why; with its record where it got as far as giving one."""

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

    #: With the name that the plugin gives itself.
    reference: Reference
    plugin: object
    #: None where it only wraps.
    record: Record | None
    #: The hooks that it implements, in the order of ``qx.contract.hookspecs``.
    hooks: tuple[str, ...]


def load(reference: Reference, specs: pluggy.HookRelay, *, named: bool = True) -> Loaded:
    """Import a plugin and hold it against the contract. Raises ``Breach``.

    Without ``named`` the reference's name is a guess, and its record says how it is called.
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
    """A manager that knows the hooks and no plugin."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


def cause(error: BaseException, most: int = 500) -> str:
    """An error in one line: its type and its message."""
    arguments = error.args
    # attrs gives the attribute, the limit and the value after the message: only the message is for people.
    from_attrs = len(arguments) > 1 and isinstance(arguments[1], attrs.Attribute)
    try:
        message = to_line(str(arguments[0] if from_attrs else error), most)
    except Exception as second:
        message = f"(its message cannot be read: {type(second).__name__})"
    return to_line(f"{type(error).__name__}: {message}" if message else type(error).__name__, most)


def import_plugin(reference: Reference) -> object:
    """Import a plugin: a module, or an object in it. Raises ``CannotImport``, whatever the module raises."""
    module, path, attribute = reference.place
    reference.extend_search_path()
    try:
        # What a plugin prints must not get into the output of a worker.
        with contextlib.redirect_stdout(sys.stderr):
            plugin: object = _import_file(module, path) if path else importlib.import_module(module)
            for part in attribute.split(".") if attribute else ():
                plugin = getattr(plugin, part)
    except (Exception, SystemExit) as error:
        raise CannotImport(f"cannot be imported: {cause(error)}") from error
    return plugin


#: By this name a module says which version of the contract it was made for.
CONTRACT_NAME = "QX_CONTRACT"


def declared(plugin: object) -> object:
    """The version of the contract that a plugin says it was made for; None where it says nothing."""
    module = sys.modules.get(getattr(type(plugin), "__module__", ""))
    # Statically: whatever an object does when it is asked for an attribute, it is not done here.
    found = (inspect.getattr_static(one, CONTRACT_NAME, None) for one in (plugin, module))
    return next((version for version in found if version is not None), None)


def declared_in_source(module: str, path: str | Path | None) -> str | None:
    """The same of a module that cannot be imported: often because it was made for another version."""
    try:
        if path is None:
            spec = importlib.util.find_spec(module)
            path = spec.origin if spec is not None else None
        text = pathlib.Path(path or "").read_text(encoding="utf-8")
    except (Exception, SystemExit):  # whatever a parent package raises when it is imported
        return None
    found = re.search(rf"^{CONTRACT_NAME}\b[^=\n]*=\s*[\"']([^\"']*)[\"']", text, re.MULTILINE)
    return found[1] if found else None


def check_contract(made_for: object) -> None:
    """Raise ``Incompatible`` unless a plugin made for this version can be used; ``Breach`` if it is none."""
    if made_for is None:
        return
    found = re.fullmatch(r"([0-9]{1,9})(?:\.([0-9]{1,9}))?", made_for) if isinstance(made_for, str) else None
    if found is None:
        raise Breach(f"{CONTRACT_NAME} is {made_for!r}, and must be a version such as {hookspecs.CONTRACT!r}")
    major, minor = int(found[1]), int(found[2] or 0)
    ours = tuple(map(int, hookspecs.CONTRACT.split(".")))
    if major == ours[0] and minor <= ours[1]:
        return
    newer = (major, minor) > ours
    todo = "upgrade quant-explorer" if newer else "upgrade the plugin, or install an earlier quant-explorer"
    raise Incompatible(
        f"was made for version {made_for} of qx's contract, and this qx has {hookspecs.CONTRACT}: {todo}"
    )


def _import_file(module: str, path: str | Path) -> ModuleType:
    if module in sys.modules:
        return sys.modules[module]
    spec = importlib.util.spec_from_file_location(module, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    loaded = importlib.util.module_from_spec(spec)
    # Before it runs, as the import system does: what it defines may look its own module up.
    sys.modules[module] = loaded
    try:
        spec.loader.exec_module(loaded)
    except BaseException:
        del sys.modules[module]
        raise
    return loaded


def check(specs: pluggy.HookRelay, plugin: object, name: str | None) -> tuple[Record | None, tuple[str, ...]]:
    """Hold a plugin against the contract: its record (None: it only wraps) and the hooks that it implements.

    ``name`` is what its entry point calls it, None where it has none. Raises ``Breach``.
    """
    if inspect.isclass(plugin):
        raise Breach(f"is a class: make an object of it (attribute = {plugin.__name__}())")
    implementations = _implementations(plugin)
    known = [hook for hook in vars(hookspecs) if hook in vars(specs)]  # in the order of the file
    for hook, implementation in implementations.items():
        if hook in known:
            _check_arguments(getattr(specs, hook), implementation)
        elif not implementation.optionalhook:
            raise Breach(f"hook {hook!r} is no hook of qx{_did_you_mean(hook, known)}")
    hooks = tuple(hook for hook in known if hook in implementations)
    if "describe" not in hooks:
        _check_wraps_only(plugin, implementations)
        return None, hooks
    record = _described(implementations["describe"])
    if name is not None and record.name != name:
        raise Breach(f"its record is named {record.name!r}, its entry point {name!r}", record)
    try:
        _check_kind(plugin, record, implementations)
    except Breach as breach:
        raise Breach(breach.reason, record) from None
    return record, hooks


def _implementations(plugin: object) -> dict[str, pluggy.HookImpl]:
    # A manager without specs takes any hook, so that each flaw can be told here in its own words.
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    try:
        hash(plugin)  # pluggy keeps plugins in sets
        manager.register(plugin)
    except Exception as error:
        raise Breach(f"cannot be registered: {cause(error)}") from error
    implementations = {}
    for caller in manager.get_hookcallers(plugin) or ():
        found = caller.get_hookimpls()
        if len(found) > 1:
            raise Breach(f"hook {caller.name!r} is implemented {len(found)} times")
        implementations[caller.name] = found[0]
    return implementations


def _check_arguments(caller: pluggy.HookCaller, implementation: pluggy.HookImpl) -> None:
    assert caller.spec is not None
    hook, allowed = caller.name, caller.spec.argnames
    may = f"it may take {', '.join(allowed)}" if allowed else "it takes none"
    for parameter in inspect.signature(implementation.function).parameters.values():
        argument = parameter.name
        if argument in implementation.argnames:
            if argument not in allowed:
                hint = _did_you_mean(argument, allowed)
                raise Breach(f"hook {hook!r} has an unknown argument {argument!r}{hint} ({may})")
        elif argument in allowed or parameter.default is parameter.empty:
            # pluggy passes plain arguments only, and would leave this one at its default without a word.
            raise Breach(f"hook {hook!r}: '{parameter}' must be a plain argument without a default ({may})")
    wraps = implementation.wrapper or implementation.hookwrapper
    if wraps and not inspect.isgeneratorfunction(implementation.function):
        raise Breach(f"hook {hook!r} is marked as a wrapper and has no yield")


def _check_wraps_only(plugin: object, implementations: dict[str, pluggy.HookImpl]) -> None:
    if inspect.isroutine(getattr(plugin, "describe", None)):
        raise Breach("hook 'describe' lacks @hookimpl")
    if not implementations:
        raise Breach("implements no hook (is @hookimpl missing?)")
    for hook, implementation in implementations.items():
        if not (implementation.wrapper or implementation.hookwrapper):
            raise Breach(
                f"hook 'describe' is missing; without it a plugin may only wrap, and {hook!r} does not wrap"
            )


def _described(implementation: pluggy.HookImpl) -> Record:
    if implementation.wrapper or implementation.hookwrapper:
        raise Breach("hook 'describe' cannot be wrapped")
    try:
        with contextlib.redirect_stdout(sys.stderr):
            record = implementation.function()
    except (Exception, SystemExit) as error:
        raise Breach(f"hook 'describe' failed: {cause(error)}") from error
    if not isinstance(record, (Config, Metric, Workload, Loader)):
        gave = "None" if record is None else f"an object of type {type(record).__name__!r}"
        raise Breach(f"hook 'describe' gave {gave}, and not a Config, Metric, Workload or Loader")
    return record


def _check_kind(plugin: object, record: Record, implementations: dict[str, pluggy.HookImpl]) -> None:
    required, optional = REQUIRED[record.kind], OPTIONAL.get(record.kind, ())
    if isinstance(record, Metric) and record.samples == "per_set":
        required, optional = REQUIRED_PER_SET, OPTIONAL_PER_SET
    elif isinstance(record, Metric) and "statistic" in implementations:
        raise Breach(f"implements 'statistic', and its record says samples={record.samples!r}, not 'per_set'")
    allowed = (*required, *optional)
    for hook, implementation in implementations.items():
        if hook == "describe" or implementation.optionalhook:
            continue
        if hook not in allowed:
            raise Breach(f"a {record.kind} has no hook {hook!r} (it may have {', '.join(allowed)})")
        if implementation.wrapper or implementation.hookwrapper:
            raise Breach(f"a {record.kind} answers, and its hook {hook!r} wraps")
    for hook in allowed:
        if hook not in implementations and inspect.isroutine(getattr(plugin, hook, None)):
            raise Breach(f"hook {hook!r} lacks @hookimpl")
    for hook in required:
        if hook not in implementations:
            raise Breach(f"a {record.kind} must implement {hook!r}")
    if isinstance(record, Config):
        _check_config(record, implementations)


def _check_config(record: Config, implementations: dict[str, pluggy.HookImpl]) -> None:
    if record.name == CONTROL:
        raise Breach(f"the name {CONTROL!r} is taken: under it the baseline is measured again")
    wants = record.calibration or record.training
    if wants and "calibrate" not in implementations:
        raise Breach("its record asks for calibration or training, and 'calibrate' is missing")
    if not wants and "calibrate" in implementations:
        raise Breach("implements 'calibrate', and its record asks for neither calibration nor training")


def _did_you_mean(name: str, choices: Iterable[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, list(choices), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
