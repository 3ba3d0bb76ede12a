"""A decoder in IEEE single precision as a GGUF file, served by llama.cpp."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import Artifact, Config, Context, hookimpl
from qx_plugins.runtimes.llama_cpp import CONVERTING, prechecks

if TYPE_CHECKING:
    import torch
    from torch import nn


@hookimpl
def describe() -> Config:
    return Config(
        name="llama_cpp_fp32",
        summary="A decoder in single precision, in llama.cpp: what the runtime itself gains.",
        requires=CONVERTING,
        extra="llama_cpp",
        counterpart="fp32_baseline",
    )


check_model = prechecks.check_decoder


@hookimpl
def convert(model: nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> Artifact:
    from qx_plugins.runtimes.llama_cpp.converting import build_artifact

    return build_artifact(model, context, kind=None, cache="float32")
