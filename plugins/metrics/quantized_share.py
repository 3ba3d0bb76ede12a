"""Did it quantize at all? The share of the weights that the artifact stores in 8 bits or fewer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from qx import Artifact, Context, Metric, Samples, cpu_flags, hookimpl

if TYPE_CHECKING:
    import torch

#: From the fastest down: what 8-bit multiply-adds can be done with, as the kernel names it.
INSTRUCTIONS = ("amx_int8", "avx512_vnni", "avx_vnni", "i8mm", "asimddp", "avx512bw", "avx2")


@hookimpl
def describe() -> Metric:
    return Metric(
        name="quantized_share",
        summary="Share of the weights that are stored in 8 bits or fewer; by layer in its details.",
        unit="fraction",
        better="neither",
        samples="exact",
        compare="difference",
        phase="artifact",
    )


@hookimpl
def measure(data: Artifact, context: Context) -> Samples | None:
    """A weight counts by its elements, whatever they take: half of the network in 8 bits is one half.

    Weights are the tensors of two or more dimensions; biases and the statistics of batch normalisation stay
    as they are in every config, and are left out. None for artifacts that are no state dict of torch.
    """
    if [name for name in data.files if not name.endswith(".pt")]:
        return None
    import torch

    layers: dict[str, dict[str, Any]] = {}
    for file in data.files:
        try:
            state = torch.load(data.folder / file, map_location="cpu", weights_only=True)
        except Exception:
            # Whatever else the file holds (a script module, say), the unpickler raises what it runs into.
            return None
        if not isinstance(state, Mapping):
            return None
        for name, tensor in _tensors(state):
            if tensor.dim() >= 2:
                bits = 8 * tensor.element_size()
                layers[name] = {"elements": tensor.numel(), "bits": bits, "type": str(tensor.dtype)}
    total = sum(layer["elements"] for layer in layers.values())
    if not total:
        return None
    narrow = sum(layer["elements"] for layer in layers.values() if layer["bits"] <= 8)
    flags = [flag for flag in INSTRUCTIONS if flag in cpu_flags()]
    return Samples(
        narrow / total,
        details={
            "layers": layers,
            "engine": context.engine,
            "instructions": flags,
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        },
    )


def _tensors(state: Mapping[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor in a state dict; packed parameters of quantized linear layers lie in tuples."""
    import torch

    for name, value in state.items():
        for part in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(part, torch.Tensor):
                yield name, part
