"""Find out what runtime there is, and whether the weights fit the workload's model."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from qx.errors import UsageError
from qx.jobs import InspectJob
from qx.worker.channel import Channel
from qx.worker.modules import fp32_model, load_weights
from qx.worker.plugins import host_for


def run(job: InspectJob, channel: Channel) -> None:
    """Answer with the runtime's description and the fingerprint of the weights."""
    channel.stage("import")
    import torch

    engines = [name for name in torch.backends.quantized.supported_engines if name != "none"]
    if job.engine is not None and job.engine not in engines:
        raise UsageError(
            f"engine {job.engine!r} is not available here; choose one of {', '.join(engines) or 'none'}"
        )
    channel.stage("weights")
    host = host_for(job, (job.workload,))
    model = fp32_model(host, job, job.workload.name, job.workload_options, quantizable=False)
    weights = Path(job.weights)
    load_weights(model, weights)
    channel.answer(
        runtime=_runtime(engines),
        weights_sha256=hashlib.sha256(weights.read_bytes()).hexdigest(),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
    )


def _runtime(engines: list[str]) -> dict[str, Any]:
    import torch

    return {
        "torch": torch.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "engines": engines,
        "mkldnn": bool(torch.backends.mkldnn.is_available()),  # type: ignore[no-untyped-call]
    }
