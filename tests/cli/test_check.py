"""``qx check``: a line for each check, and an exit code that says whether all went well."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qx.testing.verdicts import KINDS, checks_of

#: A metric of one number, with room for what is wrong with it.
SIZE = """
    from qx import Metric, hookimpl
    from qx.testing import Conformance

    conformance = Conformance({conformance})

    @hookimpl
    def describe():
        return Metric(
            name="{name}", summary="Files.", unit="files", better="lower", samples="exact",
            compare="ratio", phase="artifact",
        )

    @hookimpl
    def measure(data):
        return {value}
"""


@pytest.fixture
def size(write_plugin: Callable[[str, str], str]) -> Callable[..., str]:
    def write(name: str, value: str = "len(data.files)", conformance: str = "") -> str:
        return write_plugin(name, SIZE.format(name=name, value=value, conformance=conformance))

    return write


def test_a_failing_check_ends_in_exit_code_1(qx: Callable[..., Any], size: Callable[..., str]) -> None:
    """The line names the check and the reason; those that hang on it are not run."""
    done = qx("check", "-p", size("endless", "float('inf')"))
    assert done.code == 1
    told = " ".join(done.out.split())
    assert re.search(r"FAILED gives_finite_samples .*not finite not run leaves_inputs", told)
    assert "not run equal_again gives_finite_samples did not pass" in told


def test_an_expected_failure_carries_its_reason(qx: Callable[..., Any], size: Callable[..., str]) -> None:
    """It is told as such, with the reason, and the exit code is 0."""
    expected = 'expected_failures={"gives_finite_samples": "issue 12"}'
    done = qx("check", "expected", "-p", size("expected", "float('inf')", expected), "--json")
    assert done.code == 0
    (told,) = json.loads(done.out)
    (one,) = (check for check in told["checks"] if check["check"] == "gives_finite_samples")
    assert one["state"] == "expected"
    assert one["text"].startswith("issue 12 (")


def test_an_expected_failure_that_passes_is_a_failure(
    qx: Callable[..., Any], size: Callable[..., str]
) -> None:
    """Expected failures are strict."""
    expected = 'expected_failures={"gives_finite_samples": "issue 12"}'
    done = qx("check", "-p", size("mended", conformance=expected))
    assert done.code == 1
    assert "was expected to fail (issue 12)" in " ".join(done.out.split())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "name the plugins to check"),
        (("no_such",), "unknown plugin 'no_such'"),
        (("latency", "--workload", "no_such"), "no_such"),
        (("-p", "no:latency", "latency"), "left out"),
    ],
)
def test_what_cannot_be_checked(qx: Callable[..., Any], words: tuple[str, ...], told: str) -> None:
    """One line, and exit code 2."""
    done = qx("check", *words)
    assert done.code == 2
    assert told in done.err
    assert len(done.err.splitlines()) == 1


def test_an_expectation_of_no_check_is_refused(qx: Callable[..., Any], size: Callable[..., str]) -> None:
    """An expected failure must be of a check that there is; the choices are listed."""
    done = qx("check", "-p", size("guesses", conformance='expected_failures={"deterministc": "x"}'))
    assert done.code == 2
    assert "'deterministc'" in done.err and "equal_again" in done.err


def test_every_check_is_documented() -> None:
    """docs/testing.md has each check by name, in the table of its kind or that of all."""
    text = (Path(__file__).parents[2] / "docs" / "testing.md").read_text()
    parts = {part.partition("\n")[0]: part for part in text.split("\n## ")}
    for kind in KINDS:
        tables = parts["Checks of all plugins"] + parts[f"Checks of {kind}s"]
        for check in checks_of(kind):
            assert f"| `{check.name}` |" in tables, (kind, check.name)


def test_the_checks_are_listed(qx: Callable[..., Any]) -> None:
    """``--list`` names each with what it asks."""
    done = qx("check", "--list", "--json")
    told = {one["name"]: one["summary"] for one in json.loads(done.out)}
    assert told.keys() == {check.name for kind in KINDS for check in checks_of(kind)}
    assert all(summary.endswith(".") for summary in told.values())
