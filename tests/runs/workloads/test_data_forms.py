"""Data in files, and how many of them are evaluated: real runs of what users write."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

QUICK = ("--quick", "--budget", 0.01, "--batch-size", 1)
NET = """
    import itertools
    import numpy as np
    import torch
    from torch import nn

    def make_model():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))

    def endless(split):
        random = np.random.RandomState(len(split))
        while True:
            yield random.randn(8).astype("float32"), random.randint(2)

    def wrong(split):
        return np.zeros((50, 9)), np.zeros(50, dtype=int)

    def short(split):
        return np.zeros((50, 8)), np.zeros(49, dtype=int)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with a model and functions of data, and with arrays."""
    folder = tmp_path_factory.mktemp("forms")
    (folder / "net.py").write_text(dedent(NET))
    inputs = np.random.RandomState(0).randn(1000, 8)
    np.savez(folder / "items.npz", x=inputs, labels=(inputs[:, 0] > 1).astype(int), classes=["low", "high"])
    np.savez(folder / "others.npz", rows=inputs[:300] + 1)
    return folder


@pytest.fixture(scope="module")
def done(qx: Callable[..., Any], place: Path) -> Any:
    """Run the model on a part of the arrays."""
    run = ("run", "net.py", "--data", "items.npz", "--eval-n", 60, "-c", "dynamic_int8", "-m", "accuracy")
    return qx(*run, *QUICK, "--out", "out", cwd=place)


def test_every_report_says_how_many_of_how_many_items(done: Any, place: Path) -> None:
    """The screen, ``pareto.md``, the page and the results; every config is evaluated on the same items."""
    assert done.code == 0, done.err
    record = done.results["run"]["workloads"]["net"]
    assert (record["items"], record["total_items"], record["training_items"]) == (60, 744, 256)
    for text in (done.out, done.table, (place / "out" / "report.html").read_text()):
        assert "256 of 1,000 items set aside for calibration (60 of 744 items)" in text
    for config in ("fp32_baseline", "dynamic_int8"):
        assert done.measurement(config, "accuracy")["n"] == 60


def test_the_gate_says_it_too(qx: Callable[..., Any], done: Any, place: Path) -> None:
    """As a note, which stands in JUnit and in Markdown as well."""
    rules = place / "rules.toml"
    rules.write_text('[[rule]]\nmetric = "accuracy"\nsmallest = 0.01\n')
    gate = qx("gate", "out", "--rules", rules, "--junit", "junit.xml", cwd=place)
    note = "net was evaluated on 60 of 744 items"
    assert f"note: {note}" in gate.out, gate.err
    assert note in (place / "junit.xml").read_text()


@pytest.mark.slow
def test_runs_on_other_items_are_not_compared(qx: Callable[..., Any], done: Any, place: Path) -> None:
    """Both numbers are said; the same number is the same items, whatever the seed."""
    run = ("run", "net.py", "--data", "items.npz", "-c", "dynamic_int8", "-m", "accuracy", *QUICK)
    qx(*run, "--eval-n", 61, "--out", "more", cwd=place)
    refused = qx("compare", "out", "more", cwd=place)
    assert refused.code == 2
    assert "61 of 744 items against 60 of 744, --eval-n draws as many" in refused.err
    qx(*run, "--eval-n", 60, "--seed", 5, "--out", "again", cwd=place)
    compared = qx("compare", "out", "again", cwd=place)
    assert compared.code == 0, compared.err
    assert "net was evaluated on 60 of 744 items" in compared.out


@pytest.mark.slow
def test_a_function_and_calibration_data_go_together(qx: Callable[..., Any], place: Path) -> None:
    """A function that never ends is ended by ``--eval-n``, and other data calibrate, under any name."""
    data = ("--data", "net.py:endless", "--calibration-data", "others.npz", "--eval-n", 50)
    done = qx(
        *("run", "net.py", *data, "-c", "fx_static_int8", "-m", "accuracy", *QUICK, "--out", "ended"),
        cwd=place,
    )
    assert done.code == 0, done.err
    record = done.results["run"]["workloads"]["net"]
    assert (record["items"], record["total_items"], record["training_items"]) == (50, 50, 300)
    assert record["source"] == "endless() of net.py, the first 50 items"
    assert json.dumps(record["calibrations"]).startswith('{"256":')


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("digits_cnn", "--calibration-data", "others.npz"),
            "digits_cnn brings what calibrates and takes no",
        ),
        (
            ("digits_cnn", "--data", "items.npz"),
            "--data items.npz is a file, and workload digits_cnn takes none",
        ),
        (("net.py", "--eval-n", "-1"), "--eval-n must be at least 1, or 0 for all items, not -1"),
        pytest.param(
            *(("net.py", "--data", "net.py:wrong"), "rejects an input of shape [2, 9]: RuntimeError: addmm"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            *(("net.py", "--data", "net.py:short"), "have shape [49] and the inputs 'input' [50, 8]"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            *(("net.py", "--data", "net.py:missing"), "net.py has no missing() (it has make_model, endless,"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            *(
                ("net.py", "--data", "items.npz", "--calibration-data", "items.npz"),
                "are evaluated too: give",
            ),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    qx: Callable[..., Any], place: Path, arguments: tuple[str, ...], words: str
) -> None:
    """A mistake ends with exit code 2 and one line, and nothing is built or written."""
    refused = qx("run", *arguments, "-c", "fx_static_int8", *QUICK, "--out", "refused", cwd=place)
    assert refused.code == 2, refused.err
    (line,) = [line for line in refused.err.splitlines() if not line.startswith("[")]
    assert words in line
    assert not (place / "refused").exists()
