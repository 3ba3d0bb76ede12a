"""``docs/hooks.md`` follows the contract: it has every hook, its signature, and an example that is ready."""

from __future__ import annotations

import inspect
import re
import shutil
import textwrap
from pathlib import Path

import pytest

from qx import import_file
from qx.contract import hookspecs
from qx.contract.checks import MAY_GIVE_NONE, REQUIRED
from qx.host.host import Host

DOCS = Path(__file__).parents[2] / "docs"
DOCUMENT = (DOCS / "hooks.md").read_text()
HOOKS = [name for name, function in vars(hookspecs).items() if hasattr(function, "qx_spec")]
SECTIONS = {
    part.partition("\n")[0].strip(): part.partition("\n")[2].partition("\n## ")[0]
    for part in re.split(r"^### ", DOCUMENT, flags=re.MULTILINE)[1:]
}


def example(hook: str) -> str:
    """Return the source of a hook's example."""
    return textwrap.dedent(SECTIONS[hook].partition("Example:\n")[2].partition("\nRead first: ")[0])


@pytest.mark.parametrize("name", ["hooks.md", "modules.md", "api.md"])
def test_the_page_is_what_the_docstrings_say(name: str) -> None:
    """A page is what ``python docs/generate.py`` makes of the docstrings."""
    module = import_file("generate_docs", DOCS / "generate.py")
    assert module.PAGES[name]() == (DOCS / name).read_text()


def test_a_runtime_comes_without_a_change_of_the_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new runtime, its loader and its config leave the page of modules as it is."""
    for folder in ("qx", "plugins"):
        shutil.copytree(DOCS.parent / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    plugins = tmp_path / "plugins" / "qx_plugins"
    (plugins / "runtimes" / "new").mkdir()
    for name in ("runtimes/new/__init__", "runtimes/new/weights", "loaders/new", "configs/new_int8"):
        (plugins / f"{name}.py").write_text('"""A new runtime."""\n')
    module = import_file("generate_docs", DOCS / "generate.py")
    monkeypatch.setattr(module, "TOP", tmp_path)
    assert module.modules() == (DOCS / "modules.md").read_text()


def test_every_hook_has_its_section() -> None:
    """The page has a section for each hook, in the order of the contract's file, and no other."""
    assert list(SECTIONS) == HOOKS


@pytest.mark.parametrize("hook", HOOKS)
def test_the_signature_is_the_one_of_the_contract(hook: str) -> None:
    """Each section begins with the signature of its hook, with annotations."""
    expected = f"{hook}{inspect.signature(getattr(hookspecs, hook))}".replace("'", "")
    assert SECTIONS[hook].strip().splitlines()[0].strip() == expected


@pytest.mark.parametrize("hook", HOOKS)
def test_it_says_what_none_and_an_error_do(hook: str) -> None:
    """Each section says what an error does, and what None means or that it is an error."""
    text = " ".join(SECTIONS[hook].split())
    assert ("None is an error." in text) == (hook not in MAY_GIVE_NONE)
    assert re.search(r"None[^.;]* means", text) or hook not in MAY_GIVE_NONE
    assert "On error: " in text


@pytest.mark.parametrize("hook", HOOKS)
def test_the_example_keeps_the_contract(hook: str, tmp_path: Path) -> None:
    """An example is in the docstring too, and with stubs for the other hooks it is a plugin that is ready."""
    source = example(hook)
    assert textwrap.indent(source.strip(), "    ") in (inspect.getdoc(getattr(hookspecs, hook)) or "")
    records = {
        "config": "Config(name='half', summary='Half.', calibration=True)",
        "metric": "Metric(name='half', summary='S', unit='bytes', better='lower', samples='exact', "
        "compare='ratio', phase='artifact')",
        "workload": "Workload(name='half', summary='Half.')",
        "loader": "Loader(name='half', summary='Half.')",
    }
    of_sets = {"statistic": ("statistic",), "combine": ("measure", "combine")}
    if hook in of_sets:
        records["metric"] = records["metric"].replace("exact", "per_set").replace("artifact", "predictions")
    metric = of_sets.get(hook, REQUIRED["metric"])
    kinds = {**REQUIRED, "metric": metric, "config": ("prepare_model", "calibrate", "convert")}
    kind = next((kind for kind, hooks in kinds.items() if hook in (*hooks, "train")), "config")
    others = {
        "workload": ("train", "postprocess", "score", "input_lengths"),
        "loader": ("read_weights", "serving_code", "profile", "layer_outputs"),
    }
    kind = next((own for own, hooks in others.items() if hook in hooks), kind)
    required = () if hook == "describe" else ("describe", *kinds[kind])
    required = ("convert",) if hook == "describe" else required
    rest = "".join(
        f"@hookimpl\ndef {name}():\n    return {records[kind] if name == 'describe' else None}\n"
        for name in required
        if name != hook
    )
    path = tmp_path / "half.py"
    path.write_text(f"from qx import *\n{rest}{source}")
    (entry,) = (
        candidate for candidate in Host.discover([str(path)]).entries if candidate.distribution is None
    )
    assert entry.state == "ready", entry.reason
    assert hook in entry.hooks
