"""The record of each config on its page: what ``describe()`` returns, as a table."""

from __future__ import annotations

import configparser
import importlib
from collections.abc import Iterator

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from qx import Config, Option
from qx_site.places import TOP

PREFIX = "configs/"


def modules() -> dict[str, str]:
    """Return the module of each config that comes with qx by the config's name, as ``setup.cfg`` has them."""
    setup = configparser.ConfigParser()
    setup.read(TOP / "setup.cfg", encoding="utf-8")
    lines = setup["options.entry_points"]["qx"].strip().splitlines()
    entries = (line.partition("=") for line in lines)
    return {name.strip(): module.strip() for name, _, module in entries if ".configs." in module}


def record(name: str) -> Config:
    """Return the record of a config."""
    described = importlib.import_module(modules()[name]).describe()
    assert isinstance(described, Config)
    return described


def rows(config: Config) -> Iterator[tuple[str, str]]:
    """Yield what the record says, a heading and a text in Markdown for each row."""
    yield "install", f"`pip install '.[{config.extra}]'`" if config.extra else "comes with qx"
    if config.requires:
        yield "requires", ", ".join(f"`{requirement}`" for requirement in config.requires)
    if config.programs:
        yield "programs", "one of " + ", ".join(f"`{program}`" for program in config.programs)
    if config.instruction_sets:
        yield "CPU", ", ".join(f"`{flag}`" for flag in config.instruction_sets)
    if config.devices != ("cpu",):
        yield "devices", ", ".join(f"`{kind}`" for kind in config.devices)
    if config.compute_capability:
        yield "compute capability", f"{config.compute_capability} or higher"
    yield "data", data(config)
    if config.reference:
        yield "compared with", "nothing: it is the baseline"
    else:
        others = [config.runtime_baseline, config.counterpart]
        yield (
            "compared with",
            ", ".join(["the baseline", *(f"[{other}]({other}.md)" for other in others if other)]),
        )
    if config.keeps_outputs:
        yield "outputs", "those of the fp32 model, but for rounding"
    path = f"{modules()[config.name].replace('.', '/')}.py"
    yield "source", f"[`{path}`](../../plugins/{path})"


def data(config: Config) -> str:
    """Return which data a config needs."""
    if config.training:
        return "training batches, to fine-tune on; runs with `--all` or `-c`"
    return "calibration items" if config.calibration else "none"


def option_row(option: Option) -> str:
    """Return the row of one option."""
    allowed = ", ".join(f"`{choice}`" for choice in option.choices)
    if not allowed:
        bounds = [
            f"{word} {bound:g}"
            for word, bound in (("at least", option.minimum), ("at most", option.maximum))
            if bound is not None
        ]
        allowed = ", ".join([option.type.__name__, *bounds])
    return f"| `{option.name}` | `{option.default}` | {allowed} | {option.help} |"


def overview() -> str:
    """Return a table of all configs, a part for each extra that installs what they need."""
    parts: dict[str | None, list[str]] = {}
    for name in modules():
        config = record(name)
        row = f"| [`{name}`]({PREFIX}{name}.md) | {config.summary} | {data(config)} |"
        parts.setdefault(config.extra, []).append(row)
    lines: list[str] = []
    for extra, found in parts.items():
        title = f"With `pip install '.[{extra}]'`" if extra else "With qx alone"
        lines += ["", f"## {title}", "", "| config | does | data |", "| --- | --- | --- |", *found]
    return "\n".join([*lines, ""])


def add_to_page(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the record under the heading of a config's page, and the table of all on the page of configs."""
    if docname == "configs":
        source[0] += overview()
    if not docname.startswith(PREFIX):
        return
    name = docname.removeprefix(PREFIX)
    if name not in modules():
        raise ExtensionError(f"docs/{docname}.md is about no config of setup.cfg")
    config = record(name)
    heading, _, rest = source[0].partition("\n")
    parts = [
        heading,
        "",
        config.summary,
        "",
        "| from its record | |\n| --- | --- |",
        *(f"| {title} | {text} |" for title, text in rows(config)),
    ]
    if config.options:
        parts += [
            "",
            "| option | default | allowed | |\n| --- | --- | --- | --- |",
            *map(option_row, config.options),
        ]
    source[0] = "\n".join([*parts, "", rest.lstrip("\n")])
