"""The documents say what the program does, and ``qx/`` names no plugin."""

from __future__ import annotations

import ast
import configparser
import inspect
import re
import textwrap
from pathlib import Path

import pytest

from qx.contract import hookspecs
from qx.environment import SPEED_FLAGS
from qx.host.host import Host
from qx.report import markdown, picture
from qx.report.html import page
from qx.results import results_file
from qx.results.recording import Recording
from qx.scaffold.writing import contents

TOP = Path(__file__).parents[2]
DOCUMENTS = [
    *sorted(TOP.glob("*.md")),
    *sorted((TOP / "docs").rglob("*.md")),
    TOP / "benchmarks" / "README.md",
]
TABLE = re.compile(r"<!-- table: (?P<file>\S+) -->\n(?P<rows>.*?)<!-- end of table -->", re.DOTALL)


def _hooks() -> list[str]:
    return [name for name, function in vars(hookspecs).items() if hasattr(function, "qx_spec")]


def _plugins() -> list[str]:
    setup = configparser.ConfigParser()
    setup.read(TOP / "setup.cfg")
    lines = setup["options.entry_points"]["qx"].split("\n")
    return [line.partition("=")[0].strip() for line in lines if line.strip()]


def test_the_readme_shows_the_committed_table() -> None:
    """The table in the README is the first one of the committed results, line by line."""
    match = TABLE.search((TOP / "README.md").read_text())
    assert match is not None
    lines = (TOP / match["file"]).read_text().splitlines()
    first = next(index for index, line in enumerate(lines) if line.startswith("|"))
    table = []
    for line in lines[first:]:
        if not line.startswith("|"):
            break
        table.append(line)
    assert match["rows"].splitlines() == table


def test_the_picture_is_that_of_the_committed_results() -> None:
    """The picture at the top of the README and of the table is drawn from the committed results."""
    folder = TOP / "artifacts" / "results"
    drawn = picture.render(results_file.read(folder))
    assert (folder / results_file.PICTURE).read_text(encoding="utf-8") == drawn
    assert markdown.PICTURE in (folder / results_file.TABLE).read_text(encoding="utf-8")
    assert "(artifacts/results/pareto.svg)" in (TOP / "README.md").read_text(encoding="utf-8")


def test_the_page_is_that_of_the_committed_results() -> None:
    """The committed page is what ``qx report artifacts/results`` writes, but for the last digits."""
    folder = TOP / "artifacts" / "results"
    stored = results_file.read(folder)
    drawn = page.render(stored, Recording.read(folder / stored.run.samples))
    data = re.compile(r'(<script type="application/json" id="data">)(.*?)(?=</script>)')
    committed = (folder / results_file.PAGE).read_text(encoding="utf-8")
    assert data.sub(r"\1", committed) == data.sub(r"\1", drawn), "write it again: qx report artifacts/results"
    numbers = re.compile(r"-?\d+(\.\d+)?(e-?\d+)?")
    texts = [numbers.sub("", match[2]) for text in (committed, drawn) if (match := data.search(text))]
    assert len(texts) == 2 and texts[0] == texts[1]


@pytest.mark.parametrize(
    "document", ["README.md", "docs/plugins.md", "docs/tutorial-metric.md", "docs/tutorial-loader.md"]
)
def test_the_plugins_in_the_documents_keep_the_contract(document: str, tmp_path: Path) -> None:
    """Every complete plugin that a document shows is ready."""
    blocks = re.findall(r"(?:^    .*\n|^\n)+", (TOP / document).read_text(), re.MULTILINE)
    sources = [textwrap.dedent(block) for block in blocks if re.match(r"\n*    # \w+\.py\n", block)]
    assert sources
    for source in sources:
        path = tmp_path / source.strip().splitlines()[0].removeprefix("# ")
        path.write_text(source)
        added = [entry for entry in Host.discover([str(path)]).entries if entry.distribution is None]
        assert [entry.state for entry in added] == ["ready"], added[0].reason


