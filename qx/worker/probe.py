"""The probe: inputs and the outputs of the converted module for them, with which loaded artifacts must agree.

The probe is computed by one thread on arrays in row-major order, as launches get them. If a loaded module has
one thread on the CPU too, the same kernels do the same work in the same order, and its outputs must be equal.
With several threads, and on a device, sums are divided and rounded differently. How far apart that may take
the outputs is derived from the layers of the network, see :func:`rounding`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qx.contract.records import Arrays
from qx.contract.structure import Structure, lengths_of
from qx.errors import QxError
from qx.values import Array
from qx.worker.outputs import checked_outputs, listed, pack, unpack
from qx.worker.state import tensors

if TYPE_CHECKING:
    from torch import nn

    from qx.contract.records import Subject

#: The file of the probe, beside the artifact.
PROBE = "probe.npz"
#: The files of what the fp32 model gives for inputs of a length, beside the artifact, where lengths vary.
REFERENCE = "reference-{length}.npz"
#: The files of further probes, of inputs of a length.
PROBE_AT = "probe-{length}.npz"
#: Keys of arrays in that file, beside those of the packed outputs: of the inputs, before their number, and of
#: the rounding.
INPUT, ROUNDING = "input_", "rounding"
#: What rounds differently from one thread on the CPU, in words.
SEVERAL_THREADS = "several threads"
#: Standard deviations within which the largest of thousands of errors lies, which add up like random steps.
DEVIATIONS = 8
#: Unit roundoff of float32, in which sums are accumulated whatever the type of the weights is.
ACCUMULATION = 2.0**-24
#: Unit roundoff of 8-bit activations as a share of their range: half a step of the 128 levels of torch.
EIGHT_BITS = 2.0**-8


def write_probe(
    module: nn.Module,
    inputs: Sequence[Array],
    names: Sequence[str],
    state: Mapping[str, object],
    path: Path,
    *,
    is_finished: bool = True,
) -> None:
    """Write the probe of a module for these inputs. ``names`` are those of its outputs, in their order.

    A module of a config that returns something else than as many tensors has none. One that is not finished
    is exported or trained later: tensors that it keeps from this call must be usable for that.
    """
    import numpy as np
    import torch

    # Any: `numpy.savez` takes the arrays as keywords, among its own options.
    arrays: dict[str, Any] = {
        f"{INPUT}{index}": np.ascontiguousarray(array) for index, array in enumerate(inputs)
    }
    # In this order: leaving inference mode switches gradients on.
    with torch.inference_mode(is_finished), torch.no_grad():
        outputs = _named(module(*map(torch.from_numpy, arrays.values())), names)
    if outputs is not None:
        np.savez(path, **arrays | pack(outputs) | {ROUNDING: rounding(state)})


def _named(outputs: object, names: Sequence[str]) -> dict[str, Array] | None:
    """Return what a module gives as named arrays; None if it gives neither named tensors nor one a name."""
    import torch

    if isinstance(outputs, torch.Tensor):
        outputs = (outputs,)
    if isinstance(outputs, (tuple, list)) and len(outputs) == len(names):
        outputs = dict(zip(names, outputs, strict=True))
    if not isinstance(outputs, Mapping) or not outputs:
        return None
    are_tensors = all(isinstance(output, torch.Tensor) for output in outputs.values())
    return {name: output.numpy() for name, output in outputs.items()} if are_tensors else None


def probes_at_lengths(home: Path, structure: Structure | None) -> tuple[Path, ...]:
    """Return the places of the further probes of an artifact: of the smallest and of the largest length."""
    lengths = lengths_of(structure)
    ends = () if lengths is None else (lengths.lowest, lengths.highest)
    return tuple(home / PROBE_AT.format(length=end) for end in ends)


def hold_to_probe(
    subject: Subject, path: Path, *, loader: str, exact: bool, rounded_by: str = SEVERAL_THREADS
) -> None:
    """Raise ``QxError`` if an artifact's outputs differ from those of the converted module in the build.

    With ``exact`` they must be equal, otherwise they may differ by rounding, which ``rounded_by`` does.
    """
    if not path.is_file():
        return
    arrays, expected, share = _read_probe(path)
    returned = subject.outputs(subject.call(subject.prepare(arrays)))
    outputs = checked_outputs(returned, loader, _items(arrays))
    if text := difference(outputs, expected, 0.0 if exact else share, rounded_by):
        raise QxError(f"the loaded artifact does not give the outputs of the converted module: they {text}")


def is_another_network(subject: Subject, path: Path, names: Iterable[str], loader: str) -> bool:
    """Return whether a subject gives other outputs than the fp32 model did, by more than these are large.

    ``names`` are those of its inputs. False where it refuses the inputs by an error, and without the file of
    what the fp32 model gave.
    """
    from qx.statistics.output_error import output_error

    if not path.is_file():
        return False
    arrays, expected, _ = _read_probe(path)
    try:
        named = dict(zip(names, arrays.values(), strict=True))
        returned = subject.outputs(subject.call(subject.prepare(named)))
    except Exception:
        return False
    outputs = checked_outputs(returned, loader, _items(arrays))
    if outputs.keys() != expected.keys():
        return True
    return any(output_error(outputs[name], right).is_below_0_db for name, right in expected.items())


def _read_probe(path: Path) -> tuple[dict[str, Array], dict[str, Array], float]:
    """Return the inputs in a probe, the outputs, and the rounding."""
    import numpy as np

    with np.load(path) as probe:
        arrays = {name: probe[name] for name in probe.files if name.startswith(INPUT)}
        return arrays, unpack(probe), float(probe[ROUNDING])


def _items(arrays: Arrays) -> int:
    return len(next(iter(arrays.values())))


def difference(outputs: Arrays, expected: Arrays, share: float, rounded_by: str = SEVERAL_THREADS) -> str:
    """Say how outputs differ from the expected ones, by more than a share of the largest; empty if equal."""
    import numpy as np

    if outputs.keys() != expected.keys():
        return f"are called {listed(outputs)} in place of {listed(expected)}"
    for name, right in expected.items():
        own, words = outputs[name], "" if len(expected) == 1 else f" in {name!r}"
        if own.shape != right.shape:
            return f"have the shape {list(own.shape)} in place of {list(right.shape)}{words}"
        allowed = share * _largest(right)
        if not np.allclose(own, right, rtol=0, atol=allowed, equal_nan=True):
            explained = f", rounding by {rounded_by} explains {allowed:.3g}" if allowed else ""
            return f"differ by up to {_largest(own.astype(float) - right):.3g}{words}{explained}"
    return ""


def rounding(state: Mapping[str, object]) -> float:
    """Derive how far rounding can take the outputs of a network, as a share of the largest output.

    Each layer rounds its outputs to the type that it computes in, with unit roundoff u (float32: 2^-24,
    bfloat16: 2^-8, 8 bits: 2^-8 of the range), and accumulates fan_in products in float32, each rounded by at
    most 2^-24. The squares of independent rounding errors add up (the probabilistic bound of Higham and Mary,
    2019), so that all layers contribute sqrt(depth) (u + sqrt(fan_in) 2^-24) of the size of the outputs.
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
    """Return the largest magnitude of the finite elements of an array."""
    import numpy as np

    finite = np.abs(array[np.isfinite(array)])
    return float(finite.max()) if finite.size else 0.0
