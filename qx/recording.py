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


def _array(dtype: Any) -> Any:
    return field(converter=lambda values: np.asarray(values, dtype=dtype), eq=False)


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
    details: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def plain(cls, given: Mapping[str, Any]) -> Series:
        """What a metric gave: ``values``, and perhaps ``waves``, ``rounds``, ``groups``, ``details``."""
        none = np.full(len(given["values"]), -1)
        groups = given.get("groups")
        return cls(
            values=given["values"],
            wave=given.get("waves", none),
            round=given.get("rounds", none),
            position=none,
            groups=None if groups is None else np.asarray(groups, dtype=np.int32),
            group_names=tuple(given.get("group_names", ())),
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
                    arrays[f"{prefix}|group_names"] = np.array(one.group_names)
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
        names = tuple(str(one) for one in arrays[f"{prefix}|group_names"])
    for what, array in parts.items():
        if array.shape != (len(parts["values"]),):
            due = len(parts["values"])
            raise ValueError(f"{prefix}|{what} has shape {array.shape}, and ({due},) is due")
    return Series(**parts, group_names=names)


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
