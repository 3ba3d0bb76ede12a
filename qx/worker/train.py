"""Train a workload's model and write its weights."""

from __future__ import annotations

import io
from pathlib import Path

from qx.errors import PluginError
from qx.files import write_whole
from qx.processes.jobs import TrainJob
from qx.worker.channel import Channel
from qx.worker.modules import fp32_model
from qx.worker.plugins import host_for, loading_context, seed_everything


def run(job: TrainJob, channel: Channel) -> None:
    """Train the model and write its state dict."""
    channel.stage("import")
    import torch

    torch.set_num_threads(job.threads)
    host = host_for(job, (job.workload,))
    name = job.workload.name
    context = loading_context(job, host, progress=channel.progress)
    channel.stage("train")
    model = fp32_model(host, job, name, job.workload_options, quantizable=False)
    seed_everything(job.seed)
    trained = host.call(name, "train", model=model, context=context)
    if not isinstance(trained, torch.nn.Module):
        raise PluginError(f"{name}: train must give an nn.Module, not {type(trained).__name__}")
    channel.stage("save")
    buffer = io.BytesIO()
    torch.save(trained.state_dict(), buffer)
    write_whole(Path(job.output), buffer.getvalue())
    channel.answer(output=job.output)
