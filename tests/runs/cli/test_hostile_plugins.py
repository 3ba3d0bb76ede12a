"""Plugins whose records, errors and output would act in a terminal: every command only shows them."""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import fields
from rich.console import Console

from qx import Config, Loader, Metric, Option, Workload
from qx.cli.display import Lines, Live
from qx.processes.failures import failure_of
from qx.processes.workers import _last_line

Qx = Callable[..., Any]

HOSTILE = (
    "x \x1b[31mred\x1b]0;title\x07\x9b1m\u202eright\u2066\u200b\u2028\x00\x08\r\n"
    "qx: error: forged\n\ttab <b> \ud800 end"
)
#: The part of it that a file can hold.
WRITABLE = HOSTILE.replace("\ud800", "")

#: The required fields of each kind of record.
BARE: dict[type, dict[str, object]] = {
    Config: {"summary": "A config."},
    Metric: {
        "summary": "A metric.",
        "unit": "ms",
        "better": "lower",
        "samples": "exact",
        "compare": "ratio",
        "phase": "artifact",
    },
    Workload: {"summary": "A workload."},
    Loader: {"summary": "A loader."},
}
SOURCE = """
{documentation!r}
from qx import Config, Loader, Metric, Option, Workload, hookimpl

class Plugin:
    def __init__(self, record):
        self.record = record

    @hookimpl
    def describe(self):
        return self.record[0](**self.record[1])

class ConfigPlugin(Plugin):
    @hookimpl
    def convert(self): ...

class MetricPlugin(Plugin):
    @hookimpl
    def measure(self): ...

class WorkloadPlugin(Plugin):
    @hookimpl
    def make_model(self): ...
    @hookimpl
    def load_data(self): ...
    @hookimpl
    def example_inputs(self): ...

class LoaderPlugin(Plugin):
    @hookimpl
    def load(self): ...
"""


class Options:
    """Source of options: one option with hostile text in every field that takes text."""

    def __repr__(self) -> str:
        written, textual = inspect.get_annotations(Option), ("str", "OptionValue")
        texts = {field.name: HOSTILE for field in fields(Option) if written[field.name] in textual}
        words = {**texts, "name": "mode", "choices": [HOSTILE]}
        return f"[Option(**{words!r})]"


def hostile_fields(record: type) -> Iterator[tuple[str, object]]:
    """Yield every field of a record that takes text, with hostile text for it."""
    for field in fields(record):
        # Annotations as they are written: reading results replaces those of attrs classes by what they name.
        kind = str(inspect.get_annotations(record)[field.name])
        if kind in ("str", "str | None"):
            yield field.name, HOSTILE
        elif kind == "tuple[str, ...]":
            yield field.name, [HOSTILE]
        elif "Option" in kind:
            yield field.name, Options()


@pytest.fixture
def plugins(write_plugin: Callable[[str, str], str]) -> dict[str, str]:
    """Return a plugin for each field of each kind of record, by name, as the argument of ``-p``."""
    source, names = SOURCE.format(documentation=HOSTILE), []
    for record, bare in BARE.items():
        for field, value in hostile_fields(record):
            name = f"{record.__name__.lower()}_{field}"
            written = {"name": name, **bare, field: value}
            source += f"{name} = {record.__name__}Plugin(({record.__name__}, {written!r}))\n"
            names.append(name)
    path = write_plugin("hostile", source)
    return {name: f"{path}:{name}" for name in names}


def assert_only_shown(text: str) -> None:
    """Assert that no text steers a terminal, and that no line is forged."""
    for line in text.splitlines():
        assert line.isprintable(), repr(line)
        assert not line.startswith("qx: error: forged"), text


@pytest.fixture
def qx_on_screen(qx_on_terminal: Qx, monkeypatch: pytest.MonkeyPatch) -> Qx:
    """Run a command on a terminal without colours."""
    monkeypatch.setenv("NO_COLOR", "1")
    return qx_on_terminal


def test_records_are_only_shown(qx: Qx, plugins: dict[str, str]) -> None:
    """``list`` prints every field that a plugin fills, also where it names the plugin as broken."""
    plugin_arguments = [word for place in plugins.values() for word in ("-p", place)]
    assert {"config_summary", "metric_unit", "metric_pick", "workload_weights", "loader_imports"} <= set(
        plugins
    )
    assert {"config_options", "config_requires", "config_programs", "metric_extra", "config_name"} <= set(
        plugins
    )
    for words in (("list",), ("list", "--json"), ("list", "--kind", "metric")):
        done = qx(*words, *plugin_arguments)
        assert done.code == 0
        assert_only_shown(done.out + done.err)
        assert "red" in done.out


@pytest.mark.parametrize("more", [(), pytest.param(("--json",), marks=pytest.mark.slow)], ids=len)
def test_each_record_is_only_shown(qx: Qx, plugins: dict[str, str], more: tuple[str, ...]) -> None:
    """``show`` prints every field that a plugin fills, so that nothing acts."""
    for name, place in plugins.items():
        done = qx("show", name, *more, "-p", place)
        assert done.code in (0, 2)
        assert_only_shown(done.out + done.err)


