"""Records of configs: the extra that one names installs what it asks for."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest

from qx.host.host import Host

TOP = Path(__file__).parents[3]


def configs_with_extras() -> list[str]:
    """Return the built-in configs that need packages which qx does not bring."""
    configs = [entry for entry in Host.discover().entries if entry.kind == "config"]
    return [entry.name for entry in configs if entry.record is not None and entry.record.extra]


@pytest.mark.parametrize("name", configs_with_extras())
def test_the_extra_installs_what_the_record_asks_for(name: str) -> None:
    """What a config says it needs is what its extra of the distribution installs."""
    setup = configparser.ConfigParser()
    setup.read(TOP / "setup.cfg")
    record = Host.discover().get("config", name).record
    assert record is not None and record.extra is not None
    assert set(record.requires) <= set(setup["options.extras_require"][record.extra].split())
