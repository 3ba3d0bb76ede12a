"""Every field that a plugin, a file or a user fills, filled with text that would act: nothing of it does."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from attrs import evolve
from markdown_it import MarkdownIt

from qx import Figure, foreign
from qx.report import markdown
from qx.report.styled import width_of
from qx.results import results_file as results
from qx.results.recording import Recording, Series

Qx = Callable[..., Any]

#: Text that takes a line of its own where it may, steers a terminal, and is live in Markdown, HTML and XML.
HOSTILE = (
    " \x1b[31mred\x1b]0;title\x07\x9b1m\u202eright\u2066\u200b\u2028\x00\x08\r\n# head\n\n- item\n\n"
    "[link](http://x.y/a) ![image](http://x.y/b.png) <b>bold</b> <script>alert(1)</script> &lt; | \\ "
    "http://x.y/c www.x.y me@x.y @someone #12 `code` ``more`` **strong** *em* __init__ ~~gone~~ $x$ \x1b]8;;x"
)
#: The same text for fields of one line.
IN_A_LINE = re.sub("[\r\n\u2028\x00]", " ", HOSTILE)
HARMLESS = " harmless"
#: The figure of which a further build has a value, too.
HITS = Figure("hits")
#: The kinds of inline tokens that a page of Markdown may have.
PARTS = {"text", "text_special", "code_inline", "strong_open", "strong_close", "softbreak", "html_inline"}


# What files fill ----------------------------------------------------------------------------------


class Filler:
    """Appends text to every string of a document that its schema does not restrict, and to foreign names."""

    def __init__(self, *texts: str) -> None:
        """Append the first of these texts that the schema allows."""
        self._texts = texts
        self._schema = results.schema()
        #: Places that were filled, and places whose texts the schema restricts; without positions and names.
        self.filled: set[str] = set()
        self.held: set[str] = set()

    def document(self, document: Any) -> Any:
        """Return the document, filled."""
        return self._value(document, self._schema, "")

    def text(self, value: str, schema: Mapping[str, Any], place: str) -> str:
        """Return a text with another appended, where its schema allows that."""
        for more in self._texts:
            if "enum" not in schema and "format" not in schema and self._fits(value + more, schema):
                self.filled.add(place)
                return value + more
        self.held.add(place)
        return value

    @staticmethod
    def _fits(value: str, schema: Mapping[str, Any]) -> bool:
        pattern = schema.get("pattern", "").replace("$", r"\Z")
        return re.search(pattern, value) is not None and len(value) <= schema.get("maxLength", len(value))

    def _resolved(self, schema: Any) -> dict[str, Any]:
        """Return a schema with its references resolved; of alternatives the one that is not null."""
        if schema in (True, False):
            return {}
        whole = dict(schema)
        for part in [*whole.pop("allOf", ()), *whole.pop("oneOf", ())]:
            whole = {**self._resolved(part), **whole} if part != {"type": "null"} else whole
        if "$ref" in whole:
            whole = {**self._resolved(self._schema["$defs"][whole.pop("$ref").rpartition("/")[2]]), **whole}
        return whole

    def _value(self, value: Any, schema: Any, place: str) -> Any:
        schema = self._resolved(schema)
        if isinstance(value, str):
            return self.text(value, schema, place)
        if isinstance(value, list):
            firsts = schema.get("prefixItems", ())
            inner = [
                firsts[index] if index < len(firsts) else schema.get("items", True)
                for index in range(len(value))
            ]
            return [self._value(item, part, f"{place}[]") for item, part in zip(value, inner, strict=True)]
        if isinstance(value, dict):
            return dict(self._field(key, member, schema, place) for key, member in value.items())
        return value

    def _field(self, key: str, value: Any, schema: Mapping[str, Any], place: str) -> tuple[str, Any]:
        if key in schema.get("properties", {}):
            return key, self._value(value, schema["properties"][key], f"{place}.{key}")
        # A name that the schema does not list is foreign itself, unless it is a number.
        names = self._resolved(schema.get("propertyNames", True))
        name = key if key.isdigit() or not schema else self.text(key, names, f"{place}{{}}")
        return name, self._value(value, schema.get("additionalProperties", True), f"{place}.*")

    def places(self, schema: Any = None, place: str = "") -> Iterator[str]:
        """Yield every place where the schema has a text, leaving out the names of its fields."""
        schema = self._resolved(self._schema if schema is None else schema)
        if "string" in schema.get("type", ()) or "enum" in schema:
            yield place
        for name, member in schema.get("properties", {}).items():
            yield from self.places(member, f"{place}.{name}")
        if isinstance(more := schema.get("additionalProperties"), dict):
            yield from self.places(more, f"{place}.*")
        items = schema.get("items")
        for item in [*schema.get("prefixItems", ()), *([items] if isinstance(items, dict) else ())]:
            yield from self.places(item, f"{place}[]")


def fill(builders: ModuleType, filler: Filler, folder: str, **changes: Any) -> None:
    """Write filled results in which no field is empty, and the samples that belong to them."""
    whole, recording = builders.everything(items=40, **changes)
    document = filler.document(complete(json.loads(results.to_json(whole))))
    cells = dict(zip(whole.cells, document["cells"], strict=True))
    named = Recording(
        {
            cells[cell]: {key: with_reasons(samples, filler) for key, samples in series.items()}
            for cell, series in recording.series.items()
        },
        {cells[cell]: outputs for cell, outputs in recording.outputs.items()},
        # What complete_builds says of a further build.
        further={(cells["toy/quick"], 9): {HITS: recording.series["toy/quick"][HITS]}},
    )
    place = Path(folder)
    place.mkdir()
    (place / "full_results.json").write_text(json.dumps(document))
    (place / document["run"]["samples"]).write_bytes(named.to_bytes())


def complete(document: Any) -> Any:
    """Return results with text in fields that only some runs fill, which a report without samples shows."""
    for pick in document["picks"]:
        pick |= {"tied_with": ["toy/own"], "not_told_apart": ["toy/quick"], "decided_by": "weight"}
    for measurement in document["measurements"]:
        if measurement["vs_baseline"] is not None:
            measurement["vs_baseline"]["against"] = "toy/base"
    run = document["run"]
    run["time_limit"] = {
        "seconds": 60.0,
        "left_out": [{"workload": "toy", "phase": "measure", "cells": ["toy/own"]}],
    }
    run["workloads"]["toy"]["further_calibrations"] = {"1": {"8": "splits"}}
    run["interruption"] = {
        "signal": "SIGINT",
        "left_out": [{"workload": "toy", "phase": "measure", "cells": ["toy/own"]}],
    }
    run["sittings"] = [{"started": run["started"], "seconds": 1.0, "load_before": None}]
    for metric in document["metrics"].values():
        metric |= {"devices": ["cpu"], "files": ["/sys/counter"]}
    complete_device(document)
    complete_threads(document)
    complete_cluster(document)
    document["environment"]["repositories"] = [{"role": "command", "commit": "ab" * 20, "dirty": True}]
    complete_builds(document)
    return document


def complete_threads(document: Any) -> None:
    """Add a speedup from threads, as of a cell with more of them."""
    row = next(
        row for row in document["measurements"] if (row["cell"], row["metric"]) == ("toy/own", "delay")
    )
    document["thread_speedups"] = [
        {
            "metric": "delay",
            "point": row["point"],
            "cell": "toy/own",
            "threads": 2,
            "comparison": row["vs_baseline"] | {"against": "toy/quick"},
        }
    ]


def complete_cluster(document: Any) -> None:
    """Add the machines of a cluster, what was lost there, and the look at items that ended the evaluation."""
    run = document["run"]
    run["cluster"] = {
        "executor": "ray",
        "on": "amx",
        "nodes": [{"name": "first", "fingerprint": "ab", "cpus": 2, "jobs": 3, "waves": {"toy": 3}}],
        "lost": [{"task": "a build", "node": "second", "cause": "its process was killed"}],
        "notes": ["other processes kept a CPU busy"],
    }
    run["workloads"]["toy"]["looks"] = {
        "precision": "1pt",
        "metric": "hits",
        "planned": [500, 1000],
        "items": 1000,
        "is_reached": False,
        "is_out_of_time": False,
        "widest": 0.1,
        "widest_cell": "toy/own",
        "seconds_saved": None,
    }


def complete_device(document: Any) -> None:
    """Add a device, and what was read of it in a wave."""
    document["environment"]["devices"] = {
        "cuda:0": {
            "product": "a device",
            "driver": "1.0",
            "driver_cuda": "12.0",
            "torch_cuda": "12.0",
            "capability": "9.0",
            "module_loading": "LAZY",
            "unread": "no library",
        }
    }
    run = document["run"]
    for measuring in (run["measuring"], *(part["measuring"] for part in run["workloads"].values())):
        measuring["readings"] = [
            {"wave": 0, "cell": "toy/quick", "limits": ["power"], "others": ["another process"]}
        ]
        measuring["first_calls"] = {"toy/quick": {"1": 0.5}}
        measuring["fewer_rounds"] = {"toy/own": 2}


def complete_builds(document: Any) -> None:
    """Add a log, builds with other seeds and what these gave to a cell."""
    document["cells"]["toy/quick"] |= {
        "log": "logs-20260102T030405-abcdef/toy-quick.log",
        "further_builds": [
            {"seed": 8, "outcome": "failed", "stage": "convert", "cause": "no layer"},
            {
                "seed": 9,
                "outcome": "ok",
                "stage": None,
                "cause": None,
                "build": "ab",
                "metric_failures": {"weight": "failed: no file"},
            },
        ],
    }
    measurement = next(
        row for row in document["measurements"] if (row["cell"], row["metric"]) == ("toy/quick", "hits")
    )
    value = measurement["value"]
    measurement["builds"] = {
        "values": {str(document["run"]["seed"]): value, "9": value},
        "deviation": 0.0,
        "smallest": value,
        "largest": value,
        "mean": value,
        "ci": None,
        "vs_baseline": dict(measurement["vs_baseline"]),
        "method": "over builds",
    }


def with_reasons(series: Series, filler: Filler) -> Series:
    """Return samples whose reasons for having no interval are filled."""
    filled = (
        evolve(whole, reason=filler.text(whole.reason, {}, "samples.reason")) for whole in series.resampled
    )
    return evolve(series, resampled=tuple(filled))


@pytest.fixture
def hostile(builders: ModuleType) -> Filler:
    """Write results with hostile text into ``a`` and ``b``, and with harmless text into ``c`` and ``d``."""
    filler = Filler(HOSTILE, IN_A_LINE)
    fill(builders, filler, "a")
    fill(builders, filler, "b", seed=1)
    fill(builders, Filler(HARMLESS), "c")
    fill(builders, Filler(HARMLESS), "d", seed=1)
    return filler


def plain(text: str) -> str:
    """Return what a terminal shows of a text, without the colours that qx itself writes."""
    return re.sub(r"\x1b\[(?:1|2|31|32|1;33|0)m", "", text)


# What must hold -----------------------------------------------------------------------------------


def assert_only_shown(text: str) -> None:
    """Assert that no text steers a terminal."""
    for line in text.splitlines():
        assert line.replace(markdown.NO_BREAK, " ").isprintable(), repr(line)


def structure(page: str) -> list[str]:
    """Return the blocks and the stressed words of a page of Markdown, and assert that nothing in it acts."""
    assert_only_shown(page)
    kinds = []
    for block in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(page):
        kinds.append(block.type)
        for part in block.children or ():
            # The only image is the picture that lies beside the page.
            is_picture = part.type == "image" and part.attrs["src"] == results.PICTURE
            assert part.type in PARTS or is_picture, (part.type, block.content)
            assert part.type != "html_inline" or part.content == markdown.BREAK, part.content
            kinds += [part.type] * part.type.startswith("strong")
        text = "".join(part.content if "text" in part.type else "\0" for part in block.children or ())
        assert not foreign.LIVE.search(text), text
    return kinds


def elements(page: str) -> list[str]:
    """Return the elements of a page of HTML with their classes, and assert that no text in it acts."""
    reader = Elements()
    reader.feed(page)
    assert_only_shown(" ".join(reader.texts))
    return reader.elements


class Elements(HTMLParser):
    """Collects the elements of a page, and the texts in them that are no script or style."""

    def __init__(self) -> None:
        """Begin with no element."""
        super().__init__()
        self.elements: list[str] = []
        self.texts: list[str] = []
        self._is_shown = True

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep an element with the names of its attributes and its class."""
        names = dict(attrs)
        assert not {name for name in names if name.startswith("on") or name == "src"}
        assert not (names.get("href") or "#").startswith(("http", "javascript"))
        self.elements.append(f"{tag} {' '.join(names)} {names.get('class', '')}")
        self._is_shown = tag not in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        """Read on as text what follows a script or style."""
        self._is_shown = True

    def handle_data(self, data: str) -> None:
        """Keep the words of a text."""
        self.texts += data.split() if self._is_shown else []