@pytest.mark.parametrize(
    "source",
    [
        f"raise RuntimeError({HOSTILE!r})",
        f"raise SystemExit({HOSTILE!r})",
        f"from qx import hookimpl\n@hookimpl\ndef describe(): raise ValueError({HOSTILE!r})",
        f"from qx import hookimpl, Config\n@hookimpl\ndef describe(): return Config(name={HOSTILE!r})",
        *(
            pytest.param(source, marks=pytest.mark.slow)
            for source in (
                f"from qx import hookimpl\n@hookimpl\ndef describe(): return {HOSTILE!r}",
                f"qx_contract = {HOSTILE!r}",
                f"import {'a' * 50}\n{HOSTILE!r}",
            )
        ),
    ],
)
def test_what_is_broken_is_only_shown(
    qx: Qx,
    qx_on_screen: Qx,
    install: Callable[..., None],
    write_plugin: Callable[[str, str], str],
    source: str,
) -> None:
    """An error of a plugin is shown in one line, for an installed plugin and for one added with ``-p``."""
    install("torn", {"torn": "torn_module"}, {"torn_module": source})
    for words in (
        ["list"],
        ["show", "torn"],
        ["report", "nowhere"],
        ["-p", write_plugin("torn_file", source), "list"],
    ):
        done = qx(*words)
        assert done.code in (0, 2)
        assert_only_shown(done.out + done.err)
    assert_only_shown(qx_on_screen("list").out)
    assert qx("report", "nowhere").err.count("\n") == 2


def test_what_a_distribution_says_is_only_shown(
    qx: Qx, qx_on_screen: Qx, install: Callable[..., None]
) -> None:
    """The name of a distribution, its version and the names of its entry points are only shown as well."""
    line = (
        HOSTILE.replace("\r", " ")
        .replace("\n", " ")
        .replace("\u2028", " ")
        .replace("\x00", "")
        .replace("\ud800", "")
    )
    install(
        "dull", {f"point{line}": "dull_module", "module": f"m{line}"}, {"dull_module": "x = 1"}, version="1.0"
    )
    (info,) = Path().glob("site-dull-1.0/*.dist-info")
    info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: dull{line}\nVersion: 1.0{line}\n")
    for words in (["list"], ["show", "latency"], ["list", "--json"]):
        done = qx(*words)
        assert done.code == 0
        assert_only_shown(done.out + done.err)
    assert "red" in qx("list").out
    assert_only_shown(qx_on_screen("list").out)
    assert "red" in qx_on_screen("list").out


def test_progress_is_only_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Texts of progress come from plugins; on a terminal and elsewhere each is a line without effects."""
    lines = Lines()
    lines.PAUSE = -1.0
    lines.phase("build", HOSTILE)
    lines.step(0.5, HOSTILE)
    lines.say(HOSTILE)
    lines.note(HOSTILE)
    err = capsys.readouterr().err
    assert err.count("\n") == 4
    assert_only_shown(err)
    drawn = io.StringIO()
    live = Live(Console(file=drawn, force_terminal=True, width=400))
    live.PAUSE = -1.0
    with live.drawn():
        live.phase("build", HOSTILE)
        live.step(0.5, HOSTILE)
        live.say(HOSTILE)
        live.note(HOSTILE)
    for sign in ("\x1b]", "\x1b[31m", "\x9b", "\u202e", "\u200b", "\x07", "\nqx: error: forged"):
        assert sign not in drawn.getvalue()


@pytest.mark.parametrize(
    "error", [ValueError(HOSTILE), SystemExit(HOSTILE), MemoryError(HOSTILE), OSError(5, HOSTILE)]
)
def test_a_cause_is_only_shown(error: BaseException, tmp_path: Path) -> None:
    """What is raised in a worker, and the last line of its output, become a cause that acts on nothing."""
    assert_only_shown(failure_of(error, "build")[1])
    log = tmp_path / "log"
    last = " ".join(HOSTILE.splitlines())
    log.write_bytes(b"first\n" + last.encode("utf-8", "replace") + b"\n")
    assert "red" in _last_line(log)
    assert_only_shown(_last_line(log))


METRIC = """
    from qx import Metric, Samples, hookimpl

    @hookimpl
    def describe():
        return Metric(
            name="hostile_metric", summary={text!r}, unit="u" + {text!r}, better="lower", samples="per_item",
            compare="difference", phase="predictions", axis=True, pick={text!r},
        )

    @hookimpl
    def measure(data):
        {first}
        count = len(data.outputs["output"])
        names, details = [{text!r}, "b|c"], {{"d": {text!r}}}
        return Samples([0.5] * count, groups=[0] * count, group_names=names, details=details)
"""


def test_a_run_only_shows_it(
    qx: Qx, qx_on_screen: Qx, toy: Any, write_plugin: Callable[[str, str], str]
) -> None:
    """Units, summaries, picks and causes reach no page and no terminal as they are."""
    metric = write_plugin("hostile_metric", METRIC.format(text=WRITABLE, first="pass"))
    bad = toy.config("bad", first=f"raise ValueError({WRITABLE!r})")
    loud = toy.config("loud", first=f"import os; print({WRITABLE!r}, flush=True); os.abort()")
    metrics = ("-m", "hostile_metric", "-m", "file_size")
    done = qx("run", *toy.arguments(bad, loud, metric), *metrics, "--out", "out")
    assert done.code == 1, done.err
    assert_only_shown(done.out + done.err + done.table.replace("\N{NO-BREAK SPACE}", " "))
    assert "red" in done.out and "red" in done.table
    shown = qx_on_screen("report", "out").out
    assert_only_shown(shown)
    assert "red" in shown
    assert done.cell("loud")["cause"].isprintable() and done.cell("bad")["cause"].isprintable()


@pytest.mark.slow
def test_a_check_only_shows_it(qx: Qx, write_plugin: Callable[[str, str], str]) -> None:
    """The conformance kit quotes what a plugin raised, and nothing acts."""
    first = f"raise ValueError({WRITABLE!r})"
    done = qx("check", "-p", write_plugin("hostile_metric", METRIC.format(text=WRITABLE, first=first)))
    assert done.code == 1
    assert_only_shown(done.out + done.err)
    assert "red" in done.out
