"""``qx check``: a line for each check, and an exit code that says whether all went well."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qx.errors import UsageError
from qx.host.host import Host
from qx.testing import conformance_test
from qx.testing.bench import find_plugin
from qx.testing.checks import checks_of
from qx.testing.verdicts import KINDS

#: A metric of one number, with placeholders for what is wrong with it.
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
    """The line names the check and the reason, and checks that depend on it are not run."""
    done = qx("check", "-p", size("endless", "float('inf')"))
    assert done.code == 1
    output = " ".join(done.out.split())
    assert re.search(r"FAILED gives_finite_samples .*not finite .*not run leaves_inputs", output)
    assert "not run equal_again gives_finite_samples did not pass" in output


def test_an_expected_failure_carries_its_reason(qx: Callable[..., Any], size: Callable[..., str]) -> None:
    """An expected failure is shown with its reason, and a check that passes against expectation fails."""
    reason = 'expected_failures={"gives_finite_samples": "issue 12"}'
    plugins = size("expected", "float('inf')", reason), size("mended", conformance=reason)
    done = qx("check", *(word for path in plugins for word in ("-p", path)), "--json")
    assert done.code == 1, done.err
    expected, mended = (
        next(check for check in report["checks"] if check["check"] == "gives_finite_samples")
        for report in json.loads(done.out)
    )
    assert expected["state"] == "expected"
    assert expected["text"].startswith("issue 12 (")
    assert mended["state"] == "failed"
    assert "was expected to fail (issue 12)" in mended["text"]
    states = {check["state"] for check in json.loads(done.out)[0]["checks"]}
    assert "failed" not in states


BARE = """
    from qx import Workload, hookimpl
    from qx.testing import testbench

    @hookimpl
    def describe():
        return Workload(name="bare", summary="Strokes.", random_weights=True)

    make_model, load_data = testbench.make_model, testbench.load_data
    example_inputs, train = testbench.example_inputs, testbench.train
