"""The built-in plugins are what the conformance kit asks of everybody's."""

from __future__ import annotations

import os

import pytest

from qx.host import Host
from qx.testing import conformance_test

#: They compile for minutes: ``QX_SLOW=1`` checks them too.
SLOW = "inductor"

for _entry in Host.discover().entries:
    if _entry.distribution == "quant-explorer" and _entry.kind != "wrapper":
        _test = conformance_test(_entry.name)
        if SLOW in _entry.name and not os.environ.get("QX_SLOW"):
            _test = pytest.mark.skip(reason="compiles for minutes; QX_SLOW=1 runs it")(_test)
        globals()[f"test_{_entry.name}"] = pytest.mark.filterwarnings("default")(_test)
