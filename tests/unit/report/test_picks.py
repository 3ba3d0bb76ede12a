"""The sentences about picks: first what holds for all, then what cannot be picked, then the picks."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
from attrs import evolve

from qx.report import markdown, picks
from qx.results.columns import View
from qx.results.records import Results


def sentences_of(results: Results) -> list[str]:
    """Return the sentences, as Markdown."""
    return list(picks.sentences(View(results), markdown.MARKUP))


def noisy(builders: ModuleType, **changes: Any) -> Any:
    """Return a run whose noise hides which of two cells is the quickest."""
    cells = {"one": builders.Cell(delay=1.0), "other": builders.Cell(delay=1.01)}
    return builders.Run(cells=cells, metrics=(builders.HITS, builders.DELAY), noise=0.1, **changes)


def test_what_the_noise_hides_comes_first(builders: ModuleType) -> None:
    """No pick is made that the noise does not allow; the text says how large it is, and what would help."""
    measuring = {"ended_by": "budget", "seconds": 41.5}
    first, second = sentences_of(noisy(builders, measuring=measuring).results())
    assert first.startswith("**No pick** for **the quickest** (batch 1): the noise is too large (±")
    assert " %) to tell `one` and `other` apart. About " in first
    assert ("`--budget " in first) and ("; this run: 42 s), or a quieter machine (see `qx doctor`)." in first)
    assert second.startswith("For **the most hits**, pick `")
    assert all("For **the quickest**" not in sentence for sentence in (first, second))


@pytest.mark.parametrize(
    ("seconds", "measuring", "words"),
    [
        (239.6, {}, "About 240 s of measuring are needed (`--budget 240`; this run: 42 s)"),
        (1500.0, {}, "About 25 minutes of measuring are needed (`--budget 1500`; this run: 42 s)"),
        (36000.0, {}, "About 10 hours of measuring are needed (`--budget 36000`; this run: 42 s)"),
        (
            360000.0,
            {},
            "More than a day of measuring would be needed: use a quieter machine (see `qx doctor`)",
        ),
        (99.0, {"ended_by": "precision"}, "(`--budget 99 --precision 0.005`; this run: 42 s)"),
        (99.0, {"quick": True}, "(`--budget 99` without `--quick`; this run: 42 s)"),
        (None, {}, "More seconds (`--budget`) may help, or a quieter machine"),
    ],
)
def test_what_would_be_enough(
    builders: ModuleType, seconds: float | None, measuring: dict[str, Any], words: str
) -> None:
    """The seconds are rounded and shown with the options that set them, by how this run ended."""
    results = noisy(builders, measuring={"ended_by": "budget", **measuring}).results()
    (undecided,) = results.undecided
    sentences = sentences_of(evolve(results, undecided=(evolve(undecided, seconds=seconds),)))
    assert any(words in sentence for sentence in sentences)


def test_intervals_of_a_thousand_percent_pick_nothing(builders: ModuleType) -> None:
    """Two waves on a very noisy machine show no difference, not even that a cell is twice as fast."""
    two = builders.Cell(waves=(0, 1))
    cells = {"one": builders.Cell(delay=1.0, waves=(0, 1))}
    metrics = (builders.HITS, builders.DELAY)
    run = builders.Run(cells=cells, base=two, control=two, metrics=metrics, noise=0.8, rounds=2, seed=1)
    first, *_ = sentences_of(run.results())
    assert "the noise is too large (±" in first and "pick `" not in first
    assert "`base` and `one` apart" in first


def test_too_few_items_are_told(builders: ModuleType) -> None:
    """Where items are too few to judge quality, the text says so, for no seconds would help."""
    cells = {"less": builders.Cell(hits=850)}
    first, *_ = sentences_of(builders.Run(cells=cells, items=100).results())
    assert first.startswith("**No pick** for **the most hits**: the items are too few (±")
    assert " pt) to tell `base` and `less` apart. About " in first
    assert first.endswith(" items are needed.")


def test_a_loud_control_asks_for_a_quieter_machine(builders: ModuleType) -> None:
    """Where even the control differs from the baseline, no number of seconds is promised."""
    cells = {"slightly": builders.Cell(delay=1.9)}
    sentences = sentences_of(builders.Run(cells=cells, control=builders.Cell(delay=2.4)).results())
    (sentence,) = (sentence for sentence in sentences if "the quickest" in sentence)
    assert (
        "More seconds would not help" in sentence and "use a quieter machine (see `qx doctor`)." in sentence
    )


def test_a_quick_look_says_so_before_its_picks(builders: ModuleType) -> None:
    """Picks of three waves are called first guesses, and the text says what decides."""
    first, *others = sentences_of(builders.small(measuring={"quick": True, "waves": 3}).results())
    assert first == (
        "**This was a quick look** of 3 waves, whose intervals are too narrow. Take its picks as "
        "first guesses; a run without `--quick` decides."
    )
    assert others
    sentences = sentences_of(builders.small(measuring={"quick": True, "waves": 0}).results())
    assert not any("quick look" in sentence for sentence in sentences)


def test_without_a_quality_axis_nothing_is_known_of_quality(builders: ModuleType) -> None:
    """Where no axis judges answers, the text says so before the picks, and names the axes of the picks."""
    hits = evolve(builders.HITS, axis=False)
    first, *_ = sentences_of(builders.small(metrics=(hits, builders.WEIGHT, builders.DELAY)).results())
    assert first == (
        "**Quality is not judged**: no axis of the front judges the answers of configs. Picks go by weight "
        "and delay (batch 1) alone."
    )
    for judge in (builders.HITS, evolve(builders.HITS, phase="derived")):
        sentences = sentences_of(builders.small(metrics=(judge, builders.WEIGHT)).results())
        assert not any("quality" in sentence for sentence in sentences)


def test_what_may_be_as_good_is_named(builders: ModuleType) -> None:
    """A cell that is shown to be no worse is picked, and one that may be as good is not called a tie."""
    results = builders.small().results()
    assert "For **the most hits**, pick `base`; tied with `alike` within 0.5 pt" in sentences_of(results)[0]
    assert "; `quick` may be as good within 0.5 pt." in sentences_of(results)[0]


def test_one_config_is_no_choice(builders: ModuleType) -> None:
    """Where only one config has figures on all axes, it is not picked four times."""
    assert sentences_of(builders.Run(cells={}).results()) == ["There is only `base` to pick from."]


def test_nothing_is_said_where_nothing_can_be_picked(builders: ModuleType) -> None:
    """Without a baseline there are no picks, and no words about them."""
    failed = builders.Cell(outcome="failed", stage="probe", cause="no")
    assert sentences_of(builders.small(base=failed, measuring={"quick": True}).results()) == []
