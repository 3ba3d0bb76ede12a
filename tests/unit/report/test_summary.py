"""The table that sums up several workloads."""

from __future__ import annotations

from types import ModuleType

from attrs import evolve

from qx.report import summary
from qx.results.records import OutputsResult, Results, SummaryFigure, SummaryResult


def several(builders: ModuleType, *outputs: OutputsResult) -> Results:
    """Return results of two workloads, on both of which ``quick`` ended well."""
    results = builders.small().results()
    figure = SummaryFigure(
        metric="weight",
        point=None,
        kind="ratio",
        value=0.2600001,
        smallest=0.25,
        largest=0.27,
        workloads=("toy", "game"),
    )
    row = SummaryResult(
        row="quick", config="quick", succeeded=("toy", "game"), on_front=("toy",), figures=(figure,)
    )
    workloads = {**results.run.workloads, "game": results.run.workloads["toy"]}
    cells = {**results.cells, "game/quick": evolve(results.cells["toy/quick"], workload="game")}
    return evolve(
        results,
        run=evolve(results.run, workloads=workloads),
        cells=cells,
        summary=(row,),
        outputs=tuple(outputs),
    )


def test_a_row_says_on_how_many_workloads(builders: ModuleType) -> None:
    """A row has fronts, good ends, and means with as many digits as figures have."""
    ((_, cells),) = summary.rows(several(builders))
    assert cells == [("1 of 2",), ("2 of 2",), ("0.260x", "0.250x to 0.270x")]


def test_another_network_is_marked_in_the_summary(builders: ModuleType) -> None:
    """A row that is another network on one of the workloads says so where it counts good ends."""
    outputs = [
        OutputsResult(cell="toy/quick", sqnr_db=20.0, is_below_0_db=False),
        OutputsResult(cell="game/quick", sqnr_db=-3.0, is_below_0_db=True),
    ]
    ((_, cells),) = summary.rows(several(builders, *outputs))
    assert cells[1] == ("2 of 2", "! another network on 1")
