"""Read results of earlier schema versions: rename what was renamed, and change no figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from qx.contract.records import CONTROL
from qx.contract.tasks import CLASSIFICATION
from qx.results.records import SCHEMA_VERSION
from qx.values import Json, JsonObject

#: Versions of results that this qx reads.
READABLE_VERSIONS = (1, SCHEMA_VERSION)
#: Names of fields in version 1, and what they are called since, by the object that has them.
RUN = {"due_failures": "failures"}
MEASURING = {
    "held_to": "pinned_to",
    "held": "pinned_cpus",
    "calls": "calls_per_block",
    "malloc": "allocator",
}
METRIC = {"per_batch_size": "per_point"}
SUMMARY = {"well": "succeeded"}
SUMMARY_FIGURE = {"least": "smallest", "most": "largest"}
#: Stages that are called otherwise since.
STAGES = {"can_treat": "check_model"}
#: Lists of records that had ``params`` in place of a point.
OF_FIGURES = ("measurements", "picks", "noise_floor", "undecided")


def upgrade(fields: JsonObject) -> JsonObject:
    """Return results of any version that this qx reads in the form of the current version.

    What does not have the form of its version is left as it is, for the schema to name.
    """
    return _from_1(fields) if fields.get("schema_version") == 1 else fields


def _from_1(fields: JsonObject) -> JsonObject:
    upgraded = {**fields, "schema_version": SCHEMA_VERSION}
    _change(upgraded, "run", _run)
    _change_each(upgraded, "metrics", lambda metric: _renamed(metric, METRIC))
    _change_each(upgraded, "configs", _with_stage)
    if isinstance(cells := fields.get("cells"), dict):
        upgraded["cells"] = {name: _cell(name, cell) for name, cell in cells.items()}
    for name in OF_FIGURES:
        _change_each(upgraded, name, _with_point)
    _change_each(upgraded, "axes", _axis)
    _change_each(upgraded, "summary", _summary)
    return upgraded


def _change(fields: JsonObject, name: str, change: Callable[[JsonObject], Json]) -> None:
    """Replace an object in a field by what ``change`` makes of it."""
    if isinstance(fields.get(name), dict):
        fields[name] = change(fields[name])


def _change_each(fields: JsonObject, name: str, change: Callable[[JsonObject], Json]) -> None:
    """Replace each object in a list or in the values of an object."""

    def changed(value: Json) -> Json:
        return change(value) if isinstance(value, dict) else value

    values = fields.get(name)
    if isinstance(values, dict):
        fields[name] = {key: changed(value) for key, value in values.items()}
    elif isinstance(values, list):
        fields[name] = [changed(value) for value in values]


def _renamed(fields: JsonObject, names: Mapping[str, str]) -> JsonObject:
    return {names.get(name, name): value for name, value in fields.items()}


def _with_stage(fields: JsonObject) -> JsonObject:
    stage = fields.get("stage")
    return {**fields, "stage": STAGES[stage]} if isinstance(stage, str) and stage in STAGES else fields


def _run(run: JsonObject) -> JsonObject:
    upgraded = _renamed(run, RUN)
    sizes = upgraded.pop("batch_sizes", None)
    if sizes is not None:
        upgraded["points"] = [_point(size) for size in sizes] if isinstance(sizes, list) else sizes
    _change(upgraded, "measuring", _measuring)
    _change_each(upgraded, "workloads", _workload)
    return upgraded


def _workload(workload: JsonObject) -> JsonObject:
    # Runs that did not record a task were all of classification.
    upgraded = {"task": CLASSIFICATION, **workload}
    if isinstance(is_random := upgraded.pop("random_weights", None), bool):
        upgraded["trained"] = not is_random
    _change(upgraded, "measuring", _measuring)
    return upgraded


def _measuring(measuring: JsonObject) -> JsonObject | None:
    if not measuring:
        return None
    upgraded = _renamed(measuring, MEASURING)
    if isinstance(pairs := upgraded.get("unsteady"), list):
        upgraded["unsteady"] = [
            {"cell": pair[0], "point": _point(pair[1])} if isinstance(pair, list) and len(pair) == 2 else pair
            for pair in pairs
        ]
    _change_each(upgraded, "deaths", _with_stage)
    return upgraded


def _cell(name: str, cell: Json) -> Json:
    if not isinstance(cell, dict):
        return cell
    row, config = name.partition("/")[2], cell.get("config")
    has_label = row != CONTROL and isinstance(config, str) and row.startswith(config)
    return _with_stage({**cell, "label": row.removeprefix(str(config)) if has_label else ""})


def _with_point(fields: JsonObject) -> JsonObject:
    upgraded = dict(fields)
    params = upgraded.pop("params", {})
    if not isinstance(params, dict):
        upgraded["params"] = params  # which the schema then names
    else:
        upgraded["point"] = _point(params["batch_size"]) if "batch_size" in params else None
    return upgraded


def _axis(axis: JsonObject) -> JsonObject:
    upgraded = {name: value for name, value in axis.items() if name != "batch_size"}
    upgraded["point"] = _point(axis["batch_size"]) if "batch_size" in axis else None
    return upgraded


def _summary(row: JsonObject) -> JsonObject:
    upgraded = _renamed(row, SUMMARY)
    _change_each(upgraded, "figures", lambda figure: _with_point(_renamed(figure, SUMMARY_FIGURE)))
    return upgraded


def _point(size: Json) -> JsonObject:
    return {"batch_size": size}