def test_every_text_of_the_results_is_filled(hostile: Filler) -> None:
    """Each field of the schema that holds a text is filled, or restricted to a form in which nothing acts."""
    # These runs have no second kind of call. Its name has the form of a name of a plugin.
    calls = {place for place in hostile.places() if place.endswith((".call", ".calls[]"))}
    assert set(hostile.places()) - hostile.filled - hostile.held <= calls
    assert {".metrics.*.unit", ".cells.*.cause", ".environment.cpu", ".run.id", ".cells{}"} <= hostile.filled


@pytest.mark.usefixtures("hostile")
@pytest.mark.parametrize(
    ("style", "samples"),
    [("simple", True), ("simple", False), ("github", True), ("html", True), ("unsafehtml", True)],
)
def test_a_report_only_shows_it(qx: Qx, style: str, samples: bool) -> None:
    """``report`` prints and writes the same structure as for harmless text, and nothing acts."""
    if not samples:
        for path in (*Path("a").glob("*.npz"), *Path("c").glob("*.npz")):
            path.unlink()
    done = qx("report", "a", "--format", style)
    assert done.code == 0, done.err
    assert_only_shown(done.out + done.err)
    assert "<b>" not in "".join(re.findall("<table>.*?</table>", done.out, re.DOTALL))
    assert qx("report", "c").code == 0
    pages = [(Path(folder) / "pareto.md").read_text(encoding="utf-8") for folder in ("a", "c")]
    assert structure(pages[0]) == structure(pages[1])
    pages = [(Path(folder) / "report.html").read_text(encoding="utf-8") for folder in ("a", "c")]
    assert elements(pages[0]) == elements(pages[1])
    for folder in ("a", "c"):
        picture = ET.parse(Path(folder) / "pareto.svg")
        assert_only_shown(
            " ".join(element.text or "" for element in picture.iter() if "style" not in element.tag)
        )


