"""Raw samples: the values from every launch and every evaluation, before anything is computed from them."""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote, unquote

import numpy as np
from attrs import Factory, asdict, evolve, field, frozen
from numpy.typing import NDArray

from qx.contract.figures import Figure, Point
from qx.contract.records import LARGEST, MOST_WAVES, OUTPUT
from qx.foreign import to_line
from qx.processes.answers import PlainSamples
from qx.results.output_traces import OutputTrace, equal_outputs, highest, traces_of
from qx.storage.archive import Archive, Header, open_archive
from qx.storage.strict_json import ROOM
from qx.values import Array, JsonMapping, JsonObject

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
    #: Number of items in the set.
    items: int
    #: Float ``[groups]``: the number of groups less one, times how much less the value is without that group
    #: of items. There are as many groups as items, or fewer.
    influence: Floats = _floats()
    #: Float ``[draws]``: the value of ``items`` items drawn with replacement; NaN where they have none.
    draws: Floats = _floats()
    #: How far one item that changes its answer was seen to move the value; NaN where that was not tried.
    step: float = field(converter=_number_or_nan)
    #: Reason why there can be no interval; empty where there can.
    reason: str = ""


@frozen(kw_only=True)
class Series:
    """The samples of one metric of one cell, each with its origin.

    ``values`` is float ``[n]``, in the metric's unit. ``wave``, ``round`` and ``position`` are integers
    ``[n]``: the wave that a sample was taken in, the round within the wave, and the place of its block in the
    round. They are -1 where a metric has no waves, rounds or blocks.
    """

    values: Floats = _floats()
    wave: Integers = _integers()
    round: Integers = _integers()
    position: Integers = _integers()
    #: The group of each item, as a position in ``group_names``; None without groups.
    groups: Integers | None = field(default=None, eq=False)
    group_names: tuple[str, ...] = ()
    #: For a statistic of the whole set: that of all items, then that of each group of items.
    resampled: tuple[Resampled, ...] = field(default=(), eq=False)
    #: Whether the samples are derived, and only from values without sampling error.
    exact: bool = False
    #: Whether the widths of intervals decided how many items there are (``--quality-precision``).
    looked: bool = False
    details: tuple[JsonMapping, ...] = ()

    @classmethod
    def plain(cls, samples: PlainSamples, *, exact: bool = False, looked: bool = False) -> Series:
        """Make a series from what a metric returned.

        For a statistic of the whole set the groups have become ``resampled``.
        """
        none = np.full(len(samples.values), -1, dtype=np.int32)
        return cls(
            values=np.asarray(samples.values, dtype=np.float64),
            wave=none if samples.waves is None else np.asarray(samples.waves, dtype=np.int32),
            round=none if samples.rounds is None else np.asarray(samples.rounds, dtype=np.int32),
            position=none,
            groups=None if samples.groups is None else np.asarray(samples.groups, dtype=np.int32),
            group_names=samples.group_names,
            resampled=tuple(Resampled(**asdict(plain, recurse=False)) for plain in samples.resampled),
            exact=exact,
            looked=looked,
            details=(samples.details,),
        )


