"""The folders of ``qx/`` import only from those before them, and a runtime lies in one place."""

from __future__ import annotations

import ast
import configparser
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
PLUGINS = TOP / "plugins" / "qx_plugins"
#: Every module and folder of ``qx/`` in an order in which each imports only from those before it.
ORDER = (
    *("values", "errors", "tracebacks", "amounts", "environment", "leftovers", "foreign", "files"),
    "repositories",
    *("contract", "devices", "storage", "processes", "host", "statistics", "results", "analysis", "shipping"),
    *("worker", "runner", "cluster", "searching"),
    *("report", "comparison", "gate", "history", "doctor", "scaffold", "testing", "cli", "api"),
)
RUNTIMES = sorted(path.name for path in (PLUGINS / "runtimes").iterdir() if (path / "__init__.py").exists())
#: The runtime of the baseline, which every run needs.
BASELINE = "torch_eager"
#: Runtimes that can be deleted: to try the first of them is quick enough.
OTHERS = [
    pytest.param(name, marks=[pytest.mark.slow] if number else [])
    for number, name in enumerate(name for name in RUNTIMES if name != BASELINE)
]
#: Folders of built-in plugins, one for each kind.
KINDS = ("configs", "loaders", "metrics", "workloads")


def modules(folder: Path) -> dict[str, Path]:
    """Return the modules of a package: full names to paths."""
    names = {path: path.relative_to(folder.parent).with_suffix("").parts for path in folder.rglob("*.py")}
    return {".".join(parts[:-1] if parts[-1] == "__init__" else parts): path for path, parts in names.items()}


def imports(path: Path, names: dict[str, Path]) -> Iterator[str]:
    """Yield the modules among ``names`` that a file imports, in functions and for types as well."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in names)
        elif isinstance(node, ast.ImportFrom) and node.module in names:
            members = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (member if member in names else node.module for member in members)


def is_of(name: str, package: str) -> bool:
    """Return whether a module is a package or lies in it."""
    return name == package or name.startswith(f"{package}.")


def is_loader_of(name: str, runtime: str) -> bool:
    """Return whether a module is a loader of a runtime: it is named as that is, or ``RUNTIME_...``."""
    module = f"qx_plugins.loaders.{runtime}"
    return name == module or name.startswith(f"{module}_")


QX = modules(TOP / "qx")
IMPORTS = {name: set(imports(path, QX)) - {name} for name, path in QX.items()}


def test_every_folder_has_its_place_in_the_order() -> None:
    """Every folder of ``qx/`` is in the order."""
    rooms = {name.split(".")[1] for name in QX if "." in name} - {"__main__"}
    assert rooms == set(ORDER)


@pytest.mark.parametrize("room", ORDER)
def test_imports_point_one_way(room: str) -> None:
    """No module imports from a folder that comes after its own, not even in a function or for a type."""
    before = ORDER[: ORDER.index(room) + 1]
    for name, imported in IMPORTS.items():
        if name.split(".")[1:2] == [room]:
            assert {other.split(".")[1] for other in imported if "." in other} <= set(before), name
            assert "qx" not in imported, f"{name} imports the public face, and so everything"


def test_there_is_no_circle_of_imports() -> None:
    """Modules can be put into an order in which each comes after those that it imports."""
    remaining = {name: set(imported) for name, imported in IMPORTS.items()}
    while ready := [name for name, imported in remaining.items() if not imported & remaining.keys()]:
        for name in ready:
            del remaining[name]
    assert not remaining


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_runtime_is_named_by_its_own_modules_alone(runtime: str) -> None:
    """Only a runtime's own folder, configs and loader import its modules."""
    package = f"qx_plugins.runtimes.{runtime}"
    names = modules(PLUGINS)
    for name, path in names.items():
        own = is_of(name, package) or is_of(name, "qx_plugins.configs")
        if not (own or is_loader_of(name, runtime)):
            assert not [other for other in imports(path, names) if is_of(other, package)], name


def setup(section: str, option: str) -> list[str]:
    """Return the lines of an option in ``setup.cfg``."""
    parser = configparser.ConfigParser()
    parser.read(TOP / "setup.cfg")
    return [line.strip() for line in parser[section][option].split("\n") if line.strip()]


def test_every_package_is_shipped() -> None:
    """``setup.cfg`` names every package that there is, so that a wheel lacks no runtime."""
    folders = (("qx", TOP), ("qx_plugins", TOP / "plugins"))
    files = [path for name, top in folders for path in (top / name).rglob("__init__.py")]
    packages = {".".join(path.parent.relative_to(TOP).parts).removeprefix("plugins.") for path in files} | {
        "qx_weights"
    }
    assert set(setup("options", "packages")) == packages


def test_every_built_in_plugin_has_its_entry_point_and_its_file() -> None:
    """The files in the folders of the four kinds are those that the entry points name, under their names."""
    entry_points = dict(re.split(r"\s*=\s*", line) for line in setup("options.entry_points", "qx"))
    files = {
        path.stem: f"qx_plugins.{kind}.{path.stem}"
        for kind in KINDS
        for path in (PLUGINS / kind).glob("*.py")
        if path.name != "__init__.py"
    }
    assert {name: module.partition(":")[0] for name, module in entry_points.items()} == files


@pytest.mark.parametrize("runtime", OTHERS)
def test_a_runtime_is_deleted_with_its_folder_its_configs_and_its_loader(
    runtime: str, tmp_path: Path
) -> None:
    """Without the files of a runtime every other module can still be imported."""
    copy = tmp_path / "qx_plugins"
    shutil.copytree(PLUGINS, copy, ignore=shutil.ignore_patterns("__pycache__"))
    names, package = modules(copy), f"qx_plugins.runtimes.{runtime}"
    removed = {
        path
        for name, path in names.items()
        if is_loader_of(name, runtime)
        or (path.parent.name in KINDS and any(is_of(other, package) for other in imports(path, names)))
    }
    shutil.rmtree(copy / "runtimes" / runtime)
    for path in removed:
        path.unlink()
    assert {path.parent.name for path in removed} == {"configs", "loaders"}
    rest = [name for name in modules(copy) if not re.search(r"\.networks\.|\.datasets\.", name)]
    program = """if True:
        import importlib, sys
        for name in sys.argv[1:]:
            try:
                importlib.import_module(name)
            except ModuleNotFoundError as error:
                # Other runtimes may not be installed.
                if error.name.partition(".")[0] == "qx_plugins":
                    raise
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, *rest],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{TOP}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    ("sign", "home"),
    [
        ("spec_from_file_location(", "qx/contract/references.py"),
        ("{type(error).__name__}: ", "qx/foreign.py"),
    ],
    ids=["import_file", "one_line"],
)
def test_an_idea_has_one_home(sign: str, home: str) -> None:
    """One function imports a file, and one puts an error into a line."""
    paths = [
        path for folder in ("qx", "plugins", "benchmarks", "docs") for path in (TOP / folder).rglob("*.py")
    ]
    assert [str(path.relative_to(TOP)) for path in paths if sign in path.read_text()] == [home]
