"""Deliberately wrong configs and metrics: each is caught by its own check, and by no other.

For each check the fast tier runs only the quickest plugin that it catches, with that check and those that
must pass before it. With ``QX_SLOW=1`` all checks of all plugins are run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import wrong

from qx.testing.checks import checks_of


@pytest.fixture(scope="module")
def shared() -> dict[str, Any]:
    """Preparations that all benches share."""
    return {}


@pytest.mark.parametrize("name", wrong.names_of("config", "metric"))
def test_a_wrong_plugin_is_caught(name: str, tmp_path: Path, shared: dict[str, Any]) -> None:
    """The check that is meant for a wrong plugin fails, and no other check does."""
    failed = wrong.failed_checks(name, tmp_path, shared)
    _, meant, _ = wrong.WRONG[name]
    assert list(failed) == [meant], failed


@pytest.mark.parametrize("kind", wrong.KINDS)
def test_every_check_has_a_culprit(kind: Any) -> None:
    """Each check of each kind has a wrong plugin, which is a config for checks that all kinds share."""
    caught = {check for check, _ in (*wrong.KINDS[kind].values(), *wrong.CONFIGS.values())}
    assert {check.name for check in checks_of(kind)} <= caught


def test_every_check_has_a_quick_culprit() -> None:
    """The fast tier has exactly one wrong plugin for each check, whatever its kind."""
    caught = sorted(meant for name, (_, meant, _) in wrong.WRONG.items() if name in wrong.QUICK)
    assert caught == sorted({check.name for kind in wrong.KINDS for check in checks_of(kind)})


def test_a_broken_plugin_is_caught_by_its_record(tmp_path: Path, shared: dict[str, Any]) -> None:
    """A plugin whose ``describe`` returns None fails one check, and runs no other than the shared ones."""
    path = tmp_path / "nothing.py"
    path.write_text("from qx import hookimpl\n\n@hookimpl\ndef describe():\n    return None\n")
    verdicts = wrong.checking([path], tmp_path / "bench", shared).verdicts()
    assert {verdict.check: verdict.state for verdict in verdicts} == {
        "valid_record": "failed",
        "unique_name": "passed",
        "describes_itself_lightly": "not_applicable",
    }
