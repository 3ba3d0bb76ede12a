"""Checks of every kind of plugin: its record, and how it describes itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from importlib import metadata

from qx.contract.records import Config, Kind, Option, Workload
from qx.errors import DataError, UsageError
from qx.processes.workers import Failure
from qx.testing.bench import Bench
from qx.testing.check import Check
from qx.testing.distributions import OWN, modules_of, normalized, providers, required_by, undeclared
from qx.testing.verdicts import Failed, NotApplicable
from qx.values import OptionValue, OptionValues

#: Packages whose import takes a tenth of a second or more, or imports numpy.
_HEAVY = """
    PIL cv2 jax keras matplotlib nncf numba numpy onnx onnxruntime openvino pandas polars scipy skimage
    sklearn sympy tensorflow timm torch torchao torchaudio torchvision transformers
"""
HEAVY = frozenset(_HEAVY.split())
#: Most seconds that a plugin may take to be imported and to describe itself.
LIGHT_SECONDS = 1.0


def valid_record(bench: Bench) -> str:
    """It keeps the contract: known hooks and arguments, a record of its kind, options that can be given."""
    entry = bench.entry
    if entry.state in ("broken", "incompatible"):
        raise Failed(entry.reason)
    record = bench.record
    problems = [*_summary(record.summary), *_options(record.options), *_requirements(bench)]
    if isinstance(record, Workload) and record.fallback is not None:
        problems += _check_name(bench, "workload", record.fallback, "fallback")
    if isinstance(record, Config) and record.runtime_baseline is not None:
        problems += _check_name(bench, "config", record.runtime_baseline, "runtime_baseline")
    if isinstance(record, Config):
        problems += [text for name in record.recipes for text in _check_name(bench, "config", name, "recipe")]
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
    if first.description.outcome != "ready":
        raise NotApplicable("its record is broken, see valid_record")
    problems = []
    if heavy := sorted(HEAVY & set(first.modules)):
        problems.append(f"imports {', '.join(heavy)}: import it inside the functions that need it")
    if first.seconds > LIGHT_SECONDS and not heavy:
        problems.append(f"takes {first.seconds:.1f} s (at most {LIGHT_SECONDS:g} s)")
    if first.printed.strip():
        problems.append(f"prints {first.printed.strip()[:80]!r}")
    if second.description.record != first.description.record:
        problems.append("describe returns a different record each time")
    if problems:
        raise Failed("; ".join(problems))
    return f"{1000 * first.seconds:.0f} ms"


def _summary(summary: str) -> Iterable[str]:
    if not summary.strip() or "\n" in summary:
        yield f"its summary must be a line of text, not {summary!r}"


def _options(options: Iterable[Option]) -> Iterable[str]:
    names = set()
    for option in options:
        if option.name in names:
            yield f"two options are named {option.name!r}"
        names.add(option.name)
        if not option.help.strip():
            yield f"option {option.name!r} has no help"


def _requirements(bench: Bench) -> Iterable[str]:
    extra, distribution = bench.record.extra, bench.entry.distribution
    if extra is None or distribution is None:
        return
    extras = metadata.metadata(distribution).get_all("Provides-Extra") or []
    if normalized(extra) not in map(normalized, extras):
        available = ", ".join(extras) or "none"
        yield f"its distribution {distribution} has no extra {extra!r} (it has {available})"


def _check_name(bench: Bench, kind: Kind, name: str, field: str) -> Iterable[str]:
    names = [entry.name for entry in bench.host.entries if entry.kind == kind]
    if name not in names:
        yield f"its {field} {name!r} is not a {kind} (choose from {', '.join(names)})"


# What it needs ------------------------------------------------------------------------------------


def needs_only(
    bench: Bench,
    imported: Iterable[str],
    work_without: Callable[[tuple[str, ...]], object],
    *,
    companions: Iterable[str] = (),
) -> str:
    """Compare the top-level modules that a plugin's work imported with what the plugin declares.

    A module of an undeclared distribution need not be needed (torch imports some if they are installed):
    ``work_without`` does the work again with these modules hidden, and only if that fails they were needed.
    ``companions`` are the requirements of plugins that worked beside it. Raises ``Failed``.
    """
    imported = frozenset(imported)
    requires = bench.record.requires
    if unused := [text for text in requires if not _is_used(text, imported)]:
        raise Failed(f"requires {', '.join(map(repr, unused))} but imports nothing from it")
    own = [bench.entry.distribution or "", *providers(bench.reference.module.partition(".")[0])]
    allowed = required_by([OWN, *filter(None, own), *requires, *companions])
    suspects = undeclared(imported, allowed)
    if suspects:
        try:
            work_without(tuple(sorted(suspects)))
        except (Failure, UsageError, DataError) as error:
            names = _to_blame(suspects, error.cause if isinstance(error, Failure) else str(error))
            raise Failed(f"needs {names}, which its record does not require: {error}") from error
    return f"requires {', '.join(requires) or 'nothing'}"


def _to_blame(suspects: dict[str, str], cause: str) -> str:
    """Return the names of distributions whose modules the cause names, or all where it names none.

    ``suspects`` maps modules to names of distributions.
    """
    mentioned = {names for module, names in suspects.items() if module in cause}
    return ", ".join(sorted(mentioned or set(suspects.values())))


def _is_used(requirement: str, modules: frozenset[str]) -> bool:
    from packaging.requirements import Requirement

    parsed = Requirement(requirement)
    if parsed.marker is not None and not parsed.marker.evaluate():
        return True
    provided = modules_of(parsed.name)
    # The use of a distribution without modules of its own (a bundle of others) cannot be seen.
    return not provided or bool(provided & modules)


# Options ------------------------------------------------------------------------------------------


def try_bad_options(bench: Bench, attempt: Callable[[OptionValues], object]) -> str:
    """Try unlikely values of each option's type, and the bad values that the plugin's author names.

    Each must be accepted, or be refused in a message that names the option. Those of the author must be
    refused. Raises ``Failed``, or ``NotApplicable`` for a plugin without options.
    """
    options = bench.record.options
    if not options:
        raise NotApplicable("has no options")
    problems, tried = [], 0
    for option in options:
        bad = list(bench.conformance.bad_options.get(option.name, ()))
        for value in [*bad, *(value for value in _unlikely_values(option) if value not in bad)]:
            tried += 1
            if problem := _find_problem(option, value, attempt, is_bad=value in bad):
                problems.append(problem)
    if problems:
        raise Failed("; ".join(problems))
    if not tried:
        raise NotApplicable("the limits and choices of its options already refuse all values that were tried")
    return f"{tried} values tried of {', '.join(option.name for option in options)}"


def _unlikely_values(option: Option) -> list[OptionValue]:
    unlikely: dict[type, OptionValue] = {int: -1, float: -1.0, str: "no such value"}
    # qx itself refuses what the option's limits and choices shut out.
    return [value for kind, value in unlikely.items() if kind is option.type and not option.flaw(value)]


def _find_problem(
    option: Option, value: OptionValue, attempt: Callable[[OptionValues], object], is_bad: bool
) -> str:
    assignment = f"{option.name}={json.dumps(value)}"
    try:
        attempt({option.name: value})
    except Failure as failure:
        if failure.outcome not in ("failed", "unsupported"):
            return f"{assignment} fails with: {failure}"
        if option.name not in failure.cause:
            return f"{assignment} is refused by a message that does not name the option: {failure.cause}"
        return ""
    return f"{assignment} is accepted, but its author declares it bad" if is_bad else ""


#: The checks of every plugin, in the order in which they are run.
CHECKS = (
    Check(valid_record),
    Check(unique_name),
    Check(describes_itself_lightly),
)
