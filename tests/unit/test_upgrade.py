"""Results of earlier schema versions are read, and have the figures that they had."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from attrs import evolve

from qx.analysis.recompute import differences, recompute
from qx.contract.figures import Point
from qx.errors import UsageError
from qx.results.results_file import read, to_json
from qx.results.run_record import Measuring, RunRecord
from qx.results.upgrade import READABLE_VERSIONS, upgrade

#: What ``builders.everything(items=40)`` was, as qx wrote it in version 1.
VERSION_1 = Path(__file__).parent.parent / "data" / "results_of_version_1.json"


def _without_forks(run: RunRecord) -> RunRecord:
    """Return a run that says nothing of forked launches, nor of cells with fewer rounds."""

    def plain(measuring: Measuring | None) -> Measuring | None:
        return measuring and evolve(measuring, fresh_waves=None, fewer_rounds={}, forked=(), not_forked={})

    workloads = {
        name: evolve(workload, measuring=plain(workload.measuring))
        for name, workload in run.workloads.items()
    }
    return evolve(run, workloads=workloads, measuring=plain(run.measuring))


def test_version_1_is_read_with_the_same_figures(builders: ModuleType) -> None:
    """A file of version 1 in which no field is empty says what the same run says today."""
    results, recording = builders.everything(items=40)
    earlier = read(VERSION_1)
    # What version 1 did not have is empty.
    cells = {name: evolve(cell, layers=()) for name, cell in results.cells.items()}
    results = evolve(results, cells=cells, run=_without_forks(evolve(results.run, constraints=())), limits=())
    assert differences(earlier, results) == []
    for name in ("run", "environment", "metrics", "configs", "cells"):
        assert getattr(earlier, name) == getattr(results, name), name
    assert recompute(earlier, recording) == results


def test_what_was_read_is_written_in_the_current_version(tmp_path: Path) -> None:
    """Reading and writing a file of version 1 gives one of the current version, which is left as it is."""
    place = tmp_path / "full_results.json"
    place.write_text(to_json(read(VERSION_1)))
    fields = json.loads(place.read_text())
    assert fields["schema_version"] == READABLE_VERSIONS[-1]
    assert upgrade(fields) is fields
    assert read(place) == read(VERSION_1)


def test_the_committed_results_have_points() -> None:
    """Batch sizes of version 1 are points, in the run and in its figures."""
    earlier = read(VERSION_1)
    assert earlier.run.points == (Point(1), Point(2))
    assert {figure.point for figure in earlier.measurements if figure.metric == "delay"} == {
        *earlier.run.points
    }
    assert earlier.run.measuring is not None
    assert [unsteady.point for unsteady in earlier.run.measuring.unsteady] == [Point(2)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda fields: fields.update(run=[]), "run must be an object, not a list"),
        (lambda fields: fields["run"].update(batch_sizes=5), "run.points must be a list, not 5"),
        (
            lambda fields: fields["run"].update(batch_sizes=["x"]),
            'run.points[0].batch_size must be a whole number, not "x"',
        ),
        (lambda fields: fields["run"].update(workloads=[1]), "run.workloads must be an object, not a list"),
        (
            lambda fields: fields["run"]["measuring"].update(unsteady=[7]),
            "unsteady[0] must be an object, not 7",
        ),
        (lambda fields: fields.update(cells={"toy/x": 1}), "cells['toy/x'] must be an object, not 1"),
        (lambda fields: fields.update(axes={}), "axes must be a list, not an object"),
        (lambda fields: fields["measurements"].append(3), "must be an object, not 3"),
        (lambda fields: fields["measurements"][0].update(params=3), "measurements[0] lacks point"),
        (lambda fields: fields["summary"][0].update(figures=3), "figures must be a list, not 3"),
    ],
)
def test_a_damaged_file_of_version_1_is_one_line(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    """What does not have the form of version 1 is named, and is no error of the upgrade."""
    fields = json.loads(VERSION_1.read_text())
    change(fields)
    place = tmp_path / "full_results.json"
    place.write_text(json.dumps(fields))
    with pytest.raises(UsageError) as caught:
        read(place)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
