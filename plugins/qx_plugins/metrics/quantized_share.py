"""Did it quantize at all? The share of the weights that the artifact stores in 8 bits or fewer."""

from __future__ import annotations

from typing import Any

from qx import Artifact, Context, Metric, Samples, StoredWeight, cpu_flags, hookimpl

#: From the fastest down: what 8-bit multiply-adds can be done with, as the kernel names it.
INSTRUCTIONS = ("amx_int8", "avx512_vnni", "avx_vnni", "i8mm", "asimddp", "avx512bw", "avx2")
#: The same for bfloat16, in which weight-only recipes compute.
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
    """A weight counts by the bytes that it took before, in fp32: half of the network in 8 bits is one half.

    Weights are the tensors of two or more dimensions that layers multiply by; biases and the statistics of
    batch normalisation stay as they are in every config, and are left out. Weights of the model that are not
    met in the files count as not quantized, and are named in the details. None for artifacts whose loader
    cannot say which weights they hold.
    """
    weights = data.read_weights()
    if weights is None or not weights.layers:
        return None
    layers = weights.layers.values()
    elements = sum(layer.elements for layer in layers)
    # What the model has and no file: a reader did not know it, or it was left out because nothing needs it.
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
