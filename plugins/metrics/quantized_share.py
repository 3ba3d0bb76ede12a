"""Did it quantize at all? The share of the weights that the artifact stores in 8 bits or fewer."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from qx import Artifact, Context, Metric, Samples, cpu_flags, hookimpl

#: From the fastest down: what 8-bit multiply-adds can be done with, as the kernel names it.
INSTRUCTIONS = ("amx_int8", "avx512_vnni", "avx_vnni", "i8mm", "asimddp", "avx512bw", "avx2")
#: How each type of file is read. Files without a type of their own here hold no weights by themselves.
READERS = {
    ".pt": "qx_plugins.readers.state_dict",
    ".pt2": "qx_plugins.readers.aot_inductor",
    ".onnx": "qx_plugins.readers.onnx",
    ".xml": "qx_plugins.readers.openvino",
    ".pte": "qx_plugins.readers.executorch",
}
#: Files that belong to one of another type, which is read with them.
BESIDE = {".bin": ".xml"}


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

    Weights are the tensors of two or more dimensions that layers multiply by; biases and the statistics of
    batch normalisation stay as they are in every config, and are left out. None for artifacts of which there
    is a file that nothing here can read.
    """
    layers: dict[str, dict[str, Any]] = {}
    kernels: dict[str, int] = {}
    types = {(data.folder / file).suffix for file in data.files}
    for file in data.files:
        path = data.folder / file
        if BESIDE.get(path.suffix) in types:
            continue
        if path.suffix not in READERS:
            return None
        found = import_module(READERS[path.suffix]).read(path, data.details)
        if found is None:
            return None
        layers |= found.layers
        kernels |= found.kernels
    total = sum(layer["elements"] for layer in layers.values())
    if not total:
        return None
    narrow = sum(layer["elements"] for layer in layers.values() if layer["bits"] <= 8)
    return Samples(
        narrow / total,
        details={
            "layers": layers,
            "kernels": kernels,
            "engine": context.engine,
            "instructions": [flag for flag in INSTRUCTIONS if flag in cpu_flags()],
        },
    )
