"""Which metrics judge what a model answers."""

from __future__ import annotations

from qx.contract.records import Metric
from qx.results.constraints import judges_answers
from qx.runner.preparation import Prepared
from qx.runner.request import metric
from qx.runner.workload_run import Run


def judges_of(run: Run, prepared: Prepared) -> list[Metric]:
    """Return the axes of the front that can judge the answers of a workload, those of the highest rank first.

    Of these the first that has values of the baseline is the metric of quality.
    """
    has_score = run.request.score is not None or "score" in prepared.workload.hooks
    judges = [
        record
        for record in map(metric, run.chosen.metrics)
        if record.axis
        and judges_answers(record)
        and (not record.tasks or prepared.task.name in record.tasks)
        and (has_score or not record.takes_score)
    ]
    return sorted(judges, key=lambda record: -record.quality)