@frozen
class Recording:
    """Everything that was recorded in a run, by cell."""

    series: dict[str, dict[Figure, Series]] = Factory(dict)
    #: Outputs of the evaluation, arrays ``[n, ...]`` by name, by cell. Those of a run in progress are
    #: memory-mapped, and may be larger than memory.
    outputs: dict[str, dict[str, Array]] = Factory(dict)
    #: Series of further builds, by cell and by the seed of the build.
    further: dict[tuple[str, int], dict[Figure, Series]] = Factory(dict)
    #: What was kept of outputs that are too large to be kept whole, by cell and by name.
    traces: dict[str, dict[str, OutputTrace]] = Factory(dict)
    #: What was kept of the answers that a classifier's ``postprocess`` makes of outputs, by cell and by name.
    answer_traces: dict[str, dict[str, OutputTrace]] = Factory(dict)

    def add(self, cell: str, figure: Figure, series: Series) -> None:
        """Keep a series of a cell."""
        self.series.setdefault(cell, {})[figure] = series

    def add_further(self, cell: str, seed: int, figure: Figure, series: Series) -> None:
        """Keep a series of a further build of a cell."""
        self.further.setdefault((cell, seed), {})[figure] = series

    def get(self, cell: str, figure: Figure) -> Series | None:
        """Return a series of a cell; None where it has none."""
        return self.series.get(cell, {}).get(figure)

    def select(self, cells: Collection[str]) -> Recording:
        """Return what was recorded of these cells."""
        return Recording(
            {cell: series for cell, series in self.series.items() if cell in cells},
            {cell: outputs for cell, outputs in self.outputs.items() if cell in cells},
            {(cell, seed): series for (cell, seed), series in self.further.items() if cell in cells},
            {cell: traces for cell, traces in self.traces.items() if cell in cells},
            {cell: traces for cell, traces in self.answer_traces.items() if cell in cells},
        )

    def output_bytes(self, cells: Collection[str]) -> int:
        """Return the size of the outputs of these cells, in bytes."""
        return sum(
            array.nbytes
            for cell, outputs in self.outputs.items()
            if cell in cells
            for array in outputs.values()
        )

    def without_outputs(self, cells: Collection[str]) -> Recording:
        """Return the same with traces in place of the outputs of these cells."""
        traces = {cell: self.traces_of(cell) for cell in self.outputs if cell in cells}
        return evolve(
            self,
            outputs={cell: outputs for cell, outputs in self.outputs.items() if cell not in cells},
            traces=self.traces | {cell: own for cell, own in traces.items() if own is not None},
        )

    def traces_of(self, cell: str) -> dict[str, OutputTrace] | None:
        """Return the traces of a cell's outputs by name; None where nothing was kept of them."""
        outputs = self.outputs.get(cell)
        return self.traces.get(cell) if outputs is None else traces_of(outputs)

    def answers(self, cell: str) -> tuple[NDArray[np.integer], int] | None:
        """Return the class that a cell puts highest for each item, ``[n]``, and the number of classes.

        They are those of the first output, or of the first array that the workload's ``postprocess`` makes:
        of a classifier these are its scores. None where they are not ``[n, 2 or more]``, or not recorded.
        """
        traces = self.answer_traces.get(cell)
        if traces is None and (outputs := self.outputs.get(cell)):
            scores = next(iter(outputs.values()))
            is_of_classes = scores.ndim == 2 and scores.shape[1] > 1
            return (highest(scores), scores.shape[1]) if is_of_classes else None
        trace = next(iter((traces or self.traces.get(cell, {})).values()), None)
        return None if trace is None or trace.highest is None else (trace.highest, trace.shape[1])

    def to_bytes(self) -> bytes:
        """Return a compressed ``.npz``; its keys are ``cell|metric|point|part`` and ``cell|outputs|name``.

        What is kept in place of outputs has keys such as ``cell|outputs_sha256|name``, and of answers such as
        ``cell|answers_sha256|name``. Those of a further build have ``cell|build=seed`` in place of the cell.
        """
        # Typed as Any, since numpy takes arrays and a switch as keywords; none of these names is the switch.
        arrays: JsonObject = {}
        further = {f"{cell}|build={seed}": series for (cell, seed), series in self.further.items()}
        for cell, series_by_figure in {**self.series, **further}.items():
            for figure, series in series_by_figure.items():
                prefix = f"{cell}|{figure.key}"
                for part in _PARTS:
                    arrays[f"{prefix}|{part}"] = getattr(series, part)
                if series.groups is not None:
                    arrays[f"{prefix}|groups"] = series.groups
                if series.group_names:
                    arrays[f"{prefix}|group_names"] = np.array(series.group_names)
                for part in _SWITCHES:
                    if getattr(series, part):
                        arrays[f"{prefix}|{part}"] = np.array([True])
                for part, array in _to_arrays(series.resampled).items():
                    arrays[f"{prefix}|{part}"] = array
        for cell, outputs in self.outputs.items():
            arrays |= {f"{cell}{OUTPUTS}|{_quoted(name)}": array for name, array in outputs.items()}
        for kind, traces_by_cell in ((OUTPUTS, self.traces), (ANSWERS, self.answer_traces)):
            for cell, traces in traces_by_cell.items():
                arrays |= _trace_arrays(f"{cell}{kind}", traces)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        return buffer.getvalue()

    @classmethod
    def read(cls, path: Path) -> Recording:
        """Read what ``to_bytes`` wrote. Details are not part of it: they lie in the results.

        All headers are checked before any array is unpacked. Raises ``ValueError`` where the arrays are not
        those of a recording, and for a damaged file whatever numpy and zipfile raise.
        """
        with open_archive(path) as archive:
            return cls._of(archive)

    @classmethod
    def from_bytes(cls, content: bytes) -> Recording:
        """Return what ``to_bytes`` gave. Raises ``ValueError``, also for what is damaged."""
        try:
            return cls._of(Archive(io.BytesIO(content)))
        except ValueError:
            raise
        except Exception as error:
            # A damaged archive raises whatever zipfile, zlib and numpy run into.
            raise ValueError(f"its arrays are damaged: {to_line(str(error), ROOM)}") from error

    @classmethod
    def _of(cls, archive: Archive) -> Recording:
        """Return the recording in an archive, whose headers are checked first."""
        headers = {name: archive.header(name) for name in archive.names}
        for header in headers.values():
            _check_header(header)
        recording = cls()
        for name in headers:
            match = NAMES.fullmatch(name)
            assert match is not None, "the headers were checked"
            cell = match["cell"]
            if match["trace"] is not None:
                if match["trace"] == "sha256":
                    kind, name = f"|{match['kind']}", match["traced"]
                    trace = _read_trace(archive, headers, f"{cell}{kind}", name)
                    traces = recording.traces if kind == OUTPUTS else recording.answer_traces
                    traces.setdefault(cell, {})[unquote(name)] = trace
            elif match["figure"] is None:
                outputs = recording.outputs.setdefault(cell, {})
                outputs[unquote(match["output"] or OUTPUT)] = archive.array(name)
            elif match["part"] == "values":
                series = _read_series(archive, headers, f"{cell}|{match['figure']}")
                figure = Figure.parse_key(match["figure"])
                if (build := FURTHER.fullmatch(cell)) is None:
                    recording.add(cell, figure, series)
                else:
                    recording.add_further(build["cell"], int(build["seed"]), figure, series)
        return recording


