"""Load a state dict into the workload's model, and compile it in this process. It imports torch."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from qx import Artifact, Context
from qx_plugins.recipes.bfloat16 import Bfloat16
from qx_plugins.recipes.cuda import use_ieee_precision
from qx_plugins.recipes.float16 import Float16

#: Wrappers of models that compute in a type of 16 bits.
WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {"bfloat16": Bfloat16, "float16": Float16}


def to_type(model: nn.Module, dtype: str) -> nn.Module:
    """Return a model that computes in a type, with inputs and outputs in float32."""
    return model if dtype == "float32" else WRAPPERS[dtype](model)


def compile_model(model: nn.Module, mode: str) -> Any:
    """Return the compiled model, which compiles anew for each batch size, at the first call of it.

    Where that happens too often torch would go on in eager mode; here it is an error.
    """
    config = torch._dynamo.config
    if hasattr(config, "fail_on_recompile_limit_hit"):
        config.fail_on_recompile_limit_hit = True
    return torch.compile(model, mode=None if mode == "default" else mode, dynamic=False)


def load_model(artifact: Artifact, context: Context) -> nn.Module:
    """Return the model of an artifact on ``context.device``, in eager mode."""
    assert context.make_model is not None
    if artifact.details["torchao"]:
        # It tells torch which of its classes are safe to load, and here Inductor what its recipes are best
        # compiled with, as quantizing does in the build.
        from torchao.quantization.utils import recommended_inductor_config_setter

        recommended_inductor_config_setter()
    use_ieee_precision()
    model = to_type(context.make_model(), str(artifact.details["dtype"]))
    path = artifact.folder / artifact.files[0]
    state = torch.load(path, map_location=context.device, weights_only=True)
    # Quantized weights are tensors of other classes, and take the place of those of the model.
    model.load_state_dict(state, strict=True, assign=True)
    return model.to(context.device).eval()


def keep_kernels_in(folder: Path) -> None:
    """Have Inductor and Triton keep the kernels that they compile in a folder, and find them there."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "inductor")
    os.environ["TRITON_CACHE_DIR"] = str(folder / "triton")