@pytest.mark.usefixtures("hostile")
@pytest.mark.parametrize("columns", [60, 100, 140])
def test_a_screen_only_shows_it(qx_on_terminal: Qx, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """The screens of ``report``, ``compare`` and ``gate`` show hostile text, in lines that fit, as text."""
    monkeypatch.setenv("COLUMNS", str(columns))
    Path("rules.toml").write_text(RULES)
    label = IN_A_LINE.replace("=", "")
    for words in (
        ("report", "a"),
        ("compare", f"{label}=a", "b"),
        ("gate", "a", "--against", "b", "--rules", "rules.toml"),
    ):
        done = qx_on_terminal(*words)
        assert done.code in (0, 1), done.err
        shown = plain(done.out)
        assert_only_shown(shown)
        assert_only_shown(done.err)
        for line in shown.splitlines():
            assert width_of(line) <= columns, line
        assert "red" in shown


def with_larger_sizes(source: str, folder: str) -> None:
    """Write results beside others, of another run in which all exact values are twice as large."""
    fields = json.loads(Path(source, "full_results.json").read_text())
    fields["run"]["id"] = "another"
    for measurement in fields["measurements"]:
        if fields["metrics"][measurement["metric"]]["samples"] == "exact" and measurement["value"]:
            measurement["value"] *= 2
            measurement["ci"] = None
    Path(folder).mkdir()
    Path(folder, "full_results.json").write_text(json.dumps(fields))


@pytest.mark.usefixtures("hostile")
def test_a_history_only_shows_it(qx: Qx) -> None:
    """Names of cells and commits are text in each medium, and a page has the structure of a harmless one."""
    for source in ("a", "c"):
        with_larger_sizes(source, f"{source}-larger")
        for style in ("simple", "markdown"):
            words = ("history", source, f"{source}-larger", "--format", style, "--out", f"{source}.html")
            done = qx(*words)
            assert done.code == 0, done.err
            assert " step" in done.out
            assert_only_shown(done.out)
        assert qx("report", source, "--history", f"{source}-larger", "--out", f"{source}-report").code == 0
    for names in (("a.html", "c.html"), ("a-report/report.html", "c-report/report.html")):
        pages = [Path(name).read_text(encoding="utf-8") for name in names]
        assert elements(pages[0]) == elements(pages[1])


@pytest.mark.usefixtures("hostile")
def test_a_comparison_only_shows_it(qx: Qx) -> None:
    """``compare`` has the same structure as for harmless text, in labels too, and nothing acts."""
    label = IN_A_LINE.replace("=", "")
    for style in ("simple", "github", "markdown", "json"):
        done = qx("compare", f"{label}=a", "b", "--out", "a.md", "--out", "a.html", "--format", style)
        assert done.code == 0, done.err
        assert_only_shown(done.out + done.err)
    assert qx("compare", "x=c", "d", "--out", "c.md", "--out", "c.html").code == 0
    pages = [Path(name).read_text(encoding="utf-8") for name in ("a.md", "c.md")]
    assert structure(pages[0]) == structure(pages[1])
    pages = [Path(name).read_text(encoding="utf-8") for name in ("a.html", "c.html")]
    assert elements(pages[0]) == elements(pages[1])


RULES = """
[[rule]]
metric = "hits"
largest_drop = 0
against = "base"
[[rule]]
metric = "delay"
smallest_speedup = 1.2
[[rule]]
metric = "weight"
config = ["few", "lost"]
largest = 10
[[rule]]
metric = "heap"
largest = 450
[[rule]]
metric = "score"
smallest = 0.9
[[rule]]
metric = "score"
largest_drop = 0.01
against = "base"
"""


@pytest.mark.usefixtures("hostile")
def test_a_gate_only_shows_it(qx: Qx) -> None:
    """``gate`` writes the same structure in Markdown and XML as for harmless text, and nothing acts."""
    Path("rules.toml").write_text(RULES)
    cases, pages = [], []
    for ours, base in (("a", "b"), ("c", "d")):
        written = ("--junit", f"{ours}.xml", "--markdown", f"{ours}.md")
        done = qx("gate", ours, "--against", base, "--rules", "rules.toml", *written)
        assert done.code == 1, done.err
        assert_only_shown(done.out + done.err)
        pages.append(structure(Path(f"{ours}.md").read_text(encoding="utf-8")))
        tree = ET.parse(f"{ours}.xml")
        cases.append(len(tree.findall(".//testcase")))
        for element in tree.iter():
            for text in (*element.attrib.values(), (element.text or "").strip()):
                assert text.isprintable()
    assert cases[0] == cases[1] > 10
    assert pages[0] == pages[1]


@pytest.mark.parametrize(
    "text",
    [
        f"{json.dumps(HOSTILE)} = 1",
        f"[[rule]]\nmetric = {json.dumps(HOSTILE)}\nlargest = 1",
        f"[[rule]]\nmetric = 'hits'\nlargest = {json.dumps(HOSTILE)}",
        f"[[rule]]\nmetric = 'hits'\nlargest = 1\nconfig = {json.dumps(HOSTILE)}",
        f"[[rule]]\nmetric = 'hits'\nlargest = 1\nagainst = {json.dumps(HOSTILE)}",
    ],
)
def test_a_mistake_in_rules_only_shows_it(qx: Qx, builders: ModuleType, text: str) -> None:
    """Text of a rules file that the results do not have is quoted in one line."""
    run = builders.small(items=40)
    results.write(Path("a"), run.results(), "", run.recording())
    Path("rules.toml").write_text(text)
    done = qx("gate", "a", "--rules", "rules.toml")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert_only_shown(done.err)


@pytest.mark.parametrize(
    "arguments",
    [
        ["report", HOSTILE],
        ["report", "a", "--format", HOSTILE],
        ["report", "a", "--out", f"a/full_results.json/{HOSTILE}"],
        ["compare", "a", f"b{HOSTILE}"],
        ["compare", "a", "a", "--base", HOSTILE],
        ["compare", "a", "a", "--out", f"a{HOSTILE}.txt"],
        ["gate", "a", "--rules", HOSTILE],
        ["list", "--kind", HOSTILE],
        ["show", HOSTILE],
        ["check", HOSTILE],
        ["new", "config", HOSTILE],
        ["run", "--workload", HOSTILE],
        ["run", "-c", HOSTILE],
        ["run", "--set", f"latency.x={HOSTILE}"],
        ["run", "--weights", f"x{HOSTILE}"],
        ["run", "--engine", HOSTILE, "--cpus", HOSTILE],
        ["quantize", "-c", HOSTILE],
        ["train", "--workload", HOSTILE],
        ["doctor", "--seconds", HOSTILE],
        ["-p", f"x{HOSTILE}.py", "list"],
        [HOSTILE],
    ],
)
def test_a_mistake_on_the_command_line_only_shows_it(
    qx: Qx, builders: ModuleType, arguments: list[str]
) -> None:
    """What the user wrote is quoted in one line on standard error."""
    run = builders.small(items=40)
    results.write(Path("a"), run.results(), "", run.recording())
    done = qx(*(argument.replace("\0", "") for argument in arguments))
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), done.err
    assert_only_shown(done.err)
