"""``full_results.json``, written and read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from qx.errors import UsageError
from qx.files import read_bounded, write_together
from qx.foreign import to_line
from qx.leftovers import sweep
from qx.results.consistency import check_consistency
from qx.results.recording import Recording
from qx.results.records import SCHEMA_VERSION, CellResult, Results
from qx.results.schema import find_flaw, load_schema
from qx.storage import strict_json
from qx.values import Json, JsonObject

if TYPE_CHECKING:
    from cattrs import Converter

RESULTS = "full_results.json"
TABLE = "pareto.md"
#: The largest results file that is read: a run of a thousand cells writes some tens of megabytes.
MOST_BYTES = 128 << 20


def to_json(results: Results) -> str:
    """Return the text of ``full_results.json``."""
    return json.dumps(_converter().unstructure(results), indent=1, allow_nan=False, default=_plain) + "\n"


def _plain(value: object) -> Json:
    """What metrics put into details, as JSON."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)


def without_nan(value: object) -> Json:
    """The same with None in place of numbers that JSON has no word for."""
    if isinstance(value, Mapping):
        return {str(key): without_nan(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(inner) for inner in value]
    if hasattr(value, "tolist"):
        return without_nan(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write(folder: Path, results: Results, table: str, recording: Recording) -> None:
    """Write the raw samples, the results and the table into a folder: all of them or none.

    The samples are put in place first, under a name of their own: a reader who sees the results finds the
    samples that they name. Those of the results that are replaced go last.
    """
    settle(folder)
    former, own = _samples_named(folder / RESULTS), results.run["samples"]
    try:
        write_together(
            {
                folder / own: recording.to_bytes(),
                folder / RESULTS: to_json(results).encode(),
                folder / TABLE: table.encode(),
            }
        )
    except BaseException:
        if _samples_named(folder / RESULTS) != own:
            (folder / own).unlink(missing_ok=True)
        raise
    _drop_samples(folder, former)


def settle(folder: Path) -> None:
    """Put in place, or remove, what a run left half written in a folder of results because it was killed."""
    former = _samples_named(folder / RESULTS)
    sweep(folder)
    _drop_samples(folder, former)


def _drop_samples(folder: Path, former: str | None) -> None:
    """Remove the samples of results that others have taken the place of."""
    if former is not None and former != _samples_named(folder / RESULTS):
        (folder / former).unlink(missing_ok=True)


def _samples_named(place: Path) -> str | None:
    """The file of samples that lies beside these results, where they are results at all."""
    try:
        name = strict_json.loads(read_bounded(place, MOST_BYTES))["run"]["samples"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return name if isinstance(name, str) and Path(name).name == name else None


def read(path: Path) -> Results:
    """The results in a file, or in a folder of results.

    They are held against the schema of ``full_results.json``, and their parts against each other. Raises
    ``UsageError``: one line that names the file, the field, and what was expected.
    """
    place = path
    try:
        place = path / RESULTS if path.is_dir() else path
        fields = strict_json.loads(read_bounded(place, MOST_BYTES))
    except FileNotFoundError as error:
        raise UsageError(f"there are no results in {place}; qx run writes them") from error
    except OSError as error:
        raise UsageError(f"{place} is no results file: {error.strerror or error}") from error
    except ValueError as error:
        raise UsageError(f"{place} is no results file: {error}") from error
    if not isinstance(fields, dict) or "schema_version" not in fields:
        raise UsageError(f"{place} is no results file: it has no schema_version")
    if fields["schema_version"] != SCHEMA_VERSION:
        version = to_line(repr(fields["schema_version"]), strict_json.ROOM)
        raise UsageError(f"{place} has schema version {version}; this qx reads version {SCHEMA_VERSION}")
    if flaw := find_flaw(fields, "full_results"):
        raise UsageError(f"{place} is no whole results file: {flaw}")
    from cattrs import BaseValidationError, transform_error

    try:
        results = _converter().structure(fields, Results)
        check_consistency(results)
    except (BaseValidationError, ValueError) as error:
        flaws = transform_error(error) if isinstance(error, BaseValidationError) else [str(error)]
        raise UsageError(f"{place} is no whole results file: {'; '.join(flaws[:3])}") from error
    return results


def cell_of(
    cells: Mapping[str, CellResult], result: CellResult, config: str | None, *, alike: bool = False
) -> str | None:
    """The cell of another config that shares workload and threads with this one, and best its options too.

    Options count that both configs have; where none of them may differ, it is to be ``alike``.
    """

    def unlike(cell: str) -> int:
        theirs = cells[cell].options
        return sum(theirs[name] != value for name, value in result.options.items() if name in theirs)

    place = (result.workload, config, result.threads)
    same = [
        cell
        for cell, other in cells.items()
        if (other.workload, other.config, other.threads) == place and not other.control
    ]
    if not same or result.control:
        return None
    best = min(same, key=unlike)
    return None if alike and unlike(best) else best


def schema() -> JsonObject:
    """The JSON Schema of ``full_results.json``."""
    return load_schema("full_results")


def _converter() -> Converter:
    from cattrs.preconf.json import make_converter

    return make_converter()
