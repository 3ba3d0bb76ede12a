"""Details of metrics by stage (memory, start-up) and by layer (bits of weights), whatever the metric."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from qx.report.html.compact import rounded
from qx.results.columns import View
from qx.results.records import Measurement
from qx.values import Json, JsonMapping, JsonObject

#: Relative deviation within which stages add up to the value of their metric.
TOLERANCE = 0.02


def stages(view: View) -> list[JsonObject]:
    """Return for each metric whose details have ``stages`` its numbers by cell and stage.

    A stage is a number, or a mapping of numbers such as ``{"peak": 24.8, "private": 14.4}``: each of these
    names is a field. ``isSum`` says that the stages of a field add up to the metric's value, so that they can
    be stacked. ``best`` is the field that the metric's value is taken from.
    """
    plots = []
    for index, figure in enumerate(view.columns):
        measured = {
            cell: measurement
            for cell in view.rows
            if (measurement := view.measurement(cell, figure)) is not None and _stages(measurement)
        }
        if measured:
            plots.append({"column": index, **_stage_plot(view, measured)})
    return plots


def _stages(measurement: Measurement) -> dict[str, dict[str, float]]:
    """Return the numbers of each stage by field; a stage that is a number has one field without a name."""
    entries = measurement.details.get("stages")
    if not isinstance(entries, Mapping):
        return {}
    numbers = {name: entry if isinstance(entry, Mapping) else {"": entry} for name, entry in entries.items()}
    kept = {
        name: {field: value for field, value in entry.items() if _is_number(value)}
        for name, entry in numbers.items()
    }
    return {name: entry for name, entry in kept.items() if entry}


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _stage_plot(view: View, measured: Mapping[str, Measurement]) -> JsonObject:
    by_cell = {cell: _stages(measurement) for cell, measurement in measured.items()}
    names = list(dict.fromkeys(stage for entries in by_cell.values() for stage in entries))
    fields = list(
        dict.fromkeys(
            field for entries in by_cell.values() for numbers in entries.values() for field in numbers
        )
    )
    reference = next(iter(measured))
    value, entries = measured[reference].value or 0.0, by_cell[reference]
    last = entries[list(entries)[-1]]
    best = min(fields, key=lambda field: abs(last.get(field, math.inf) - value))
    sums = {field: sum(numbers.get(field, 0.0) for numbers in entries.values()) for field in fields}
    summed = [field for field in fields if math.isclose(sums[field], value, rel_tol=TOLERANCE)]
    return {
        "stages": names,
        "fields": [
            {
                "name": field,
                "isSum": field in summed,
                "values": [_by_stage(by_cell.get(cell), names, field) for cell in view.rows],
            }
            for field in fields
        ],
        "best": fields.index(summed[0] if summed else best),
    }


def _by_stage(
    entries: Mapping[str, Mapping[str, float]] | None, names: list[str], field: str
) -> list[float | None] | None:
    if entries is None:
        return None
    return [rounded(entries.get(name, {}).get(field)) for name in names]


def layers(view: View) -> list[JsonObject]:
    """Return for each metric whose details have ``layers`` the weights of each cell by layer.

    A layer is a mapping with ``elements`` and ``bits``. ``lists`` has each list of layers once, since many
    cells store the same; a layer is ``[name, elements, kind]``, and a kind ``[bits, type]``.
    """
    plots = []
    for index, figure in enumerate(view.columns):
        lists: dict[str, int] = {}
        kinds: dict[tuple[float, str], int] = {}
        cells: list[int | None] = []
        for cell in view.rows:
            measurement = view.measurement(cell, figure)
            entries = _layers(None if measurement is None else measurement.details, kinds)
            cells.append(lists.setdefault(json.dumps(entries), len(lists)) if entries else None)
        if lists:
            plots.append(
                {
                    "column": index,
                    "kinds": [list(kind) for kind in kinds],
                    "lists": [json.loads(text) for text in lists],
                    "cells": cells,
                }
            )
    return plots


def _layers(details: JsonMapping | None, kinds: dict[tuple[float, str], int]) -> list[Json]:
    """Return the layers in the details of a metric, and add the kinds of their weights to ``kinds``."""
    entries = None if details is None else details.get("layers")
    if not isinstance(entries, Mapping):
        return []
    rows = []
    for name, layer in entries.items():
        if isinstance(layer, Mapping) and _is_number(layer.get("elements")) and _is_number(layer.get("bits")):
            kind = (layer["bits"], str(layer.get("type", "")))
            rows.append([name, layer["elements"], kinds.setdefault(kind, len(kinds))])
    return rows
