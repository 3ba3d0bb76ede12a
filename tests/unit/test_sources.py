"""Which source files decide what a plugin does, read by several threads at a time."""

from __future__ import annotations

import ast
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from qx.host.sources import _imports


def test_threads_parse_one_after_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds read sources in threads, and CPython before 3.13 fails where two of them parse at a time."""
    for number in range(20):
        (tmp_path / f"plugin_{number}.py").write_text("import os\n")
    parse, parsing, most = ast.parse, 0, 0

    def slow(source: Any) -> ast.Module:
        nonlocal parsing, most
        parsing += 1
        most = max(most, parsing)
        time.sleep(0.001)
        tree = parse(source)
        parsing -= 1
        return tree

    _imports.cache_clear()

    def read(number: int) -> tuple[tuple[str, ...], bool]:
        path = tmp_path / f"plugin_{number}.py"
        return _imports(path, path.stem, number, path.stat().st_size)

    with monkeypatch.context() as patched, ThreadPoolExecutor(8) as pool:
        patched.setattr(ast, "parse", slow)
        imports = set(pool.map(read, range(20)))
    assert imports == {(("os",), False)}
    assert most == 1