_PARTS = ("values", "wave", "round", "position")
#: Parts of a series that are true or false; those that are false are not written.
_SWITCHES = ("exact", "looked")
#: Fields of a ``Resampled`` that are numbers, and those that are arrays.
_SET_NUMBERS, _SET_ARRAYS = ("value", "items", "step"), ("influence", "draws")
#: Names of all arrays of resampled sets, after ``set_``; and of those that hold whole numbers.
_SET_PARTS = (*_SET_NUMBERS, "reason", *_SET_ARRAYS, *(f"{part}_counts" for part in _SET_ARRAYS))
_SET_INTEGERS = ("set_items", *(f"set_{part}_counts" for part in _SET_ARRAYS))
#: Largest size of a digest in bytes: 64 characters of 4 bytes.
MOST_DIGEST = 256
#: Largest size of the outputs of all cells of a workload that are kept whole with the samples, in bytes.
MOST_OUTPUT_BYTES = 64 << 20
#: Parts of the names of arrays.
OUTPUTS, ANSWERS, VALUES = "|outputs", "|answers", "|values"
#: Pattern of the names of arrays. The only output of early versions has no name.
NAMES = re.compile(
    r"(?P<cell>.+)\|((?P<kind>outputs|answers)_(?P<trace>sha256|shape|highest)\|(?P<traced>[^|]+)"
    r"|outputs(\|(?P<output>[^|]+))?|(?P<figure>[^|]+\|(?P<point>[^|]*))\|(?P<part>[a-z_]+))",
    re.DOTALL,
)

#: Pattern of the name of a cell with the seed of a further build.
FURTHER = re.compile(r"(?P<cell>.+)\|build=(?P<seed>[0-9]{1,19})", re.DOTALL)


def _quoted(name: str) -> str:
    """Return the name of an output as part of the name of an array, from which ``unquote`` restores it."""
    # After a cell's name this word stands for its outputs.
    return f"%6F{name[1:]}" if name == OUTPUTS[1:] else quote(name, safe="")


def _trace_arrays(prefix: str, traces: Mapping[str, OutputTrace]) -> dict[str, Array]:
    """Return what is kept of a cell's outputs or answers as arrays, whose names begin with ``prefix``."""
    arrays: dict[str, Array] = {}
    for name, trace in traces.items():
        key = _quoted(name)
        arrays[f"{prefix}_sha256|{key}"] = np.array([trace.sha256])
        arrays[f"{prefix}_shape|{key}"] = np.array(trace.shape, dtype=np.int64)
        if trace.highest is not None:
            arrays[f"{prefix}_highest|{key}"] = trace.highest
    return arrays