def test_the_tutorial_shows_the_loader_that_is_made() -> None:
    """The loader and the config of the tutorial are those that ``qx new loader packed`` makes."""
    text = (TOP / "docs" / "tutorial-loader.md").read_text()
    blocks = map(textwrap.dedent, re.findall(r"(?:^    .*\n|^\n)+", text, re.MULTILINE))
    shown = {first: rest for first, _, rest in (block.strip("\n").partition("\n") for block in blocks)}
    for path, source in contents("loader", "packed", "packed_int8").items():
        if path.startswith("src/qx_packed/packed"):
            assert shown[f"# {Path(path).name}"] == source.strip("\n")


def _definitions(path: Path) -> dict[str, type]:
    """Return the classes and functions of a file by name, methods as ``Class.method`` too."""
    definitions: dict[str, type] = {}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            definitions[node.name] = type(node)
        if isinstance(node, ast.ClassDef):
            methods = (inner for inner in node.body if isinstance(inner, ast.FunctionDef))
            definitions |= {f"{node.name}.{method.name}": ast.FunctionDef for method in methods}
    return definitions


def test_the_two_walks_are_true_to_the_code() -> None:
    """The walks name functions and records that exist, in the files beside them; the first is counted."""
    text = (TOP / "docs" / "architecture.md").read_text()
    section = " ".join(text.partition("## Two walks\n")[2].partition("A test and a lint rule")[0].split())
    everywhere: dict[str, type] = {}
    for path in (TOP / "qx").rglob("*.py"):
        everywhere |= _definitions(path)
    walks = re.split(r"(?=\*\*A sample)", section)
    functions = []
    for walk in walks:
        names = set(re.findall(r"`([A-Za-z_][A-Za-z_.]*)`", walk)) - {
            "latency",
            "context.options",
            "full_results.json",
        }
        assert names <= everywhere.keys(), names - everywhere.keys()
        functions.append({name for name in names if everywhere[name] is ast.FunctionDef})
        for name, file in re.findall(r"`([A-Za-z_.]+)`,? \(`(qx/[a-z_/]+\.py)`\)", walk):
            assert name in _definitions(TOP / file), (name, file)
    folders = {file.split("/")[1] for file in re.findall(r"`(qx/[a-z_/]+\.py)`", walks[0])}
    assert (len(functions[0]), len(folders)) == (13, 5)
    assert "thirteen functions in five folders" in walks[0]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(TOP).as_posix())
def test_links_lead_somewhere(document: Path) -> None:
    """Every link from a document to a file leads to a file that exists."""
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("hook", _hooks())
def test_each_hook_is_documented_with_an_example(hook: str) -> None:
    """Each hook's docstring says what None means, and its example has arguments of that hook."""
    function = getattr(hookspecs, hook)
    text = inspect.getdoc(function) or ""
    assert "None" in text
    example = re.search(rf"@hookimpl\n\s*def {hook}\((.*?)\):", text)
    assert example is not None
    arguments = [name.strip() for name in example[1].split(",") if name.strip()]
    assert set(arguments) <= set(inspect.signature(function).parameters)


def test_the_core_names_no_plugin() -> None:
    """No file of ``qx/`` names a built-in config, workload or loader, or imports their package."""
    # `accuracy`, `latency` and the like are also plain words; they may not stand as strings.
    # `bf16` is a flag of CPUs, too, and `score` a hook and an option.
    names = [name for name in _plugins() if name not in (*SPEED_FLAGS, "score")]
    words = re.compile(r"[\"'](" + "|".join(names) + r")[\"']|qx_plugins")
    distinct = re.compile(r"\b(" + "|".join(name for name in names if "_" in name) + r")\b")
    for path in sorted((TOP / "qx").rglob("*.py")):
        # ``file_size`` of zipfile is no plugin.
        text = path.read_text().replace(".file_size", "")
        assert not words.search(text), path
        assert not distinct.search(text), path
