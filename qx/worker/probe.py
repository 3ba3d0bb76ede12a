"""The probe: inputs, and what a converted module gave for them, to hold every launch of its artifact to it.

The probe is computed by one thread on arrays in row-major order, as launches get them. Where a loaded module
has one thread too, the same kernels do the same work in the same order, and equal outputs are demanded. Where
sums are divided among threads, they are rounded otherwise; how far apart that may take the outputs is derived
from what the network consists of, see :func:`rounding`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qx.errors import QxError
from qx.values import Array
from qx.worker.state import tensors

if TYPE_CHECKING:
    from torch import nn

    from qx.contract.records import Subject

#: The file of the probe, beside the artifact.
PROBE = "probe.npz"
OUTPUTS, ROUNDING = "outputs", "rounding"
#: Rounding errors add up as random steps do: the largest of thousands lies within so many
#: standard deviations.
DEVIATIONS = 8
#: Unit roundoff of float32, in which sums are accumulated whatever the weights are stored in.
ACCUMULATION = 2.0**-24
#: The same of 8-bit activations, as a share of their range: half a step of the 128 levels that torch uses.
EIGHT_BITS = 2.0**-8


def write_probe(module: nn.Module, inputs: Sequence[Array], state: Mapping[str, object], path: Path) -> None:
    """Write what a module gives for arrays, unless it gives something else than one tensor."""
    import numpy as np
    import torch

    # Any: among the arrays, numpy takes a switch.
    arrays: dict[str, Any] = {
        f"input_{index}": np.ascontiguousarray(array) for index, array in enumerate(inputs)
    }
    with torch.inference_mode():
        outputs = module(*map(torch.from_numpy, arrays.values()))
    if isinstance(outputs, torch.Tensor):
        np.savez(path, **arrays | {OUTPUTS: outputs.numpy(), ROUNDING: rounding(state)})


def hold_to_probe(subject: Subject, path: Path, *, exact: bool) -> None:
    """Raise ``QxError`` where an artifact does not give what the converted module gave in the build.

    ``exact`` demands equal outputs, else they may differ by the rounding that several threads bring.
    """
    import numpy as np

    if not path.is_file():
        return
    with np.load(path) as probe:
        arrays = {name: probe[name] for name in probe.files if name.startswith("input_")}
        expected, share = probe[OUTPUTS], float(probe[ROUNDING])
    outputs = np.asarray(subject.outputs(subject.call(subject.prepare(arrays))))
    if outputs.shape == expected.shape:
        allowed = 0.0 if exact else share * _largest(expected)
        same = np.allclose(outputs, expected, rtol=0, atol=allowed, equal_nan=True)
        difference = f"differ by up to {_largest(outputs.astype(float) - expected):.3g}"
        difference += f", rounding by several threads explains {allowed:.3g}" if allowed else ""
    else:
        same = False
        difference = f"have the shape {list(outputs.shape)} in place of {list(expected.shape)}"
    if not same:
        raise QxError(
            f"the loaded artifact does not give the outputs of the converted module: they {difference}"
        )


def rounding(state: Mapping[str, object]) -> float:
    """Derive how far rounding can take the outputs of a network, as a share of the largest output.

    Each layer rounds what it gives to the type that it computes in, with unit roundoff u (float32: 2^-24,
    bfloat16: 2^-8, 8 bits: 2^-8 of the range), and accumulates fan_in products in float32, each rounded by at
    most 2^-24. Errors of independent roundings add up as their squares do (the probabilistic bound of Higham
    and Mary, 2019), so that sqrt(depth) (u + sqrt(fan_in) 2^-24) of the outputs' size comes of all layers.
    Each weight of the state dict counts as a layer, and the largest fan_in as that of all.
    """
    import torch

    weights = [tensor for tensor in tensors(dict(state)) if tensor.dim() >= 2]
    fan_in = max((weight[0].numel() for weight in weights if len(weight)), default=1)
    units = [
        EIGHT_BITS if weight.is_quantized else torch.finfo(weight.dtype).eps / 2
        for weight in weights
        if weight.is_quantized or weight.is_floating_point()
    ]
    unit = max(units, default=ACCUMULATION)
    return float(DEVIATIONS * max(1, len(weights)) ** 0.5 * (unit + fan_in**0.5 * ACCUMULATION))


def _largest(array: Array) -> float:
    import numpy as np

    finite = np.abs(array[np.isfinite(array)])
    return float(finite.max()) if finite.size else 0.0
