"""Profiles in words: shares of a watched call, tables, and configs side by side."""

from __future__ import annotations

import json

import pytest
from attrs import evolve

from qx.processes.job_answers import OperatorRow, ProfileAnswer
from qx.report import profiles as report
from qx.runner.profiling import ConfigProfile, Profiles


def row(name: str, seconds: float, **fields: object) -> OperatorRow:
    """Return an operator that runs once in a call."""
    values = {"type": name, "count": 1.0, "module": "", "precision": "", "converts": False} | fields
    return OperatorRow(name=name, seconds=seconds, **values)  # type: ignore[arg-type]


ANSWER = ProfileAnswer(
    seconds=0.8e-3,
    profiled_seconds=1e-3,
    calls=50,
    operators=(
        row("conv 1", 0.5e-3, type="conv", module="a", precision="int8"),
        row("conv 2", 0.2e-3, type="conv", module="b.c", precision="float"),
        row("reorder", 0.05e-3, module="b.c", converts=True),
        row("other", 0.05e-3, count=2.0),
    ),
    notes=("the clock is coarse",),
)


def of(*configs: ConfigProfile) -> Profiles:
    """Return profiles of some configs."""
    return Profiles(workload="toy", batch_size=1, threads=1, configs=configs)


def screen(*configs: ConfigProfile, top: int = 15) -> str:
    """Return what a terminal shows, with single spaces."""
    return " ".join(report.to_screen(of(*configs), top, "plain").split())


def test_shares_are_of_the_watched_call() -> None:
    """Operators are gathered by type and by module; what is in none of them is said."""
    by_type = report.shares(ANSWER, lambda operator: operator.type)
    assert list(by_type) == ["conv", "reorder", "other"]
    assert by_type["conv"].share == pytest.approx(0.7)
    assert by_type["conv"].seconds == pytest.approx(0.7e-3)
    assert (by_type["conv"].count, by_type["conv"].precision) == (2, "int8, float")
    assert by_type["reorder"].precision == "converts"
    assert report.accounted(ANSWER) == pytest.approx(0.8)
    text = screen(ConfigProfile(row="config", loader="runtime", answer=ANSWER))
    assert "config (runtime) A call takes 0.800 ms, and 1.00 ms while it is watched (50 calls)." in text
    assert (
        "Operators: 80 % of the watched call (8 bits 50 %, float 20 %, conversions between types and layouts "
        "5.0 %, what they compute in is not known 5.0 %). In no operator: 20 %." in text
    )
    assert "The clock is coarse." in text
    assert "conv 70 % 0.700 ms 2 int8, float" in text
    assert "(in no module) 5.0 % 0.0500 ms 2 -" in text
    assert "built anew to be watched" not in text


def test_rows_that_there_is_no_room_for_are_added_up() -> None:
    """``--top`` leaves the slowest, and one row for all others."""
    text = screen(ConfigProfile(row="config", answer=ANSWER), top=1)
    assert "(2 others) 10 % 0.100 ms 3 -" in text
    assert "reorder" not in text


def test_configs_are_shown_side_by_side_where_modules_are_known() -> None:
    """The modules of two configs stand in one table; those that one of them lacks have a dash."""
    other = evolve(ANSWER, operators=ANSWER.operators[:1])
    both = (ConfigProfile(row="one", answer=ANSWER), ConfigProfile(row="two", answer=other))
    table = report.to_page(of(*both), 15).partition("Side by side, by module:")[2]
    assert [line.split() for line in table.splitlines() if "ms" in line] == [
        ["|", "a", "|", "0.500", "ms", "|", "0.500", "ms", "|"],
        ["|", "b.c", "|", "0.250", "ms", "|", "-", "|"],
        ["|", "(in", "no", "module)", "|", "0.0500", "ms", "|", "-", "|"],
    ]
    without = evolve(ANSWER, operators=ANSWER.operators[3:])
    assert "Side by side" not in report.to_page(of(both[0], ConfigProfile(row="two", answer=without)), 15)


def test_what_has_no_profile_says_why() -> None:
    """A failure, and a runtime without a profiler, each have their reason in place of tables."""
    failed = ConfigProfile(row="one", failure="crashed in profile: it is gone")
    refused = ConfigProfile(
        row="two", answer=ProfileAnswer(seconds=1e-3, refusal="this wheel has no profiler")
    )
    text = screen(failed, refused)
    assert "one No profile: crashed in profile: it is gone two A call takes 1.00 ms." in text
    assert text.endswith("No profile: This wheel has no profiler.")


def test_operators_that_add_up_to_more_than_the_call_are_remarked_on() -> None:
    """A coarse clock is not shown as more than everything without a word."""
    answer = evolve(ANSWER, profiled_seconds=0.5e-3)
    text = screen(ConfigProfile(row="one", answer=answer, built_for_it=True))
    assert "add up to more than the call" in text
    assert "In no operator: 0.0 %" in text
    assert "built anew to be watched, and is not the one that is deployed" in text


def test_foreign_names_are_only_shown() -> None:
    """Escape characters and markup in names of operators and modules do nothing in any medium."""
    hostile = row("\x1b[31m<b>|`x`", 1e-3, module="[a](b)")
    profiles = of(ConfigProfile(row="one", answer=evolve(ANSWER, operators=(hostile,))))
    assert "\x1b" not in report.to_screen(profiles, 5, "simple") + report.to_page(profiles, 5)
    assert "<b>" not in report.to_page(profiles, 5)
    assert "[a](b)" not in report.to_page(profiles, 5)


def test_json_has_every_operator() -> None:
    """The JSON holds what was measured, with a version of its form."""
    content = json.loads(report.to_json(of(ConfigProfile(row="one", answer=ANSWER))))
    assert (content["schema_version"], content["workload"], content["batch_size"]) == (1, "toy", 1)
    (config,) = content["configs"]
    assert [operator["seconds"] for operator in config["answer"]["operators"]] == [
        0.5e-3,
        0.2e-3,
        0.05e-3,
        0.05e-3,
    ]
