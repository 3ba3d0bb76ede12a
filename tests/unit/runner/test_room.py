"""The room that an evaluation takes, on the disk and in memory."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from qx.contract.structure import Lengths
from qx.errors import UsageError
from qx.runner.evaluation import check_room, evaluation_batch_size


def test_a_disk_that_is_too_small_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says how much the outputs of all cells take, and how much there is."""
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: SimpleNamespace(free=2_000_000_000 if path == tmp_path else 0)
    )
    run: Any = SimpleNamespace(outputs=tmp_path)
    workload_run: Any = SimpleNamespace(
        cells=dict.fromkeys(["toy/a", "toy/b", "toy/c", "toy/not_installed"]),
        failures={"toy/not_installed": None},
        ready=SimpleNamespace(items=5000, output_bytes=100_000),
    )
    check_room(run, [workload_run])
    workload_run.ready.output_bytes = 200_000
    words = (
        "the outputs of 3 cells with 5,000 items each take 3.00 GB on the disk, and 2.00 GB are free: name a "
        "folder on a larger disk (--out, or QX_CACHE where there is no such option), or evaluate fewer items"
    )
    with pytest.raises(UsageError, match=re.escape(words)):
        check_room(run, [workload_run])


@pytest.mark.parametrize(
    ("highest", "output_bytes", "items", "expected"),
    [
        (None, 40, 5000, 100),
        (None, 1 << 22, 5000, 4),
        (None, 40, 7, 7),
        (512, 40, 5000, 2),
        (32, 40, 5000, 32),
        (8192, 40, 5000, 1),
    ],
    ids=["small", "large outputs", "few items", "texts", "short texts", "long texts"],
)
def test_items_are_evaluated_in_batches_that_fit(
    highest: int | None, output_bytes: int, items: int, expected: int
) -> None:
    """As many items in a call as memory and caches like, by their bytes and by the longest of them."""
    lengths = highest and Lengths(lowest=1, highest=highest, dimensions=(1,))
    prepared: Any = SimpleNamespace(
        item_bytes=100, output_bytes=output_bytes, items=items, structure=SimpleNamespace(lengths=lengths)
    )
    assert evaluation_batch_size(prepared) == expected
