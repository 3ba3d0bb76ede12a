"""The fast loop: no test here starts a process."""

from __future__ import annotations

import os
import subprocess
from typing import NoReturn

import pytest


@pytest.fixture(autouse=True)
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a test that starts a process: it belongs into ``tests/runs``."""

    def refuse(*arguments: object, **options: object) -> NoReturn:
        raise AssertionError("a test of tests/unit starts a process")

    monkeypatch.setattr(subprocess.Popen, "__init__", refuse)
    for name in ("fork", "posix_spawn", "posix_spawnp"):
        monkeypatch.setattr(os, name, refuse)
