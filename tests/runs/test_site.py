"""The site builds strictly, without torch and without a network, and has a page for all that is public."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import qx
import qx.testing
from qx import import_file

TOP = Path(__file__).parents[2]
#: Runs the generator where every import of these fails.
WITHOUT = """\
import runpy, sys
sys.modules.update(dict.fromkeys(["torch", "torchvision", "sklearn", "pandas", "matplotlib", "onnx"]))
sys.argv = ["sphinx", *sys.argv[1:]]
runpy.run_module("sphinx", run_name="__main__")
"""


def copy(folder: Path) -> Path:
    """Return a folder that has what the repository has, with ``docs/`` in a copy that can be written."""
    for path in TOP.iterdir():
        if path.name != "docs" and not path.name.startswith("."):
            (folder / path.name).symlink_to(path)
    shutil.copytree(TOP / "docs", folder / "docs", ignore=shutil.ignore_patterns("repository", "reference"))
    return folder


def build(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Build the site of a copy into ``site`` in it, strictly."""
    command = [sys.executable, "-c", WITHOUT, "-EWq", "--keep-going", *options, "docs", "site"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module", autouse=True)
def generator() -> None:
    """Skip where what builds the site is not installed."""
    for module in ("sphinx", "furo", "myst_parser"):
        pytest.importorskip(module, reason="pip install -r docs/requirements.txt brings what builds the site")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the site, built in an interpreter that cannot import torch."""
    folder = copy(tmp_path_factory.mktemp("site"))
    process = build(folder)
    assert process.returncode == 0, process.stderr
    return folder / "site"


def ids(page: Path) -> Sequence[str]:
    return re.findall(r' id="([^"]+)"', page.read_text())


@pytest.mark.slow
def test_the_site_is_built_without_torch(site: Path) -> None:
    """The strict build ends well where torch cannot be imported; there are a first page and a search."""
    for name in ("index.html", "search.html", "searchindex.js", "genindex.html"):
        assert (site / name).is_file()


@pytest.mark.slow
def test_each_config_has_a_page_with_its_record(site: Path) -> None:
    """The page of each config has the summary and the requirements of its record, and its source is there."""
    for path in sorted((TOP / "docs" / "configs").glob("*.md")):
        page = (site / "configs" / f"{path.stem}.html").read_text()
        module = import_file(
            f"described_{path.stem}", TOP / "plugins/qx_plugins/configs" / path.name.replace(".md", ".py")
        )
        record = module.describe()
        text = re.sub(r"<[^>]+>", "", page)
        assert record.summary.split(";")[0] in text
        for requirement in record.requires:
            assert requirement.replace(">", "&gt;") in text
        assert (site / "repository/plugins/qx_plugins/configs" / f"{path.stem}.py.html").is_file()


@pytest.mark.slow
def test_each_public_name_is_in_the_reference(site: Path) -> None:
    """Every name of ``qx`` and of ``qx.testing`` has its place in the reference."""
    anchors = {anchor for page in (site / "reference").glob("*.html") for anchor in ids(page)}
    names = [*(f"qx.{name}" for name in qx.__all__), *(f"qx.testing.{name}" for name in qx.testing.__all__)]
    assert set(names) <= anchors


@pytest.mark.slow
def test_links_within_the_site_lead_somewhere(site: Path) -> None:
    """Every link of every page to a page of the site leads to a file, and to an anchor that is there."""
    anchors: dict[Path, set[str]] = {}
    for page in sorted(site.rglob("*.html")):
        for target in set(re.findall(r'<a [^>]*href="([^"]+)"', page.read_text())):
            path, _, anchor = target.partition("#")
            if re.match(r"[a-z]+:", path):
                continue
            file = (page.parent / path).resolve() if path else page
            assert file.is_file(), f"{page.relative_to(site)}: {target}"
            if anchor and file.suffix == ".html":
                there = anchors.setdefault(file, set(ids(file)))
                assert anchor in there, f"{page.relative_to(site)}: {target}"


@pytest.mark.slow
def test_a_dead_link_fails(tmp_path: Path) -> None:
    """A link to a page or an anchor that is not there, and a page without a place, make the build fail."""
    folder = copy(tmp_path)
    with (folder / "docs" / "cache.md").open("a") as file:
        file.write("\n[no page](nowhere.md), [no anchor](gate.md#nowhere)\n")
    (folder / "docs" / "lost.md").write_text("# Lost\n")
    process = build(folder, "-b", "dummy")
    assert process.returncode != 0
    for words in ("nowhere.md", "'nowhere'", "lost.md"):
        assert words in process.stderr


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ('<script src="https://cdn.test/a.js"></script>', "https://cdn.test/a.js"),
        ('<link rel="stylesheet" href="//fonts.test/a.css">', "//fonts.test/a.css"),
        ("<style>@import 'https://fonts.test/b.css';</style>", "https://fonts.test/b.css"),
        ('<img src="http://images.test/a.png">', "http://images.test/a.png"),
        ('<a href="https://example.test">read</a>', None),
        ('<svg xmlns="http://www.w3.org/2000/svg"><path d=""/></svg>', None),
    ],
)
def test_what_a_page_loads_from_elsewhere_is_seen(
    text: str, address: str | None, tmp_path: Path, offline: Any
) -> None:
    """Scripts, styles, fonts and images from the network are seen; links that a reader follows are none."""
    (tmp_path / "page.html").write_text(text)
    loads = [str(value) for _, value in offline.loads(tmp_path)]
    assert (any(address in value for value in loads)) if address else loads == []


@pytest.fixture(scope="module")
def offline() -> Any:
    """Return the module that looks at what pages load."""
    return import_file("site_offline", TOP / "docs" / "qx_site" / "offline.py")
