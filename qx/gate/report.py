"""Report the decisions of a gate: as lines, as Markdown, and as JUnit XML for CI systems."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from qx.foreign import to_code, to_terminal, to_xml
from qx.gate.decide import Decision, Ruling, Verdict
from qx.report import markdown, wording

#: Names of the verdicts, in the order in which they are listed.
VERDICT_NAMES: dict[Verdict, str] = {
    "breached": "breach",
    "too wide": "too wide to tell",
    "met": "met",
    "not applicable": "not applicable",
}

#: Verdicts that are printed in a line each.
PRINTED: tuple[Verdict, ...] = ("breached", "too wide")


def lines(ruling: Ruling) -> list[str]:
    """Return a line for each breach, and for each decision for which an interval is too wide."""
    return [
        f"{VERDICT_NAMES[verdict]}: {to_terminal(decision.line)}"
        for verdict in PRINTED
        for decision in ruling.with_verdict(verdict)
    ]


def summary(ruling: Ruling, *, strict: bool) -> str:
    """Say whether the results pass, in a sentence."""
    result = "passed" if ruling.passes(strict=strict) else "failed"
    counts = [
        f"{len(decisions)} {word}"
        for verdict, word in VERDICT_NAMES.items()
        if (decisions := ruling.with_verdict(verdict))
    ]
    return f"gate {result}: {', '.join(counts)}{', strictly' if strict else ''}"


def protection(ruling: Ruling) -> str:
    """Explain how false alarms are kept rare."""
    if not ruling.intervals:
        return "Every rule is about values that are known exactly."
    return (
        f"Where nothing breaks a rule, the chance that any breach is reported is at most "
        f"{100 * ruling.false_alarms:g} %: {wording.count(ruling.intervals, 'interval')} of "
        f"{100 * ruling.level:.5g} % each (Bonferroni, one side counts)."
    )


def to_markdown(ruling: Ruling, place: str, base: str | None, *, strict: bool) -> str:
    """Return a summary as a page of Markdown.

    ``place`` is the path of the results, ``base`` that of the results that they were compared with.
    """
    order = list(VERDICT_NAMES)
    rows = [
        [
            f"**{VERDICT_NAMES[decision.verdict]}**"
            if decision.verdict == "breached"
            else VERDICT_NAMES[decision.verdict],
            markdown.code(decision.cell),
            markdown.escape(str(decision.figure)),
            markdown.escape(decision.rule.text),
            markdown.escape(decision.reason or decision.seen),
            markdown.escape(decision.method),
        ]
        for decision in sorted(ruling.decisions, key=lambda decision: order.index(decision.verdict))
    ]
    against = f", against {to_code(base)}" if base else ""
    blocks = [
        f"# {summary(ruling, strict=strict).capitalize()}",
        f"Results {to_code(place)}{against}. {protection(ruling)}",
        markdown.table(["", "cell", "metric", "rule", "seen", "how"], rows),
    ]
    return "\n\n".join(blocks) + "\n"


def to_junit(ruling: Ruling, *, strict: bool) -> bytes:
    """Return JUnit XML with a test case for each decision.

    A decision for which an interval is too wide is a skipped test case, or a failure if ``strict``.
    """
    failed = [decision for decision in ruling.decisions if _fails(decision, strict=strict)]
    skipped = [
        decision
        for decision in ruling.decisions
        if decision.verdict in ("too wide", "not applicable") and decision not in failed
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
    for decision in ruling.decisions:
        name = to_xml(f"{decision.figure}: {decision.rule.text} (rule {decision.rule.number})")
        attributes = {"classname": to_xml(decision.cell.replace("/", ".")), "name": name, "time": "0"}
        case = ET.SubElement(suite, "testcase", attributes)
        line = to_xml(decision.line)
        if decision in failed:
            ET.SubElement(
                case, "failure", {"message": line, "type": VERDICT_NAMES[decision.verdict]}
            ).text = line
        elif decision in skipped:
            ET.SubElement(case, "skipped", {"message": line})
        else:
            ET.SubElement(case, "system-out").text = line
    ET.indent(suites)
    document: str = ET.tostring(suites, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{document}\n'.encode()


def _fails(decision: Decision, *, strict: bool) -> bool:
    return decision.verdict == "breached" or (strict and decision.verdict == "too wide")
