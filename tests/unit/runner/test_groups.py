"""Groups: cells that memory does not hold at once, and which of them must share their rounds."""

from __future__ import annotations

import pytest

from qx.runner.measure.groups import grouped

RUNTIME = {"a8": "a32", "a4": "a32", "b8": "b32"}


@pytest.mark.parametrize("room", range(-1, 9))
def test_a_cell_and_its_runtime_baseline_share_a_group(room: int) -> None:
    """However little room there is, every cell is in one group, beside its runtime baseline."""
    others = ["x", "a8", "b32", "a4", "a32", "b8", "y"]
    groups = grouped("base", "control", others, RUNTIME, room)
    for cell in others:
        containing = [group for group in groups if cell in group]
        assert containing
        assert len(containing) == 1 or cell == "a32"
        if cell in RUNTIME:
            assert RUNTIME[cell] in containing[0]
    for group in groups:
        assert group[:2] == ("base", "control")
        assert len(set(group)) == len(group)
        assert len(group) - 2 <= max(2, room)


def test_groups_are_as_few_and_as_even_as_can_be() -> None:
    """Five cells without a runtime baseline and room for three are three and two, in their order."""
    assert grouped("base", "control", ["a", "b", "c", "d", "e"], {}, 3) == (
        ("base", "control", "a", "c", "e"),
        ("base", "control", "b", "d"),
    )
    assert grouped("base", "control", [], {}, 3) == (("base", "control"),)


def test_a_runtime_baseline_that_is_not_there_keeps_nothing_together() -> None:
    """A cell whose runtime baseline did not end well is a cell like any other."""
    groups = grouped("base", "control", ["a8", "b8"], RUNTIME, 1)
    assert groups == (("base", "control", "a8"), ("base", "control", "b8"))


def test_the_baseline_as_runtime_baseline_is_in_every_group() -> None:
    """A cell that names the baseline itself needs nothing: the baseline is in its group anyway."""
    groups = grouped("base", "control", ["a", "b"], {"a": "base", "b": "base"}, 1)
    assert groups == (("base", "control", "a"), ("base", "control", "b"))
