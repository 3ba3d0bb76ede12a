"""Linear layers quantized by torchao's ``quantize_``. It imports torch: import it inside functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from attrs import frozen
from torch import nn

from qx import Unsupported
from qx_plugins.recipes.bfloat16 import unwrap
from qx_plugins.recipes.tracing import check_python

Model = TypeVar("Model", bound=nn.Module)


@frozen
class Kernel:
    """Which linear layers a kernel can take."""

    takes: Callable[[nn.Linear], bool]
    #: In words what ``takes`` asks of a layer.
    needs: str


#: Takes every linear layer.
ANY = Kernel(lambda _: True, "")


def check_linears(model: nn.Module, kernel: Kernel = ANY) -> None:
    """Raise ``Unsupported`` where the kernel can take no layer of the model, and say why."""
    model = unwrap(model)
    linears = {name: one for name, one in model.named_modules() if isinstance(one, nn.Linear)}
    if not linears:
        check_python(model)
        raise Unsupported(f"torchao quantizes nn.Linear alone, and {type(model).__name__} has none")
    if not any(map(kernel.takes, linears.values())):
        name, one = next(iter(linears.items()))
        raise Unsupported(
            f"no nn.Linear {kernel.needs}: layer {name!r} and {len(linears) - 1} more; "
            f"the first takes {one.in_features} and gives {one.out_features}"
        )


def quantize_linears(model: Model, recipe: Any, kernel: Kernel = ANY) -> Model:
    """Quantize the linear layers that the kernel takes, in place. Raises ``Unsupported`` for none."""
    from torchao.quantization import quantize_

    check_linears(model, kernel)
    quantize_(model, recipe, filter_fn=lambda one, _: isinstance(one, nn.Linear) and kernel.takes(one))
    return model
