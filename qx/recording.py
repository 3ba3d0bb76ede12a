"""Raw samples: what every launch and every evaluation gave, before anything is computed from it."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from attrs import Factory, field, frozen
from numpy.lib.npyio import NpzFile

#: Metric, and batch size where the metric is measured for each.
Key: TypeAlias = tuple[str, "int | None"]


def _number_or_nan(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _array(dtype: Any) -> Any:
    return field(converter=lambda values: np.asarray(values, dtype=dtype), eq=False)


@frozen(kw_only=True)
class Resampled:
    """A statistic of a set of items, and how it moves with the items of the set (``qx.whole_set``)."""

    value: float
    #: How many items the set has.
    items: int
    #: Float ``[groups]``: number of groups less one, times how much less the value is without that group of
    #: items. There are as many groups as items, or fewer.
    influence: Any = _array(np.float64)
    #: Float ``[draws]``: the value of as many items, drawn with replacement; NaN where it has none.
    draws: Any = _array(np.float64)
    #: How far one item that changes its answer was seen to move the value; NaN where that was not tried.
    step: float = field(converter=_number_or_nan)
    #: Why there can be no interval; empty where there can.
    reason: str = ""


@frozen(kw_only=True)
class Series:
    """The samples of one metric of one cell, each with where it comes from.

    ``values`` is float ``[n]``, in the metric's unit. ``wave``, ``round`` and ``position`` are integers
    ``[n]``: the wave that a sample was taken in, the round within the wave, and the place of its block in the
    round; minus one where a metric has no such thing.
    """

    values: Any = _array(np.float64)
    wave: Any = _array(np.int32)
    round: Any = _array(np.int32)
    position: Any = _array(np.int32)
    #: The group of each item, as a position in ``group_names``; None without groups.
    groups: Any = field(default=None, eq=False)
    group_names: tuple[str, ...] = ()
    #: Of a statistic of the whole set: how it moves with its items, and that of each group of items.
    resampled: tuple[Resampled, ...] = field(default=(), eq=False)
    #: Derived, and from nothing but values without sampling error.
    exact: bool = False
    details: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def plain(cls, given: Mapping[str, Any]) -> Series:
        """What a metric gave: ``values``, and perhaps ``waves``, ``rounds``, ``groups``, ``details``...

        Of a statistic of the whole set the groups have become ``resampled``.
        """
        none = np.full(len(given["values"]), -1)
        groups = given.get("groups")
        return cls(
            values=given["values"],
            wave=given.get("waves", none),
            round=given.get("rounds", none),
            position=none,
            groups=None if groups is None else np.asarray(groups, dtype=np.int32),
            group_names=tuple(given.get("group_names", ())),
            resampled=tuple(Resampled(**one) for one in given.get("resampled", ())),
            exact=given.get("exact", False),
            details=(given.get("details", {}),),
        )


@frozen
class Recording:
    """Everything that was recorded in a run, by cell."""

    series: dict[str, dict[Key, Series]] = Factory(dict)
    #: Outputs of the evaluation, ``[n, ...]``.
    outputs: dict[str, Any] = Factory(dict)

    def add(self, cell: str, key: Key, series: Series) -> None:
        """Keep a series of a cell."""
        self.series.setdefault(cell, {})[key] = series

    def get(self, cell: str, key: Key) -> Series | None:
        """A series of a cell, if it has one."""
        return self.series.get(cell, {}).get(key)

    def of(self, cells: Collection[str]) -> Recording:
        """What was recorded of these cells."""
        return Recording(
            {cell: series for cell, series in self.series.items() if cell in cells},
            {cell: outputs for cell, outputs in self.outputs.items() if cell in cells},
        )

    def to_bytes(self) -> bytes:
        """A compressed ``.npz``; its keys are ``cell|metric|batch size|what`` and ``cell|outputs``."""
        arrays: dict[str, Any] = {}
        for cell, series in self.series.items():
            for (metric, batch_size), one in series.items():
                prefix = "|".join((cell, metric, str(batch_size or "")))
                for what in _PARTS:
                    arrays[f"{prefix}|{what}"] = getattr(one, what)
                if one.groups is not None:
                    arrays[f"{prefix}|groups"] = one.groups
                if one.group_names:
                    arrays[f"{prefix}|group_names"] = np.array(one.group_names)
                if one.exact:
                    arrays[f"{prefix}|exact"] = np.array([True])
                for what, array in _arrays_of(one.resampled).items():
                    arrays[f"{prefix}|{what}"] = array
        for cell, outputs in self.outputs.items():
            arrays[f"{cell}|outputs"] = outputs
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        return buffer.getvalue()

    @classmethod
    def read(cls, path: Path) -> Recording:
        """What ``to_bytes`` wrote. Details are not among it: they lie in the results.

        Raises ``ValueError`` where the arrays are not those of a recording, and for a damaged file whatever
        numpy and zipfile raise.
        """
        recording = cls()
        # Given a path, numpy would leave the file open where it is no archive.
        with path.open("rb") as file:
            arrays = np.load(file)
            if not isinstance(arrays, NpzFile):
                raise ValueError("it is a single array, and no archive of them")
            for name in arrays.files:
                cell, *rest = name.split("|")
                if rest == ["outputs"]:
                    recording.outputs[cell] = _numbers(name, arrays[name])
                elif not rest or (rest[-1] == "values" and len(rest) != 3):
                    raise ValueError(f"its array {name!r} is not called CELL|METRIC|BATCH SIZE|WHAT")
                elif rest[-1] == "values":
                    metric, size, _ = rest
                    key = metric, int(size) if size else None
                    recording.add(cell, key, _series(arrays, name.removesuffix("|values")))
        return recording


_PARTS = ("values", "wave", "round", "position")


def _series(arrays: NpzFile, prefix: str) -> Series:
    """The series whose arrays begin with ``prefix``. Raises ``ValueError``, ``KeyError``."""
    parts: dict[str, Any] = {
        what: _numbers(f"{prefix}|{what}", arrays[f"{prefix}|{what}"]) for what in _PARTS
    }
    if not np.isfinite(parts["values"]).all():
        raise ValueError(f"{prefix}|values has values that are not finite")
    names: tuple[str, ...] = ()
    if f"{prefix}|groups" in arrays.files:
        parts["groups"] = _numbers(f"{prefix}|groups", arrays[f"{prefix}|groups"])
    if f"{prefix}|group_names" in arrays.files:
        names = tuple(str(one) for one in arrays[f"{prefix}|group_names"])
    for what, array in parts.items():
        if array.shape != (len(parts["values"]),):
            due = len(parts["values"])
            raise ValueError(f"{prefix}|{what} has shape {array.shape}, and ({due},) is due")
    return Series(
        **parts,
        group_names=names,
        resampled=_resampled_in(arrays, prefix),
        exact=f"{prefix}|exact" in arrays.files,
    )


def _arrays_of(resampled: tuple[Resampled, ...]) -> dict[str, Any]:
    """Records with what they hold one after another, and how long each is; nothing of none."""
    if not resampled:
        return {}
    return {
        **{f"set_{what}": np.array([getattr(one, what) for one in resampled]) for what in _OF_SETS},
        "set_reason": np.array([one.reason for one in resampled]),
        **{f"set_{what}": np.concatenate([getattr(one, what) for one in resampled]) for what in _WITHIN_SETS},
        **{
            f"set_{what}_counts": np.array([len(getattr(one, what)) for one in resampled])
            for what in _WITHIN_SETS
        },
    }


def _resampled_in(arrays: NpzFile, prefix: str) -> tuple[Resampled, ...]:
    """What ``_arrays_of`` made. Raises ``ValueError``, ``KeyError``."""
    if f"{prefix}|set_value" not in arrays.files:
        return ()
    found = {
        what: _numbers(f"{prefix}|set_{what}", arrays[f"{prefix}|set_{what}"])
        for what in (*_OF_SETS, *_WITHIN_SETS, *(f"{what}_counts" for what in _WITHIN_SETS))
    }
    reasons, many = arrays[f"{prefix}|set_reason"], len(found["value"])
    counts = {what: found[f"{what}_counts"] for what in _WITHIN_SETS}
    whole = all(len(one) == many for one in (reasons, *(found[what] for what in _OF_SETS), *counts.values()))
    if not whole or any(
        one.dtype.kind not in "iu" or (one < 0).any() or one.sum() != len(found[what])
        for what, one in counts.items()
    ):
        raise ValueError(f"the parts of {prefix}|set_value do not belong together")
    parts = {what: np.split(found[what], np.cumsum(one)[:-1]) for what, one in counts.items()}
    if not all(np.isfinite(found[what]).all() for what in ("value", "influence")):
        raise ValueError(f"{prefix}|set_influence has values that are not finite")
    return tuple(
        Resampled(
            value=float(found["value"][index]),
            items=int(found["items"][index]),
            step=float(found["step"][index]),
            reason=str(reasons[index]),
            influence=parts["influence"][index],
            draws=parts["draws"][index],
        )
        for index in range(many)
    )


#: Of a ``Resampled``: what is a number, and what is an array.
_OF_SETS, _WITHIN_SETS = ("value", "items", "step"), ("influence", "draws")


def _numbers(name: str, array: Any) -> Any:
    """An array of one dimension or more. Raises ``ValueError`` where it does not hold numbers."""
    if array.dtype.kind not in "biuf" or not array.ndim:
        raise ValueError(f"{name} is no array of numbers, but {array.dtype} of shape {array.shape}")
    return array


def joined(parts: Iterable[Series]) -> Series:
    """Series one after another."""
    every = list(parts)
    arrays: dict[str, Any] = {
        what: np.concatenate([getattr(part, what) for part in every]) for what in _PARTS
    }
    return Series(
        **arrays,
        details=tuple(details for part in every for details in part.details),
    )
