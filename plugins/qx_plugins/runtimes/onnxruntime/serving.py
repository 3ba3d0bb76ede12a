"""Serve an ONNX file with ONNX Runtime: what ``serve.py`` does, too, from the text of these functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np


def load(files: list[Path], details: dict[str, Any], threads: int) -> Any:
    """Open a session on the CPU that computes on this many threads; returns it with the outputs' names."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    # Threads spin within a call, as in a server, and sleep between calls, when others compute.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if "profile" in details:
        options.enable_profiling, options.profile_file_prefix = True, details["profile"]
    session = onnxruntime.InferenceSession(
        str(files[0]),
        options,
        providers=["CPUExecutionProvider"],
        # An optimizer that quantizes the weights of layers that are in float between layers in 8 bits.
        disabled_optimizers=details.get("disabled_optimizers", []),
    )
    return session, details["outputs"]


def run(model: Any, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the outputs of the graph, whose inputs have the order of the arrays."""
    session, outputs = model
    names = [entry.name for entry in session.get_inputs()]
    arrays = session.run(None, dict(zip(names, inputs.values(), strict=True)))
    return dict(zip(outputs, arrays, strict=True))
