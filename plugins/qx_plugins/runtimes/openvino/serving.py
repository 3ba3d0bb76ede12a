"""Serve a model with OpenVINO: what ``serve.py`` does, too, from the text of these functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np


def load(files: list[Path], details: dict[str, Any], threads: int) -> Any:
    """Compile a model for the CPU, and return a request that computes on this many threads."""
    import openvino

    properties = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        # Otherwise OpenVINO would pin all processes that serve to the same processor.
        "ENABLE_CPU_PINNING": False,
        # Otherwise layers that are not quantized would run in the type that is fastest on this CPU.
        "INFERENCE_PRECISION_HINT": details["precision"],
        "PERF_COUNT": details.get("profile", False),
    }
    request = openvino.Core().compile_model(files[0], "CPU", properties).create_infer_request()
    return request, details["outputs"]


def run(model: Any, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the outputs of the model, whose inputs have the order of the arrays."""
    request, outputs = model
    answers = request.infer(dict(enumerate(inputs.values())))
    # Copies, because the next call overwrites the request's memory.
    return {name: answers[index].copy() for index, name in enumerate(outputs)}
