"""The public API beside ``qx`` itself: for tests of plugins, and for programs that read a run's files."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

from qx import testing
from qx.testing import worse

TOP = Path(__file__).parents[3]
NAMES = re.findall(r"^\| `(qx\.[\w.]+)`", (TOP / "docs" / "api.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_listed_is_there_and_used(name: str) -> None:
    """Each name of docs/api.md can be imported, and is used in the file that the type checker reads."""
    module, _, attribute = name.rpartition(".")
    assert hasattr(import_module(module), attribute)
    used = (TOP / "tests" / "typing" / "public_api.py").read_text()
    assert len(re.findall(rf"\b{attribute}\b", used)) > 1


def test_every_name_of_the_kit_is_listed() -> None:
    """Everything in ``qx.testing.__all__`` is in docs/api.md."""
    assert {f"qx.testing.{name}" for name in testing.__all__} <= {*NAMES}


def test_every_worse_config_is_listed() -> None:
    """All configs that make worse artifacts on purpose are public."""
    names = {
        f"qx.testing.worse.{name}" for name, value in vars(worse).items() if isinstance(value, worse.Worse)
    }
    assert names <= {*NAMES}
