"""Evaluation that ends when the quality of every config is known well enough: real runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

from qx.contract.figures import Figure
from qx.processes.workers import Processes
from qx.results.recording import Recording
from qx.runner.journal import ItemLookRecord, Journal
from qx.statistics.over_items import paired_difference

NET = """
    import torch
    from torch import nn

    def make_model():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(8, 2))
        with torch.no_grad():
            net[0].weight.zero_()
            net[0].weight[1, 0] = 1.0
            net[0].bias[1] = -1.0
        return net
"""
WORDS = ("run", "net.py", "--trained", "--data", "items.npz", "-c", "dynamic_int8")
METRICS = ("-m", "accuracy", "-m", "f1", "-m", "agreement", "-m", "file_size")


class PowerLoss(Exception):
    """Stands for what ends a run in the midst of its work: it is no error of qx's."""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Make a folder with a model and 1,000 items, of which 744 are evaluated."""
    (tmp_path / "net.py").write_text(dedent(NET))
    inputs = np.random.RandomState(0).randn(1000, 8)
    labels = {"labels": (inputs[:, 0] > 1).astype(int), "classes": ["low", "high"]}
    np.savez(tmp_path / "items.npz", x=inputs, **labels)
    # A large input leaves few of 256 levels for the one that decides, so int8 changes many answers.
    np.savez(tmp_path / "coarse.npz", x=inputs * [1, 1, 1, 1, 1, 1, 1, 20], **labels)
    return tmp_path


def test_evaluation_ends_when_every_interval_is_narrow(qx: Callable[..., Any], place: Path) -> None:
    """Every report says after how many items, of how many and why; all figures are of these items."""
    done = qx(*WORDS, *METRICS, "--quality-precision", "2pt", "--out", "out", cwd=place)
    assert done.code == 0, done.err
    record = done.results["run"]["workloads"]["net"]
    assert (record["items"], record["total_items"]) == (400, 744)
    looks = record["looks"]
    assert (looks["planned"], looks["items"], looks["is_reached"]) == ([400, 744], 400, True)
    said = (
        "topped after 400 of 744 items: accuracy of every config is known against the baseline to within 2pt"
    )
    assert f"qx: s{said}; that saved 46 % of the items" in done.err
    assert "(400 of 744 items)" in done.table
    for text in (done.table, (place / "out" / "report.html").read_text()):
        assert f"S{said}" in text
        assert "looked at after 400 and 744 items, which were fixed in advance" in text
    assert {done.measurement("dynamic_int8", name)["n"] for name in ("accuracy", "f1", "agreement")} == {400}
    recording = Recording.read(place / "out" / done.results["run"]["samples"])
    ours, base = (
        recording.series[f"net/{config}"][Figure("accuracy")] for config in ("dynamic_int8", "fp32_baseline")
    )
    assert ours.looked
    expected = paired_difference(ours.values, base.values, 1 - 0.1 / 3).ci
    assert done.measurement("dynamic_int8", "accuracy")["vs_baseline"]["ci"] == pytest.approx(expected)
    assert recording.series["net/dynamic_int8"][Figure("agreement")].looked
    assert not recording.series["net/dynamic_int8"][Figure("file_size")].looked


def test_a_look_is_not_repeated_in_the_next_sitting(
    qx: Callable[..., Any], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The items that were evaluated are not evaluated again; figures are those of a run in one sitting."""
    words = (*WORDS, "--data", "coarse.npz", *METRICS, "--quality-precision", "1.1pt")
    whole = qx(*words, "--out", "whole", cwd=place)
    assert whole.results["run"]["workloads"]["net"]["looks"]["planned"] == [400, 744]
    assert "qx: 1.1pt is not reached with all 744 items: accuracy of dynamic_int8 is known" in whole.err
    assert "items would be needed" in whole.table
    write, carry_out, jobs = Journal.write, Processes.run, list[Any]()

    def write_and_end(self: Journal, record: object, *rest: Any) -> None:
        write(self, record, *rest)
        if isinstance(record, ItemLookRecord):
            raise PowerLoss

    def count(self: Processes, job: Any, *rest: Any, **named: Any) -> Any:
        jobs.append(job)
        return carry_out(self, job, *rest, **named)

    with monkeypatch.context() as context:
        context.setattr(Journal, "write", write_and_end)
        assert qx(*words, "--out", "out", cwd=place).code == 3
    with monkeypatch.context() as context:
        context.setattr(Processes, "run", count)
        done = qx("run", "--resume", "--out", "out", cwd=place)
    assert done.code == 0, done.err
    assert "which has finished 2 builds, 0 evaluations, 0 waves, 1 look at items" in done.err
    evaluated = [(job.items, len(job.metrics)) for job in jobs if job.do == "evaluate"]
    # The second look with accuracy alone, then all metrics of both cells.
    assert sorted(evaluated) == [(744, 1), (744, 1), (744, 3), (744, 3)]
    assert done.results["run"]["workloads"]["net"]["items"] == 744
    for config in ("fp32_baseline", "dynamic_int8"):
        for name in ("accuracy", "f1", "agreement"):
            ours, theirs = (run.measurement(config, name) for run in (done, whole))
            assert (ours["value"], ours["ci"], ours["n"]) == (theirs["value"], theirs["ci"], theirs["n"])


def test_a_precision_that_nothing_can_have_is_one_line(qx: Callable[..., Any], place: Path) -> None:
    """Of another unit, and where no answers are judged; before anything is built."""
    for words, expected in (
        (("-m", "accuracy", "--quality-precision", "0.01"), "accuracy judges the answers, in fraction"),
        (("-m", "agreement", "--quality-precision", "1pt"), "nothing judges the answers of net item by item"),
        (("--quality-precision", "1%"), "--quality-precision 1%: expected points of a share"),
    ):
        done = qx(*WORDS, *words, "--out", "out", cwd=place)
        assert done.code == 2
        (line,) = [line for line in done.err.splitlines() if line.startswith("qx: error: ")]
        assert expected in line
    assert not (place / "out" / "full_results.json").exists()
