"""``qx doctor``."""

from __future__ import annotations

import json

import pytest

from qx.cli import main
from qx.errors import UsageError
from qx.runner import Request


def test_doctor_examines_and_measures(capsys: pytest.CaptureFixture[str]) -> None:
    """Doctor names what it looked at, each with a state, and ends with the noise floor and its interval."""
    assert main(["doctor", "--seconds", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {one["state"] for one in told["findings"]} <= {"good", "bad", "unknown"}
    assert {"swap", "threads", "other load"} <= {one["name"] for one in told["findings"]}
    low, high = told["noise"]["ratio"]["ci"]
    assert low <= told["noise"]["ratio"]["value"] <= high
    assert told["noise"]["rounds"] >= 6


def test_doctor_refuses_no_time(capsys: pytest.CaptureFixture[str]) -> None:
    """Seconds that are not above 0 are refused in one line."""
    assert main(["doctor", "--seconds", "0"]) == 2
    assert "--seconds must be above 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"cpus": (99_999,)}, "--cpus names 99999"),
        ({"precision": 0.0}, "--precision"),
        ({"precision": float("inf")}, "--precision"),
        ({"budget": -1.0}, "--budget"),
        ({"timeout": float("inf")}, "--timeout"),
    ],
)
def test_what_no_run_can_be_made_of_is_refused(fields: dict[str, object], named: str) -> None:
    """CPUs that are not there, and a precision, budget or timeout that is none, are refused by name."""
    with pytest.raises(UsageError, match=named):
        Request(**fields).check()
