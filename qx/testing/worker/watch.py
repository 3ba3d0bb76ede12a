"""Do another job, and tell what the plugins did besides: to what they were lent, and to the process.

A plugin of this module wraps the hooks and compares what they were given before and after each call. It finds
what is changed in place; it holds nobody back from it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import evolve

from qx.host.host import Reference
from qx.processes.jobs import BuildJob
from qx.testing.worker.absence import hide
from qx.testing.worker.digest import digest
from qx.testing.worker.watcher import WATCHER
from qx.values import Array, JsonObject
from qx.worker.channel import Channel

if TYPE_CHECKING:
    import torch

    from qx.testing.jobs import WatchJob

#: The plugin that watches, as a job names it.
REFERENCE = Reference(name="qx_watcher", module="qx.testing.worker.watcher", attribute="WATCHER")


def run(job: WatchJob, channel: Channel) -> None:
    """Do the inner job; each of its answers also has ``watched``: what was seen until then."""
    hide(job.absent)
    inner = evolve(job.job, wrappers=(*job.job.wrappers, REFERENCE))
    # Files that are written to wherever the process happens to be lie here, and are told.
    os.chdir(job.folder)
    watching = _Building(job, inner) if isinstance(inner, BuildJob) else _Watching()
    channel.besides = watching.seen
    import_module(inner.module).run(inner, channel)


class _Watching:
    """What is seen of any job."""

    def seen(self) -> JsonObject:
        here = Path.cwd()
        return {
            "watched": {
                "changed": WATCHER.changed,
                "modules": sorted({name.partition(".")[0] for name in sys.modules}),
                "strays": sorted(str(path.relative_to(here)) for path in here.rglob("*")),
            }
        }


class _Building(_Watching):
    """What is seen of a build: whether the fp32 model is what it was, and torch as well."""

    def __init__(self, job: WatchJob, build: BuildJob) -> None:
        import torch

        assert job.inputs is not None
        assert job.outputs is not None
        torch.set_num_threads(build.threads)
        if build.engine is not None:
            torch.backends.quantized.engine = build.engine
        self._build, self._weights = build, digest(Path(str(build.weights)))
        self._inputs, self._outputs = Path(job.inputs), Path(job.outputs)
        self._model = self._made()
        self._due = self._answers(self._model)
        self._state = state_of_process()

    def seen(self) -> JsonObject:
        """Besides: ``fp32`` names what of the fp32 model is no longer what it was."""
        import numpy as np

        # Before the model is asked again, which needs a torch in order.
        now = state_of_process()
        state = {name: [str(was), str(now[name])] for name, was in self._state.items() if now[name] != was}
        touched = []
        if not self._same(lambda: self._answers(self._model)):
            touched.append("one that was there before")
        if not self._same(lambda: self._answers(self._made())):
            touched.append("one that is made afterwards")
        if digest(Path(str(self._build.weights))) != self._weights:
            touched.append("the weights file")
        np.save(self._outputs, self._due)
        told = super().seen()
        told["watched"] |= {"fp32": touched, "state": state, "dtype": self._due.dtype.str}
        return told

    def _same(self, answers: Callable[[], Array]) -> bool:
        import numpy as np

        try:
            return bool(np.array_equal(answers(), self._due, equal_nan=True))
        except Exception:
            return False

    def _made(self) -> torch.nn.Module:
        from qx.worker.modules import fp32_model
        from qx.worker.plugins import host_for
        from qx.worker.weights import load_weights

        build = self._build
        host = host_for(evolve(build, wrappers=()), (build.workload,))
        model = fp32_model(host, build, build.workload.name, build.workload_options, quantizable=False)
        if build.weights is not None:
            load_weights(model, Path(build.weights))
        return model

    def _answers(self, model: torch.nn.Module) -> Array:
        import torch

        from qx.worker.arrays import Split

        split = Split.read(self._inputs)
        arrays = list(split.rows(0, min(64, len(split))).values())
        with torch.inference_mode():
            answers: torch.Tensor = model(*(torch.from_numpy(array) for array in arrays))
        return answers.numpy()


def state_of_process() -> JsonObject:
    """What is set for the whole process, of torch for the most part."""
    import torch

    return {
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "number of threads": torch.get_num_threads(),
        "gradients enabled": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "quantized engine": torch.backends.quantized.engine,
        "float32 matmul precision": torch.get_float32_matmul_precision(),
        "mkldnn enabled": torch.backends.mkldnn.enabled,
        "Module.__call__": torch.nn.Module.__call__,
        "current folder": os.getcwd(),
    }
