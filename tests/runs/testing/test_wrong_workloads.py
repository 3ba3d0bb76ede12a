"""Deliberately wrong workloads and loaders: each is caught by its own check, and by no other.

For each check the fast tier runs only the quickest plugin that it catches, with that check and those that
must pass before it. With ``QX_SLOW=1`` all checks of all plugins are run.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def _beside(name: str) -> ModuleType:
    """Import a module that lies beside this file."""
    spec = importlib.util.spec_from_file_location(f"qx_tests_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


wrong = _beside("wrong")


@pytest.fixture(scope="module")
def shared() -> dict[str, Any]:
    """Preparations that all benches share."""
    return {}


@pytest.mark.parametrize("name", wrong.names_of("workload", "loader"))
def test_a_wrong_plugin_is_caught(name: str, tmp_path: Path, shared: dict[str, Any]) -> None:
    """The check that is meant for a wrong plugin fails, and no other check does."""
    failed = wrong.failed_checks(name, tmp_path, shared)
    _, meant, _ = wrong.WRONG[name]
    assert list(failed) == [meant], failed
