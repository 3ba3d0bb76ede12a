"""Checks of every kind of plugin: its record, and how it gives it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from importlib import metadata

from qx.contract.records import Config, Kind, Option, Workload
from qx.errors import DataError, UsageError
from qx.processes.workers import Failure
from qx.testing.bench import Bench
from qx.testing.check import Check
from qx.testing.distributions import OWN, modules_of, normal, providers, required_by, undeclared
from qx.testing.verdicts import Failed, NotApplicable
from qx.values import OptionValue, OptionValues

#: Packages that take a tenth of a second and more to import, or bring numpy along.
_HEAVY = """
    PIL cv2 jax keras matplotlib nncf numba numpy onnx onnxruntime openvino pandas polars scipy skimage
    sklearn sympy tensorflow timm torch torchao torchaudio torchvision transformers
"""
HEAVY = frozenset(_HEAVY.split())
#: Seconds within which a plugin is imported and has described itself.
LIGHT_SECONDS = 1.0


def valid_record(bench: Bench) -> str:
    """It keeps the contract: known hooks and arguments, a record of its kind, options that can be given."""
    entry = bench.entry
    if entry.state in ("broken", "incompatible"):
        raise Failed(entry.reason)
    record = bench.record
    problems = [*_summary(record.summary), *_options(record.options), *_requirements(bench)]
    if isinstance(record, Workload) and record.fallback is not None:
        problems += _known(bench, "workload", record.fallback, "fallback")
    if isinstance(record, Config) and record.runtime_baseline is not None:
        problems += _known(bench, "config", record.runtime_baseline, "runtime_baseline")
    problems += [
        f"its Conformance names option {name!r}, which it does not have"
        for name in bench.conformance.bad_options
        if name not in bench.defaults
    ]
    if problems:
        raise Failed("; ".join(problems))
    return f"{record.kind} {record.name}, hooks {', '.join(entry.hooks)}"


def unique_name(bench: Bench) -> str:
    """No other plugin that is installed, or given with -p, has its name."""
    if bench.entry.state == "conflict":
        raise Failed(bench.entry.reason)
    return bench.entry.name


def describes_itself_lightly(bench: Bench) -> str:
    """It is imported and described quickly, without heavy imports or prints, and with one record."""
    first, second = bench.describe(times=2)
    if first["description"]["outcome"] != "ready":
        raise NotApplicable("its record is broken, see valid_record")
    problems = []
    if heavy := sorted(HEAVY & set(first["modules"])):
        problems.append(f"imports {', '.join(heavy)}: import it inside the functions that need it")
    if first["seconds"] > LIGHT_SECONDS and not heavy:
        problems.append(f"takes {first['seconds']:.1f} s (at most {LIGHT_SECONDS:g} s)")
    if first["printed"].strip():
        problems.append(f"prints {first['printed'].strip()[:80]!r}")
    if second["description"]["record"] != first["description"]["record"]:
        problems.append("describe gives another record each time")
    if problems:
        raise Failed("; ".join(problems))
    return f"{1000 * first['seconds']:.0f} ms"


def _summary(summary: str) -> Iterable[str]:
    if not summary.strip() or "\n" in summary:
        yield f"its summary must be a line of text, not {summary!r}"


def _options(options: Iterable[Option]) -> Iterable[str]:
    seen = set()
    for option in options:
        if option.name in seen:
            yield f"two options are named {option.name!r}"
        seen.add(option.name)
        if not option.help.strip():
            yield f"option {option.name!r} has no help"


def _requirements(bench: Bench) -> Iterable[str]:
    extra, distribution = bench.record.extra, bench.entry.distribution
    if extra is None or distribution is None:
        return
    brought = metadata.metadata(distribution).get_all("Provides-Extra") or []
    if normal(extra) not in map(normal, brought):
        has = ", ".join(brought) or "none"
        yield f"its distribution {distribution} has no extra {extra!r} (it has {has})"


def _known(bench: Bench, kind: Kind, name: str, field: str) -> Iterable[str]:
    names = [entry.name for entry in bench.host.entries if entry.kind == kind]
    if name not in names:
        yield f"its {field} {name!r} is no {kind} (choose from {', '.join(names)})"


# What it needs ------------------------------------------------------------------------------------


def needs_only(
    bench: Bench,
    used: Iterable[str],
    without: Callable[[tuple[str, ...]], object],
    *,
    lent: Iterable[str] = (),
) -> str:
    """Hold the top-level modules that a plugin's work imported against what it declares.

    Modules of other distributions that came along may be mere company (torch looks for some): ``without``
    does the work again where they look as if not installed, and only if that fails they were needed.
    ``lent`` are requirements of plugins that worked beside it. Raises ``Failed``.
    """
    used = frozenset(used)
    requires = bench.record.requires
    if idle := [text for text in requires if not _used(text, used)]:
        raise Failed(f"requires {', '.join(map(repr, idle))} and imports nothing of it")
    own = [bench.entry.distribution or "", *providers(bench.reference.module.partition(".")[0])]
    allowed = required_by([OWN, *filter(None, own), *requires, *lent])
    strange = undeclared(used, allowed)
    if strange:
        try:
            without(tuple(sorted(strange)))
        except (Failure, UsageError, DataError) as error:
            names = _told(strange, error.cause if isinstance(error, Failure) else str(error))
            raise Failed(f"needs {names}, which its record does not require: {error}") from error
    return f"requires {', '.join(requires) or 'nothing'}"


def _told(strange: dict[str, str], cause: str) -> str:
    """The distributions whose modules the cause names; where it names none, all."""
    named = {names for module, names in strange.items() if module in cause}
    return ", ".join(sorted(named or set(strange.values())))


def _used(requirement: str, modules: frozenset[str]) -> bool:
    from packaging.requirements import Requirement

    parsed = Requirement(requirement)
    if parsed.marker is not None and not parsed.marker.evaluate():
        return True
    brought = modules_of(parsed.name)
    # What brings no modules of its own (a bundle of others) cannot be seen at work.
    return not brought or bool(brought & modules)


# Options ------------------------------------------------------------------------------------------


def refused(bench: Bench, attempt: Callable[[OptionValues], object]) -> str:
    """Try values that an option's type allows and no plugin is likely to want, and those its author names.

    Each must be taken, or be refused in a message that names the option; those of the author must be refused.
    Raises ``Failed``, or ``NotApplicable`` for a plugin without options.
    """
    options = bench.record.options
    if not options:
        raise NotApplicable("has no options")
    problems, tried = [], 0
    for option in options:
        named = list(bench.conformance.bad_options.get(option.name, ()))
        for value in [*named, *(bad for bad in _strange(option) if bad not in named)]:
            tried += 1
            if problem := _refusal(option, value, attempt, must=value in named):
                problems.append(problem)
    if problems:
        raise Failed("; ".join(problems))
    if not tried:
        raise NotApplicable("what its options' limits and choices let through, it need not refuse")
    return f"{tried} values tried of {', '.join(option.name for option in options)}"


def _strange(option: Option) -> list[OptionValue]:
    strange: dict[type, OptionValue] = {int: -1, float: -1.0, str: "no such value"}
    # What the option's own limits and choices shut out, qx lets nobody give.
    return [value for kind, value in strange.items() if kind is option.type and not option.flaw(value)]


def _refusal(
    option: Option, value: OptionValue, attempt: Callable[[OptionValues], object], must: bool
) -> str:
    try:
        attempt({option.name: value})
    except Failure as failure:
        what = f"{option.name}={json.dumps(value)}"
        if failure.outcome not in ("failed", "unsupported"):
            return f"{what} ends in {failure}"
        if option.name not in failure.cause:
            return f"{what} is refused by a message that does not name the option: {failure.cause}"
        return ""
    return f"{option.name}={json.dumps(value)} is taken, and its author says that it is bad" if must else ""


#: The checks of every plugin, in the order in which they are run.
CHECKS = (
    Check(valid_record),
    Check(unique_name),
    Check(describes_itself_lightly),
)
