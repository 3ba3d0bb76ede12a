"""Check a model before anything is written for llama.cpp. Light: torch is imported inside functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import hookimpl

if TYPE_CHECKING:
    from torch import nn


@hookimpl(specname="check_model")
def check_decoder(model: nn.Module) -> None:
    """Raise ``Unsupported`` where the model is no decoder that qx can write for llama.cpp."""
    from qx_plugins.runtimes.llama_cpp.architectures import describe_decoder

    describe_decoder(model)
