"""The front on cases made by hand, whose right answer is easy to see."""

from __future__ import annotations

import numpy as np
import pytest

from qx.statistics import pareto
from qx.statistics.pareto import Axis


def axis(values, spread=0.0, margin=0.0):
    """Return an axis of cells with these values, larger is better, every difference known to +-spread."""
    values = np.asarray(values, dtype=float)
    difference = values[:, None] - values[None, :]
    return Axis(difference - spread, difference + spread, margin)


def test_one_dominated():
    """A cell that another beats on one axis and never loses to is dominated, and not on the front."""
    front = pareto.front([axis([3, 2, 1]), axis([1, 1, 2])])
    assert front.on_front.tolist() == [True, False, True]
    assert [front.dominated_by(cell) for cell in range(3)] == [(), (0,), ()]
    assert [front.tied_with(cell) for cell in range(3)] == [(), (), ()]


def test_uncertainty_dominates_nobody():
    """A better value whose interval does not exclude the opposite dominates nobody."""
    assert pareto.front([axis([2, 1], spread=0.5)]).on_front.tolist() == [True, False]
    assert pareto.front([axis([2, 1], spread=1.5)]).on_front.tolist() == [True, True]
    doubtful = pareto.front([axis([2, 1]), axis([0, 0], spread=0.1)])
    assert doubtful.on_front.tolist() == [True, True]
    assert pareto.front([axis([2, 1]), axis([0, 0], spread=0.1, margin=0.2)]).on_front.tolist() == [
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("loss", "gain", "dominates"), [(0.1, 1.0, True), (0.3, 1.0, False), (0.0, 0.2, False), (0.0, 0.3, True)]
)
def test_margins(loss, gain, dominates):
    """Being worse within the margin is forgiven, and being better within the margin is not enough."""
    front = pareto.front([axis([0, loss], margin=0.2), axis([gain, 0], margin=0.2)])
    assert front.on_front.tolist() == [True, not dominates]


def test_cycle():
    """The members of a cycle A > B > C > A are tied, and none of them is dominated."""
    better = np.array([[0, 1, -0.1], [-0.1, 0, 1], [1, -0.1, 0]])
    cyclic = Axis(better, -better.T, 0.2)
    front = pareto.front([cyclic])
    assert front.on_front.all()
    assert not front.dominates.any()
    assert [front.tied_with(cell) for cell in range(3)] == [(1, 2), (0, 2), (0, 1)]


def test_cycle_from_margins():
    """Cells that each lose within the margin to gain elsewhere make a cycle, and stay on the front."""
    values = np.array([[0, 1, 2], [1, 2, 0], [2, 0, 1]]) * 0.9
    axes = [axis(row, margin=1.0) for row in values]
    front = pareto.front(axes)
    assert front.on_front.all()
    assert front.tied_with(0) == (1, 2)


def test_cycle_dominated_from_outside():
    """A cycle keeps none of its members on the front that a cell outside of it dominates."""
    low = np.array([[0, 1, -0.1, -2], [-0.1, 0, 1, -2], [1, -0.1, 0, -2], [1.5, 1.5, 1.5, 0]])
    front = pareto.front([Axis(low, -low.T, 0.2)])
    assert front.on_front.tolist() == [False, False, False, True]
    assert front.dominated_by(0) == (3,)
    assert front.tied_with(0) == ()


def test_all_tied():
    """Cells that no axis tells apart are all on the front, tied with each other."""
    front = pareto.front([axis([1, 2, 3], spread=5), axis([3, 2, 1], spread=5)])
    assert front.on_front.all()
    assert front.tied_with(1) == (0, 2)


def test_tied_needs_every_axis():
    """Two cells of the front that one axis tells apart are not tied."""
    front = pareto.front([axis([5, 1]), axis([1, 5]), axis([1, 2], spread=5)])
    assert front.on_front.all()
    assert front.tied_with(0) == ()


def test_single_cell():
    """A single cell is the front, tied with nobody."""
    front = pareto.front([axis([1.0]), axis([2.0])])
    assert (front.on_front.tolist(), front.dominated_by(0), front.tied_with(0)) == ([True], (), ())


def test_unknown_pair():
    """A pair that was not compared on some axis dominates neither way."""
    unknown = np.array([[0.0, np.nan], [np.nan, 0.0]])
    front = pareto.front([axis([2, 1]), Axis(unknown, unknown)])
    assert front.on_front.all()


