"""The folder of a node in the cache of its machine."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from qx.cluster.transport import KEPT, folder_of


def test_files_of_nodes_that_are_gone_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a node that has had no task for a week are removed, and those of other nodes stay."""
    monkeypatch.setenv("QX_CACHE", str(tmp_path))
    folders = {name: folder_of(name) for name in ("old", "used", "young")}
    for folder in folders.values():
        (folder / "file").write_text("x")
    for name in ("old", "used"):
        os.utime(folders[name], (0, time.time() - KEPT - 60))
    assert folder_of("used") == folders["used"]
    assert {name for name, folder in folders.items() if (folder / "file").exists()} == {"used", "young"}
