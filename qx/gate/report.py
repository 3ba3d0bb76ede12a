"""What a gate decided: lines, Markdown, and JUnit XML for CI systems."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from qx.foreign import to_code, to_terminal, to_xml
from qx.gate.decide import Decision, Ruling, Verdict
from qx.report import markdown, wording

#: How a verdict is called.
WORDS: dict[Verdict, str] = {
    "breached": "breach",
    "too wide": "too wide to tell",
    "met": "met",
    "not applicable": "not applicable",
}

#: Those that a reader must see.
TOLD: tuple[Verdict, ...] = ("breached", "too wide")


def lines(ruling: Ruling) -> list[str]:
    """A line for each breach, and for each rule that the data are too wide to decide."""
    return [f"{WORDS[verdict]}: {to_terminal(one.line)}" for verdict in TOLD for one in ruling.of(verdict)]


def summary(ruling: Ruling, *, strict: bool) -> str:
    """Whether it passes, in a sentence."""
    word = "passed" if ruling.passes(strict=strict) else "failed"
    counts = [f"{len(found)} {WORDS[verdict]}" for verdict in WORDS if (found := ruling.of(verdict))]
    return f"gate {word}: {', '.join(counts)}{', strictly' if strict else ''}"


def protection(ruling: Ruling) -> str:
    """How the breaches are protected from being false alarms."""
    if not ruling.intervals:
        return "Every rule is on something that is known exactly."
    return (
        f"Where nothing breaks a rule, the chance that any breach is told is at most "
        f"{100 * ruling.false_alarms:g} %: {wording.count(ruling.intervals, 'interval')} of "
        f"{100 * ruling.level:.5g} % each (Bonferroni, one side counts)."
    )


def to_markdown(ruling: Ruling, place: str, base: str | None, *, strict: bool) -> str:
    """A summary as a page of Markdown."""
    order = list(WORDS)
    rows = [
        [
            f"**{WORDS[one.verdict]}**" if one.verdict == "breached" else WORDS[one.verdict],
            markdown.code(one.cell),
            markdown.escape(one.column.title),
            markdown.escape(one.rule.told),
            markdown.escape(one.reason or one.seen),
            markdown.escape(one.method),
        ]
        for one in sorted(ruling.decisions, key=lambda one: order.index(one.verdict))
    ]
    against = f", against {to_code(base)}" if base else ""
    blocks = [
        f"# {summary(ruling, strict=strict).capitalize()}",
        f"Results {to_code(place)}{against}. {protection(ruling)}",
        markdown.table(["", "cell", "metric", "rule", "seen", "how"], rows),
    ]
    return "\n\n".join(blocks) + "\n"


def to_junit(ruling: Ruling, *, strict: bool) -> bytes:
    """JUnit XML: a test case for each decision. What is too wide to tell is skipped, strictly a failure."""
    failed = [one for one in ruling.decisions if _fails(one, strict=strict)]
    skipped = [
        one for one in ruling.decisions if one.verdict in ("too wide", "not applicable") and one not in failed
    ]
    totals = {
        "name": "qx gate",
        "tests": str(len(ruling.decisions)),
        "failures": str(len(failed)),
        "errors": "0",
        "skipped": str(len(skipped)),
        "time": "0",
    }
    suites = ET.Element("testsuites", totals)
    suite = ET.SubElement(suites, "testsuite", totals)
    for one in ruling.decisions:
        name = to_xml(f"{one.column.title}: {one.rule.told} (rule {one.rule.number})")
        attributes = {"classname": to_xml(one.cell.replace("/", ".")), "name": name, "time": "0"}
        case = ET.SubElement(suite, "testcase", attributes)
        line = to_xml(one.line)
        if one in failed:
            ET.SubElement(case, "failure", {"message": line, "type": WORDS[one.verdict]}).text = line
        elif one in skipped:
            ET.SubElement(case, "skipped", {"message": line})
        else:
            ET.SubElement(case, "system-out").text = line
    ET.indent(suites)
    drawn: str = ET.tostring(suites, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{drawn}\n'.encode()


def _fails(decision: Decision, *, strict: bool) -> bool:
    return decision.verdict == "breached" or (strict and decision.verdict == "too wide")
