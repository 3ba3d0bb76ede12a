"""Linear layers quantized by torchao's ``quantize_``. Imports both: import it inside functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn
from torchao.quantization import quantize_

from qx import Unsupported

Model = TypeVar("Model", bound=nn.Module)


def _any(_: nn.Linear) -> bool:
    return True


def quantized(
    model: Model, recipe: Any, *, takes: Callable[[nn.Linear], bool] = _any, needs: str = ""
) -> Model:
    """Quantize the linear layers that the recipe's kernel takes, in place. Raises ``Unsupported`` for none.

    ``needs`` says in words what ``takes`` asks of a layer.
    """
    linears = {name: one for name, one in model.named_modules() if isinstance(one, nn.Linear)}
    if not linears:
        raise Unsupported(f"torchao quantizes nn.Linear alone, and {type(model).__name__} has none")
    if not any(takes(one) for one in linears.values()):
        name, one = next(iter(linears.items()))
        raise Unsupported(
            f"no nn.Linear {needs}: layer {name!r} and {len(linears) - 1} more; "
            f"the first takes {one.in_features} and gives {one.out_features}"
        )
    quantize_(model, recipe, filter_fn=lambda module, _: isinstance(module, nn.Linear) and takes(module))
    return model
