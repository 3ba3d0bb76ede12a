"""The options of plugins: read what the user set with ``--set``, and derive the variants of each config."""

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

#: Plugin -> option -> the values that the user set, in the order of the command line.
Values: TypeAlias = Mapping[str, Mapping[str, tuple[OptionValue, ...]]]

#: Kinds whose options can be set.
SETTABLE = ("config", "metric", "workload")


@frozen(kw_only=True)
class Variant:
    """A config with a value for each of its options."""

    entry: Entry
    #: The values of all options.
    options: OptionValues
    #: The options that the user set, as text: ``[bits=4]``.
    label: str = ""
    #: Whether the user said how many images calibrate it.
    is_calibration_n_set: bool = False

    @property
    def row(self) -> str:
        """The name of its cell in the report, which comes after the workload in the cell's id."""
        return self.entry.name + self.label

    @property
    def calibration_n(self) -> int | None:
        """The number of its calibration items; None if it does not calibrate."""
        record = self.entry.record
        return calibration_n(record, self.options) if isinstance(record, Config) else None


def calibration_n(record: Config, options: OptionValues) -> int | None:
    """Return the number of calibration items of a config with these options; None without calibration."""
    return int(options[CALIBRATION_N.name]) if record.calibration else None


def read(
    host: Host, settings: Sequence[str], participants: Sequence[Entry], swept: Sequence[Entry] = ()
) -> Values:
    """Parse the values that the user set, by the types of the options.

    ``participants`` are the plugins of the run, ``swept`` those among them that may have several values for
    an option. Raises ``UsageError`` for the first mistake.
    """
    values: dict[str, dict[str, tuple[OptionValue, ...]]] = {}
    for setting in map(Setting.of, settings):
        entry = _plugin(host, setting, participants)
        option = _option(entry, setting)
        _check_free(option, setting, participants)
        if option.name in values.setdefault(entry.name, {}):
            raise UsageError(
                f"--set {setting.text}: {entry.name}.{option.name} was set before; "
                f"several values of a config go into one --set, with commas"
            )
        values[entry.name][option.name] = _values(setting, option)
        if len(setting.values) > 1 and entry not in swept:
            raise UsageError(f"--set {setting.text}: {_why_single_value(entry, swept)}")
    return values


def _plugin(host: Host, setting: Setting, participants: Sequence[Entry]) -> Entry:
    entries = [entry for entry in (*participants, *host.entries) if entry.name == setting.plugin]
    if not entries:
        names = {entry.name for entry in participants}
        raise unknown(f"--set {setting.text}: unknown plugin", setting.plugin, sorted(names))
    entry = next((plugin for plugin in entries if plugin.usable), entries[0])
    if not entry.usable:
        raise UsageError(f"--set {setting.text}: {entry.complaint}")
    if entry.kind not in SETTABLE:
        raise UsageError(
            f"--set {setting.text}: {entry.name} is a {entry.kind}; only options of configs, metrics and "
            f"workloads can be set"
        )
    if not any(entry.name in (participant.name, participant.plugin) for participant in participants):
        others = [participant.name for participant in participants if participant.kind == entry.kind]
        raise UsageError(
            f"--set {setting.text}: {entry.kind} {entry.name} is not used here "
            f"(used are: {', '.join(others) or 'none'})"
        )
    return entry


def _option(entry: Entry, setting: Setting) -> Option:
    options = {option.name: option for option in entry.record.options} if entry.record else {}
    if setting.option not in options:
        what = f"--set {setting.text}: {entry.kind} {entry.name} has no option"
        raise unknown(what, setting.option, list(options))
    return options[setting.option]


def _check_free(option: Option, setting: Setting, participants: Sequence[Entry]) -> None:
    """Raise ``UsageError`` for an option that the run itself sets, from MODEL or an option beside it."""
    for entry in participants:
        if setting.plugin in (entry.name, entry.plugin) and option.name in entry.fixed_options:
            source = "MODEL" if option.name == "model" else f"--{option.name.replace('_', '-')}"
            raise UsageError(f"--set {setting.text}: {source} has set {option.name} already")


def _values(setting: Setting, option: Option) -> tuple[OptionValue, ...]:
    values = []
    for text in setting.values:
        try:
            value = parse(option, text)
        except ValueError as error:
            raise UsageError(f"--set {setting.text}: {option.name} {error}") from error
        if value in values:
            raise UsageError(f"--set {setting.text}: the value {text!r} is given twice")
        values.append(value)
    return tuple(values)


def _why_single_value(entry: Entry, swept: Sequence[Entry]) -> str:
    if entry.kind != "config":
        return f"a {entry.kind} takes one value; only options of configs can have several"
    if not swept:
        return "one artifact is built, so one value is expected"
    return f"others are compared with {entry.name}, so it takes one value"


def all_options(entry: Entry, values: Values) -> dict[str, OptionValue]:
    """Return all options of a metric or a workload: the defaults, replaced by the values that were set.

    Values that were set for the plugin hold for each entry of it.
    """
    set_values = {
        name: value
        for owner in dict.fromkeys((entry.plugin, entry.name))
        for name, (value, *_) in values.get(owner, {}).items()
    }
    defaults = {option.name: option.default for option in _options(entry)}
    return {**defaults, **set_values, **entry.fixed_options}


def count_variants(entry: Entry, values: Values) -> int:
    """Return the number of variants of a config."""
    return math.prod(len(option_values) for option_values in values.get(entry.name, {}).values())


def variants(entry: Entry, values: Values, calibration_n: int | None = None) -> tuple[Variant, ...]:
    """Return a variant for every combination of the values that were set, in the order of the record.

    ``calibration_n`` is ``--calibration-n``, which applies if the config's own option was not set.
    """
    set_values = values.get(entry.name, {})
    options = {option.name: option.default for option in _options(entry)}
    if calibration_n is not None and getattr(entry.record, "calibration", False):
        options[CALIBRATION_N.name] = calibration_n
    names = [name for name in options if name in set_values]
    combinations = (
        dict(zip(names, combination, strict=True))
        for combination in product(*(set_values[name] for name in names))
    )
    is_set = calibration_n is not None or CALIBRATION_N.name in set_values
    return tuple(
        Variant(
            entry=entry,
            options=options | combination,
            label=label(combination),
            is_calibration_n_set=is_set,
        )
        for combination in combinations
    )


def _options(entry: Entry) -> tuple[Option, ...]:
    return entry.record.options if entry.record else ()
