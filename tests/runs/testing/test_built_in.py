"""The built-in plugins are what the conformance kit asks of everybody's."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

import pytest

from qx.host.host import Host
from qx.testing import conformance_test

#: One of each kind, and of metrics one of predictions and one of launches. The others follow with
#: ``QX_SLOW=1`` (``tox -e conformance``): they take minutes, and share all but a few lines with these.
QUICK = {"static_int8_per_channel", "accuracy", "latency", "digits_cnn", "torch_eager"}


def _left_out() -> Any:
    """One skip for a plugin, and not one for each of its checks."""

    @pytest.mark.slow
    def test() -> None:
        raise AssertionError

    return test


@pytest.fixture(autouse=True)
def few_pairs_of_launches(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the fast tier the check that measures in pairs of launches takes three pairs."""
    if not os.environ.get("QX_SLOW"):
        monkeypatch.setattr(import_module("qx.testing.measuring"), "PAIRS", 3)


for _entry in Host.discover().entries:
    if _entry.distribution == "quant-explorer" and _entry.kind != "wrapper":
        _runs = _entry.name in QUICK or os.environ.get("QX_SLOW")
        _test = conformance_test(_entry.name) if _runs else _left_out()
        globals()[f"test_{_entry.name}"] = pytest.mark.filterwarnings("default")(_test)
