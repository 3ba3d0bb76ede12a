"""Deliberately wrong workloads and loaders: each is caught by its own check, and by no other.

For each check the fast tier runs only the quickest plugin that it catches, with that check and those that
must pass before it. With ``QX_SLOW=1`` all checks of all plugins are run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import wrong


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
