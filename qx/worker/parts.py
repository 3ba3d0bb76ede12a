"""Have a metric measure outputs part by part, so that no more than a part of them is in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from attrs import frozen

from qx.contract.records import Metric, Predictions, Recorded, Samples
from qx.errors import QxError
from qx.values import Array
from qx.worker.plugins import BoundPlugin
from qx.worker.values import as_json, plain_names

#: Number of items that are measured again by themselves, to hold a metric to its promise.
ITEMS_CHECKED = 32
#: Largest relative difference of two ways to compute one value: most outputs have single precision.
ROUNDING = 1e-5


def measure(plugin: BoundPlugin, data: Predictions | Recorded) -> object:
    """Return what ``measure`` gives: of a metric that is measured in parts the parts joined, and checked.

    None if the metric does not apply. Raises ``QxError`` where the parts do not fit together, or are other
    than those of the same items among others.
    """
    record = plugin.record
    assert isinstance(record, Metric)
    if not record.by_parts or not data.outputs:
        return plugin.call("measure", subject=None, data=data)
    joined = measure_parts(plugin, data.parts())
    if joined is None:
        return None
    first = np.arange(min(ITEMS_CHECKED, len(joined.values)))
    alone = measure_parts(plugin, [data.take(first)])
    if alone is None or not _are_same(joined.take(first), alone):
        raise QxError(
            f"{plugin.name}: measure gave something else for {len(first)} items alone than for them among "
            f"all items: a metric that is measured in parts (by_parts) gives for each item what follows from "
            f"that item alone, and the same details whatever the items"
        )
    return joined.samples()


@frozen(eq=False)
class Joined:
    """What a metric gave for all parts: values ``[n]`` or statistics ``[n, k]``, and groups ``[n]``."""

    values: Array
    groups: Array | None
    group_names: tuple[str, ...]
    details: object

    def take(self, items: Array) -> Joined:
        """Return that of some items alone."""
        groups = None if self.groups is None else self.groups[items]
        return Joined(self.values[items], groups, self.group_names, self.details)

    def samples(self) -> Samples:
        """Return it as a metric gives it."""
        assert isinstance(self.details, dict)
        return Samples(self.values, details=self.details, groups=self.groups, group_names=self.group_names)


def measure_parts(plugin: BoundPlugin, parts: Iterable[Predictions | Recorded]) -> Joined | None:
    """Measure each part of the items, and join what the metric gave; None if it does not apply.

    Raises ``QxError`` where it applies to some parts and not to others, gives another number of values than
    a part has items, or other details or names of groups than for the first part.
    """
    measured = list(_measured(plugin, parts))
    applicable = [part for part in measured if part is not None]
    if not applicable:
        return None
    first = applicable[0]
    for part in measured:
        if part is None:
            raise QxError(f"{plugin.name}: measure gave None for some of the items and values for others")
        if (part.groups is None) is not (first.groups is None) or part.group_names != first.group_names:
            raise QxError(f"{plugin.name}: measure gave other groups for some of the items than for others")
        if part.values.shape[1:] != first.values.shape[1:]:
            raise QxError(
                f"{plugin.name}: measure gave shapes {list(first.values.shape)} and "
                f"{list(part.values.shape)}; expected the same but for the first dimension"
            )
        if not _is_same_json(part.details, first.details):
            raise QxError(
                f"{plugin.name}: measure gave other details for some of the items than for others, and its "
                f"record says that it may be measured in parts (by_parts): leave by_parts out, and go over "
                f"data.parts() in measure"
            )
    groups = [part.groups for part in applicable if part.groups is not None]
    return Joined(
        np.concatenate([part.values for part in applicable]),
        np.concatenate(groups) if groups else None,
        first.group_names,
        first.details,
    )


def _measured(plugin: BoundPlugin, parts: Iterable[Predictions | Recorded]) -> Iterator[Joined | None]:
    """Yield what the metric gave for each part. Raises ``QxError`` for another number of values or groups."""
    for part in parts:
        items = len(next(iter((part.outputs or {}).values())))
        result = plugin.call("measure", subject=None, data=part)
        if result is None:
            yield None
            continue
        samples = result if isinstance(result, Samples) else Samples(result)
        values = np.asarray(samples.values)
        groups = None if samples.groups is None else np.asarray(samples.groups)
        for what, array in (("values", values), ("groups", groups)):
            if array is not None and array.shape[:1] != (items,):
                raise QxError(
                    f"{plugin.name}: measure gave {what} of shape {list(array.shape)} for {items} items; "
                    f"expected one for each item"
                )
        if values.dtype.kind not in "biuf":
            raise QxError(f"{plugin.name}: measure gave values of type {values.dtype}, not numbers")
        names = tuple(plain_names(plugin.name, samples.group_names))
        yield Joined(values, groups, names, as_json(plugin.name, samples.details))


def _are_same(ours: Joined, theirs: Joined) -> bool:
    return (
        ours.values.shape == theirs.values.shape
        and np.allclose(ours.values, theirs.values, rtol=ROUNDING, atol=ROUNDING, equal_nan=True)
        and ours.group_names == theirs.group_names
        and (ours.groups is None) is (theirs.groups is None)
        and (ours.groups is None or theirs.groups is None or np.array_equal(ours.groups, theirs.groups))
        and _is_same_json(ours.details, theirs.details)
    )


def _is_same_json(ours: object, theirs: object) -> bool:
    from json import dumps

    # As text, since a number that is not finite is unequal to itself.
    return dumps(ours, sort_keys=True) == dumps(theirs, sort_keys=True)
