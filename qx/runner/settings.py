"""What the user set of the plugins' options, held against the plugins of a run; and the cells that follow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import TypeAlias

from attrs import frozen

from qx.contract.options import Setting, label, parse
from qx.contract.records import CALIBRATION_N, Config, Option
from qx.errors import UsageError
from qx.host.catalogue import unknown
from qx.host.host import Entry, Host
from qx.values import OptionValue, OptionValues

#: Plugin -> option -> the values that were set, in the order in which they were given.
Values: TypeAlias = Mapping[str, Mapping[str, tuple[OptionValue, ...]]]

#: Kinds whose options can be set.
SETTABLE = ("config", "metric", "workload")


@frozen(kw_only=True)
class Variant:
    """A config with a value for each of its options."""

    entry: Entry
    #: All options.
    options: OptionValues
    #: Those that the user set, in words: ``[bits=4]``.
    label: str = ""

    @property
    def row(self) -> str:
        """What a reader knows its cell by, and what comes after the workload in the cell's id."""
        return self.entry.name + self.label

    @property
    def calibration_n(self) -> int | None:
        """How many calibration images it wants; None where it does not calibrate."""
        record = self.entry.record
        return calibration_n(record, self.options) if isinstance(record, Config) else None


def calibration_n(record: Config, options: OptionValues) -> int | None:
    """How many calibration images a config with these options wants; None where it does not calibrate."""
    return int(options[CALIBRATION_N.name]) if record.calibration else None


def read(
    host: Host, settings: Sequence[str], taking_part: Sequence[Entry], swept: Sequence[Entry] = ()
) -> Values:
    """What the user set, read by the types of the options.

    ``taking_part`` are the plugins of the run, ``swept`` those among them that may have several values for an
    option. Raises ``UsageError``: one line, of the first mistake.
    """
    values: dict[str, dict[str, tuple[OptionValue, ...]]] = {}
    for setting in map(Setting.of, settings):
        entry = _plugin(host, setting, taking_part)
        option = _option(entry, setting)
        if option.name in values.setdefault(entry.name, {}):
            raise UsageError(
                f"--set {setting.text}: {entry.name}.{option.name} was set before; "
                f"several values of a config go into one --set, with commas"
            )
        values[entry.name][option.name] = _values(setting, option)
        if len(setting.values) > 1 and entry not in swept:
            raise UsageError(f"--set {setting.text}: {_why_one(entry, swept)}")
    return values


def _plugin(host: Host, setting: Setting, taking_part: Sequence[Entry]) -> Entry:
    entries = [entry for entry in host.entries if entry.name == setting.plugin]
    if not entries:
        names = {entry.name for entry in taking_part}
        raise unknown(f"--set {setting.text}: unknown plugin", setting.plugin, sorted(names))
    entry = next((one for one in entries if one.usable), entries[0])
    if not entry.usable:
        raise UsageError(f"--set {setting.text}: {entry.complaint}")
    if entry.kind not in SETTABLE:
        raise UsageError(
            f"--set {setting.text}: {entry.name} is a {entry.kind}, and options of a config, metric or "
            f"workload can be set"
        )
    if entry.name not in [one.name for one in taking_part]:
        among = ", ".join(one.name for one in taking_part if one.kind == entry.kind) or "none"
        raise UsageError(
            f"--set {setting.text}: {entry.kind} {entry.name} takes no part here (those that do: {among})"
        )
    return entry


def _option(entry: Entry, setting: Setting) -> Option:
    options = {option.name: option for option in entry.record.options} if entry.record else {}
    if setting.option not in options:
        what = f"--set {setting.text}: {entry.kind} {entry.name} has no option"
        raise unknown(what, setting.option, list(options))
    return options[setting.option]


def _values(setting: Setting, option: Option) -> tuple[OptionValue, ...]:
    values = []
    for text in setting.values:
        try:
            value = parse(option, text)
        except ValueError as error:
            raise UsageError(f"--set {setting.text}: {option.name} {error}") from error
        if value in values:
            raise UsageError(f"--set {setting.text}: the value {text!r} is there twice")
        values.append(value)
    return tuple(values)


def _why_one(entry: Entry, swept: Sequence[Entry]) -> str:
    if entry.kind != "config":
        return f"a {entry.kind} takes one value; only options of configs can have several"
    if not swept:
        return "one artifact is built, so one value is due"
    return f"others are compared with {entry.name}, so it takes one value"


def settled(entry: Entry, values: Values) -> dict[str, OptionValue]:
    """All options of a metric or a workload, each with its value."""
    given = {name: value for name, (value, *_) in values.get(entry.name, {}).items()}
    return {option.name: option.default for option in _options(entry)} | given


def count(entry: Entry, values: Values) -> int:
    """How many variants there are of a config."""
    return math.prod(len(several) for several in values.get(entry.name, {}).values())


def variants(entry: Entry, values: Values, calibration_n: int | None = None) -> tuple[Variant, ...]:
    """A variant for every combination of the values that were set, in the order of the record's options.

    ``calibration_n`` is ``--calibration-n``: it holds where the config's own option was not set.
    """
    given = values.get(entry.name, {})
    options = {option.name: option.default for option in _options(entry)}
    if calibration_n is not None and getattr(entry.record, "calibration", False):
        options[CALIBRATION_N.name] = calibration_n
    names = [name for name in options if name in given]
    combinations = (
        dict(zip(names, chosen, strict=True)) for chosen in product(*(given[name] for name in names))
    )
    return tuple(
        Variant(entry=entry, options=options | chosen, label=label(chosen)) for chosen in combinations
    )


def _options(entry: Entry) -> tuple[Option, ...]:
    return entry.record.options if entry.record else ()
