"""Serve GGUF files with llama.cpp on the CPU; torch is not imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import Artifact, Context, Loader, Weights, hookimpl
from qx_plugins.runtimes.llama_cpp import SERVING

if TYPE_CHECKING:
    from qx_plugins.runtimes.llama_cpp.decoding import LlamaCppSubject


@hookimpl
def describe() -> Loader:
    return Loader(
        name="llama_cpp",
        summary="llama.cpp on the CPU, without torch; decoders of language models with their cache.",
        imports=("numpy", "llama_cpp"),
        requires=SERVING,
        extra="llama_cpp",
    )


@hookimpl
def load(artifact: Artifact, context: Context) -> LlamaCppSubject:
    from qx_plugins.runtimes.llama_cpp.decoding import LlamaCppSubject

    return LlamaCppSubject(artifact.folder / artifact.files[0], context.threads, artifact.details)


@hookimpl
def read_weights(artifact: Artifact) -> Weights | None:
    from qx_plugins.runtimes.llama_cpp.weights import read

    return read(artifact)
