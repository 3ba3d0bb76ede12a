"""Raw samples: what every launch and every evaluation gave, before anything is computed from it."""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
from attrs import Factory, field, frozen
from numpy.typing import NDArray

from qx.contract.records import LARGEST, MOST_WAVES
from qx.foreign import to_line
from qx.storage.archive import Archive, Header, open_archive
from qx.storage.strict_json import ROOM
from qx.values import Array, JsonMapping, JsonObject

#: Metric, and batch size where the metric is measured for each.
Key: TypeAlias = tuple[str, "int | None"]
Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int32]


def _number_or_nan(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _floats() -> Floats:
    floats: Floats = field(converter=lambda values: np.asarray(values, dtype=np.float64), eq=False)
    return floats


def _integers() -> Integers:
    integers: Integers = field(converter=lambda values: np.asarray(values, dtype=np.int32), eq=False)
    return integers


@frozen(kw_only=True)
class Resampled:
    """A statistic of a set of items, and how it moves with them (see ``qx.analysis.whole_set``)."""

    value: float
    #: How many items the set has.
    items: int
    #: Float ``[groups]``: number of groups less one, times how much less the value is without that group of
    #: items. There are as many groups as items, or fewer.
    influence: Floats = _floats()
    #: Float ``[draws]``: the value of as many items, drawn with replacement; NaN where it has none.
    draws: Floats = _floats()
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

    values: Floats = _floats()
    wave: Integers = _integers()
    round: Integers = _integers()
    position: Integers = _integers()
    #: The group of each item, as a position in ``group_names``; None without groups.
    groups: Integers | None = field(default=None, eq=False)
    group_names: tuple[str, ...] = ()
    #: Of a statistic of the whole set: how it moves with its items, and that of each group of items.
    resampled: tuple[Resampled, ...] = field(default=(), eq=False)
    #: Derived, and from nothing but values without sampling error.
    exact: bool = False
    details: tuple[JsonMapping, ...] = ()

    @classmethod
    def plain(cls, given: JsonMapping) -> Series:
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
    outputs: dict[str, Array] = Factory(dict)

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
        # Any: among its arrays numpy takes a switch, which none of these names is.
        arrays: JsonObject = {}
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

        All headers are looked at before any array is unpacked. Raises ``ValueError`` where the arrays are not
        those of a recording, and for a damaged file whatever numpy and zipfile raise.
        """
        with open_archive(path) as archive:
            headers = {name: archive.header(name) for name in archive.names}
            for header in headers.values():
                _check_header(header)
            recording = cls()
            for name in headers:
                if name.endswith(OUTPUTS):
                    recording.outputs[name.removesuffix(OUTPUTS)] = archive.array(name)
                elif name.endswith(VALUES):
                    cell, metric, size, _ = name.rsplit("|", 3)
                    key = metric, int(size) if size else None
                    recording.add(cell, key, _series(archive, headers, name.removesuffix(VALUES)))
        return recording


_PARTS = ("values", "wave", "round", "position")
#: Of a ``Resampled``: what is a number, and what is an array.
_OF_SETS, _WITHIN_SETS = ("value", "items", "step"), ("influence", "draws")
#: All arrays of resampled sets, after ``set_``; and those of whole numbers.
_SET_PARTS = (*_OF_SETS, "reason", *_WITHIN_SETS, *(f"{what}_counts" for what in _WITHIN_SETS))
_SET_PLACES = ("set_items", *(f"set_{what}_counts" for what in _WITHIN_SETS))
#: How names of arrays end that begin with a cell, and with cell, metric and batch size.
OUTPUTS, VALUES = "|outputs", "|values"
#: What arrays are called.
NAMES = re.compile(
    r"(?P<cell>.+)\|(outputs|(?P<metric>[^|]+)\|([1-9][0-9]{0,8})?\|(?P<what>[a-z_]+))", re.DOTALL
)


def _check_header(header: Header) -> None:
    """Raise ``ValueError`` unless an array of this header can be one of a recording."""
    name, shown = NAMES.fullmatch(header.name), to_line(header.name, ROOM)
    what = None if name is None else name["what"]
    if name is None or what not in (
        *(None, *_PARTS, "groups", "group_names", "exact"),
        *(f"set_{part}" for part in _SET_PARTS),
    ):
        raise ValueError(f"its array {shown!r} is not called CELL|METRIC|BATCH SIZE|WHAT")
    kind, shape = header.dtype, header.shape
    if what in ("group_names", "set_reason"):
        if kind.kind != "U" or len(shape) != 1:
            raise ValueError(f"{shown} must be a row of texts, and is {kind} of shape {shape}")
    elif not header.holds_numbers:
        raise ValueError(f"{shown} is no array of numbers, but {kind} of shape {shape}")
    elif what is not None and what != "values" and len(shape) != 1:
        raise ValueError(f"{shown} must be a row of numbers, and has shape {shape}")
    elif what == "exact":
        if kind.kind != "b" or shape != (1,):
            raise ValueError(f"{shown} must be true or false, and is {kind} of shape {shape}")
    elif what in (*_PARTS[1:], "groups", *_SET_PLACES) and kind.kind not in "iu":
        raise ValueError(f"{shown} must hold whole numbers, and holds {kind}")


def _series(archive: Archive, headers: Mapping[str, Header], prefix: str) -> Series:
    """The series whose arrays begin with ``prefix``. Raises ``ValueError``."""
    shown = to_line(prefix, ROOM)
    (count, *rest) = headers[f"{prefix}{VALUES}"].shape
    grouped = f"{prefix}|groups" in headers
    parts: dict[str, Array] = {}
    for what in (*_PARTS, *(("groups", "group_names") if grouped else ())):
        if (header := headers.get(f"{prefix}|{what}")) is None:
            raise ValueError(f"it has {shown}{VALUES}, and no {shown}|{what}")
        if what != "group_names" and (rest or header.shape != (count,)):
            raise ValueError(f"{shown}|{what} has shape {header.shape}, and ({count},) is due")
        parts[what] = archive.array(header.name)
    if not np.isfinite(parts["values"]).all():
        raise ValueError(f"{shown}|values has values that are not finite")
    if (np.abs(parts["values"].astype(np.float64)) >= LARGEST).any():
        raise ValueError(f"{shown}|values has values too large to compute with, {LARGEST:g} and more")
    for what, limit in (("wave", MOST_WAVES), ("round", 2**31), ("position", 2**31)):
        if ((parts[what] < -1) | (parts[what] >= limit)).any():
            raise ValueError(f"{shown}|{what} must be from -1 to {limit - 1:,}")
    parts.pop("group_names", None)
    # A metric of the whole set has names, and no group of each value.
    named = f"{prefix}|group_names"
    names = tuple(str(name) for name in archive.array(named)) if named in headers else ()
    if grouped and ((parts["groups"] < 0) | (parts["groups"] >= len(names))).any():
        raise ValueError(f"{shown}|groups must be positions in {shown}|group_names")
    return Series(
        values=parts["values"],
        wave=parts["wave"],
        round=parts["round"],
        position=parts["position"],
        groups=parts.get("groups"),
        group_names=names,
        resampled=_resampled_in(archive, headers, prefix, len(names)),
        exact=f"{prefix}|exact" in headers and bool(archive.array(f"{prefix}|exact").all()),
    )


def _arrays_of(resampled: tuple[Resampled, ...]) -> dict[str, Array]:
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


def _resampled_in(
    archive: Archive, headers: Mapping[str, Header], prefix: str, groups: int
) -> tuple[Resampled, ...]:
    """What ``_arrays_of`` made, where there are so many groups. Raises ``ValueError``."""
    present = [what for what in _SET_PARTS if f"{prefix}|set_{what}" in headers]
    if not present:
        return ()
    shown = to_line(prefix, ROOM)
    if len(present) != len(_SET_PARTS):
        missing = next(what for what in _SET_PARTS if what not in present)
        raise ValueError(f"it has {shown}|set_{present[0]}, and no {shown}|set_{missing}")
    found = {what: archive.array(f"{prefix}|set_{what}") for what in _SET_PARTS}
    many = len(found["value"])
    counts = {what: found[f"{what}_counts"] for what in _WITHIN_SETS}
    whole = all(len(found[what]) == many for what in _SET_PARTS if what not in _WITHIN_SETS)
    if many not in (1, 1 + groups) or not whole:
        raise ValueError(f"the parts of {shown}|set_value do not belong together")
    # Each by itself, since a sum of counts that are too large may come out as any number.
    for what, one in counts.items():
        length = len(found[what])
        if ((one < 0) | (one > length)).any() or sum(map(int, one)) != length:
            raise ValueError(f"the parts of {shown}|set_value do not belong together")
    if ((found["items"] < 0) | (found["items"] >= 2**31)).any():
        raise ValueError(f"{shown}|set_items must be from 0 to {2**31 - 1:,}")
    for what in ("value", "influence"):
        if not np.isfinite(found[what]).all():
            raise ValueError(f"{shown}|set_{what} has values that are not finite")
    for what in ("value", "step", "influence", "draws"):
        # An influence is a difference, times the number of groups.
        limit = LARGEST * (MOST_WAVES if what == "influence" else 2 if what == "step" else 1)
        if (np.abs(found[what].astype(np.float64)) >= limit).any():
            raise ValueError(f"{shown}|set_{what} has values too large to compute with, {limit:g} and more")
    parts = {what: np.split(found[what], np.cumsum(one)[:-1]) for what, one in counts.items()}
    return tuple(
        Resampled(
            value=float(found["value"][index]),
            items=int(found["items"][index]),
            step=float(found["step"][index]),
            reason=str(found["reason"][index]),
            influence=parts["influence"][index],
            draws=parts["draws"][index],
        )
        for index in range(many)
    )


def joined(parts: Iterable[Series]) -> Series:
    """Series one after another."""
    every = list(parts)
    return Series(
        values=np.concatenate([part.values for part in every]),
        wave=np.concatenate([part.wave for part in every]),
        round=np.concatenate([part.round for part in every]),
        position=np.concatenate([part.position for part in every]),
        details=tuple(details for part in every for details in part.details),
    )
