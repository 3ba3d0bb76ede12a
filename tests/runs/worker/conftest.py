"""What tests of workers share: worker processes, and a plugin that runs any statements in one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from qx.host.host import Reference
from qx.processes.jobs import DataJob
from qx.processes.workers import Processes


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """Worker processes of one test."""
    logs = tmp_path / "logs"
    logs.mkdir()
    with Processes(logs) as processes:
        yield processes


MISCHIEF = """
    import os, pathlib, subprocess, time
    from qx import Data, Workload, hookimpl

    @hookimpl
    def describe():
        return Workload(name="mischief", summary="Does what no plugin should.")

    @hookimpl
    def make_model():
        raise NotImplementedError

    @hookimpl
    def load_data(split, context):
        {body}

    @hookimpl
    def example_inputs():
        raise NotImplementedError
"""


@pytest.fixture
def mischief(
    write_plugin: Callable[[str, str], str],
    tmp_path: Path,
    processes: Processes,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Any]:
    """Have a worker run statements in a hook of a plugin."""
    # Kills of other processes for lack of memory must not be counted as this one's.
    monkeypatch.setattr(import_module("qx.processes.workers"), "_out_of_memory_kills", lambda: 0)

    def run(body: str, timeout: float = 300.0, progress: Any = None) -> Any:
        path = write_plugin("mischief", MISCHIEF.format(body=body))
        workload = Reference("mischief", "_qx_mischief", path)
        job = DataJob(workload=workload, cache=str(tmp_path), calibration_counts=(1,))
        return processes.run(job, "data", timeout=timeout, progress=progress)

    return run
