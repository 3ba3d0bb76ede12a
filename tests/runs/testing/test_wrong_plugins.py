"""Deliberately wrong configs and metrics: each is caught by its own check, and by no other.

By default only the check that is meant for a plugin is run, with those that must pass before it, and of the
plugins that a check catches only the quickest. With ``QX_SLOW=1`` all checks of all plugins are run.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from qx.testing.checks import checks_of


def _beside(name: str) -> ModuleType:
    """A module that lies beside this file."""
    spec = importlib.util.spec_from_file_location(f"qx_tests_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


wrong = _beside("wrong")


@pytest.fixture(scope="module")
def shared() -> dict[str, Any]:
    """What all benches prepare alike."""
    return {}


@pytest.mark.parametrize("name", wrong.names_of("config", "metric"))
def test_a_wrong_plugin_is_caught(name: str, tmp_path: Path, shared: dict[str, Any]) -> None:
    """The check that is meant for it fails, those that it hangs on pass, and no other check fails."""
    failed = wrong.failed_checks(name, tmp_path, shared)
    _, meant, _ = wrong.WRONG[name]
    assert list(failed) == [meant], failed


@pytest.mark.parametrize("kind", wrong.KINDS)
def test_every_check_has_a_culprit(kind: Any) -> None:
    """There is a wrong plugin for each check of each kind; those that all kinds share have one config."""
    caught = {check for check, _ in (*wrong.KINDS[kind].values(), *wrong.CONFIGS.values())}
    assert {check.name for check in checks_of(kind)} <= caught


def test_every_check_has_a_quick_culprit() -> None:
    """Among the wrong plugins of the fast tier there is exactly one for each check, whatever its kind."""
    caught = sorted(meant for name, (_, meant, _) in wrong.WRONG.items() if name in wrong.QUICK)
    assert caught == sorted({check.name for kind in wrong.KINDS for check in checks_of(kind)})


def test_a_broken_plugin_is_caught_by_its_record(tmp_path: Path, shared: dict[str, Any]) -> None:
    """One whose describe gives nothing fails one check, and is not asked for more than the shared ones."""
    path = tmp_path / "nothing.py"
    path.write_text("from qx import hookimpl\n\n@hookimpl\ndef describe():\n    return None\n")
    verdicts = wrong.checking([path], tmp_path / "bench", shared).verdicts()
    assert {verdict.check: verdict.state for verdict in verdicts} == {
        "valid_record": "failed",
        "unique_name": "passed",
        "describes_itself_lightly": "not_applicable",
    }
