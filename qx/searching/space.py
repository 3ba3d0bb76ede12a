"""The candidates of a search: configs, values of their options, and layers that stay in float."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import evolve, field, frozen

from qx.contract.options import Setting, label, parse
from qx.contract.records import FLOAT_LAYERS, Option
from qx.errors import UsageError
from qx.foreign import to_line
from qx.host.catalogue import unknown
from qx.host.host import Host
from qx.runner.request import MANY_CELLS, Chosen, Request, choose, config
from qx.runner.settings import Variant

if TYPE_CHECKING:
    from optuna import Study, Trial

#: Number of worst layers that are left in float together, of networks that have more than these.
STEPS = (1, 2, 4, 8, 16, 32)
#: Largest number of whole numbers in a range that are all tried, where nothing has to be sampled.
ENUMERATED = 8
#: Candidates that a sampler proposes at a time, before it hears how they did.
BATCH = 8
#: Ratio of the ends of a range from which on it is sampled by its logarithm.
LOGARITHMIC = 10
#: A range as the user writes it: two numbers with dots between them.
RANGE = re.compile(r"(-?[0-9.eE+-]+?)\.\.(-?[0-9.eE+-]+)")
#: Number of letters of a text that a message quotes.
ROOM = 80


@frozen
class Range:
    """A range of values of an option of a config."""

    config: str
    option: Option
    low: float
    high: float

    @property
    def is_whole(self) -> bool:
        """Whether its values are whole numbers."""
        return self.option.type is int

    @property
    def is_sampled(self) -> bool:
        """Whether it has more values than are tried one by one."""
        return not self.is_whole or self.high - self.low + 1 > ENUMERATED


@frozen(kw_only=True)
class Space:
    """The candidates of a search that are known in advance, and the ranges that the others come from."""

    chosen: Chosen
    #: The baseline with its options.
    baseline: Variant
    #: Candidates without ranges.
    candidates: tuple[Variant, ...]
    #: Ranges by config.
    ranges: Mapping[str, Sequence[Range]] = field(factory=dict)
    #: The variant that the values of a range are put into, by config.
    sampled: Mapping[str, Variant] = field(factory=dict)
    #: Candidates that are sampled of each config with ranges.
    trials: int = 0
    #: Configs of which layers may stay in float.
    with_layers: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """The largest number of candidates that there can be."""
        layers = len(self.with_layers) * len(STEPS)
        return len(self.candidates) + self.trials * len(self.sampled) + layers


def make_space(
    host: Host, request: Request, ranges: Sequence[str], trials: int, *, has_layers: bool
) -> Space:
    """Return the candidates of a search. Raises ``UsageError`` in one line.

    With ``has_layers`` layers may stay in float, of each config that can do so and whose option
    ``float_layers`` the user left alone.
    """
    configs = request.configs or _default_configs(host)
    _check_quantizes(host, configs)
    parsed = [_read_range(host, text, configs) for text in ranges]
    settings = (*request.settings, *(entry for entry in parsed if isinstance(entry, str)))
    spans = [entry for entry in parsed if isinstance(entry, Range)]
    chosen = choose(host, evolve(request, configs=tuple(configs), settings=settings))
    by_config: dict[str, list[Range]] = {}
    for span in spans:
        by_config.setdefault(span.config, []).append(span)
    (baseline,) = (one for one in chosen.variants if one.entry.name == chosen.baseline.name)
    variants = [one for one in chosen.variants if one.entry.name in configs]
    sampled = {}
    for name in by_config:
        own = [one for one in variants if one.entry.name == name]
        if len(own) != 1:
            raise UsageError(
                f"--range of {name}: it is sampled, so its other options take one value each, not "
                f"{len(own)} combinations"
            )
        sampled[name] = own[0]
    touched = {(Setting.of(text).plugin, Setting.of(text).option) for text in settings}
    touched |= {(span.config, span.option.name) for span in spans}
    space = Space(
        chosen=chosen,
        baseline=baseline,
        candidates=tuple(one for one in variants if one.entry.name not in sampled),
        ranges=by_config,
        sampled=sampled,
        trials=trials,
        with_layers=tuple(
            name
            for name in configs
            if has_layers
            and config(host.get("config", name)).float_layers
            and (name, FLOAT_LAYERS.name) not in touched
        ),
    )
    if not space.size:
        raise UsageError("there is no candidate: no config that quantizes is ready here, see qx list")
    if space.size > MANY_CELLS and not request.yes:
        raise UsageError(
            f"this search would have {space.size:,} candidates, more than {MANY_CELLS:,}: give --yes if that "
            f"is meant"
        )
    if sampled:
        _require_optuna(spans)
    return space


def _default_configs(host: Host) -> list[str]:
    """Return the configs that are ready and quantize, without those that train."""
    return [
        entry.name
        for entry in host.ready("config")
        if not _is_compared_with(host, entry.name) and not config(entry).training
    ]


def _check_quantizes(host: Host, names: Sequence[str]) -> None:
    for name in names:
        host.get_ready("config", name)
        if _is_compared_with(host, name):
            choices = ", ".join(_default_configs(host)) or "none"
            raise UsageError(
                f"config {name} quantizes nothing: it is what others are compared with (choose from "
                f"{choices})"
            )


def _is_compared_with(host: Host, name: str) -> bool:
    """Return whether a config is the baseline, or the runtime baseline of another one."""
    entries = [entry for entry in host.entries if entry.kind == "config" and entry.usable]
    return any(
        (entry.name == name and config(entry).reference) or config(entry).runtime_baseline == name
        for entry in entries
    )


def _read_range(host: Host, text: str, configs: Sequence[str]) -> Range | str:
    """Return a range, or the setting of a list of values. Raises ``UsageError``."""
    shown = to_line(text, ROOM)
    match = re.fullmatch(r"([^.=\s]+)\.([^.=\s]+)=(.+)", text)
    if match is None:
        raise UsageError(
            f"--range {shown}: expected CONFIG.OPTION=LOW..HIGH or CONFIG.OPTION=VALUE,VALUE, such as "
            f"static_int8.calibration_n=32..1024"
        )
    name, option_name, values = match.groups()
    if name not in configs:
        raise unknown(f"--range {shown}: no config of this search", name, [*configs])
    options = {option.name: option for option in config(host.get("config", name)).options}
    if option_name not in options:
        raise unknown(f"--range {shown}: config {name} has no option", option_name, [*options])
    if (ends := RANGE.fullmatch(values)) is None:
        return text
    option = options[option_name]
    if option.type not in (int, float):
        raise UsageError(f"--range {shown}: {option_name} is no number: name its values, with commas")
    try:
        low, high = (float(parse(option, end)) for end in ends.groups())
    except ValueError as error:
        raise UsageError(f"--range {shown}: {option_name} {error}") from error
    if not low < high:
        raise UsageError(f"--range {shown}: the first number must be below the second")
    span = Range(name, option, low, high)
    if span.is_sampled:
        return span
    return f"{name}.{option_name}={','.join(map(str, range(int(low), int(high) + 1)))}"


def _require_optuna(ranges: Sequence[Range]) -> None:
    try:
        import optuna
    except ImportError as error:
        names = ", ".join(f"{span.config}.{span.option.name}" for span in ranges)
        raise UsageError(
            f"--range: {names} has too many values to try all, and sampling needs Optuna: pip install "
            f"'quant-explorer[search]', or name values with commas, such as 32,128,512"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def with_options(variant: Variant, options: Mapping[str, int | float | str]) -> Variant:
    """Return a variant with other values of options, which its name says."""
    return evolve(
        variant,
        options={**variant.options, **options},
        label=label({**set_options(variant), **options}),
        is_calibration_n_set=True,
    )


def set_options(variant: Variant) -> dict[str, int | float | bool | str]:
    """Return the options of a variant that are not the config's own defaults."""
    defaults = {option.name: option.default for option in config(variant.entry).options}
    return {name: value for name, value in variant.options.items() if value != defaults.get(name)}


