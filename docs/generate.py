"""Write the pages that follow from docstrings: ``python docs/generate.py``."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from functools import cached_property
from pathlib import Path

import qx
from qx.api.plots import Plots
from qx.api.tables import Pick, Table
from qx.contract import hookspecs

DOCS = Path(__file__).parent
TOP = DOCS.parent
WIDTH = 120
#: The built-in plugin to read first for each hook.
MODELS = {
    "describe": "configs/fp32_baseline.py",
    "make_model": "workloads/digits_cnn.py",
    "load_data": "workloads/digits_cnn.py",
    "example_inputs": "workloads/digits_cnn.py",
    "input_lengths": "workloads/own_model.py",
    "train": "workloads/digits_cnn.py",
    "postprocess": "workloads/own_model.py",
    "score": "workloads/own_model.py",
    "check_model": "configs/dynamic_int8.py",
    "quantized_layers": "recipes/layer_names.py",
    "rounding": "recipes/roundings.py",
    "prepare_model": "configs/static_int8_per_channel.py",
    "calibrate": "configs/static_int8_per_channel.py",
    "convert": "configs/static_int8_per_channel.py",
    "load": "loaders/onnxruntime.py",
    "read_weights": "runtimes/torch_eager/weights.py",
    "serving_code": "loaders/onnxruntime.py",
    "profile": "loaders/onnxruntime.py",
    "layer_outputs": "loaders/onnxruntime.py",
    "measure": "metrics/file_size.py",
    "combine": "metrics/f1.py",
    "statistic": "metrics/mean_average_precision.py",
}
#: Folders of built-in plugins, and the folder of runtimes. ``modules.md`` has their sentence alone, so that a
#: plugin or a runtime comes and goes with its own files.
KINDS, RUNTIMES = ("configs", "loaders", "metrics", "workloads"), "runtimes"
#: Pages to read before any built-in plugin: they build up an example, or no built-in plugin has the hook.
EXAMPLES = {"statistic": "metrics.md", "load": "tutorial-loader.md"}
# ruff: noqa: E501
HEAD = """\
# The hooks

Every hook of the contract: its signature, who calls it and when, what None means, what an error does, an example, and
the built-in plugin to read first. This page is written by `python docs/generate.py` from
[`qx/contract/hookspecs.py`](../qx/contract/hookspecs.py), and a test compares the two. How to write a plugin step by
step: [plugins.md](plugins.md); the records: [api.md](api.md).

