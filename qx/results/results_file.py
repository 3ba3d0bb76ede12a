"""``full_results.json``, written and read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from qx.contract.figures import Point
from qx.errors import UsageError
from qx.files import read_bounded, write_together
from qx.foreign import to_line
from qx.leftovers import sweep
from qx.processes.logs import logs_name, remove_logs
from qx.results.consistency import check_consistency
from qx.results.recording import Recording
from qx.results.records import Results
from qx.results.schema import find_flaw, load_schema
from qx.results.upgrade import READABLE_VERSIONS, upgrade
from qx.storage import strict_json
from qx.values import Json, JsonObject

if TYPE_CHECKING:
    from cattrs import Converter

RESULTS = "full_results.json"
TABLE = "pareto.md"
#: Names of the page and of the picture that are written beside them.
PAGE, PICTURE = "report.html", "pareto.svg"
#: The largest results file that is read: a run of a thousand cells writes some tens of megabytes.
MOST_BYTES = 128 << 20


#: Seconds after which the logs of a run that has left no results are removed by the next run.
LEAST_AGE = 60.0


def samples_name(identity: str) -> str:
    """Return the name of the file of the samples of a run."""
    return f"samples-{identity}.npz"


def to_json(results: Results) -> str:
    """Return the text of ``full_results.json``."""
    return json.dumps(converter().unstructure(results), indent=1, allow_nan=False, default=_plain) + "\n"


def _plain(value: object) -> Json:
    """Convert a value that a metric put into details to JSON."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)


def without_nan(value: object) -> Json:
    """Convert a value to JSON, with None in place of numbers that JSON cannot express."""
    if isinstance(value, Mapping):
        return {str(key): without_nan(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(inner) for inner in value]
    if hasattr(value, "tolist"):
        return without_nan(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write(
    folder: Path,
    results: Results,
    table: str,
    recording: Recording,
    pictures: Mapping[str, str] | None = None,
) -> None:
    """Write the raw samples, the results and the reports into a folder: all of them or none.

    Of outputs that are too large to be kept the samples have traces. ``table`` is the text of ``pareto.md``.
    ``pictures`` are further reports by the names of their files.

    The samples are put in place first, under a name of their own, so that a reader who sees the results finds
    the samples that they name. The samples and the logs of replaced results are removed last.
    """
    settle(folder)
    former, own = _samples_name(folder / RESULTS), results.run.samples
    try:
        write_together(
            {
                folder / own: recording.without_outputs(results.cells_without_outputs).to_bytes(),
                folder / RESULTS: to_json(results).encode(),
                folder / TABLE: table.encode(),
                **{folder / name: text.encode() for name, text in (pictures or {}).items()},
            }
        )
    except BaseException:
        if _samples_name(folder / RESULTS) != own:
            (folder / own).unlink(missing_ok=True)
        raise
    _drop_former(folder, former)


def settle(folder: Path) -> None:
    """Put in place, or remove, what a killed run left half written in a folder of results."""
    former = _samples_name(folder / RESULTS)
    sweep(folder)
    _drop_former(folder, former)
    current = _logs_beside(_samples_name(folder / RESULTS))
    for place in sorted(folder.glob("logs-*")):
        if place.name != current:
            # Those of a run that ended without results. One that is about to write its own is younger.
            remove_logs(place, least_age=LEAST_AGE)


def _drop_former(folder: Path, former: str | None) -> None:
    """Remove the samples and the logs of results that have been replaced."""
    if former is not None and former != _samples_name(folder / RESULTS):
        (folder / former).unlink(missing_ok=True)
        remove_logs(folder / _logs_beside(former))


def _logs_beside(samples: str | None) -> str:
    """Return the name of the logs of a run whose samples have this name."""
    return logs_name((samples or "").removeprefix("samples-").removesuffix(".npz"))


def _samples_name(place: Path) -> str | None:
    """Return the name of the file of samples beside a results file; None where it is no results file."""
    try:
        name = strict_json.loads(read_bounded(place, MOST_BYTES))["run"]["samples"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return name if isinstance(name, str) and Path(name).name == name else None


def read(path: Path) -> Results:
    """Read results from a file, or from a folder of results.

    They are checked against the schema of ``full_results.json``, and their parts against each other. Raises
    ``UsageError`` in one line that names the file, the field, and what was expected.
    """
    place = path
    try:
        place = path / RESULTS if path.is_dir() else path
        fields = strict_json.loads(read_bounded(place, MOST_BYTES))
    except FileNotFoundError as error:
        raise UsageError(f"there are no results in {place}; qx run writes them") from error
    except OSError as error:
        raise UsageError(f"{place} is not a results file: {error.strerror or error}") from error
    except ValueError as error:
        raise UsageError(f"{place} is not a results file: {error}") from error
    if not isinstance(fields, dict) or "schema_version" not in fields:
        raise UsageError(f"{place} is not a results file: it has no schema_version")
    if fields["schema_version"] not in READABLE_VERSIONS:
        version = to_line(repr(fields["schema_version"]), strict_json.ROOM)
        versions = " and ".join(map(str, READABLE_VERSIONS))
        raise UsageError(f"{place} has schema version {version}; this qx reads versions {versions}")
    fields = upgrade(fields)
    if flaw := find_flaw(fields, "full_results"):
        raise UsageError(f"{place} is not a valid results file: {flaw}")
    from cattrs import BaseValidationError, transform_error

    try:
        results = converter().structure(fields, Results)
        check_consistency(results)
    except (BaseValidationError, ValueError) as error:
        flaws = transform_error(error) if isinstance(error, BaseValidationError) else [str(error)]
        raise UsageError(f"{place} is not a valid results file: {'; '.join(flaws[:3])}") from error
    return results


def schema() -> JsonObject:
    """Return the JSON Schema of ``full_results.json``."""
    return load_schema("full_results")


@cache
def converter() -> Converter:
    """Return the converter between records of results and JSON, which writes points in their short form."""
    from cattrs.preconf.json import make_converter

    made = make_converter()
    made.register_unstructure_hook(Point, Point.to_json)
    made.register_structure_hook(Point, lambda value, _: Point.from_json(value))
    return made
