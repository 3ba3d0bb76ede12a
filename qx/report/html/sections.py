"""The parts of the page that need no script: headings, sentences, lists and small tables."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence

from attrs import frozen

from qx.contract.figures import Figure
from qx.foreign import to_html
from qx.report import builds, limits, picks, summary, threads, wording
from qx.report.wording import Markup
from qx.results.columns import View
from qx.results.numbers import NOTHING
from qx.values import JsonObject


def strong(text: str) -> str:
    """Return stressed text, which is HTML already."""
    return f"<strong>{text}</strong>"


def code(text: str) -> str:
    """Return foreign text as code."""
    return f"<code>{to_html(text)}</code>"


@frozen(kw_only=True)
class Part:
    """A section that a run's page has besides its own."""

    #: Its anchor, its word in the navigation, and its HTML.
    name: str
    word: str
    section: str
    #: What the script draws from, added to what the page has.
    content: JsonObject


#: Number of configs on the front of which each is named in the first sentence.
MAX_NAMES = 16
MARKUP = Markup(name=code, strong=strong, text=to_html)


def run_page(
    view: View,
    content: JsonObject,
    costs: Mapping[str, list[str]] | None = None,
    further: Sequence[Part] = (),
) -> tuple[str, list[str]]:
    """Return the title of the page as plain text, and its blocks with further sections.

    ``costs`` are blocks about what layers cost, by workload.
    """
    return f"{wording.title(view, _PLAIN)} - qx", list(_run(view, content, costs or {}, further))


_PLAIN = Markup(name=str, strong=str, text=str)


def _run(
    view: View, content: JsonObject, costs: Mapping[str, list[str]], further: Sequence[Part]
) -> Iterator[str]:
    yield f"<h1>{wording.title(view, MARKUP)}</h1>"
    yield f'<p class="quiet">{wording.provenance(view, MARKUP)}</p>'
    if unfinished := wording.unfinished(view, MARKUP):
        yield warning(unfinished)
    for failed in wording.failed_baselines(view, MARKUP):
        yield warning(failed)
    parts = view.parts
    if view.results.summary:
        yield section("summary", "Over all workloads", [paragraph(summary.EXPLAINED), _summary(view)])
    if view.results.thread_speedups:
        yield section("threads", threads.HEADING, [paragraph(threads.EXPLAINED), _threads(view)])
    if len(parts) > 1:
        yield _choice(list(view.results.run.workloads))
    for index, (part, own) in enumerate(zip(parts, content["workloads"], strict=True)):
        blocks = list(_workload(part, own, index, costs.get(own["name"], []), further))
        label = to_html(own["name"])
        yield f'<div class="workload" data-workload="{index}" role="group" aria-label="{label}">'
        if len(parts) > 1:
            yield f"<h2>{wording.title(part, MARKUP)}</h2>"
        yield from blocks
        yield "</div>"
    yield from (part.section for part in further)
    yield section("environment", "Environment", _environment(view))


def _choice(names: Sequence[str]) -> str:
    options = "".join(f'<option value="{index}">{to_html(name)}</option>' for index, name in enumerate(names))
    field = f'<label for="workload">Workload</label><select id="workload">{options}</select>'
    return f'<p class="controls"><span class="field">{field}</span></p>'


def _workload(
    view: View, content: JsonObject, index: int, costs: list[str], further: Sequence[Part]
) -> Iterator[str]:
    """Yield the sections about one workload, those for which there are data."""
    for text in (
        wording.caveat(view, MARKUP),
        wording.alarm(view, MARKUP),
        wording.another_network(view, MARKUP),
    ):
        if text:
            yield warning(text)
    # Name of the anchor, word in the navigation, heading, content.
    parts = [
        ("front", "Front", "What is worth having", _front(view)),
        ("limits", "Limits", "Within your limits", _limits(view)),
        ("table", "Figures", "All figures", _table(view)),
        ("trust", "Trust", "Can it be believed?", _trust(view, content)),
        ("answers", "Answers", "What the configs answer", _answers(content)),
        ("stages", "Stages", "Stage by stage", _stages(content)),
        ("layers", "Layers", "Layer by layer", _layers(content)),
        ("costs", "Costly layers", "Which layer hurts", costs),
        ("missing", "Not built", "What was not built, and why", _missing(view)),
    ]
    present = [part for part in parts if part[3]]
    links = [f'<li><a href="#{name}-{index}">{word}</a></li>' for name, word, _, _ in present]
    links += [f'<li><a href="#{part.name}">{part.word}</a></li>' for part in further]
    links.append('<li><a href="#environment">Environment</a></li>')
    yield f'<nav aria-label="Sections of the report"><ul>{"".join(links)}</ul></nav>'
    for name, _, heading, blocks in present:
        yield section(f"{name}-{index}", heading, blocks)


