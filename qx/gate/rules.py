"""Read the rules file, TOML with an array of tables ``rule``. A mistake in it is reported in one line."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TypeVar

from attrs import frozen

from qx.analysis.quantity import OF_ITEMS
from qx.contract.figures import Point
from qx.contract.records import LARGEST, Metric
from qx.errors import UsageError
from qx.foreign import to_line
from qx.results.records import Results
from qx.storage.strict_json import ROOM
from qx.storage.toml import read_toml
from qx.values import JsonMapping

T = TypeVar("T")

#: Limits that a rule can set.
LIMITS = ("largest", "smallest", "largest_drop", "largest_increase", "smallest_speedup")
#: Limits on the value itself, which is compared with nothing.
ABSOLUTE = ("largest", "smallest")
#: What a rule can compare a cell with.
AGAINST = ("baseline", "runtime_baseline", "base")
#: Keys of a table ``rule``.
KEYS = ("metric", "config", "workload", "batch_size", "against", "directly", *LIMITS)
#: Largest size of a rules file in bytes, deepest nesting in levels, largest number of rules.
MAX_BYTES, MAX_DEPTH, MAX_RULES = 1 << 20, 8, 1000
#: Largest probability that any breach is a false alarm, by default, and the smallest that can be asked for.
FALSE_ALARMS, MIN_FALSE_ALARMS = 0.01, 1e-6


@frozen(kw_only=True)
class Rule:
    """One limit on one metric of some cells."""

    #: Number of the rule's table in the file, from 1.
    number: int
    metric: str
    #: Names of the configs that the rule is for. Empty for all but the baseline.
    configs: tuple[str, ...] = ()
    #: Names of the workloads that the rule is for. Empty for all.
    workloads: tuple[str, ...] = ()
    #: Batch sizes that the rule is for. Empty for all.
    batch_sizes: tuple[int, ...] = ()
    #: Kind of limit, one of ``LIMITS``.
    limit: str
    amount: float
    #: What a cell is compared with, one of ``AGAINST``.
    against: str = "baseline"
    #: Whether launches are compared with those of the base directly, not by ratios to their own baselines.
    directly: bool = False

    @property
    def text(self) -> str:
        """The rule in words, such as ``largest_drop = 0.01 against the baseline``."""
        words = f"{self.limit} = {self.amount:g}"
        if self.limit in ABSOLUTE:
            return words
        word = "BASE" if self.against == "base" else f"the {self.against.replace('_', ' ')}"
        return f"{words} against {word}{', directly' if self.directly else ''}"

    @property
    def against_base(self) -> bool:
        """Whether the limit is on how the results differ from those of BASE."""
        return self.against == "base" and self.limit not in ABSOLUTE

    @property
    def against_runtime_baseline(self) -> bool:
        """Whether the limit is on how a cell differs from its runtime baseline."""
        return self.against == "runtime_baseline" and self.limit not in ABSOLUTE

    def is_for(self, point: Point | None) -> bool:
        """Whether the rule is for a metric at this point; None: it is not measured at each point."""
        return not self.batch_sizes or (point is not None and point.batch_size in self.batch_sizes)

    def selects(self, config: str, workload: str, *, is_reference: bool) -> bool:
        """Whether the rule is for a config on a workload. ``is_reference``: the config is the baseline."""
        is_chosen = config in self.configs if self.configs else not is_reference
        return is_chosen and (not self.workloads or workload in self.workloads)


@frozen(kw_only=True)
class Rules:
    """All rules of a file. A table with two limits makes two rules."""

    #: Path of the file.
    place: str
    rules: tuple[Rule, ...]
    false_alarms: float = FALSE_ALARMS

    def check(self, results: Results, *, has_base: bool) -> None:
        """Raise ``UsageError`` if the rules name something that the results do not have."""
        for rule in self.rules:
            where = f"{self.place}: rule {rule.number}"
            _check_choice(rule.metric, results.metrics, f"{where}: unknown metric")
            for config in rule.configs:
                _check_choice(config, results.configs, f"{where}: unknown config")
            for workload in rule.workloads:
                _check_choice(workload, results.run.workloads, f"{where}: unknown workload")
            _check_runtime_baseline(rule, results, where)
            _check_limit(rule, results.metrics[rule.metric], where)
            points = [measured.point for measured in results.measurements if measured.metric == rule.metric]
            sizes = list(dict.fromkeys(point.batch_size for point in points if point is not None))
            for size in rule.batch_sizes:
                _check_choice(size, sizes, f"{where}: no batch size")
            if rule.against == "base" and not has_base:
                raise UsageError(f"{where} is against base: name the results to compare with by --against")


def read_rules(place: Path, other_keys: Collection[str] = ()) -> Rules:
    """Read the rules in a file. Raises ``UsageError``.

    ``other_keys`` are those that a file of another kind has beside its rules, as a recipe has.
    """
    fields = read_toml(place, "rules file", "docs/gate.md shows one", MAX_BYTES, MAX_DEPTH)
    for name in [name for name in fields if name not in other_keys]:
        _check_choice(name, ("rule", "false_alarms"), f"{place}: unknown key")
    tables = fields.get("rule")
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise UsageError(f"{place} has no rules: each is a table [[rule]] with a metric and a limit")
    if len(tables) > MAX_RULES:
        raise UsageError(f"{place} has {len(tables):,} rules; at most {MAX_RULES:,} are allowed")
    alarms = fields.get("false_alarms", FALSE_ALARMS)
    if not _is_number(alarms) or not MIN_FALSE_ALARMS <= alarms < 0.5:
        bounds = f"from {MIN_FALSE_ALARMS:f} to below 0.5"
        raise UsageError(f"{place}: false_alarms must be a number {bounds}, not {_quoted(alarms)}")
    rules = [
        rule
        for number, table in enumerate(tables, 1)
        for rule in _read_rule(number, table, f"{place}: rule {number}")
    ]
    return Rules(place=str(place), rules=tuple(rules), false_alarms=float(alarms))


def _read_rule(number: int, table: JsonMapping, where: str) -> list[Rule]:
    """Read one table, which makes a rule for each of its limits."""
    for name in table:
        _check_choice(name, KEYS, f"{where}: unknown key")
    metric = table.get("metric")
    if not isinstance(metric, str):
        raise UsageError(f'{where} must name its metric, as in metric = "NAME"')
    limits = [name for name in LIMITS if name in table]
    if not limits:
        raise UsageError(f"{where} sets no limit; choose from {', '.join(LIMITS)}")
    for name in limits:
        if not _is_number(table[name]) or (name not in ABSOLUTE and table[name] < 0):
            kind = "a number" if name in ABSOLUTE else "a number from 0"
            raise UsageError(f"{where}: {name} must be {kind}, not {_quoted(table[name])}")
    against = table.get("against", "baseline")
    _check_choice(against, AGAINST, f"{where}: unknown against")
    directly = table.get("directly", False)
    if not isinstance(directly, bool) or (directly and against != "base"):
        raise UsageError(f'{where}: directly must be true or false, and needs against = "base"')
    return [
        Rule(
            number=number,
            metric=metric,
            configs=_read_list(
                table.get("config", []), str, f"{where}: config must be a name or a list of them"
            ),
            workloads=_read_list(
                table.get("workload", []), str, f"{where}: workload must be a name or a list"
            ),
            batch_sizes=_read_list(
                table.get("batch_size", []), int, f"{where}: batch_size must be whole numbers"
            ),
            limit=name,
            amount=float(table[name]),
            against=against,
            directly=directly,
        )
        for name in limits
    ]


def _check_runtime_baseline(rule: Rule, results: Results, where: str) -> None:
    """Raise ``UsageError`` where the rule names a config that has no runtime baseline."""
    choices = [name for name, config in results.configs.items() if config.runtime_baseline is not None]
    for config in rule.configs if rule.against_runtime_baseline else ():
        _check_choice(
            config, choices, f"{where} is against the runtime baseline, which is not defined for config"
        )


def _check_limit(rule: Rule, metric: Metric, where: str) -> None:
    """Raise ``UsageError`` where the limit of a rule does not suit its metric."""
    if rule.limit == "smallest_speedup" and metric.compare != "speedup":
        raise UsageError(
            f"{where}: {rule.metric} is not compared by speedup; choose from "
            f"{', '.join(name for name in LIMITS if name != rule.limit)}"
        )
    if rule.limit == "largest_drop" and metric.compare != "difference" and rule.amount >= 1:
        raise UsageError(
            f"{where}: largest_drop of {rule.metric} must be a share below 1, not {rule.amount:g}"
        )
    if rule.directly and metric.samples in OF_ITEMS:
        raise UsageError(f"{where}: directly is only for metrics measured in launches, unlike {rule.metric}")


def _check_choice(name: object, choices: Collection[object], complaint: str) -> None:
    if not isinstance(name, (str, int)) or name not in choices:
        raise UsageError(
            f"{complaint} {_quoted(name)} (choose from {', '.join(map(str, choices)) or 'none'})"
        )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < LARGEST


def _quoted(value: object) -> str:
    return to_line(repr(value), ROOM)


def _read_list(value: object, kind: type[T], message: str) -> tuple[T, ...]:
    """Return the values of a key: those of a list, or a single value."""
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(entry, kind) and not isinstance(entry, bool) for entry in values):
        raise UsageError(f"{message}, not {_quoted(value)}")
    return tuple(values)
