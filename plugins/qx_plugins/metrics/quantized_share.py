"""The share of the weights that the artifact stores in 8 bits or fewer: whether a config quantized at all."""

from __future__ import annotations

from typing import Any

from qx import Artifact, Context, Metric, Samples, StoredWeight, cpu_flags, hookimpl

#: Instruction sets for 8-bit multiply-adds by their names in Linux, the fastest first.
INSTRUCTIONS = ("amx_int8", "avx512_vnni", "avx_vnni", "i8mm", "asimddp", "avx512bw", "avx2")
#: Instruction sets for bfloat16, in which weight-only recipes compute.
BFLOAT16 = ("amx_bf16", "avx512_bf16", "bf16")


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
    """Return the share of weights in 8 bits or fewer, by number of elements.

    Weights are the tensors of two or more dimensions that layers multiply by. Biases and the statistics of
    batch normalisation are the same in every config and left out. Weights of the model that are missing in
    the files count as not quantized; the details say how many. Returns None for artifacts whose loader cannot
    list their weights.
    """
    weights = data.read_weights()
    if weights is None or not weights.layers:
        return None
    layers = weights.layers.values()
    elements = sum(layer.elements for layer in layers)
    # Elements of the model that are in no file: the reader did not recognise them, or nothing uses them.
    missing = max(0, (data.weight_elements or 0) - elements - weights.other_elements)
    narrow = [layer for layer in layers if layer.bits <= 8]
    bits = sum(layer.elements * layer.bits for layer in layers)
    return Samples(
        sum(layer.elements for layer in narrow) / (elements + missing),
        details={
            "layers": {name: _as_json(layer) for name, layer in weights.layers.items()},
            "elements": elements,
            "elements_of_model": data.weight_elements,
            "elements_missing": missing,
            "share_of_stored_bytes": sum(layer.elements * layer.bits for layer in narrow) / bits,
            "kernels": dict(weights.kernels),
            "kernels_in_8_bits": sum(weights.kernels[name] for name in weights.narrow_kernels),
            "engine": weights.engine or context.engine,
            "instructions": [flag for flag in INSTRUCTIONS if flag in cpu_flags()],
            "bfloat16_instructions": [flag for flag in BFLOAT16 if flag in cpu_flags()],
        },
    )


def _as_json(weight: StoredWeight) -> dict[str, Any]:
    fields = {"elements": weight.elements, "bits": weight.bits, "type": weight.type}
    return {**fields, "operator": weight.operator} if weight.operator else fields
