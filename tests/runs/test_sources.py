"""The files that decide what a plugin does are those that it imports, and no others."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qx.contract.references import Reference, reference_of
from qx.host.sources import fingerprint, own_fingerprint, source_files

TOP = Path(__file__).parents[2]

PACKAGE = {
    "__init__.py": "",
    "plugin.py": "from recipes_of_a_test.shared import helper\n",
    "shared/__init__.py": "from . import helper\n",
    "shared/helper.py": "def work():\n    from recipes_of_a_test import late\n",
    "late.py": "import numpy\n",
    "other.py": "import recipes_of_a_test.plugin\n",
    "dynamic.py": "import importlib\nimportlib.import_module('recipes_of_a_test.' + input())\n",
    "literal.py": "import importlib\nimportlib.import_module('recipes_of_a_test.late').model.eval()\n",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with plugins that is on the search path and never imported."""
    folder = tmp_path / "recipes_of_a_test"
    for name, source in PACKAGE.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def names(package: Path, module: str) -> set[str]:
    reference = Reference(module, f"recipes_of_a_test.{module}")
    return {path.relative_to(package).as_posix() for path in source_files(reference)}


def test_a_plugin_is_decided_by_what_it_imports(package: Path) -> None:
    """A plugin's files are those that it imports, also indirectly and in functions."""
    expected = {"__init__.py", "plugin.py", "shared/__init__.py", "shared/helper.py", "late.py"}
    assert names(package, "plugin") == expected
    assert names(package, "other") == expected | {"other.py"}
    assert names(package, "literal") == {"__init__.py", "literal.py", "late.py"}
    assert not [name for name in sys.modules if name.startswith("recipes_of_a_test")]


def test_a_computed_import_makes_the_whole_package_count(package: Path) -> None:
    """All files of a package count for a module that imports computed names or cannot be parsed."""
    assert names(package, "dynamic") == set(PACKAGE)
    assert names(package, "compiled") == set(PACKAGE)
    (package / "late.py").write_text("def\n")
    assert names(package, "plugin") == set(PACKAGE)


def test_the_fingerprint_changes_with_what_decides_alone(package: Path) -> None:
    """An edit of an imported module changes the fingerprint, and one of another module does not."""
    reference = Reference("plugin", "recipes_of_a_test.plugin")
    first = fingerprint([reference])
    (package / "other.py").write_text("# another thought\n")
    assert fingerprint([reference]) == first
    (package / "late.py").write_text("import torch\n")
    assert fingerprint([reference]) != first


def test_what_only_a_type_checker_imports_decides_nothing(package: Path) -> None:
    """Imports under ``if TYPE_CHECKING`` are never run; those of its ``else`` are."""
    (package / "plugin.py").write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from . import late\nelse:\n    from . import other\n"
    )
    assert names(package, "plugin") == {"__init__.py", "plugin.py", "other.py"}


def test_all_files_beside_a_file_of_the_users_count(tmp_path: Path) -> None:
    """Every file beside a plugin given with ``-p`` counts, since the plugin can import it."""
    for name in ("mine.py", "beside.py"):
        (tmp_path / name).touch()
    assert {path.name for path in source_files(reference_of(str(tmp_path / "mine.py")))} == {
        "mine.py",
        "beside.py",
    }


def test_reports_and_commands_decide_no_build() -> None:
    """Files of the contract and the worker decide builds, and files that only read results do not."""
    program = (
        "import sys, pathlib, qx.host.sources as sources; package = sources._Package('qx', "
        "pathlib.Path(sources.__file__).parents[1]); print(*(path.relative_to(package._folder).parts[0] "
        "for path in package.closure('qx.worker.build', whole=False)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    rooms = set(done.stdout.split())
    assert {"contract", "worker", "errors.py"} <= rooms
    assert not rooms & {
        "report",
        "cli",
        "comparison",
        "gate",
        "doctor",
        "scaffold",
        "results",
        "analysis",
        "runner",
    }
    assert len(own_fingerprint("qx.worker.build")) == 64


def test_an_edit_makes_stale_what_it_decides(tmp_path: Path) -> None:
    """A build is kept after an edit of a report and a command, and made anew after one of the worker."""
    for folder in ("qx", "plugins/qx_plugins", "artifacts/weights"):
        name = {"artifacts/weights": "qx_weights"}.get(folder, Path(folder).name)
        shutil.copytree(TOP / folder, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    cache = tmp_path / "cache"

    def builds(*edited: str) -> int:
        """Return how many builds there are after these files are edited and ``qx quantize`` has run."""
        for file in edited:
            with (tmp_path / file).open("a") as source:
                source.write("\n# another thought\n")
        done = subprocess.run(
            [sys.executable, "-m", "qx", "quantize", "--workload", "digits_cnn", "-c", "dynamic_int8"],
            cwd=tmp_path,
            env={**os.environ, "QX_CACHE": str(cache), "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return len(list((cache / "builds").glob("[!.]*")))

    assert builds() == 1
    assert builds("qx/report/terminal.py", "qx/cli/commands/run.py") == 1
    assert builds("qx/worker/build.py") == 2
