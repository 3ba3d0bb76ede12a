"""Quantize a model on its device, verify it compiled, and write its state dict. It imports torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from qx import Artifact, Context, Unsupported, float_layers, one_line
from qx_plugins.recipes.cuda import use_ieee_precision
from qx_plugins.recipes.fidelity import compute_reference, verify_compiled
from qx_plugins.recipes.linears import ANY, Kernel, quantize_linears
from qx_plugins.runtimes.torch_compile.serving import compile_model, to_type

#: File of the state dict.
FILE = "model.pt"


def build_artifact(
    model: nn.Module,
    example_inputs: tuple[torch.Tensor, ...],
    context: Context,
    *,
    dtype: str = "float32",
    quantize: Callable[[nn.Module], nn.Module] | None = None,
) -> Artifact:
    """Convert a model to a type, quantize it on ``context.device``, and write its state dict.

    ``quantize`` gets the model on the device and returns it. The compiled model must give the outputs of the
    same one in eager mode. Raises ``Unsupported`` where it does not, or cannot be compiled.
    """
    assert context.folder is not None
    if context.device != "cpu":
        # torchao asks the current device for its compute capability.
        torch.cuda.set_device(context.device)
    use_ieee_precision()
    expected = compute_reference(model, example_inputs)
    served = to_type(model, dtype).to(context.device).eval()
    if quantize is not None:
        served = quantize(served)
    mode = str(context.options["mode"])
    try:
        compiled = compile_model(served, mode)
        eager, fast = (_on_device(function, context.device) for function in (served, compiled))
        # It is compiled anew for each batch size.
        verify_compiled(expected, eager, fast, "the compiled model", any_batch=False)
    except (Unsupported, MemoryError, torch.OutOfMemoryError):
        raise
    # What torch.compile raises for a model that it cannot compile is of any type.
    except Exception as error:
        raise Unsupported(f"torch.compile cannot compile the model: {one_line(error, 300)}") from error
    torch.save(served.state_dict(), context.folder / FILE)
    return Artifact(
        folder=context.folder,
        loader="torch_compile",
        files=[FILE],
        details={"dtype": dtype, "mode": mode, "torchao": quantize is not None},
    )


def build_torchao_artifact(
    model: nn.Module,
    example_inputs: tuple[torch.Tensor, ...],
    context: Context,
    recipe: Any,
    kernel: Kernel = ANY,
) -> Artifact:
    """Convert a model to bfloat16, and quantize the linear layers that the kernel supports.

    ``recipe`` is a configuration of torchao's ``quantize_``. Layers that ``float_layers`` names stay in
    bfloat16. Raises ``Unsupported`` as ``build_artifact`` does, and where the kernel supports no layer.
    """
    in_float = float_layers(model, context)
    quantize = partial(quantize_linears, recipe=recipe, in_float=in_float, kernel=kernel)
    return build_artifact(model, example_inputs, context, dtype="bfloat16", quantize=quantize)


def _on_device(function: Callable[..., Any], device: str) -> Callable[..., Any]:
    """Return a function that computes on a device what it gets from the CPU, and gives it back there."""

    def compute(*inputs: torch.Tensor) -> Any:
        outputs = function(*(tensor.to(device) for tensor in inputs))
        return outputs.cpu() if isinstance(outputs, torch.Tensor) else tuple(map(torch.Tensor.cpu, outputs))

    return compute
