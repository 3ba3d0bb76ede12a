"""Turn the results of a run into the JSON that the script of the page draws from."""

from __future__ import annotations

from qx.contract.figures import Figure
from qx.contract.records import as_word
from qx.report import builds, wording
from qx.report.html import answers, stages, waves
from qx.report.html.compact import Ends, ends, rounded
from qx.report.wording import Markup
from qx.results.columns import View
from qx.results.recording import Recording
from qx.results.records import Comparison, Measurement, Results
from qx.values import JsonObject

#: How sentences are written that the script shows as plain text.
PLAIN = Markup(name=str, strong=str, text=str)


def run_content(results: Results, recording: Recording | None) -> JsonObject:
    """Return the data of a page about a run, workload by workload.

    Without a recording the page has no plots of waves and of changed answers.
    """
    return {"kind": "run", "workloads": [_workload_content(view, recording) for view in View(results).parts]}


def _workload_content(view: View, recording: Recording | None) -> JsonObject:
    ((name, _),) = view.results.run.workloads.items()
    rows, columns = view.rows, view.columns
    data: JsonObject = {
        "name": name,
        "baseline": rows.index(view.baseline) if view.baseline in rows else None,
        "baselineName": view.name(view.baseline),
        "axes": [columns.index(figure) for figure in view.axes if figure in columns],
        "cells": [_cell(view, cell) for cell in rows],
        "columns": [_column(view, figure) for figure in columns],
        "groups": answers.groups(view),
        "stages": stages.stages(view),
        "layers": stages.layers(view),
        "waves": [],
        "rounds": [],
        "answers": None,
    }
    if recording is not None:
        own = recording.select(view.results.cells)
        data["waves"] = waves.by_wave(view, own)
        data["rounds"] = waves.by_round(view, own)
        data["answers"] = answers.changed(view, own)
    return data


def _cell(view: View, cell: str) -> JsonObject:
    """Return what the table and the plots show of a cell besides its figures."""
    result, front = view.ended(cell), view.front(cell)
    return {
        "name": view.name(cell),
        "runtime": result.loader or "",
        "summary": view.results.configs[result.config].summary,
        "options": ", ".join(f"{name}={as_word(value)}" for name, value in result.options.items()),
        "outcome": result.outcome.replace("_", " "),
        "isJudged": front is not None,
        "front": view.on_front(cell) if front is not None else "",
        "probability": None if front is None else rounded(front.probability),
        "why": wording.explain_place(view, cell, PLAIN),
        "remarks": view.remarks(cell),
        "build": " ".join(view.build(cell)),
    }


def _column(view: View, figure: Figure) -> JsonObject:
    """Return the record of a metric, and its figures of all rows as lists."""
    metric = view.results.metrics[figure.metric]
    measured = [view.measurement(cell, figure) for cell in view.rows]
    texts = [view.figure(cell, figure) for cell in view.rows]
    return {
        "title": str(figure),
        "metric": metric.name,
        "summary": metric.summary,
        "unit": metric.unit,
        "better": metric.better,
        "compare": metric.compare,
        "phase": metric.phase,
        "isDerived": any(name in view.results.metrics for name in metric.derived_from),
        "margin": rounded(metric.margin),
        "text": [text.value for text in texts],
        "changeText": [" ".join(filter(None, (text.delta, text.interval))) for text in texts],
        "runtimeText": [text.runtime for text in texts],
        "buildsText": [builds.in_line(view, cell, figure) for cell in view.rows],
        "value": ends([_own(measurement) for measurement in measured]),
        "change": ends([_change(measurement) for measurement in measured]),
        "isClear": [_is_clear(measurement) for measurement in measured],
    }


def _own(measurement: Measurement | None) -> Ends:
    if measurement is None or measurement.value is None:
        return None, None
    return measurement.value, measurement.ci


def _change(measurement: Measurement | None) -> Ends:
    compared = _comparison(measurement)
    return (None, None) if compared is None else (compared.value, compared.ci)


def _is_clear(measurement: Measurement | None) -> bool | None:
    compared = _comparison(measurement)
    return None if compared is None else compared.clear


def _comparison(measurement: Measurement | None) -> Comparison | None:
    return None if measurement is None else measurement.vs_baseline