# Sections -----------------------------------------------------------------------------------------


def _front(view: View) -> list[str]:
    sentences = list(picks.sentences(view, MARKUP))
    members, perhaps = (sum(view.on_front(cell) == word for cell in view.rows) for word in ("yes", "perhaps"))
    front = [paragraph(wording.front(view, MARKUP))]
    if members + perhaps > MAX_NAMES:
        axes = wording.listed([to_html(str(figure)) for figure in view.axes])
        front = [
            paragraph(
                f"By {axes} {wording.count(members, 'config')} of {len(view.rows):,} are on the front, and "
                f"{perhaps:,} perhaps."
            ),
            details("Which they are", front),
        ]
    return [
        *front,
        place("scatter"),
        *(["<h3>Picks</h3>", bullets(sentences)] if sentences else []),
        details("What the front means", [paragraph(wording.FRONT_EXPLAINED)]),
    ]


def _limits(view: View) -> list[str]:
    if not any(metric.better != "neither" for metric in view.results.metrics.values()):
        return []
    sentences = list(limits.sentences(view, MARKUP))
    return [
        *([bullets(sentences)] if sentences else []),
        paragraph(
            "Set what you can accept. A config meets a limit surely where its whole 95 % interval does, and "
            "perhaps where only a part of the interval does. The plot and the table follow."
        ),
        place("limits"),
    ]


def _table(view: View) -> list[str]:
    blocks = [place("table"), paragraph(wording.legend(view, MARKUP), "quiet")]
    blocks += [paragraph(text, "quiet") for text in builds.single(view, MARKUP)]
    if inapplicable := list(wording.inapplicable(view, MARKUP)):
        blocks.append(bullets(inapplicable))
    if failures := list(wording.failures(view, MARKUP)):
        blocks += ["<h3>Metrics that could not be measured</h3>", bullets(failures)]
    if builds.has_spread(view):
        blocks += ["<h3>Builds</h3>", paragraph(builds.explained(view)), _builds(view)]
        if remarks := list(builds.remarks(view, MARKUP)):
            blocks.append(bullets(remarks))
    if view.results.pairs:
        blocks.append(details("One recipe in two runtimes", [paragraph(wording.PAIRS), _pairs(view)]))
    if notes := list(wording.notes(view, MARKUP)):
        blocks.append(details("Notes of configs on their artifacts", [bullets(notes)]))
    if layers := list(wording.layers(view, MARKUP)):
        blocks.append(details("Tables of configs by layer, in short", [bullets(layers)]))
    return blocks


def _builds(view: View) -> str:
    columns = builds.columns(view)
    rows = []
    for cell in builds.rows(view):
        cells = [builds.count_builds(view, cell), *(builds.figure(view, cell, column) for column in columns)]
        rows.append([code(view.name(cell)), *map("<br>".join, cells)])
    return table("Builds", [*builds.COLUMNS, *map(_title, columns)], rows)


def _pairs(view: View) -> str:
    rows = []
    for pair in view.results.pairs:
        cell, counterpart, *figures = view.pair(pair)
        rows.append([code(cell), code(counterpart), *figures])
    return table("One recipe in two runtimes", [*wording.PAIR_COLUMNS, *map(_title, view.pair_columns)], rows)


def _title(figure: Figure) -> str:
    return to_html(str(figure))


def _trust(view: View, content: JsonObject) -> list[str]:
    floors = list(wording.noise_floor(view))
    blocks = [paragraph(wording.measuring(view, MARKUP))]
    remarks = [
        *wording.by_sitting(view, MARKUP),
        *wording.differing_in_rounds(view, MARKUP),
        *wording.deaths(view, MARKUP),
        *wording.unkept_outputs(view),
        *wording.item_looks(view, MARKUP),
    ]
    blocks += [bullets(remarks)] if remarks else []
    blocks.append("<h3>Noise floor</h3>")
    if floors:
        rows = [
            [to_html(title), strong(figure) if alarm else figure, interval or NOTHING]
            for title, figure, interval, alarm in floors
        ]
        blocks += [
            paragraph(wording.CONTROL),
            table("Noise floor", ["metric", "control against baseline", "95 % interval"], rows),
        ]
    else:
        blocks.append(paragraph(wording.NO_CONTROL))
    if content["waves"]:
        blocks += ["<h3>Every launch, wave by wave</h3>", place("waves")]
    if content["rounds"]:
        blocks += ["<h3>What disturbed the rounds</h3>", place("rounds")]
    if not content["waves"]:
        blocks.append(
            paragraph("The raw samples are not there, so waves and rounds cannot be shown.", "quiet")
        )
    return blocks


