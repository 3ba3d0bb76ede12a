"""Train a workload's model and write its weights."""

from __future__ import annotations

import io
from pathlib import Path

from qx.errors import PluginError
from qx.files import write_whole
from qx.processes.job_answers import TrainAnswer
from qx.processes.jobs import TrainJob
from qx.worker.channel import Channel
from qx.worker.modules import fp32_model
from qx.worker.plugins import loading_workload_of, seed_everything, workload_of


def run(job: TrainJob, channel: Channel) -> None:
    """Train the model and write its state dict."""
    channel.stage("import")
    import torch

    torch.set_num_threads(job.threads)
    workload = loading_workload_of(job, progress=channel.progress)
    channel.stage("train")
    model = fp32_model(workload_of(job, workload.host), quantizable=False)
    seed_everything(job.seed)
    trained = workload.call("train", model=model)
    if not isinstance(trained, torch.nn.Module):
        raise PluginError(f"{workload.name}: train must give an nn.Module, not {type(trained).__name__}")
    channel.stage("save")
    buffer = io.BytesIO()
    torch.save(trained.state_dict(), buffer)
    write_whole(Path(job.output), buffer.getvalue())
    channel.answer(TrainAnswer(output=job.output))
