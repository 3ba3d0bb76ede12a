"""Whether sums of 8-bit products can overflow on this CPU, and the notes that say so."""

from __future__ import annotations

from qx import cpu_flags

#: Instruction sets that add up products of 8-bit numbers in 32 bits directly.
EXACT_INSTRUCTIONS = ("avx512_vnni", "avx_vnni", "amx_int8", "asimd")
_WHY = "without VNNI this CPU adds up pairs of 8-bit products in 16 bits, which"
SEVEN_BITS = f"weights have 7 bits: {_WHY} weights of 8 bits could overflow"
SEVEN_BIT_ACTIVATIONS = f"activations have 7 bits: {_WHY} activations of 8 bits could overflow"


def saturates() -> bool:
    """Whether this CPU adds up products of 8-bit numbers in 16 bits: x86 without VNNI."""
    flags = cpu_flags()
    return "avx2" in flags and not any(flag in flags for flag in EXACT_INSTRUCTIONS)