def test_never_empty():
    """Whatever the intervals, consistent or not, the front of 300 cells is not empty."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        middles = rng.standard_normal((2, 300, 300)).astype(np.float32)
        axes = [Axis(m - m.T - 0.1, m - m.T + 0.1, 2.0) for m in middles]
        front = pareto.front(axes)
        assert front.on_front.any()
        assert np.array_equal(front.on_front, ~front.dominates.any(axis=0))


def test_exact_is_plain_front():
    """Without spread and margin the front of 300 cells is the plain one, found by comparing one by one."""
    values = np.random.default_rng(1).integers(0, 40, (3, 300))
    front = pareto.front([axis(row) for row in values])
    for cell in range(300):
        others = values - values[:, [cell]]
        beaten = ((others >= 0).all(axis=0) & (others > 0).any(axis=0)).any()
        assert front.on_front[cell] == (not beaten)


def test_front_refuses():
    """An axis of the wrong shape, a negative margin, axes of different cells and no axis are refused."""
    with pytest.raises(ValueError, match="cells, cells"):
        Axis(np.zeros((2, 3)), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="margin"):
        axis([1, 2], margin=-0.1)
    with pytest.raises(ValueError, match="same number of cells"):
        pareto.front([axis([1, 2]), axis([1, 2, 3])])
    with pytest.raises(ValueError, match="an axis and a cell"):
        pareto.front([])


def test_membership(monkeypatch):
    """Membership is the share of draws in which ``front`` has a cell, whether drawn at once or in parts."""
    rng = np.random.default_rng(2)
    draws = [rng.integers(0, 3, (200, 4)), rng.integers(0, 3, (200, 4)), np.array([2, 0, 1, 0])]
    # Stone, scissors, paper: where the margins are 1, each of the first three dominates the next.
    draws[0][:20], draws[1][:20] = [0, 1, 2, 0], [1, 2, 0, 0]
    cycles = 0
    for margins in ([0, 0, 0], [1, 1, 0], [1, 1, 1]):
        expected = np.zeros(4)
        for first, second in zip(draws[0], draws[1], strict=True):
            pairs = zip((first, second, draws[2]), margins, strict=True)
            axes = [axis(values, margin=margin) for values, margin in pairs]
            decided = pareto.front(axes)
            expected += decided.on_front
            cycles += bool((decided.on_front & ~undominated(axes)).any())
        with monkeypatch.context() as patched:
            assert pareto.membership(draws, margins) == pytest.approx(expected / 200)
            patched.setattr(pareto, "PAIRS", 16 * 7)
            assert pareto.membership(draws, margins) == pytest.approx(expected / 200)
            patched.setattr(pareto, "PEELS", 1)
            assert pareto.membership(draws, margins) == pytest.approx(expected / 200)
    assert cycles >= 20


def test_membership_of_many_cells():
    """Cells that only dominated cells dominate are looked at one layer after another."""
    rng = np.random.default_rng(7)
    draws = rng.normal(size=(4, 25, 60))
    expected = sum(
        pareto.front([axis(values, margin=0.1) for values in draw]).on_front for draw in draws.swapaxes(0, 1)
    )
    assert pareto.membership(list(draws), [0.1] * 4) == pytest.approx(expected / 25)


def undominated(axes: list[Axis]) -> np.ndarray:
    """Return which cells no other dominates, if cycles were nothing special."""
    no_worse = np.all([axis.low >= -axis.margin for axis in axes], axis=0)
    return ~(no_worse & np.any([axis.low > axis.margin for axis in axes], axis=0)).any(axis=0)


def test_membership_probability():
    """Membership on one axis is the probability of being the best, known in theory for two normal cells."""
    draws = np.random.default_rng(3).normal([0.0, 1.0], 1.0, (20_000, 2))
    # One deviation of the difference, sqrt(2), puts the better one ahead with probability Phi(1 / sqrt(2)).
    assert pareto.membership([draws], [0]) == pytest.approx([0.2398, 0.7602], abs=0.01)
    # With a margin of one deviation each is kept where it is behind by less: Phi(0) and Phi(sqrt(2)).
    assert pareto.membership([draws], [1]) == pytest.approx([0.5, 0.9214], abs=0.01)
    with pytest.raises(ValueError, match="finite"):
        pareto.membership([[[0.0, np.nan]]], [0])


def test_pick_alone():
    """The best cell that the first axis tells apart from all others is picked, with no tie to decide."""
    picked = pareto.pick([axis([1, 3, 2]), axis([9, 1, 5])], order=[0, 1])
    assert picked == pareto.Pick(chosen=1, tied_with=(), decided_by=None)


def test_pick_decided():
    """Between cells that the first axis shows to be equal, the next axis that separates them decides."""
    axes = [axis([3.0, 2.9, 1.0], spread=0.5, margin=0.7), axis([1, 1, 1]), axis([1, 2, 9])]
    assert pareto.pick(axes, order=[0, 1, 2]) == pareto.Pick(chosen=1, tied_with=(0,), decided_by=2)
    assert pareto.pick(axes, order=[0, 1]) == pareto.Pick(chosen=0, tied_with=(1,), decided_by=None)


def test_pick_margin():
    """A difference within the margin does not decide."""
    axes = [axis([1.0, 1.1], margin=0.2), axis([2, 1])]
    assert pareto.pick(axes, order=[0, 1]) == pareto.Pick(chosen=0, tied_with=(1,), decided_by=1)


def test_no_pick_for_noise():
    """Where any cell may be beaten by more than the margin, none is picked."""
    assert pareto.pick([axis([3.0, 2.9, 1.0], spread=0.5, margin=0.1)], order=[0]) is None
    assert pareto.contenders(axis([2.9, 3.0, 1.0], spread=0.5, margin=0.1)) == (1, 0)
    unknown = np.array([[0.0, np.nan], [np.nan, 0.0]])
    assert pareto.pick([Axis(unknown, unknown, 1.0)], order=[0]) is None


def test_pick_that_is_safe():
    """A cell that seems best is picked though another may be as good, for that one may be worse, too."""
    picked = pareto.pick([axis([2.0, 1.5], spread=0.6, margin=0.2), axis([1, 2])], order=[0, 1])
    assert picked == pareto.Pick(chosen=0, tied_with=(), decided_by=None, not_told_apart=(1,))


def test_pick_among():
    """Only the candidates are picked from, and named as tied."""
    axes = [axis([9.0, 3.0, 2.9, 3.0], spread=0.5, margin=0.7), axis([9, 1, 2, 3])]
    assert pareto.pick(axes, order=[0, 1], among=[1, 2]) == pareto.Pick(2, (1,), 1)
    assert pareto.pick(axes, order=[0, 1], among=[3]) == pareto.Pick(3, (), None)
    with pytest.raises(ValueError, match="no cell"):
        pareto.pick(axes, order=[0], among=[])
