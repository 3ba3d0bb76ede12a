"""Did it quantize at all? The share of the weights that the artifact stores in 8 bits or fewer."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

from qx import Artifact, Context, Metric, Samples, cpu_flags, hookimpl

#: From the fastest down: what 8-bit multiply-adds can be done with, as the kernel names it.
INSTRUCTIONS = ("amx_int8", "avx512_vnni", "avx_vnni", "i8mm", "asimddp", "avx512bw", "avx2")
#: The same for bfloat16, in which weight-only recipes compute.
BFLOAT16 = ("amx_bf16", "avx512_bf16", "bf16")
#: How each type of file is read, and what does its work (torch's own engine is told by the context). Files
#: without a type of their own here hold no weights by themselves.
READERS = {
    ".pt": ("qx_plugins.runtimes.torch_eager.weights", None),
    ".pt2": ("qx_plugins.runtimes.aot_inductor.weights", "Inductor, with oneDNN"),
    ".onnx": ("qx_plugins.runtimes.onnxruntime.weights", "ONNX Runtime, with MLAS"),
    ".xml": ("qx_plugins.runtimes.openvino.weights", "OpenVINO, with oneDNN"),
    ".pte": ("qx_plugins.runtimes.executorch.weights", "ExecuTorch, with XNNPACK"),
    ".param": ("qx_plugins.runtimes.ncnn.weights", "ncnn"),
}
#: Kernels that multiply by weights of 8 bits or fewer, by the names that their runtimes give them.
NARROW = re.compile(
    r"QLinear|DynamicQuantize|Q?(Gemm|MatMul)Integer|ConvInteger|NBits|QGemm| q?[cu]?[iu](nt)?8"
    r"| qcint[48]| qint8|qconv|qlinear|int_mm|weight_int"
)
#: Files that belong to one of another type, which is read with them.
BESIDE = {".bin": {".xml", ".param"}}


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
    """A weight counts by the bytes that it took before, in fp32: half of the network in 8 bits is one half.

    Weights are the tensors of two or more dimensions that layers multiply by; biases and the statistics of
    batch normalisation stay as they are in every config, and are left out. Weights of the model that are not
    met in the files count as not quantized, and are told in the details. None for artifacts of which there is
    a file that nothing here can read.
    """
    layers: dict[str, dict[str, Any]] = {}
    others = 0
    kernels: dict[str, int] = {}
    engine = context.engine
    types = {(data.folder / file).suffix for file in data.files}
    for file in data.files:
        path = data.folder / file
        if BESIDE.get(path.suffix, set()) & types:
            continue
        if path.suffix not in READERS:
            return None
        reader, named = READERS[path.suffix]
        found = import_module(reader).read(path, data.details)
        if found is None:
            return None
        engine = named or engine
        layers |= found.layers
        kernels |= found.kernels
        others += found.others
    total = sum(layer["elements"] for layer in layers.values())
    # What the model has and no file: a reader did not know it, or it was left out because nothing needs it.
    missing = max(0, (data.weight_elements or 0) - total - others)
    if not total:
        return None
    few = [layer for layer in layers.values() if layer["bits"] <= 8]
    bits = sum(layer["elements"] * layer["bits"] for layer in layers.values())
    return Samples(
        sum(layer["elements"] for layer in few) / (total + missing),
        details={
            "layers": layers,
            "elements": total,
            "elements_of_model": data.weight_elements,
            "elements_missing": missing,
            "share_of_stored_bytes": sum(layer["elements"] * layer["bits"] for layer in few) / bits,
            "kernels": kernels,
            "kernels_in_8_bits": sum(count for name, count in kernels.items() if NARROW.search(name)),
            "engine": engine,
            "instructions": [flag for flag in INSTRUCTIONS if flag in cpu_flags()],
            "bfloat16_instructions": [flag for flag in BFLOAT16 if flag in cpu_flags()],
        },
    )
