"""The rules file: TOML, an array of tables ``rule``; every mistake in it is told in a line."""

from __future__ import annotations

import sys
from collections.abc import Collection
from pathlib import Path
from typing import TypeVar

from attrs import frozen

from qx.analysis.quantity import OF_ITEMS
from qx.contract.records import LARGEST, Metric
from qx.errors import UsageError
from qx.files import read_bounded
from qx.foreign import to_line
from qx.results.columns import Column
from qx.results.records import Results
from qx.storage import strict_json
from qx.storage.strict_json import ROOM
from qx.values import JsonMapping, JsonObject

T = TypeVar("T")

#: The limits that a rule can set, and what each is on.
LIMITS = ("largest", "smallest", "largest_drop", "largest_increase", "smallest_speedup")
#: Those on the value itself, which is held against nothing.
ABSOLUTE = ("largest", "smallest")
AGAINST = ("baseline", "runtime_baseline", "base")
KEYS = ("metric", "config", "workload", "batch_size", "against", "directly", *LIMITS)
#: The largest file of rules that is read, how deep it may be nested, and how many rules it may have.
MOST_BYTES, DEEPEST, MOST_RULES = 1 << 20, 8, 1000
#: With this probability at most any of all breaches is a false alarm; and the least that can be asked for.
FALSE_ALARMS, LEAST_FALSE_ALARMS = 0.01, 1e-6


@frozen(kw_only=True)
class Rule:
    """One limit on one metric of some cells."""

    #: The table that it stands in, from 1.
    number: int
    metric: str
    #: Empty for all configs but the baseline.
    configs: tuple[str, ...] = ()
    workloads: tuple[str, ...] = ()
    batch_sizes: tuple[int, ...] = ()
    limit: str
    amount: float
    against: str = "baseline"
    #: Launches are held against those of the base themselves, and not by the ratio to their own baselines.
    directly: bool = False

    @property
    def told(self) -> str:
        """``largest_drop = 0.01 against the baseline``."""
        text = f"{self.limit} = {self.amount:g}"
        if self.limit in ABSOLUTE:
            return text
        word = "BASE" if self.against == "base" else f"the {self.against.replace('_', ' ')}"
        return f"{text} against {word}{', directly' if self.directly else ''}"

    @property
    def against_base(self) -> bool:
        """Its limit is on how the results differ from those of BASE."""
        return self.against == "base" and self.limit not in ABSOLUTE

    @property
    def against_runtime_baseline(self) -> bool:
        """Its limit is on how a cell differs from that of its runtime baseline."""
        return self.against == "runtime_baseline" and self.limit not in ABSOLUTE

    def selects(self, config: str, workload: str, *, reference: bool) -> bool:
        """Whether it is about a cell."""
        chosen = config in self.configs if self.configs else not reference
        return chosen and (not self.workloads or workload in self.workloads)


@frozen(kw_only=True)
class Rules:
    """All rules of a file; a table with two limits makes two of them."""

    place: str
    rules: tuple[Rule, ...]
    false_alarms: float = FALSE_ALARMS

    def check(self, results: Results, *, based: bool) -> None:
        """Raise ``UsageError`` for what the rules name and the results do not have."""
        for rule in self.rules:
            where = f"{self.place}: rule {rule.number}"
            _known(rule.metric, results.metrics, f"{where}: unknown metric")
            for config in rule.configs:
                _known(config, results.configs, f"{where}: unknown config")
            for workload in rule.workloads:
                _known(workload, results.run["workloads"], f"{where}: unknown workload")
            _check_runtime_baselines(rule, results, where)
            _check_metric(rule, results.metrics[rule.metric], where)
            measured = [
                dict(Column.of(one.metric, one.params).params).get("batch_size")
                for one in results.measurements
                if one.metric == rule.metric
            ]
            for size in rule.batch_sizes:
                _known(size, [one for one in dict.fromkeys(measured) if one], f"{where}: no batch size")
            if rule.against == "base" and not based:
                raise UsageError(f"{where} is against base: say which results that is with --against")


def read_rules(place: Path) -> Rules:
    """The rules in a file. Raises ``UsageError``."""
    fields = _read_toml(place)
    for name in fields:
        _known(name, ("rule", "false_alarms"), f"{place}: unknown key")
    tables = fields.get("rule")
    if not isinstance(tables, list) or not tables or not all(isinstance(one, dict) for one in tables):
        raise UsageError(f"{place} has no rules: each is a table [[rule]] with a metric and a limit")
    if len(tables) > MOST_RULES:
        raise UsageError(f"{place} has {len(tables):,} rules, and {MOST_RULES:,} at most are read")
    alarms = fields.get("false_alarms", FALSE_ALARMS)
    if not _number(alarms) or not LEAST_FALSE_ALARMS <= alarms < 0.5:
        least = f"from {LEAST_FALSE_ALARMS:f} to below 0.5"
        raise UsageError(f"{place}: false_alarms must be a number {least}, not {_shown(alarms)}")
    rules = [
        rule
        for number, table in enumerate(tables, 1)
        for rule in _rules(number, table, f"{place}: rule {number}")
    ]
    return Rules(place=str(place), rules=tuple(rules), false_alarms=float(alarms))


