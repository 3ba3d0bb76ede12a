"""Report the decisions of a gate: as lines, as Markdown, and as JUnit XML for CI systems."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from datetime import datetime

from qx.comparison.sources import Source, machine, versions
from qx.foreign import to_code, to_terminal, to_xml
from qx.gate.decide import Decision, Ruling, Verdict
from qx.report import markdown, wording
from qx.report.styled import Line, Style, fitted, line, wrapped

#: Names of the verdicts, in the order in which they are listed.
VERDICT_NAMES: dict[Verdict, str] = {
    "breached": "breach",
    "too wide": "too wide to tell",
    "met": "met",
    "not applicable": "not applicable",
}

#: Largest number of decisions on a screen.
MOST_LINES = 24
#: Verdicts that are printed in a line each.
PRINTED: tuple[Verdict, ...] = ("breached", "too wide")


def notes(ruling: Ruling) -> list[str]:
    """Return a line for each thing to know of BASE, such as that its model had other weights."""
    return [f"note: {to_terminal(note)}" for note in ruling.notes]


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


def screen(ruling: Ruling, width: int, *, strict: bool) -> list[Line]:
    """Return the lines of a screen: whether the results pass, then what decides that."""
    style: Style = "good" if ruling.passes(strict=strict) else "bad"
    shown = lines(ruling)
    drawn = [line((text, style)) for text in wrapped(summary(ruling, strict=strict), width)]
    drawn += [line(part) for note in notes(ruling) for part in wrapped(note, width, indent="  ")]
    drawn += [line(fitted(text, width)) for text in shown[:MOST_LINES]]
    if (rest := len(shown) - MOST_LINES) > 0:
        drawn.append(line(f"and {rest} more (-v)"))
    return [*drawn, *(line((text, "faint")) for text in wrapped(protection(ruling), width))]


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
        *([markdown.bullets([markdown.escape(note) for note in ruling.notes])] if ruling.notes else []),
        markdown.table(["", "cell", "metric", "rule", "seen", "how"], rows),
    ]
    return "\n\n".join(blocks) + "\n"


def to_junit(ruling: Ruling, source: Source, base: Source | None, rules: str, *, strict: bool) -> bytes:
    """Return JUnit XML with a test case for each decision, and with properties that say what was decided on.

    A decision for which an interval is too wide is a skipped test case, or a failure if ``strict``. The time
    of a test case is how long its decision took, and how long the run took is among the properties. Elements
    and attributes are those of the schema of Jenkins (``junit-10.xsd``). ``rules`` is the path of the rules.
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
        "time": _seconds(sum(decision.seconds for decision in ruling.decisions)),
    }
    suites = ET.Element("testsuites", totals)
    about_run = {
        "skipped": str(len(skipped)),
        "timestamp": datetime.fromisoformat(source.results.run.started).strftime("%Y-%m-%dT%H:%M:%S"),
        # The name of the machine is nobody's business, and its fingerprint tells it from others as well.
        "hostname": to_xml(source.fingerprint or "unknown"),
    }
    suite = ET.SubElement(suites, "testsuite", totals | about_run)
    properties = ET.SubElement(suite, "properties")
    for name, value in _properties(ruling, source, base, rules, strict=strict):
        ET.SubElement(properties, "property", {"name": to_xml(name), "value": to_xml(value)})
    for note in ruling.notes:
        ET.SubElement(properties, "property", {"name": "note", "value": to_xml(note)})
    for decision in ruling.decisions:
        case = ET.SubElement(suite, "testcase", _identity(decision))
        line = to_xml(decision.line)
        if decision in failed:
            verdict = VERDICT_NAMES[decision.verdict]
            ET.SubElement(case, "failure", {"message": line, "type": verdict}).text = line
        elif decision in skipped:
            ET.SubElement(case, "skipped", {"message": line})
        else:
            ET.SubElement(case, "system-out").text = line
    ET.SubElement(suite, "system-out").text = to_xml(summary(ruling, strict=strict))
    ET.indent(suites)
    document: str = ET.tostring(suites, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{document}\n'.encode()


def _identity(decision: Decision) -> dict[str, str]:
    """Return the attributes of the test case of a decision."""
    return {
        "classname": to_xml(decision.cell.replace("/", ".")),
        "name": to_xml(f"{decision.figure}: {decision.rule.text} (rule {decision.rule.number})"),
        "time": _seconds(decision.seconds),
    }


def _properties(
    ruling: Ruling, source: Source, base: Source | None, rules: str, *, strict: bool
) -> Iterator[tuple[str, str]]:
    """Yield name and value of what was decided on: the rules, the run and the base."""
    yield "rules", rules
    yield "strict", "true" if strict else "false"
    yield "false_alarms", f"{ruling.false_alarms:g}"
    yield from _properties_of(source, "")
    if base is not None:
        yield from _properties_of(base, "base.")


def _properties_of(source: Source, prefix: str) -> Iterator[tuple[str, str]]:
    run, environment = source.results.run, source.results.environment
    yield f"{prefix}results", source.place
    yield f"{prefix}run", run.id
    yield f"{prefix}started", run.started
    yield f"{prefix}workload", ", ".join(run.workloads)
    yield f"{prefix}baseline", run.baseline
    yield f"{prefix}commit", environment.commit or "not recorded"
    yield f"{prefix}machine", machine(source)
    yield f"{prefix}fingerprint", source.fingerprint or "not recorded"
    yield f"{prefix}python", environment.python
    yield from ((f"{prefix}version.{name}", version) for name, version in versions(source).items())
    yield from ((f"{prefix}seconds.{phase}", _seconds(value)) for phase, value in run.seconds.items())


def _seconds(value: float) -> str:
    return f"{value:.3f}"


def _fails(decision: Decision, *, strict: bool) -> bool:
    return decision.verdict == "breached" or (strict and decision.verdict == "too wide")
