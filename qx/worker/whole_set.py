"""Resample a statistic of a whole set, from which ``qx.analysis.whole_set`` computes intervals."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from numbers import Real
from types import MappingProxyType
from typing import Any

import numpy as np
from attrs import evolve, frozen
from numpy.typing import ArrayLike, NDArray

from qx.analysis.whole_set import drawn_items, group_of_items
from qx.contract.records import LABELS, LARGEST, Arrays, Predictions, Recorded, Samples
from qx.errors import QxError
from qx.processes.answers import PlainSamples, Resampling
from qx.values import Array
from qx.worker import combined, parts
from qx.worker.arrays import drawn_over_classes
from qx.worker.parts import ITEMS_CHECKED, ROUNDING
from qx.worker.plugins import BoundPlugin
from qx.worker.units import by_unit, unit_of_items
from qx.worker.values import as_json, finite_values, plain_names

#: Time that a metric may take in a cell, in seconds.
SECONDS = 10.0
#: The largest and the smallest numbers of groups, draws and probes. The largest are halved until the metric
#: stays within its time, but never below the smallest.
MAX_COUNTS = {"groups": 2048, "draws": 512, "probes": 128}
MIN_COUNTS = {"groups": 64, "draws": 64, "probes": 32}


@frozen(eq=False, slots=False)
class Statistic:
    """A plugin's statistic of the outputs of one cell. All its arrays are ``[items, ...]``, by name."""

    plugin: BoundPlugin
    outputs: Arrays
    targets: Arrays
    classes: tuple[str, ...]
    baseline: Arrays | None
    #: The workload's own judgement of outputs and targets; None where it has none.
    score: Callable[[Arrays, Arrays], Any] | None = None

    @classmethod
    def of(cls, plugin: BoundPlugin, data: Predictions | Recorded) -> Statistic | None:
        """Return the statistic; None without outputs, or if a derived metric lacks those of the baseline."""
        baseline = data.baseline_outputs if isinstance(data, Recorded) else None
        if not data.outputs or (isinstance(data, Recorded) and not baseline):
            return None
        return cls(
            plugin,
            _read_only_arrays(data.outputs),
            _read_only_arrays(data.targets),
            data.classes,
            None if baseline is None else _read_only_arrays(baseline),
            data.score if isinstance(data, Predictions) else None,
        )

    @property
    def metric(self) -> str:
        """The name of the metric."""
        return self.plugin.name

    @property
    def labels(self) -> Array | None:
        """The targets of a classifier; None without them."""
        return self.targets.get(LABELS)

    @property
    def scores(self) -> Array | None:
        """The only output; None if there are several."""
        return next(iter(self.outputs.values())) if len(self.outputs) == 1 else None

    @cached_property
    def scratch(self) -> dict[str, Array]:
        """Copies of the outputs, which may be changed."""
        return {name: np.array(output) for name, output in self.outputs.items()}

    @property
    def count(self) -> int:
        """The number of items."""
        return len(next(iter(self.outputs.values())))

    def over(self, indices: NDArray[np.intp], outputs: Arrays | None = None) -> float:
        """Return the statistic over the items at ``indices``; NaN if it has no value.

        ``outputs`` replace those of the cell.
        """
        result = self.plugin.call(
            "statistic",
            outputs=self.outputs if outputs is None else outputs,
            targets=self.targets,
            indices=_read_only(indices),
            classes=self.classes,
            baseline=self.baseline,
            score=self.score,
        )
        if result is None:
            return math.nan
        plain = result.item() if hasattr(result, "item") and np.ndim(result) == 0 else result
        if not isinstance(plain, Real) or abs(value := float(plain)) >= LARGEST:
            raise QxError(f"{self.metric}: statistic gave {result!r:.80}, expected a finite number")
        return value

    def check(self, value: float) -> None:
        """Raise ``QxError`` if the statistic depends on the order of its items, or on any others."""
        all_items = np.arange(self.count)
        half = np.random.default_rng(0).permutation(all_items)[: max(1, self.count // 2)]
        pairs = ((self.over(half), self._alone(np.sort(half))), (self.over(all_items), value))
        for actual, expected in pairs:
            same = math.isnan(actual) and math.isnan(expected)
            if not (same or math.isclose(actual, expected, rel_tol=ROUNDING, abs_tol=ROUNDING * abs(value))):
                raise QxError(
                    f"{self.metric}: statistic gave {actual:.6g} for items among others, and {expected:.6g} "
                    "for the same items alone: its value must depend only on the items at `indices` of "
                    "outputs and targets, in any order"
                )

    def _alone(self, chosen: NDArray[np.intp]) -> float:
        """Return the statistic of a set that has these items only."""

        def take(arrays: Arrays) -> Arrays:
            return _read_only_arrays({name: array[chosen] for name, array in arrays.items()})

        alone = evolve(
            self,
            outputs=take(self.outputs),
            targets=take(self.targets),
            baseline=None if self.baseline is None else take(self.baseline),
        )
        return alone.over(np.arange(len(chosen)))


def samples_of_set(plugin: BoundPlugin, data: Predictions | Recorded) -> PlainSamples | None:
    """Return a statistic with its resamples, and with the details and groups of ``measure``.

    None if the metric does not apply.
    """
    metric, samples, has_measure = plugin.name, Samples(()), plugin.implements("measure")
    if has_measure:
        result: Any = parts.measure(plugin, data)
        if result is None:
            return None
        samples = result if isinstance(result, Samples) else Samples(result)
    if plugin.implements("combine") and np.ndim(samples.values) == 2:
        resampled = _combined(plugin, data, samples)
    else:
        resampled = _resampled(plugin, data, samples)
    if not resampled:
        return None
    value = resampled[0].value
    if has_measure and samples.values is not None and np.ndim(samples.values) < 2:
        own = finite_values(metric, samples.values)
        if len(own) != 1 or not math.isclose(own[0], value, rel_tol=ROUNDING, abs_tol=ROUNDING**2):
            raise QxError(f"{metric}: measure gave {own[0]:.6g}, but statistic {value:.6g} for all items")
    return PlainSamples(
        values=[value],
        resampled=tuple(resampled),
        group_names=tuple(plain_names(metric, samples.group_names)),
        details=as_json(metric, samples.details),
    )


def _resampled(plugin: BoundPlugin, data: Predictions | Recorded, samples: Samples) -> list[Resampling]:
    """Return the resamples of a metric with the hook ``statistic``."""
    if not plugin.implements("statistic"):
        raise QxError(
            f"{plugin.name}: measure gave {np.ndim(samples.values)}-dimensional values; expected statistics "
            f"of items, numbers [n, k], for combine"
        )
    statistic = Statistic.of(plugin, data)
    return [] if statistic is None else resampled_sets(statistic, samples.groups, len(samples.group_names))


def _combined(plugin: BoundPlugin, data: Predictions | Recorded, samples: Samples) -> list[Resampling]:
    """Return the resamples of a metric with the hook ``combine``, whose ``measure`` gave these samples."""
    combination = combined.Combination.of(plugin, samples.values)
    outputs = data.outputs or {}
    items = len(next(iter(outputs.values()), ()))
    if combination.count != items or (samples.groups is not None and len(samples.groups) != items):
        groups = "" if samples.groups is None else f" and {len(samples.groups)} groups"
        raise QxError(
            f"{plugin.name}: measure gave statistics of {combination.count} items{groups}, and there are "
            f"{items} items"
        )

    def rows(changed: Predictions | Recorded) -> Array:
        result = plugin.call("measure", subject=None, data=changed)
        values = result.values if isinstance(result, Samples) else result
        return combined.Combination.of(plugin, () if values is None else values).rows

    first = np.arange(min(ITEMS_CHECKED, items))
    alone = rows(_taken(data, first))
    if alone.shape != combination.rows[first].shape or not np.allclose(
        alone, combination.rows[first], rtol=ROUNDING, atol=ROUNDING
    ):
        raise QxError(
            f"{plugin.name}: measure gave other statistics of {len(first)} items alone than of them among "
            f"all: each row must follow from its own item"
        )
    if (units := unit_of_items(data)) is not None and samples.groups is None:
        return combined.resampled_sets(
            evolve(combination, rows=by_unit(combination.rows, units)), None, None, 0
        )
    changed = [rows(part) for part in _with_other_answers(data)]
    return combined.resampled_sets(
        combination,
        np.concatenate(changed) if changed else None,
        samples.groups,
        len(samples.group_names),
    )


def _taken(data: Predictions | Recorded, chosen: NDArray[np.intp]) -> Predictions | Recorded:
    """Return the outputs and targets of these items alone."""

    def take(arrays: Arrays) -> Arrays:
        return _read_only_arrays({name: array[chosen] for name, array in arrays.items()})

    outputs, targets = take(data.outputs or {}), take(data.targets)
    if isinstance(data, Predictions):
        return evolve(data, outputs=outputs, targets=targets)

    def take_optional(arrays: Arrays | None) -> Arrays | None:
        return None if arrays is None else take(arrays)

    return evolve(
        data,
        outputs=outputs,
        targets=targets,
        baseline_outputs=take_optional(data.baseline_outputs),
        answers=take_optional(data.answers),
        baseline_answers=take_optional(data.baseline_answers),
    )


def _with_other_answers(data: Predictions | Recorded) -> Iterator[Predictions | Recorded]:
    """Yield all outputs in parts, with another answer for each item; none where they are no class scores.

    Nor are there any where `postprocess` makes the answers, which would be others too.
    """
    labels, outputs = data.targets.get(LABELS), data.outputs or {}
    if isinstance(data, Recorded) and data.answers is not None:
        return
    if labels is None or len(outputs) != 1 or not _are_classes(labels):
        return
    ((name, scores),) = outputs.items()
    if not _are_scores(scores, labels):
        return
    first = 0
    for part in data.parts():
        items = range(first, first + len((part.outputs or {})[name]))
        others = np.stack([_another_answer(scores, labels, item) for item in items])
        yield evolve(part, outputs=_read_only_arrays({name: others}))
        first = items.stop


def _are_classes(labels: Array) -> bool:
    """Return whether labels can be classes of items, a whole number for each."""
    return labels.ndim == 1 and labels.dtype.kind in "iub"


def resampled_sets(
    statistic: Statistic, groups: Sequence[int] | Array | None, count: int
) -> list[Resampling]:
    """Return the resamples of all items, then of each of ``count`` groups; empty if there is no value.

    ``groups`` is the index of each item's group, ``[items]``, or None.
    """
    if groups is not None and len(groups) != statistic.count:
        raise QxError(
            f"{statistic.metric}: measure gave {len(groups)} groups, and there are {statistic.count} items"
        )
    all_items = np.arange(statistic.count)
    value = statistic.over(all_items)
    if math.isnan(value):
        return []
    # The first call is not timed, since it may import modules.
    started = time.perf_counter()
    statistic.check(value)
    # `check` makes one call with all items, and two with half of them.
    counts = _plan((time.perf_counter() - started) / 2, lambda: statistic.over(all_items))
    resampled = [_resample(statistic, all_items, value, counts)]
    if groups is not None:
        resampled += _resample_groups(statistic, np.asarray(groups), count)
    return resampled


def _resample_groups(statistic: Statistic, indices: Array, count: int) -> list[Resampling]:
    """Return the resamples of each of ``count`` groups, which together may take as long as those of the set.

    ``indices`` has the group of each item, ``[items]``. A group is not drawn with replacement.
    """
    groups = [np.flatnonzero(indices == group) for group in range(count)]
    started = time.perf_counter()
    values = [statistic.over(members) if len(members) else math.nan for members in groups]
    seconds = time.perf_counter() - started
    counts = _plan(seconds, lambda: [statistic.over(members) for members in groups if len(members)])
    counts["draws"] = 0
    return [
        _resample(statistic, members, value, counts) for members, value in zip(groups, values, strict=True)
    ]


def _plan(seconds: float, call: Callable[[], object]) -> dict[str, int]:
    """Return the numbers for a call that took so long; it is timed again before it is made less often.

    A moment in which the machine was busy with other things costs no draws.
    """
    if plan_counts(seconds) != MAX_COUNTS:
        started = time.perf_counter()
        call()
        seconds = min(seconds, time.perf_counter() - started)
    return dict(plan_counts(seconds))


def plan_counts(seconds: float) -> dict[str, int]:
    """Return the numbers of groups, draws and probes, if one call takes this many seconds."""
    counts = MAX_COUNTS
    while counts != MIN_COUNTS and seconds * sum(counts.values()) > SECONDS:
        counts = {name: max(MIN_COUNTS[name], count // 2) for name, count in counts.items()}
    return counts


def _resample(
    statistic: Statistic, members: NDArray[np.intp], value: float, counts: Mapping[str, int]
) -> Resampling:
    """Resample a statistic of these items."""
    size = len(members)
    if math.isnan(value):
        return Resampling(value=0.0, items=size, reason="it has no value for these items")
    groups = min(counts["groups"], size) if size > 1 else 0
    indices = group_of_items(size, max(1, groups))
    without = np.array([statistic.over(members[indices != group]) for group in range(groups)])
    if lacking := int(np.isnan(without).sum()):
        reason = f"it has no value without some of its items ({lacking} of {groups} groups)"
        return Resampling(value=value, items=size, reason=reason)
    draws = [statistic.over(members[drawn_items(size, draw)]) for draw in range(counts["draws"])]
    return Resampling(
        value=value,
        items=size,
        influence=((groups - 1) * (value - without)).tolist(),
        draws=[None if math.isnan(draw) else draw for draw in draws],
        step=_largest_step(statistic, members, value, counts["probes"]),
    )


def _largest_step(statistic: Statistic, members: NDArray[np.intp], value: float, probes: int) -> float | None:
    """Return how far one item that changes its answer moves the value at most; None without such items.

    ``probes`` items are tried. The only output must be scores of classes, or one number that decides between
    two classes: of other outputs it is not clear how much an item can change at once.
    """
    labels, scores = statistic.labels, statistic.scores
    if labels is None or scores is None or not _are_classes(labels) or not _are_scores(scores, labels):
        return None
    (changed,) = statistic.scratch.values()
    changed_outputs = _read_only_arrays(statistic.scratch)
    changes = []
    for item in members[drawn_over_classes(labels[members], len(members), probes, seed=0)]:
        changed[item] = _another_answer(scores, labels, item)
        changes.append(abs(statistic.over(members, changed_outputs) - value))
        changed[item] = scores[item]
    return max((change for change in changes if not math.isnan(change)), default=None)


def _are_scores(outputs: Array, labels: Array) -> bool:
    """Return whether outputs can be scores of the classes that the labels name."""
    scores = outputs.size // len(outputs)
    return outputs.ndim <= 2 and set(np.unique(labels)) <= set(range(max(2, scores)))


def _another_answer(scores: Array, labels: Array, item: int) -> Array:
    """Return the scores of an item with its highest two exchanged, which is another answer.

    Of a single number, it returns that of an item with another label.
    """
    own = np.array(scores[item])
    if own.size > 1:
        highest = np.argsort(own)[-2:]
        own[highest] = own[highest[::-1]]
        return own
    others = np.flatnonzero(labels != labels[item])
    return scores[others[item % len(others)]] if len(others) else own


def _read_only_arrays(arrays: Arrays) -> Arrays:
    """Return a mapping of views of arrays; neither it nor the views can be written to."""
    return MappingProxyType({name: _read_only(array) for name, array in arrays.items()})


def _read_only(array: ArrayLike) -> Array:
    """Return a view of an array that cannot be written to."""
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view