All hooks are marked with `@hookimpl`. Take by name the arguments that you want, without defaults, and leave out the
others: an argument that is added later breaks nobody. Every hook works in a process of its own and not in the one that
plans and reports, which imports no plugin, so that whatever it does (raise, hang, segfault, exhaust memory, exit) costs
its cell and nothing else: a process that dies makes the cell `crashed`, one that takes longer than `--timeout` for a
step without progress `timeout`, a `MemoryError` `out_of_memory`. Where None is an error, the message names plugin,
distribution and hook. What such a process may do: [plugins.md](plugins.md#the-process-that-it-runs-in).
"""


def hooks() -> str:
    """Return the text of ``hooks.md``."""
    source = inspect.getsource(hookspecs)
    parts = [HEAD]
    for heading, body in re.findall(r"^# ([A-Z][^\n]*?) -+$(.*?)(?=^# [A-Z]|\Z)", source, re.M | re.S):
        parts.append(f"## {heading}\n")
        parts += [section(name) for name in re.findall(r"^def (\w+)\(", body, re.M)]
    return "\n".join(parts)


def section(name: str) -> str:
    """Return the section of one hook."""
    hook = getattr(hookspecs, name)
    signature = str(inspect.signature(hook)).replace("'", "")
    text, _, example = (inspect.getdoc(hook) or "").partition(" ::\n\n")
    paragraphs = [paragraph(part) for part in text.split("\n\n")]
    return "\n\n".join(
        [
            f"### {name}",
            f"    {name}{signature}",
            *paragraphs,
            f"Example:\n\n{example}",
            model(name) + "\n",
        ]
    )


def paragraph(text: str) -> str:
    """Return a paragraph of reStructuredText, or a simple table, as Markdown."""
    if text.startswith("==="):
        return table(text)
    text = re.sub(r":class:`qx\.(\w+)`", r"`\1`", text).replace("``", "`")
    text = re.sub(r"(\w+) \(docs/([\w.]+)\)", r"[\1](\2)", text)
    return textwrap.fill(" ".join(text.split()), WIDTH, break_long_words=False, break_on_hyphens=False)


def table(text: str) -> str:
    """Return a simple table of reStructuredText as Markdown; a row without a first cell goes on."""
    rule, *lines = text.splitlines()
    spans = [match.span() for match in re.finditer("=+", rule)]
    rows: list[list[str]] = []
    for line in lines:
        if line.startswith("==="):
            continue
        ends = [*(start for start, _ in spans[1:]), None]
        cells = [line[start:end].strip() for (start, _), end in zip(spans, ends, strict=True)]
        if cells[0]:
            rows.append(cells)
        else:
            rows[-1] = [f"{left} {right}".strip() for left, right in zip(rows[-1], cells, strict=True)]
    head, *body = (f"| {' | '.join(cells).replace('``', '`')} |" for cells in rows)
    return "\n".join([head, "|" + " --- |" * len(spans), *body])


def model(name: str) -> str:
    """Return the links to what is to be read first."""
    links = [f"[{EXAMPLES[name]}]({EXAMPLES[name]})"] if name in EXAMPLES else []
    if name in MODELS:
        links.append(f"[`{MODELS[name]}`](../plugins/qx_plugins/{MODELS[name]})")
    return f"Read first: {', then '.join(links)}"


def modules() -> str:
    """Return the text of ``modules.md``: every module with the first sentence or two of its docstring."""
    parts = [
        "# The modules\n\nEvery module in a line, from its docstring; written by `python docs/generate.py`. Of "
        "plugins and runtimes there is the folder: `qx list` has a line for each plugin. How they hang together: "
        "[architecture](architecture.md).\n"
    ]
    for package in (TOP / "qx", TOP / "plugins" / "qx_plugins"):
        folders: dict[str, list[str]] = {}
        for path in filter(is_listed, sorted(package.rglob("*.py"))):
            text = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n\n")[0]
            text = " ".join(text.split()).replace("``", "`")
            folder = path.parent.relative_to(package.parent).as_posix()
            is_package = path.name == "__init__.py"
            link = f"[`{path.name}`](../{path.relative_to(TOP).as_posix()})"
            folders.setdefault(folder, []).insert(
                0 if is_package else len(folders.get(folder, ())),
                f"{text}\n" if is_package else f"- {link}: {text}",
            )
        for folder, lines in folders.items():
            parts += [f"## {folder}", "", *lines, ""]
    return "\n".join(parts)


#: What the page of the public API takes from docstrings: each name with its object, and how it is written.
PYTHON = {
    "qx.run": qx.run,
    "qx.search": qx.search,
    "qx.SearchReport": qx.SearchReport,
    "qx.load": qx.load,
    "qx.Result": qx.Result,
    "Result.table, Result.front": Table,
    "Result.picks": Pick,
    "Result.plot": Plots,
}
#: The marks around that part of the page.
BEGIN, END = "<!-- from docstrings -->\n", "<!-- end of docstrings -->"


def api() -> str:
    """Return the text of ``api.md``, with the part that follows from docstrings written anew."""
    before, _, rest = (DOCS / "api.md").read_text(encoding="utf-8").partition(BEGIN)
    parts = "\n\n".join(documented(name, value) for name, value in PYTHON.items())
    return f"{before}{BEGIN}\n{parts}\n\n{END}{rest.partition(END)[2]}"


def documented(name: str, value: object) -> str:
    """Return the section of a function, or of a class with its public members."""
    text = docstring(value)
    if inspect.isclass(value):
        members = [
            f"- `{title(member, function)}`: {summary(function)}"
            for member, function in vars(value).items()
            if not member.startswith("_") and inspect.getdoc(function)
            if isinstance(function, (property, cached_property)) or inspect.isfunction(function)
        ]
        return "\n\n".join([f"### {name}", text, *(["\n".join(members)] if members else [])])
    return f"### {name}\n\n{text}"


def title(name: str, function: object) -> str:
    """Return the name of a member, with the names of its arguments where it is called."""
    if not inspect.isfunction(function):
        return name
    arguments = [argument for argument in inspect.signature(function).parameters if argument != "self"]
    return f"{name}({', '.join(arguments)})"


def summary(function: object) -> str:
    """Return the docstring of a member up to its first section, as one paragraph."""
    text = re.split(r"\n\n\w+\n-+\n", inspect.getdoc(function) or "")[0]
    return " ".join(paragraph(text).split())


def docstring(value: object) -> str:
    """Return a docstring of numpy's form as Markdown: paragraphs, and a list for each section."""
    text, *sections = re.split(r"\n\n(\w+)\n-+\n", inspect.getdoc(value) or "")
    blocks = [paragraph(part) for part in text.split("\n\n")]
    for heading, body in zip(sections[::2], sections[1::2], strict=True):
        if heading == "Notes":
            blocks += [paragraph(part) for part in body.split("\n\n")]
            continue
        entries = re.findall(r"^(\S[^\n]*)\n((?:[ ]{4}[^\n]*\n?)+)", body, re.M)
        lines = [f"- {entry(head)}: {' '.join(paragraph(rest).split())}" for head, rest in entries]
        blocks.append(f"{heading}:\n\n" + "\n".join(lines))
    return "\n\n".join(blocks)


def entry(head: str) -> str:
    """Return the head of an entry, ``name : type`` or a type alone, as Markdown."""
    names, colon, kind = head.partition(" : ")
    marked = ", ".join(f"`{name.strip()}`" for name in names.split(","))
    return f"{marked} ({kind})" if colon else marked


def is_listed(path: Path) -> bool:
    """Whether a module has a line in ``modules.md``: all but the files of single plugins and runtimes."""
    package, *inner = path.relative_to(TOP).parts
    is_plugin = len(inner) == 3 and inner[1] in KINDS and path.name != "__init__.py"
    return package == "qx" or not (is_plugin or (len(inner) > 3 and inner[1] == RUNTIMES))


PAGES = {"hooks.md": hooks, "modules.md": modules, "api.md": api}

if __name__ == "__main__":
    for name, make in PAGES.items():
        (DOCS / name).write_text(make(), encoding="utf-8")
