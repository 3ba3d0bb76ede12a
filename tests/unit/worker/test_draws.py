"""Which items are evaluated: each class keeps its share, and the same items are drawn each time."""

from __future__ import annotations

import numpy as np
import pytest

from qx import LABELS, Data, draw_items
from qx.worker.arrays import Split
from qx.worker.data import _count_shared, _drawn, _named_alike


@pytest.mark.parametrize("count", [1, 7, 100, 999])
def test_every_class_keeps_its_share(count: int) -> None:
    """To within one item, however rare it is; no item is drawn twice, and their order is kept."""
    labels = np.random.default_rng(3).permutation(np.repeat([0, 1, 5], [900, 80, 20]))
    chosen = draw_items(labels, len(labels), count)
    assert len(set(chosen)) == count and (np.diff(chosen) > 0).all()
    for label, share in ((0, 0.9), (1, 0.08), (5, 0.02)):
        assert abs((labels[chosen] == label).sum() - share * count) < 1
    assert np.array_equal(chosen, draw_items(labels.tolist(), len(labels), count))


def test_more_classes_than_items_are_drawn_from_all_over() -> None:
    """Of a thousand classes of ten items, a hundred are met, and not the first hundred."""
    labels = np.repeat(np.arange(1000), 10)
    met = labels[draw_items(labels, len(labels), 100)]
    assert len(set(met)) == 100 and met.min() < 100 and met.max() > 900


@pytest.mark.parametrize("labels", [None, np.linspace(0, 1, 50), np.zeros((50, 2), dtype=int)])
def test_what_has_no_classes_is_drawn_at_random(labels: np.ndarray | None) -> None:
    """Without labels, with floats, and with several labels for each item; too many are all there are."""
    chosen = draw_items(labels, 50, 10)
    assert len(set(chosen)) == 10 and chosen.max() > 30
    assert draw_items(labels, 50, 60).tolist() == list(range(50))


def split(items: int, **fields: object) -> Split:
    """Return a split of an input and labels."""
    inputs = np.arange(2.0 * items).reshape(items, 2)
    return Split.of(Data(inputs={"x": inputs}, targets={LABELS: np.arange(items) % 2}, **fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("count", "expected"), [(None, (40, 90)), (0, (40, 90)), (40, (40, 90)), (6, (6, 90))]
)
def test_a_workload_may_have_drawn_already(count: int | None, expected: tuple[int, int]) -> None:
    """Then results name the number that it drew from; task and preprocessing stay."""
    chosen = _drawn(split(40, total=90, task="mine", preprocessing="none"), count)
    assert (len(chosen), chosen.total) == expected
    assert (chosen.task, chosen.preprocessing) == ("mine", "none")
    assert np.bincount(chosen.targets[LABELS]).tolist() == [expected[0] // 2] * 2


def test_items_that_calibrate_and_are_evaluated_are_counted(tmp_path: object) -> None:
    """By their values, whatever the name of the only input."""
    from pathlib import Path

    home, test = Path(str(tmp_path)), split(30)
    other = _named_alike(Split({"y": np.arange(20.0).reshape(10, 2) + 54}, {}, (), ""), test)
    (home / "a").mkdir()
    other.write(home / "a")
    assert list(other.inputs) == ["x"]
    assert (_count_shared(home, {10: "a"}, test), _count_shared(home, {}, test)) == (3, 0)
