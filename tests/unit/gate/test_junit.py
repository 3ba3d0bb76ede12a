"""The JUnit XML of a gate: what other programs may read in it, with names and texts of any kind."""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from attrs import evolve

from qx.comparison import Source
from qx.gate import decide, read_rules
from qx.gate.report import to_junit
from qx.results.run_record import Repository

#: Attributes and children of each element in the schema that Jenkins publishes, ``junit-10.xsd``: those that
#: are required, those that are allowed as well, and the elements that may lie in it.
SCHEMA: dict[str, tuple[set[str], set[str], set[str]]] = {
    "testsuites": (set(), {"name", "time", "tests", "failures", "disabled", "errors"}, {"testsuite"}),
    "testsuite": (
        {"name", "tests", "failures", "errors"},
        {
            "group",
            "time",
            "skipped",
            "timestamp",
            "hostname",
            "id",
            "package",
            "file",
            "log",
            "url",
            "version",
        },
        {"properties", "testcase", "system-out", "system-err"},
    ),
    "properties": (set(), set(), {"property"}),
    "property": ({"name", "value"}, set(), set()),
    "testcase": (
        {"name"},
        {"classname", "time", "group", "status", "class", "file", "line"},
        {"skipped", "error", "failure", "system-out", "system-err"},
    ),
    "failure": (set(), {"type", "message"}, set()),
    "skipped": (set(), {"type", "message"}, set()),
    "system-out": (set(), set(), set()),
}
RULES = '[[rule]]\nmetric = "hits"\nlargest_drop = 0\n\n[[rule]]\nmetric = "weight"\nlargest = 1_000_000\n'
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def source(run: Any, place: str = "run") -> Source:
    """Return a run as it would be read from its files."""
    results = run.results()
    results = evolve(results, environment=evolve(results.environment, fingerprint="one"))
    return Source(place=place, results=results, recording=run.recording(), label="")


def junit(ours: Source, base: Source | None = None, *, rules: str = RULES, strict: bool = False) -> bytes:
    """Return the JUnit XML of a gate with these rules."""
    Path("rules.toml").write_text(rules)
    return to_junit(
        decide(read_rules(Path("rules.toml")), ours, base), ours, base, "rules.toml", strict=strict
    )


def check_schema(element: ET.Element) -> None:
    """Assert that an element, and all in it, fit the schema."""
    required, optional, children = SCHEMA[element.tag]
    assert required <= {*element.attrib} <= required | optional, element.tag
    for child in element:
        assert child.tag in children, f"{child.tag} in {element.tag}"
        check_schema(child)
    if "tests" in element.attrib and element.tag == "testsuite":
        for tag, name in (("testcase", "tests"), ("failure", "failures"), ("skipped", "skipped")):
            assert int(element.attrib[name]) == len(element.findall(f".//{tag}"))
    if "time" in element.attrib:
        assert re.fullmatch(r"\d+\.\d{3}", element.attrib["time"])


def properties(document: bytes) -> dict[str, str]:
    """Return the properties of the only test suite."""
    (suite,) = ET.fromstring(document)
    return {entry.attrib["name"]: entry.attrib["value"] for entry in suite.iter("property")}


@pytest.mark.parametrize("strict", [False, True])
def test_it_fits_the_schema(builders: ModuleType, strict: bool) -> None:
    """Elements, attributes, counts and times are those that programs know, in an order that they take."""
    document = junit(source(builders.small()), source(builders.small(), "base"), strict=strict)
    root = ET.fromstring(document)
    check_schema(root)
    (suite,) = root
    assert suite[0].tag == "properties"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.attrib["timestamp"])
    times = [float(case.attrib["time"]) for case in suite.iter("testcase")]
    assert float(suite.attrib["time"]) == pytest.approx(sum(times), abs=0.001 * len(times))


def test_the_properties_say_what_was_decided_on(builders: ModuleType) -> None:
    """Versions, commit, machine, workload and the seconds of the run are there, and the base's as well."""
    ours, base = source(builders.small()), source(builders.small(), "base")
    repository = Repository(role="command", commit=COMMIT, dirty=True)
    environment = evolve(ours.results.environment, repositories=(repository,))
    ours = evolve(ours, results=evolve(ours.results, environment=environment))
    written = properties(junit(ours, base))
    run = ours.results.run
    assert written["rules"] == "rules.toml"
    assert (written["results"], written["base.results"]) == ("run", "base")
    assert (written["run"], written["workload"]) == (run.id, "toy")
    assert (written["commit"], written["base.commit"]) == ("0123456789ab with changes", "not recorded")
    assert (written["fingerprint"], written["python"]) == ("one", ours.results.environment.python)
    for name, version in ours.results.environment.distributions.items():
        assert written[f"version.{name}"] == written[f"base.version.{name}"] == version
    assert float(written["seconds.total"]) == pytest.approx(run.seconds["total"], abs=0.001)
    assert not any(name.startswith("base.") for name in properties(junit(ours)))


def test_no_time_is_invented(builders: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of a test case is how long its decision took; what has no figure needs none."""
    ticks = iter(range(1000))
    # Not that of the module itself, which other threads of the tests use too.
    monkeypatch.setattr(
        sys.modules["qx.gate.decide"], "time", SimpleNamespace(perf_counter=lambda: float(next(ticks)))
    )
    (suite,) = ET.fromstring(junit(source(builders.small())))
    assert {case.attrib["time"] for case in suite.iter("testcase")} == {"0.000", "1.000"}


def test_hostile_text_stays_text(builders: ModuleType) -> None:
    """Markup, controls and characters that XML forbids, in a place or in a version, leave the XML whole."""
    hostile = "</testsuites>\x00\x1b[31m\ud800\uffff<![CDATA[&\"'\n\u202e"
    ours = source(builders.small(), place=hostile)
    environment = evolve(ours.results.environment, distributions={hostile: hostile}, fingerprint=hostile)
    ours = evolve(ours, results=evolve(ours.results, environment=environment))
    document = junit(ours, ours)
    root = ET.fromstring(document)
    check_schema(root)
    assert properties(document)["results"].startswith("</testsuites>")
    assert all(text.isprintable() for text in properties(document).values())