class Sampler:
    """Proposes values of the ranges of one config, and learns from how the candidates did."""

    def __init__(self, variant: Variant, ranges: Sequence[Range], trials: int, seed: int) -> None:
        import optuna

        self._variant, self._ranges, self._left = variant, ranges, trials
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=BATCH, constant_liar=True)
        self._study: Study = optuna.create_study(sampler=sampler)
        self._trials: dict[str, Trial] = {}

    def propose(self) -> Iterator[Variant]:
        """Yield the next candidates; none where all trials are used up."""
        for _ in range(min(BATCH, self._left)):
            self._left -= 1
            trial = self._study.ask()
            values = {span.option.name: _suggest(trial, span) for span in self._ranges}
            variant = with_options(self._variant, values)
            if variant.row not in self._trials:
                self._trials[variant.row] = trial
                yield variant

    def learn(self, row: str, score: float) -> None:
        """Take the score of a candidate; the smaller, the better."""
        if (trial := self._trials.get(row)) is not None and math.isfinite(score):
            self._study.tell(trial, score)


def _suggest(trial: Trial, span: Range) -> int | float:
    is_wide = span.low > 0 and span.high / span.low >= LOGARITHMIC
    if span.is_whole:
        return int(trial.suggest_int(span.option.name, int(span.low), int(span.high), log=is_wide))
    return float(trial.suggest_float(span.option.name, span.low, span.high, log=is_wide))