def _check_header(header: Header) -> None:
    """Raise ``ValueError`` unless an array with this header can belong to a recording."""
    name, shown = NAMES.fullmatch(header.name), to_line(header.name, ROOM)
    part = None if name is None else name["part"]
    parts = (None, *_PARTS, "groups", "group_names", *_SWITCHES, *(f"set_{part}" for part in _SET_PARTS))
    if name is None or part not in parts or not _is_point(name["point"]):
        raise ValueError(f"its array {shown!r} is not called CELL|METRIC|POINT|WHAT or CELL|outputs|NAME")
    dtype, shape = header.dtype, header.shape
    if name["trace"] is not None:
        kind = "U" if name["trace"] == "sha256" else "iu"
        if dtype.kind not in kind or dtype.itemsize > MOST_DIGEST or len(shape) != 1:
            words = "texts" if kind == "U" else "whole numbers"
            raise ValueError(f"{shown} must be a row of {words}, not {dtype} of shape {shape}")
    elif part in ("group_names", "set_reason"):
        if dtype.kind != "U" or len(shape) != 1:
            raise ValueError(f"{shown} must be a row of texts, not {dtype} of shape {shape}")
    elif not header.holds_numbers:
        raise ValueError(f"{shown} must be an array of numbers, not {dtype} of shape {shape}")
    elif part is not None and part != "values" and len(shape) != 1:
        raise ValueError(f"{shown} must be a row of numbers, not of shape {shape}")
    elif part in _SWITCHES:
        if dtype.kind != "b" or shape != (1,):
            raise ValueError(f"{shown} must be true or false, not {dtype} of shape {shape}")
    elif part in (*_PARTS[1:], "groups", *_SET_INTEGERS) and dtype.kind not in "iu":
        raise ValueError(f"{shown} must hold whole numbers, not {dtype}")


def _is_point(text: str | None) -> bool:
    """Return whether a part of a name is a point, or empty."""
    try:
        return not text or bool(Point.parse(text))
    except ValueError:
        return False


def _read_trace(archive: Archive, headers: Mapping[str, Header], prefix: str, name: str) -> OutputTrace:
    """Read what is kept of an output or of answers. Raises ``ValueError``."""
    shown = to_line(f"{prefix}_sha256|{name}", ROOM)
    if f"{prefix}_shape|{name}" not in headers:
        raise ValueError(f"it has {shown}, but not the shape of that output")
    digests = archive.array(f"{prefix}_sha256|{name}")
    shape = tuple(map(int, archive.array(f"{prefix}_shape|{name}")))
    if len(digests) != 1 or not shape or min(shape) < 0:
        raise ValueError(f"{shown} and the shape of that output contradict each other")
    highest = None
    if (key := f"{prefix}_highest|{name}") in headers:
        highest = archive.array(key)
        is_of_classes = len(shape) == 2 and len(highest) == shape[0]
        if not is_of_classes or ((highest < 0) | (highest >= shape[1])).any():
            raise ValueError(f"{to_line(key, ROOM)} must be a position for each of the {shape[0]:,} items")
    return OutputTrace(str(digests[0]), shape, highest)


def _read_series(archive: Archive, headers: Mapping[str, Header], prefix: str) -> Series:
    """Read the series whose arrays begin with ``prefix``. Raises ``ValueError``."""
    shown = to_line(prefix, ROOM)
    (count, *rest) = headers[f"{prefix}{VALUES}"].shape
    has_groups = f"{prefix}|groups" in headers
    parts: dict[str, Array] = {}
    for part in (*_PARTS, *(("groups", "group_names") if has_groups else ())):
        if (header := headers.get(f"{prefix}|{part}")) is None:
            raise ValueError(f"it has {shown}{VALUES}, but not {shown}|{part}")
        if part != "group_names" and (rest or header.shape != (count,)):
            raise ValueError(f"{shown}|{part} has shape {header.shape}, expected ({count},)")
        parts[part] = archive.array(header.name)
    if not np.isfinite(parts["values"]).all():
        raise ValueError(f"{shown}|values has values that are not finite")
    if (np.abs(parts["values"].astype(np.float64)) >= LARGEST).any():
        raise ValueError(f"{shown}|values has values too large to compute with ({LARGEST:g} or more)")
    for part, limit in (("wave", MOST_WAVES), ("round", 2**31), ("position", 2**31)):
        if ((parts[part] < -1) | (parts[part] >= limit)).any():
            raise ValueError(f"{shown}|{part} must be from -1 to {limit - 1:,}")
    parts.pop("group_names", None)
    # A metric of the whole set has names of groups, but no group for each value.
    names_key = f"{prefix}|group_names"
    names = tuple(str(name) for name in archive.array(names_key)) if names_key in headers else ()
    if has_groups and ((parts["groups"] < 0) | (parts["groups"] >= len(names))).any():
        raise ValueError(f"{shown}|groups must be positions in {shown}|group_names")
    return Series(
        values=parts["values"],
        wave=parts["wave"],
        round=parts["round"],
        position=parts["position"],
        groups=parts.get("groups"),
        group_names=names,
        resampled=_read_resampled(archive, headers, prefix, len(names)),
        exact=_is_set(archive, headers, f"{prefix}|exact"),
        looked=_is_set(archive, headers, f"{prefix}|looked"),
    )


