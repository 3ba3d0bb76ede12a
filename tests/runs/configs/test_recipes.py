"""Steps that configs of several runtimes share."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from qx import Unsupported

# The exporters warn of their own insides.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            ValueError("no scale for aten.relu.default"),
            "cannot be quantized: layer '1': ValueError: no scale",
        ),
        (RuntimeError("odd graph"), "cannot be quantized: RuntimeError: odd graph"),
        (TypeError("quantize() takes 2 arguments"), None),
        (MemoryError("80 GB"), None),
        (OSError("no space left"), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_quantizer_cannot_do_is_unsupported(error: Exception, message: str | None) -> None:
    """The layer is named where the error names its node; an error that no model causes stays as it is."""
    from qx_plugins.recipes.exporting import QUANTIZER_FAULTS, explain_lowering, export_model

    program = export_model(nn.Sequential(nn.Linear(4, 4), nn.ReLU()).eval(), (torch.zeros(1, 4),))
    with (
        pytest.raises(Unsupported if message else type(error)) as raised,
        explain_lowering(program, "cannot be quantized", unrelated=QUANTIZER_FAULTS),
    ):
        raise error
    assert str(raised.value).startswith(message or str(error))


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"avx2"}, True),
        ({"avx2", "avx512f", "avx512bw"}, True),
        ({"avx2", "avx512_vnni"}, False),
        ({"avx2", "avx_vnni"}, False),
        ({"asimd"}, False),
        (set(), False),
    ],
)
def test_saturation_goes_by_the_flags(
    flags: set[str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """x86 without VNNI saturates, and a system that reports no flags is not guessed about."""
    from qx_plugins.recipes import saturation

    monkeypatch.setattr(saturation, "cpu_flags", lambda: frozenset(flags))
    assert saturation.saturates() is expected