"""


@pytest.mark.parametrize("name", ["bare", pytest.param("dynamic_int8", marks=pytest.mark.slow)])
def test_a_workload_without_weights_is_checked_and_checked_with(
    qx: Callable[..., Any], write_plugin: Callable[[str, str], str], name: str
) -> None:
    """``--workload FILE.py`` takes a workload that only the file has; checks without weights are run."""
    done = qx("check", name, "--workload", write_plugin("bare", BARE), "--json")
    assert done.code == 0, done.out
    (report,) = json.loads(done.out)
    states = {check["check"]: check["state"] for check in report["checks"]}
    of_weights = {"weights_fit", "knows_its_data", "model_is_fp32_and_settled", "stubs_change_nothing"}
    of_weights |= {"example_inputs_accepted"}
    not_asked = {"bare": {"refuses_bad_options", *of_weights}}
    not_asked["dynamic_int8"] = {"keeps_outputs", "refuses_bad_options"}
    assert {check for check, state in states.items() if state != "passed"} == not_asked[name]


def test_two_plugins_of_one_file_are_told_apart(write_plugin: Callable[[str, str], str]) -> None:
    """``FILE.py:ATTRIBUTE`` is the plugin of that attribute, in whatever order the attributes stand."""
    path = write_plugin(
        "several", "from qx.testing.worse import Worse\nGOOD, BAD = (Worse(n, 'S.', None) for n in 'gb')\n"
    )
    host = Host.discover([f"{path}:GOOD", f"{path}:BAD"])
    assert [find_plugin(host, "config", f"{path}:{attribute}").name for attribute in ("GOOD", "BAD")] == [
        "g",
        "b",
    ]
    with pytest.raises(UsageError, match="unknown config"):
        find_plugin(host, "config", path)


def test_a_damaged_distribution_fails_its_check(
    qx: Callable[..., Any], install: Callable[..., None], tmp_path: Path
) -> None:
    """A list of entry points that cannot be read fails with the reason, and is named with its version."""
    install("torn", {}, {}, "1.5")
    next(tmp_path.glob("site-torn*/*/entry_points.txt")).write_text("[qx]\nno equals sign\n")
    done = qx("check", "torn")
    assert done.code == 1, done.err
    assert "torn: a plugin of unknown kind, torn 1.5" in done.out
    assert "FAILED valid_record entry_points.txt or METADATA cannot be read" in " ".join(done.out.split())
    assert done.err.startswith(
        "qx: warning: plugin 'torn' (torn 1.5) is broken: entry_points.txt or METADATA"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "name the plugins to check"),
        (("no_such",), "unknown plugin 'no_such'"),
        (
            ("latency", "--workload", "digits_cn"),
            "--workload: there is no workload or module 'digits_cn' (choose",
        ),
        (
            ("latency", "--workload", "latency"),
            "--workload latency: 'latency' is a metric, not a workload (c",
        ),
        (
            ("latency", "--workload", "lost.py"),
            "--workload lost.py: there is no such file (choose from cifar",
        ),
        (("latency", "-p", "digits_cn"), "-p digits_cn cannot be imported"),
        (("-p", "no:latency", "latency"), "left out"),
    ],
)
def test_what_cannot_be_checked(qx: Callable[..., Any], words: tuple[str, ...], message: str) -> None:
    """A plugin that cannot be checked is a mistake of one line, with exit code 2."""
    done = qx("check", *words)
    assert done.code == 2
    assert message in done.err
    assert len(done.err.splitlines()) == 1


def test_an_expectation_of_no_check_is_refused(qx: Callable[..., Any], size: Callable[..., str]) -> None:
    """An expected failure of a check that does not exist is refused, and the checks are listed."""
    done = qx("check", "-p", size("guesses", conformance='expected_failures={"deterministc": "x"}'))
    assert done.code == 2
    assert "'deterministc'" in done.err and "equal_again" in done.err


def test_every_check_is_documented() -> None:
    """docs/testing.md has each check by name, in the table of its kind or in that of all plugins."""
    text = (Path(__file__).parents[3] / "docs" / "testing.md").read_text()
    parts = {part.partition("\n")[0]: part for part in text.split("\n## ")}
    for kind in KINDS:
        tables = parts["Checks of all plugins"] + parts[f"Checks of {kind}s"]
        for check in checks_of(kind):
            assert f"| `{check.name}` |" in tables, (kind, check.name)


def test_the_checks_are_listed(qx: Callable[..., Any]) -> None:
    """``--list`` names each check with what it asks."""
    done = qx("check", "--list", "--json")
    summaries = {check["name"]: check["summary"] for check in json.loads(done.out)}
    assert summaries.keys() == {check.name for kind in KINDS for check in checks_of(kind)}
    assert all(summary.endswith(".") for summary in summaries.values())


def test_a_failed_check_shows_traceback_and_output(
    qx: Callable[..., Any], size: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Without ``--debug`` the plugin's part of the traceback, what it printed, and the file of both."""
    path = size("torn_size", "[][(print('looking at', data.files), 5)[1]]")
    done = qx("check", "-p", path)
    assert done.code == 1
    after = done.out[done.out.index("FAILED") :]
    assert re.search(r'^ +File ".*torn_size\.py", line \d+, in measure$', after, re.MULTILINE)
    assert re.search(r"^ +IndexError: list index out of range$", after, re.MULTILINE)
    assert re.search(r"^ +printed:\n +looking at \('model.pt',\)$", after, re.MULTILINE)
    assert "qx/worker/" not in done.out
    (log,) = set(re.findall(r"^ +log: (.*)$", after, re.MULTILINE))
    assert "qx/worker/samples.py" in Path(log).read_text()
    (report,) = json.loads(qx("check", "-p", path, "--json").out)
    failed = next(check for check in report["checks"] if check["state"] == "failed")
    assert "IndexError" in failed["traceback"] and "looking at" in failed["printed"]
    assert Path(failed["log"]).is_file()
    passed = next(check for check in report["checks"] if check["state"] == "passed")
    assert (passed["traceback"], passed["printed"], passed["log"]) == ("", "", None)
    with pytest.raises(pytest.fail.Exception, match="IndexError: list index out of range") as caught:
        conformance_test(path)(failed["check"], tmp_path_factory)
    assert "printed:\nlooking at" in str(caught.value)
