"""A wrong value of a metric costs its own figure in one row: not the row, and no other metric's figures."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from types import ModuleType
from typing import Any

import pytest

from qx.contract.figures import Figure
from qx.contract.records import Metric
from qx.report import markdown, terminal
from qx.results.recording import Recording, Series
from qx.results.results_file import to_json

#: Helpers that the metrics below use.
BEFORE = """
    import numpy

    class Hostile:
        def _raise(self, *_):
            raise BaseException("hostile")
        __float__ = __len__ = __iter__ = __bool__ = __eq__ = __index__ = _raise
        __hash__ = None

    def endless():
        while True:
            yield 1.0

    def nested(levels):
        return {"inner": nested(levels - 1)} if levels else 0

    def cyclic():
        details = {}
        details["itself"] = details
        return details
"""

#: Phase, what ``measure`` returns, and a part of the cause, which is empty where the value is accepted.
MONSTERS = {
    "huge_integer": ("artifact", "10 ** 400", "not numbers"),
    "list_of_text": ("predictions", "['1.5'] * 36", "not numbers"),
    "text": ("block", "'123'", "not numbers"),
    "mapping": ("artifact", "{1: 2}", "not numbers"),
    "unordered": ("artifact", "{1.0}", "not numbers"),
    "nested": ("predictions", "[[1.0]] * 36", "not numbers"),
    "columns": ("predictions", "numpy.ones((36, 1))", "not numbers"),
    "complex_number": ("artifact", "1j", "not numbers"),
    "nothing": ("fresh", "[]", "no values"),
    "endless": ("fresh", "endless()", "more than 4,194,304 values"),
    "endless_in_a_round": ("block", "endless()", "more than 4,194,304 values"),
    "two_to_the_31": ("derived", "numpy.broadcast_to(1.0, 2 ** 31)", "more than 4,194,304 values"),
    "hostile": ("artifact", "Hostile()", "BaseException: hostile"),
    "hostile_among_others": ("block", "[1.0, Hostile()]", "BaseException: hostile"),
    "hostile_samples": ("predictions", "Samples(Hostile())", "BaseException: hostile"),
    "hostile_details": ("artifact", "Samples(1.0, {'a': Hostile()})", "not JSON"),
    "cyclic_details": ("artifact", "Samples(1.0, cyclic())", "not JSON"),
    "deep_details": ("block", "Samples([1.0], nested(500))", "is nested deeper than 32 levels"),
    "deeper_details": ("artifact", "Samples(1.0, nested(5000))", "recursion"),
    "huge_details": ("fresh", "Samples(1.0, {'a': 'x' * 2_000_000})", "details of 2,000,009 characters"),
    "details_of_digits": (
        "artifact",
        "Samples(1.0, {'a': 10 ** 400})",
        "a must be a whole number of at most 64 bits",
    ),
    "details_are_none": ("artifact", "Samples(1.0, None)", "not JSON"),
    "odd_details": ("artifact", "Samples(1.0, {'\\ud800': float('nan'), 'groups': 5, 'p95': 'x'})", ""),
    "odd_details_of_items": ("predictions", "Samples([1.0] * 36, {'groups': 5, 'in_rounds': [7]})", ""),
    "odd_details_of_calls": ("block", "Samples([1.0], {'in_rounds': 'x', 'groups': {'y': 3}})", ""),
    "no_wave": ("artifact", "Samples(1.0, waves=[9_999])", "there are 0 waves"),
    "later_wave": ("derived", "Samples(1.0, waves=[9_999])", "and there are 3 waves"),
    "wave_of_400_digits": (
        "derived",
        "Samples(1.0, waves=[10 ** 400])",
        "waves that are not from -1 to 9,999",
    ),
    "endless_waves": ("derived", "Samples(1.0, waves=endless())", "1 values and more waves"),
    "text_for_waves": ("derived", "Samples(1.0, waves=['first'])", "not whole numbers"),
    "group_without_name": (
        "predictions",
        "Samples([1.0] * 36, groups=[3] * 36)",
        "gave groups that are not from 0 to -1",
    ),
    "groups_of_objects": (
        "predictions",
        "Samples([1.0] * 36, groups=[0] * 36, group_names=[object()])",
        "group names that are not text",
    ),
    "endless_group_names": (
        "predictions",
        "Samples([1.0] * 36, groups=[0] * 36, group_names=map(str, endless()))",
        "more than 65,536 group names",
    ),
    "far_apart": ("artifact", "1e74 if data.details['config'] == 'other' else 1e-74", ""),
    "launches_far_apart": ("fresh", "1e74 if subject.config == 'other' else 1e-74", ""),
    "calls_far_apart": ("block", "[1e74 if subject.config == 'other' else 1e-74] * 3", ""),
    "calls_all_over": ("block", "[1e-74, 1e74]", ""),
    "items_all_over": ("predictions", "[1e74, 0.0, -1e74] * 12", ""),
}
GOOD_METRICS = ("accuracy", "file_size", "latency", "rss")


@pytest.fixture(scope="module")
def monsters(
    qx: Callable[..., Any],
    toy: Any,
    write_metric: Callable[..., str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:
    """One run with every metric that returns an impossible value, and good ones, on two configs."""
    plugins = [
        write_metric(
            name,
            phase,
            f"return {result}",
            before=BEFORE,
            samples="per_item" if phase == "predictions" else "",
        )
        for name, (phase, result, _) in MONSTERS.items()
    ]
    return qx(
        *("run", *toy.arguments(toy.config("other"), *plugins), "--quick", "--budget", 0.01),
        *("--batch-size", 1),
        *(word for name in (*GOOD_METRICS, *MONSTERS) for word in ("-m", name)),
        *("--out", "out"),
        cwd=tmp_path_factory.mktemp("monsters"),
    )


@pytest.mark.parametrize("name", MONSTERS)
def test_what_no_metric_should_give_costs_its_own_figure(monsters: Any, name: str) -> None:
    """A metric whose values or details cannot be used has failed in that cell, with the cause."""
    assert monsters.code == 1, monsters.err
    cause = MONSTERS[name][2]
    for config in ("toy_fp32", "other"):
        assert monsters.cell(config)["outcome"] == "ok"
        measurement = monsters.measurement(config, name)
        if cause:
            assert (measurement["outcome"], measurement["value"]) == ("failed", None)
            assert cause in measurement["cause"]
        else:
            assert measurement["outcome"] == "ok"
            assert measurement["value"] is not None


def test_monsters_leave_the_other_metrics_complete(monsters: Any) -> None:
    """Every good metric beside the wrong ones has its value, and no launch was lost."""
    for config in ("toy_fp32", "other"):
        for name in GOOD_METRICS:
            measurement = monsters.measurement(config, name)
            assert measurement["outcome"] == "ok"
            assert measurement["vs_baseline"]["value"] is not None
    assert monsters.results["run"]["measuring"]["deaths"] == []


# Extreme values ----------------------------------------------------------------------------------

#: Extreme values that a plugin may return, and that are accepted.
EXTREMES = (0.0, 1.0, 2.0, -1.0, 5e-324, 1e-300, 1e-149, 9e149, -9e149)
KINDS = {
    "artifact": ("exact",),
    "predictions": ("per_item",),
    "fresh": ("per_launch",),
    "block": ("per_block", "per_round"),
    "derived": ("exact", "per_item", "per_launch"),
}


def extreme_run(builders: ModuleType, random: Random) -> Any:
    """A run of three cells whose metrics, drawn at random, have extreme values."""
    metrics = tuple(
        Metric(
            name=f"{phase}_{samples}", summary="Extreme.", unit="things", phase=phase, samples=samples,
            better=random.choice(["lower", "higher", "neither"]),
            compare=random.choice(["ratio", "speedup", "difference"]),
            axis=random.random() < 0.6, pick=random.choice([None, "the best"]),
        )
        for phase, kinds in KINDS.items()
        for samples in kinds
    )  # fmt: skip
    run = builders.Run(cells={"one": builders.Cell(), "two": builders.Cell()}, metrics=metrics)
    recording = Recording()
    extremes = random.choices([value for value in EXTREMES if value > 0 or random.random() < 0.5], k=3)
    for cell in run.all_cells:
        for metric in metrics:
            count = {"exact": 1, "per_item": 50, "per_launch": 6, "per_block": 60, "per_round": 60}[
                metric.samples
            ]
            values = (
                random.choices(extremes, k=count)
                if random.random() < 0.5
                else [random.choice(extremes)] * count
            )
            blocks = metric.samples in ("per_block", "per_round")
            places = range(count) if blocks or metric.samples == "per_launch" else [-60] * count
            series = Series(
                values=values,
                wave=[place // 10 if blocks else max(place, -1) for place in places],
                round=[place % 10 // 2 if blocks else -1 for place in places],
                position=[-1] * count,
                details=({"number": random.choice(extremes)},),
            )
            if metric.phase not in ("artifact", "predictions") or cell != builders.CONTROL:
                recording.add(cell, Figure(metric.name), series)
    return run.results(recording)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_extreme_values_are_written_and_shown(builders: ModuleType) -> None:
    """Results and every report can be written whatever finite values metrics return."""
    for seed in range(60):
        results = extreme_run(builders, Random(seed))
        assert json.loads(to_json(results))["measurements"]
        assert markdown.render(results)
        assert terminal.render(results, "simple")
