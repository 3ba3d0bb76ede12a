"""The reference of the public names, from their docstrings: a page for each group of names.

Importing ``qx`` imports no torch, so building these pages needs none.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shutil
from types import ModuleType

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.pycode import ModuleAnalyzer

import qx
import qx.testing
from qx_site.places import DOCS, REFERENCE

#: The groups in which the names are shown: a title, a sentence, the package, and the names.
GROUPS: dict[str, tuple[str, str, ModuleType, str]] = {
    "results": (
        "Runs and results",
        "Runs from Python, and what they return.",
        qx,
        "run search load Result SearchReport",
    ),
    "records": (
        "Records of plugins",
        "What a plugin says of itself: ``describe()`` returns one of the four records.",
        qx,
        "CONTRACT hookimpl Config Metric Workload Loader Option",
    ),
    "hook-values": (
        "What hooks get and return",
        "The arguments and the results of the hooks.",
        qx,
        "Context Recipe Arrays OUTPUT LABELS UNITS Data ModelFacts Batch Converted LayerRow Lengths Artifact "
        "Subject ServingCode Profile ProfiledOperator Weights StoredWeight Rounding Samples Figure Point "
        "Building BuildStep Mark Fresh Block CallTimes Device DeviceMemory DeviceReading DeviceProcess "
        "Predictions Recorded FloatLayers",
    ),
    "helpers": (
        "Helpers and errors",
        "What plugins and programs call, and what is raised.",
        qx,
        "cpu_flags draw_items float_layers import_file one_line session_object signal_and_noise "
        "unfinished_folder QxError UsageError DataError Unsupported PluginError",
    ),
    "testing": (
        "qx.testing",
        "The conformance kit: the tests of a plugin.",
        qx.testing,
        "conformance_test Conformance Failed NotApplicable Verdict",
    ),
}
#: Classes whose objects a result gives, and that nobody imports; each is shown after the names of its group.
GIVEN = {"results": ["qx.api.tables.Table", "qx.api.tables.Pick", "qx.api.plots.Plots"]}
#: Classes that nobody calls.
NOT_CALLED = {"qx.Result", *(name for names in GIVEN.values() for name in names)}


def write_pages(app: Sphinx) -> None:
    """Write a page for each group into ``docs/reference/``; every public name must be on one of them."""
    for package in (qx, qx.testing):
        shown = [name for _, _, owner, names in GROUPS.values() if owner is package for name in names.split()]
        if sorted(shown) != sorted(package.__all__):
            wrong = sorted(set(shown) ^ set(package.__all__)) or "a name is there twice"
            raise ExtensionError(
                f"docs/qx_site/reference.py does not show {package.__name__}.__all__: {wrong}"
            )
    folder = DOCS / REFERENCE
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for group, (title, sentence, package, names) in GROUPS.items():
        parts = [title, "=" * len(title), "", sentence, ""]
        for name in names.split():
            parts += section(f"{package.__name__}.{name}", package)
        for full in GIVEN.get(group, ()):
            parts += section(full, importlib.import_module(full.rpartition(".")[0]))
        (folder / f"{group}.rst").write_text("\n".join(parts), encoding="utf-8")


def section(full: str, module: ModuleType) -> list[str]:
    """Return the section of one name of a module, in reStructuredText."""
    name = full.rpartition(".")[2]
    value = getattr(module, name)
    heading = [name, "-" * len(name), ""]
    if inspect.isclass(value):
        bases = [] if value.__bases__ == (object,) else ["   :show-inheritance:"]
        return [*heading, f".. autoclass:: {full}", "   :members:", *bases, ""]
    if inspect.isfunction(inspect.unwrap(value)):
        return [*heading, f".. autofunction:: {full}", ""]
    text = [f"   {line}" for line in comment(module, name)]
    value_option = [f"   :value: {value!r}"] if isinstance(value, str) else []
    return [*heading, f".. py:data:: {full}", *value_option, "", *text, ""]


def comment(package: ModuleType, name: str) -> list[str]:
    """Return the comment of a constant, from the module that a package imports it from."""
    (module,) = {
        node.module
        for node in ast.walk(ast.parse(inspect.getsource(package)))
        if isinstance(node, ast.ImportFrom) and node.module and name in [alias.name for alias in node.names]
    }
    analyzer = ModuleAnalyzer.for_module(importlib.import_module(module).__name__)
    analyzer.analyze()
    text = analyzer.attr_docs.get(("", name))
    if not text:
        raise ExtensionError(f"{module}.{name} has no comment that begins with '#:'")
    return text


def add_to_page(app: Sphinx, docname: str, source: list[str]) -> None:
    """On the page of the public API, link each name to its section, and leave out what is written there."""
    if docname != "api":
        return
    for _, _, package, names in GROUPS.values():
        for name in names.split():
            full = f"{package.__name__}.{name}"
            for shown in (name, full):
                source[0] = source[0].replace(f"| `{shown}` |", f"| {{py:obj}}`{shown} <{full}>` |")
    links = "\n".join(f"- [{title}]({REFERENCE}/{group}.rst)" for group, (title, *_) in GROUPS.items())
    source[0] = re.sub(
        r"<!-- from docstrings -->.*?<!-- end of docstrings -->", lambda _: links, source[0], flags=re.S
    )


def plain_defaults(
    app: Sphinx,
    what: str,
    name: str,
    value: object,
    options: object,
    signature: str | None,
    result: str | None,
) -> tuple[str | None, str | None]:
    """Write a default that is made for each object, or that is a function, as three dots."""
    if name in NOT_CALLED:
        return "", None
    return signature and re.sub(r"= (NOTHING|<[^>]*>)", "= ...", signature), result
