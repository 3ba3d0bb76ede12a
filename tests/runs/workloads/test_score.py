"""A model whose answers come out of its outputs by ``postprocess`` and are judged by its own ``score``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from qx.results.recording import Recording

QUICK = ("--quick", "--budget", 0.01, "--batch-size", 1, "-c", "dynamic_int8", "--out", "out")

#: Finds the place of the largest of 16 numbers: as one number, out of two heads.
FINDER = """
    import numpy
    import torch
    from torch import nn

    class Finder(nn.Module):
        def __init__(self):
            super().__init__()
            self.heads = nn.Linear(16, 32)
            with torch.no_grad():
                self.heads.weight.copy_(torch.cat([torch.eye(16), 3 * torch.eye(16)]))
                self.heads.bias.zero_()

        def forward(self, numbers):
            fine, coarse = self.heads(numbers).chunk(2, 1)
            return {"fine": fine, "coarse": coarse}

    def make_model():
        torch.manual_seed(0)
        return Finder()

    def load_data(split):
        numbers = torch.randn(200, 16, generator=torch.Generator().manual_seed(len(split)))
        return numbers, numbers.argmax(1)

    def postprocess(outputs):
        assert set(outputs) == {"fine", "coarse"}
        return {"place": (outputs["fine"] + outputs["coarse"]).argmax(1)}

    def score(outputs, targets):
        return 1.0 * (outputs["place"] == targets["labels"])
"""
#: The same with scores as answers, and with a first output that 8 bits make nothing but zeros of.
SUMMED = FINDER.replace("[torch.eye(16), 3 *", "[1e-4 * torch.eye(16),").replace(
    '{"place": (outputs["fine"] + outputs["coarse"]).argmax(1)}',
    '{"scores": outputs["fine"] + outputs["coarse"]}',
)
JUDGE = """
    def worst(outputs, targets):
        right = outputs["place"] == targets["labels"]
        return 1 - min(right[targets["labels"] == label].mean() for label in set(targets["labels"].tolist()))

    def wrong(outputs, targets):
        return [1.0, 2.0]
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with the model and with functions that judge it."""
    folder = tmp_path_factory.mktemp("score")
    (folder / "finder.py").write_text(dedent(FINDER))
    (folder / "summed.py").write_text(dedent(SUMMED))
    (folder / "judge.py").write_text(dedent(JUDGE))
    return folder


def test_a_model_is_judged_by_its_own_score(qx: Callable[..., Any], place: Path) -> None:
    """The score of its file is the axis of quality, of the answers that ``postprocess`` makes."""
    done = qx("run", "finder.py", *QUICK, "-m", "score", "-m", "file_size", "-m", "sqnr", cwd=place)
    assert done.code == 0, done.err
    baseline = done.measurement("fp32_baseline", "score")
    assert (baseline["value"], baseline["n"], baseline["details"]["values"]) == (
        1.0,
        200,
        "one for each item, of which this is the mean",
    )
    measured = done.measurement("dynamic_int8", "score")
    assert 0.5 < measured["value"] <= 1 and measured["vs_baseline"]["ci"][0] <= 0
    # Nearness to the baseline is of the outputs as the model gives them.
    assert set(done.measurement("dynamic_int8", "sqnr")["details"]["outputs"]) == {"fine", "coarse"}
    assert [axis["metric"] for axis in done.results["axes"]] == ["score", "file_size"]
    # The outputs are scores of classes, and the answers are not: what is judged decides the task.
    assert done.results["run"]["workloads"]["finder"]["task"] is None


def test_agreement_is_of_the_answers(qx: Callable[..., Any], place: Path) -> None:
    """Where ``postprocess`` makes the answers, these are held against the baseline's, and no raw output."""
    done = qx("run", "summed.py", *QUICK, "-m", "agreement", "-m", "file_size", cwd=place)
    assert done.code == 0, done.err
    assert done.results["run"]["workloads"]["summed"]["task"] == "classification"
    assert done.measurement("dynamic_int8", "agreement")["value"] > 0.9
    # The largest of the first output is another one in most items.
    assert done.measurement("dynamic_int8", "agreement")["details"]["sqnr_db"] < 3
    # What is kept for reports and comparisons are the answers too.
    recording = Recording.read(place / "out" / done.results["run"]["samples"])
    ours, theirs = (recording.answers(name) for name in ("summed/dynamic_int8", "summed/fp32_baseline"))
    assert ours is not None and theirs is not None
    assert (ours[0] == theirs[0]).mean() == done.measurement("dynamic_int8", "agreement")["value"]


@pytest.mark.slow
def test_a_function_of_the_user_judges_in_its_place(qx: Callable[..., Any], place: Path) -> None:
    """``--score`` goes before the file's own, lower may be better, and one value for all gets an interval."""
    judged = ("--score", "judge.py:worst", "--score-better", "lower")
    done = qx("run", "finder.py", *QUICK, "-m", "+score", "-m", "file_size", *judged, cwd=place)
    assert done.code == 0, done.err
    measured = done.measurement("dynamic_int8", "score")
    assert measured["better"] == "lower" and measured["ci"] is not None
    assert measured["details"]["values"] == "one for all items"


@pytest.mark.slow
def test_a_score_that_fails_costs_itself_alone(qx: Callable[..., Any], place: Path) -> None:
    """The line says what it gave; all other figures are there, and the exit code is 1."""
    done = qx(
        *("run", "finder.py", *QUICK, "-m", "score", "-m", "file_size", "--score", "judge.py:wrong"),
        cwd=place,
    )
    assert done.code == 1
    assert "judge.py:wrong gave [2] values for 200 items; expected a number, or [200]" in done.err
    assert done.measurement("dynamic_int8", "file_size")["value"] > 0


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("judge.py", "--score judge.py: expected FILE.py:FUNCTION"),
        ("none.py:f", "--score none.py:f: there is no file none.py"),
    ],
)
def test_what_names_no_function_is_refused_at_once(
    qx: Callable[..., Any], place: Path, word: str, line: str
) -> None:
    """Nothing is built, and exit is 2."""
    done = qx("run", "finder.py", *QUICK, "--score", word, cwd=place)
    assert done.code == 2 and line in done.err
