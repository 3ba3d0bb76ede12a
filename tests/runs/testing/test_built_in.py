"""The built-in plugins pass the conformance kit."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

import pytest

from qx.host.host import Host
from qx.testing import conformance_test

#: Plugins of the fast tier: one of each kind. The others take minutes, above all those that are measured in
#: pairs of launches, and share most of their code with these: ``QX_SLOW=1`` (``tox -e conformance``) runs
#: them.
QUICK = {"static_int8_per_channel", "accuracy", "digits_cnn", "torch_eager"}


def _left_out() -> Any:
    """Return one slow test for a plugin that is left out, instead of one for each of its checks."""

    @pytest.mark.slow
    def test() -> None:
        raise AssertionError

    return test


@pytest.fixture(autouse=True)
def few_pairs_of_launches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the check that measures in pairs of launches take three pairs in the fast tier."""
    if not os.environ.get("QX_SLOW"):
        monkeypatch.setattr(import_module("qx.testing.measuring"), "PAIRS", 3)


for _entry in Host.discover().entries:
    if _entry.distribution == "quant-explorer" and _entry.kind != "wrapper":
        _runs = _entry.name in QUICK or os.environ.get("QX_SLOW")
        _test = conformance_test(_entry.name) if _runs else _left_out()
        globals()[f"test_{_entry.name}"] = pytest.mark.filterwarnings("default")(_test)