def _read_toml(place: Path) -> JsonObject:
    """The tables in a file, none of them deep or with numbers to choke on. Raises ``UsageError``."""
    try:
        text = read_bounded(place, MOST_BYTES).decode("utf-8")
    except FileNotFoundError as error:
        raise UsageError(f"there is no rules file {place}; docs/gate.md shows one") from error
    except OSError as error:
        raise UsageError(f"the rules file {place} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise UsageError(f"the rules file {place} cannot be read: {error}") from error
    try:
        fields = _toml(text)
        # Numbers are looked at where it is known what they are.
        strict_json.check(fields, DEEPEST, numbers=False)
    except ValueError as error:
        raise UsageError(f"{place} is no TOML: {to_line(str(error), 3 * ROOM)}") from error
    except RecursionError as error:
        raise UsageError(f"{place} is no TOML: it is nested deeper than {DEEPEST} levels") from error
    return fields


def _toml(text: str) -> JsonObject:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads(text)


def _rules(number: int, table: JsonMapping, where: str) -> list[Rule]:
    for name in table:
        _known(name, KEYS, f"{where}: unknown key")
    metric = table.get("metric")
    if not isinstance(metric, str):
        raise UsageError(f'{where} must name its metric, as in metric = "NAME"')
    limits = [name for name in LIMITS if name in table]
    if not limits:
        raise UsageError(f"{where} sets no limit; choose from {', '.join(LIMITS)}")
    for name in limits:
        if not _number(table[name]) or (name not in ABSOLUTE and table[name] < 0):
            kind = "a number" if name in ABSOLUTE else "a number from 0"
            raise UsageError(f"{where}: {name} must be {kind}, not {_shown(table[name])}")
    against = table.get("against", "baseline")
    _known(against, AGAINST, f"{where}: unknown against")
    directly = table.get("directly", False)
    if not isinstance(directly, bool) or (directly and against != "base"):
        raise UsageError(f'{where}: directly must be true or false, and goes with against = "base" only')
    return [
        Rule(
            number=number,
            metric=metric,
            configs=_several(
                table.get("config", []), str, f"{where}: config must be a name or a list of them"
            ),
            workloads=_several(table.get("workload", []), str, f"{where}: workload must be a name or a list"),
            batch_sizes=_several(
                table.get("batch_size", []), int, f"{where}: batch_size must be whole numbers"
            ),
            limit=name,
            amount=float(table[name]),
            against=against,
            directly=directly,
        )
        for name in limits
    ]


def _check_runtime_baselines(rule: Rule, results: Results, where: str) -> None:
    """Raise ``UsageError`` where the rule names a config that has no runtime baseline to be held against."""
    having = [name for name, config in results.configs.items() if config.runtime_baseline is not None]
    for config in rule.configs if rule.against_runtime_baseline else ():
        _known(config, having, f"{where} is against the runtime baseline, and there is none of config")


def _check_metric(rule: Rule, metric: Metric, where: str) -> None:
    if rule.limit == "smallest_speedup" and metric.compare != "speedup":
        raise UsageError(
            f"{where}: {rule.metric} is not compared by speedup; choose from "
            f"{', '.join(name for name in LIMITS if name != rule.limit)}"
        )
    if rule.limit == "largest_drop" and metric.compare != "difference" and rule.amount >= 1:
        raise UsageError(f"{where}: largest_drop of {rule.metric} is a share, below 1, not {rule.amount:g}")
    if rule.directly and metric.samples in OF_ITEMS:
        raise UsageError(f"{where}: directly is for what is measured in launches, and {rule.metric} is not")


def _known(name: object, choices: Collection[object], what: str) -> None:
    if not isinstance(name, (str, int)) or name not in choices:
        raise UsageError(f"{what} {_shown(name)} (choose from {', '.join(map(str, choices)) or 'none'})")


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < LARGEST


def _shown(value: object) -> str:
    return to_line(repr(value), ROOM)


def _several(given: object, kind: type[T], message: str) -> tuple[T, ...]:
    values = given if isinstance(given, list) else [given]
    if not all(isinstance(one, kind) and not isinstance(one, bool) for one in values):
        raise UsageError(f"{message}, not {_shown(given)}")
    return tuple(values)