def _is_set(archive: Archive, headers: Mapping[str, Header], name: str) -> bool:
    return name in headers and bool(archive.array(name).all())


def _to_arrays(resampled: tuple[Resampled, ...]) -> dict[str, Array]:
    """Return the fields of all records as arrays, joined end to end, with the lengths of the parts."""
    if not resampled:
        return {}
    arrays = {
        f"set_{part}": np.array([getattr(record, part) for record in resampled]) for part in _SET_NUMBERS
    }
    arrays["set_reason"] = np.array([record.reason for record in resampled])
    for part in _SET_ARRAYS:
        values = [getattr(record, part) for record in resampled]
        arrays[f"set_{part}"] = np.concatenate(values)
        arrays[f"set_{part}_counts"] = np.array(list(map(len, values)))
    return arrays


def _read_resampled(
    archive: Archive, headers: Mapping[str, Header], prefix: str, groups: int
) -> tuple[Resampled, ...]:
    """Read what ``_to_arrays`` wrote for a metric with ``groups`` groups. Raises ``ValueError``."""
    present = [part for part in _SET_PARTS if f"{prefix}|set_{part}" in headers]
    if not present:
        return ()
    shown = to_line(prefix, ROOM)
    if len(present) != len(_SET_PARTS):
        missing = next(part for part in _SET_PARTS if part not in present)
        raise ValueError(f"it has {shown}|set_{present[0]}, but not {shown}|set_{missing}")
    arrays = {part: archive.array(f"{prefix}|set_{part}") for part in _SET_PARTS}
    records = len(arrays["value"])
    counts_by_part = {part: arrays[f"{part}_counts"] for part in _SET_ARRAYS}
    have_one_length = all(len(arrays[part]) == records for part in _SET_PARTS if part not in _SET_ARRAYS)
    if records not in (1, 1 + groups) or not have_one_length:
        raise ValueError(f"the lengths of the arrays {shown}|set_... contradict each other")
    # Each count is checked by itself, since a sum of counts that are too large may overflow.
    for part, counts in counts_by_part.items():
        length = len(arrays[part])
        if ((counts < 0) | (counts > length)).any() or sum(map(int, counts)) != length:
            raise ValueError(f"the lengths of the arrays {shown}|set_... contradict each other")
    if ((arrays["items"] < 0) | (arrays["items"] >= 2**31)).any():
        raise ValueError(f"{shown}|set_items must be from 0 to {2**31 - 1:,}")
    for part in ("value", "influence"):
        if not np.isfinite(arrays[part]).all():
            raise ValueError(f"{shown}|set_{part} has values that are not finite")
    for part in ("value", "step", "influence", "draws"):
        # An influence is a difference, times the number of groups.
        limit = LARGEST * (MOST_WAVES if part == "influence" else 2 if part == "step" else 1)
        if (np.abs(arrays[part].astype(np.float64)) >= limit).any():
            raise ValueError(f"{shown}|set_{part} has values too large to compute with ({limit:g} or more)")
    split = {part: np.split(arrays[part], np.cumsum(counts)[:-1]) for part, counts in counts_by_part.items()}
    return tuple(
        Resampled(
            value=float(arrays["value"][index]),
            items=int(arrays["items"][index]),
            step=float(arrays["step"][index]),
            reason=str(arrays["reason"][index]),
            influence=split["influence"][index],
            draws=split["draws"][index],
        )
        for index in range(records)
    )


def have_equal_outputs(first: Recording, cell: str, second: Recording, other: str) -> bool:
    """Return whether two cells are known to have the same outputs, number by number."""
    ours, theirs = first.outputs.get(cell), second.outputs.get(other)
    if ours is not None and theirs is not None:
        return equal_outputs(ours, theirs)
    traces = first.traces_of(cell)
    return traces is not None and traces == second.traces_of(other)


def joined(parts: Iterable[Series]) -> Series:
    """Return series one after another as one series."""
    parts = list(parts)
    return Series(
        values=np.concatenate([part.values for part in parts]),
        wave=np.concatenate([part.wave for part in parts]),
        round=np.concatenate([part.round for part in parts]),
        position=np.concatenate([part.position for part in parts]),
        details=tuple(details for part in parts for details in part.details),
    )
