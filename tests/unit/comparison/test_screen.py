"""The screens of ``qx compare`` and ``qx gate``: the decision first, in few lines."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from attrs import evolve

from qx.results import results_file

Qx = Callable[..., Any]

RULES = """
[[rule]]
metric = "hits"
largest_drop = 0.005
[[rule]]
metric = "weight"
largest = 1000
"""


@pytest.fixture
def qx_on_screen(qx_on_terminal: Qx, monkeypatch: pytest.MonkeyPatch) -> Qx:
    """Run a command on a terminal without colours."""
    monkeypatch.setenv("NO_COLOR", "1")
    return qx_on_terminal


@pytest.fixture
def runs(builders: ModuleType) -> None:
    """Write two runs into ``a`` and ``b``, of which the second has a config that got worse and one more."""
    before = builders.small(items=400)
    quick = evolve(before.cells["quick"], hits=700, weight=300_000)
    after = evolve(before, seed=3, cells={**before.cells, "quick": quick, "added": builders.Cell()})
    for name, run in (("a", before), ("b", after)):
        results_file.write(Path(name), run.results(), "", run.recording())


@pytest.mark.usefixtures("runs")
def test_a_comparison_says_first_what_is_worse(qx_on_screen: Qx) -> None:
    """Title, counts of configs by verdict, a line for each config that changed, and the rest folded."""
    done = qx_on_screen("compare", "before=a", "after=b")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == "What changed: toy, from before"
    assert re.match(r"to after: 1 worse, 1 new, .*1 no change shown$", lines[2])
    assert re.match(r"  worse +quick  hits worse -15\.00 pt \[.*\]; weight worse 1\.15x", lines[3])
    assert "  new (1): added" in lines
    assert "  no change shown (1): alike" in lines
    assert lines[-1].endswith("corrected for their number (Holm); every figure: qx compare -v")
    assert len(lines) <= 12


@pytest.mark.usefixtures("runs")
def test_nothing_changed_is_said_in_few_lines(qx_on_screen: Qx) -> None:
    """A run compared with itself is a line."""
    done = qx_on_screen("compare", "x=a", "y=a")
    assert "no change shown" in done.out
    assert "worse" not in done.out


@pytest.mark.usefixtures("runs")
def test_a_gate_says_first_whether_it_passed(qx_on_screen: Qx) -> None:
    """The first line is the decision, then come the breaches, each in a line that fits."""
    Path("qx-gate.toml").write_text(RULES)
    done = qx_on_screen("gate", "b")
    assert done.code == 1
    lines = done.out.splitlines()
    assert lines[0].startswith("gate failed: ")
    assert lines[1].startswith("breach: toy/quick: hits: ")
    assert max(map(len, lines)) <= 100
    kept = RULES.replace("1000", "1e9").replace("0.005", "0.9").replace("metric", 'config = "alike"\nmetric')
    Path("qx-gate.toml").write_text(kept)
    assert qx_on_screen("gate", "b").out.startswith("gate passed: ")


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize("words", [("compare", "a", "b"), ("gate", "b")])
def test_everything_is_printed_elsewhere(qx: Qx, qx_on_screen: Qx, words: tuple[str, ...]) -> None:
    """A pipe gets everything as ever, and so does a terminal with ``-v``."""
    Path("qx-gate.toml").write_text(RULES)
    assert qx(*words).out == qx_on_screen(*words, "-v").out != qx_on_screen(*words).out