def _answers(content: JsonObject) -> list[str]:
    blocks = []
    if content["groups"]:
        blocks += ["<h3>Group by group</h3>", place("groups")]
    if content["answers"]:
        blocks += ["<h3>Answers that differ from the baseline's</h3>", place("answers")]
    return blocks


def _stages(content: JsonObject) -> list[str]:
    return [place("stages")] if content["stages"] else []


def _layers(content: JsonObject) -> list[str]:
    return [place("layers")] if content["layers"] else []


def _missing(view: View) -> list[str]:
    """Return what did not end well: a row for each reason, with the configs that it holds for."""
    names_by_ending: dict[str, list[str]] = {}
    for cell in view.rows:
        if view.ended(cell).outcome != "ok":
            name = code(view.name(cell)) + wording.log_of(view, cell, MARKUP)
            names_by_ending.setdefault(wording.ending(view, cell, MARKUP), []).append(name)
    if not names_by_ending:
        return []
    return [bullets(f"{ending}<br>{', '.join(names)}" for ending, names in names_by_ending.items())]


def _environment(view: View) -> list[str]:
    rows = "".join(f"<dt>{topic}</dt><dd>{facts}</dd>" for topic, facts in wording.environment(view, MARKUP))
    run, fingerprint = view.results.run, view.results.environment.fingerprint
    seconds = ", ".join(f"{to_html(phase)} {value:.0f} s" for phase, value in run.seconds.items())
    rows += f"<dt>Time taken</dt><dd>{seconds}</dd>"
    rows += "".join(f"<dt>Cluster</dt><dd>{sentence}</dd>" for sentence in wording.cluster(view, MARKUP))
    rows += f"<dt>Machine</dt><dd>{code(fingerprint)}</dd>" if fingerprint else ""
    blocks = [f'<dl class="facts">{rows}</dl>']
    if run.command:
        blocks += [
            "<h3>Repeat it</h3>",
            f'<pre id="command" tabindex="0"><code>{to_html(shlex.join(run.command))}</code></pre>',
            '<p class="controls"><button type="button" id="copy-command">Copy the command</button></p>',
        ]
    return blocks


def _summary(view: View) -> str:
    titles = list(map(_title, summary.columns(view.results)))
    rows = [
        [code(result.row), *("<br>".join(lines) for lines in cells)]
        for result, cells in summary.rows(view.results)
    ]
    return table("Over all workloads", ["config", "on the front", "ended well", *titles], rows)


def _threads(view: View) -> str:
    titles = list(map(_title, threads.columns(view.results)))
    return table(threads.HEADING, [*threads.KEYS, *titles], threads.rows(view.results, code))


# Elements -----------------------------------------------------------------------------------------
# Their arguments are HTML already.


def section(name: str, heading: str, blocks: Iterable[str]) -> str:
    """Return a section with its heading. ``name`` is its anchor."""
    inner = "\n".join([f'<h2 id="{name}-h">{heading}</h2>', *blocks])
    return f'<section id="{name}" aria-labelledby="{name}-h">\n{inner}\n</section>'


def place(view: str) -> str:
    """Return the place of something that the script draws."""
    return f'<div class="view" data-view="{view}"></div>'


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph, perhaps of a class."""
    return f'<p class="{kind}">{text}</p>' if kind else f"<p>{text}</p>"


def warning(text: str) -> str:
    """Return a warning."""
    return f'<p class="warning" role="note">{text}</p>'


def bullets(items: Iterable[str]) -> str:
    """Return a bulleted list."""
    return f"<ul>{''.join(f'<li>{item}</li>' for item in items)}</ul>"


def details(title: str, blocks: Iterable[str]) -> str:
    """Return blocks that are shown when their title is chosen."""
    return f"<details><summary>{title}</summary>{''.join(blocks)}</details>"


def table(label: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a small table that scrolls by itself where the page is narrow."""
    heads = "".join(f'<th scope="col">{title}</th>' for title in header)
    lines = "".join(
        f'<tr><th scope="row">{row[0]}</th>{"".join(f"<td>{cell}</td>" for cell in row[1:])}</tr>'
        for row in rows
    )
    return (
        f'<div class="scrolls" tabindex="0" role="region" aria-label="{label}">'
        f"<table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table></div>"
    )
