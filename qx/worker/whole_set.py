"""Resample a statistic of a whole set, for ``qx.analysis.whole_set`` to make intervals of."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from numbers import Real

import numpy as np
from attrs import evolve, frozen
from numpy.typing import ArrayLike, NDArray

from qx.analysis.whole_set import drawn_items, group_of_items
from qx.contract.records import LARGEST, Context, Predictions, Recorded, Samples
from qx.errors import QxError
from qx.host.host import Host
from qx.values import Array, JsonObject
from qx.worker.arrays import drawn_over_classes
from qx.worker.values import as_json, finite_values

#: Seconds that a metric may take in a cell, and groups, draws and probes where it stays within them. Where it
#: would not there are half as many, and half again, but never fewer than the fewest.
SECONDS = 10.0
MOST = {"groups": 2048, "draws": 512, "probes": 128}
FEWEST = {"groups": 64, "draws": 64, "probes": 32}
#: Two ways to compute one value may differ so much: outputs are of single precision for the most part.
ROUNDING = 1e-5


@frozen(eq=False, slots=False)
class Statistic:
    """A plugin's statistic of the outputs of one cell."""

    host: Host
    metric: str
    outputs: Array
    labels: Array | None
    classes: tuple[str, ...]
    baseline: Array | None
    context: Context

    @classmethod
    def of(cls, host: Host, metric: str, data: Predictions | Recorded, context: Context) -> Statistic | None:
        """None where there are no outputs, or a metric that is derived has none of the baseline to go by."""
        key = ("outputs", None)
        recorded = isinstance(data, Recorded)
        outputs = data.samples.get(key) if isinstance(data, Recorded) else data.outputs
        baseline = data.baseline.get(key) if isinstance(data, Recorded) else None
        if outputs is None or (recorded and baseline is None):
            return None
        labels, baseline = (None if one is None else _read_only(one) for one in (data.labels, baseline))
        return cls(host, metric, _read_only(outputs), labels, data.classes, baseline, context)

    @cached_property
    def scratch(self) -> Array:
        """The outputs once more, to be changed."""
        return np.array(self.outputs)

    @property
    def count(self) -> int:
        """How many items there are."""
        return len(self.outputs)

    def over(self, indices: NDArray[np.intp], outputs: Array | None = None) -> float:
        """The statistic over these items, of other outputs if there are any; NaN where it has no value."""
        given = self.host.call(
            self.metric,
            "statistic",
            outputs=self.outputs if outputs is None else outputs,
            labels=self.labels,
            indices=_read_only(indices),
            classes=self.classes,
            baseline=self.baseline,
            context=self.context,
        )
        if given is None:
            return math.nan
        plain = given.item() if hasattr(given, "item") and np.ndim(given) == 0 else given
        if not isinstance(plain, Real) or abs(value := float(plain)) >= LARGEST:
            raise QxError(f"{self.metric}: statistic gave {given!r:.80}, and a finite number is due")
        return value

    def check(self, value: float) -> None:
        """Raise ``QxError`` unless the items decide, and not their order or what else there is."""
        every = np.arange(self.count)
        half = np.random.default_rng(0).permutation(every)[: max(1, self.count // 2)]
        for named, expected in ((self.over(half), self._alone(np.sort(half))), (self.over(every), value)):
            same = math.isnan(named) and math.isnan(expected)
            if not (same or math.isclose(named, expected, rel_tol=ROUNDING, abs_tol=ROUNDING * abs(value))):
                raise QxError(
                    f"{self.metric}: statistic gave {named:.6g} for items that have {expected:.6g} by "
                    "themselves: its value must come from outputs[indices] and labels[indices] alone, "
                    "whatever their order"
                )

    def _alone(self, chosen: NDArray[np.intp]) -> float:
        """The statistic of these items where there are no others."""
        labels, baseline = (
            None if one is None else _read_only(one[chosen]) for one in (self.labels, self.baseline)
        )
        alone = evolve(self, outputs=_read_only(self.outputs[chosen]), labels=labels, baseline=baseline)
        return alone.over(np.arange(len(chosen)))


def samples_of_set(host: Host, metric: str, data: Predictions | Recorded, context: Context) -> JsonObject:
    """A statistic and how it moves with the items, and what ``measure`` gives besides, as JSON.

    Values are None where the metric is not applicable.
    """
    nothing = {"values": None}
    beside, measures = Samples(()), host.implements(metric, "measure")
    if measures:
        if (given := host.call(metric, "measure", subject=None, data=data, context=context)) is None:
            return nothing
        beside = given if isinstance(given, Samples) else Samples(given)
    statistic = Statistic.of(host, metric, data, context)
    resampled = [] if statistic is None else resampled_sets(statistic, beside.groups, len(beside.group_names))
    if not resampled:
        return nothing
    value = resampled[0]["value"]
    if measures and beside.values is not None:
        own = finite_values(metric, beside.values)
        if len(own) != 1 or not math.isclose(own[0], value, rel_tol=ROUNDING, abs_tol=ROUNDING**2):
            raise QxError(f"{metric}: measure gave {own[0]:.6g}, and statistic {value:.6g} for all items")
    return {
        "values": [value],
        "resampled": resampled,
        "group_names": list(beside.group_names),
        "details": as_json(metric, beside.details),
    }


def resampled_sets(
    statistic: Statistic, groups: Sequence[int] | Array | None, count: int
) -> list[JsonObject]:
    """Resamples of all items, and then of each of ``count`` groups; nothing where there is no value.

    ``groups`` has the place of the group of each item, or is None.
    """
    if groups is not None and len(groups) != statistic.count:
        raise QxError(
            f"{statistic.metric}: measure gave {len(groups)} groups, and there are {statistic.count} items"
        )
    every = np.arange(statistic.count)
    value = statistic.over(every)
    if math.isnan(value):
        return []
    # Not of the first call, which may import what it needs.
    started = time.perf_counter()
    statistic.check(value)
    # One call took all items, and two took half of them.
    plan = planned((time.perf_counter() - started) / 2)
    resampled = [_resampled(statistic, every, value, plan)]
    if groups is not None:
        resampled += _of_groups(statistic, np.asarray(groups), count)
    return resampled


def _of_groups(statistic: Statistic, places: Array, count: int) -> list[JsonObject]:
    """Resamples of the items of each group, in as many seconds as those of the whole set."""
    groups = [np.flatnonzero(places == place) for place in range(count)]
    started = time.perf_counter()
    values = [statistic.over(members) if len(members) else math.nan for members in groups]
    plan = {**planned(time.perf_counter() - started), "draws": 0}
    return [
        _resampled(statistic, members, value, plan) for members, value in zip(groups, values, strict=True)
    ]


def planned(seconds: float) -> dict[str, int]:
    """How many groups, draws and probes there are where one call takes so many seconds."""
    plan = MOST
    while plan != FEWEST and seconds * sum(plan.values()) > SECONDS:
        plan = {what: max(FEWEST[what], number // 2) for what, number in plan.items()}
    return plan


def _resampled(
    statistic: Statistic, members: NDArray[np.intp], value: float, plan: Mapping[str, int]
) -> JsonObject:
    """The record ``qx.results.recording.Resampled`` as JSON, of these items."""
    told = {"value": value, "items": len(members), "influence": [], "draws": [], "step": None, "reason": ""}
    if math.isnan(value):
        return told | {"value": 0.0, "reason": "it has no value for these items"}
    count = len(members)
    groups = min(plan["groups"], count) if count > 1 else 0
    places = group_of_items(count, max(1, groups))
    without = np.array([statistic.over(members[places != group]) for group in range(groups)])
    if lacking := int(np.isnan(without).sum()):
        return told | {"reason": f"it has no value without some of its items ({lacking} of {groups} groups)"}
    draws = [statistic.over(members[drawn_items(count, draw)]) for draw in range(plan["draws"])]
    return told | {
        "influence": ((groups - 1) * (value - without)).tolist(),
        "draws": [None if math.isnan(one) else one for one in draws],
        "step": _step(statistic, members, value, plan["probes"]),
    }


def _step(statistic: Statistic, members: NDArray[np.intp], value: float, probes: int) -> float | None:
    """How far one item that changes its answer moves the value at most, of those tried; None where none is.

    That is tried where outputs are scores of classes, or one number that decides between two: elsewhere no
    item is known to change so much at once.
    """
    labels = statistic.labels
    if (
        labels is None
        or labels.ndim != 1
        or labels.dtype.kind not in "iub"
        or not _are_scores(statistic, labels)
    ):
        return None
    moved = []
    for item in members[drawn_over_classes(labels[members], len(members), probes, seed=0)]:
        statistic.scratch[item] = _another_answer(statistic, labels, item)
        moved.append(abs(statistic.over(members, _read_only(statistic.scratch)) - value))
        statistic.scratch[item] = statistic.outputs[item]
    known = [one for one in moved if not math.isnan(one)]
    return max(known, default=None)


def _are_scores(statistic: Statistic, labels: Array) -> bool:
    scores = statistic.outputs.size // statistic.count
    return statistic.outputs.ndim <= 2 and set(np.unique(labels)) <= set(range(max(2, scores)))


def _another_answer(statistic: Statistic, labels: Array, item: int) -> Array:
    """Outputs with which an item gives another answer: its highest two scores change places.

    Where there is one number it is that of an item that has the other label.
    """
    own = np.array(statistic.outputs[item])
    if own.size > 1:
        places = np.argsort(own)[-2:]
        own[places] = own[places[::-1]]
        return own
    others = np.flatnonzero(labels != labels[item])
    return statistic.outputs[others[item % len(others)]] if len(others) else own


def _read_only(array: ArrayLike) -> Array:
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view
