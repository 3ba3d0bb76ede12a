"""Do another job, and answer too with what the plugins changed: their arguments, the process, files.

A plugin of this module wraps the hooks and compares their arguments before and after each call. It detects
changes in place, and prevents none.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import evolve

from qx.contract.records import OUTPUT
from qx.host.host import Reference
from qx.processes.answers import Answer
from qx.processes.jobs import BuildJob
from qx.testing.answers import BuildObservations, Observations, StateChange, Watched
from qx.testing.worker.absence import hide
from qx.testing.worker.digest import digest
from qx.testing.worker.watcher import WATCHER
from qx.values import Array, JsonObject
from qx.worker.channel import Channel

if TYPE_CHECKING:
    import torch

    from qx.testing.jobs import WatchJob

#: The plugin that observes the others, as a job names it.
REFERENCE = Reference(name="qx_watcher", module="qx.testing.worker.watcher", attribute="WATCHER")


def run(job: WatchJob[Answer], channel: Channel) -> None:
    """Do the inner job. Each of its answers comes with what was observed until then."""
    hide(job.absent)
    inner = evolve(job.job, wrappers=(*job.job.wrappers, REFERENCE))
    # Files that plugins write into the current folder are written here, and are reported.
    os.chdir(job.folder)
    observer = _BuildObserver(job, inner) if isinstance(inner, BuildJob) else _Observer()

    def wrap(answer: Answer) -> Watched[Answer]:
        return Watched(answer=answer, watched=observer.observations())

    channel.wrap = wrap
    import_module(inner.module).run(inner, channel)


class _Observer:
    """What is observed in any job: changed arguments, imported modules, files in the current folder."""

    def observations(self) -> Observations:
        folder = Path.cwd()
        return Observations(
            changed=tuple(WATCHER.changed),
            modules=tuple(sorted({name.partition(".")[0] for name in sys.modules})),
            strays=tuple(sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))),
        )


class _BuildObserver(_Observer):
    """What is observed in a build: also whether the fp32 model and torch's settings stay as they are."""

    def __init__(self, job: WatchJob[Answer], build: BuildJob) -> None:
        import torch

        assert job.inputs is not None
        assert job.outputs is not None
        torch.set_num_threads(build.threads)
        if build.engine is not None:
            torch.backends.quantized.engine = build.engine
        self._build, self._weights = build, digest(Path(str(build.weights)))
        self._inputs, self._outputs = Path(job.inputs), Path(job.outputs)
        self._model = self._make_model()
        self._expected = self._call(self._model)
        self._state = process_state()

    def observations(self) -> Observations:
        """Return the observations of any job, and those of a build."""
        import numpy as np

        from qx.worker.outputs import pack

        # Before the model is called again, which would fail with some settings of torch.
        now = process_state()
        state = {
            name: StateChange(before=str(before), now=str(now[name]))
            for name, before in self._state.items()
            if now[name] != before
        }
        changed = []
        if not self._is_unchanged(lambda: self._call(self._model)):
            changed.append("one that was there before")
        if not self._is_unchanged(lambda: self._call(self._make_model())):
            changed.append("one that is made afterwards")
        if digest(Path(str(self._build.weights))) != self._weights:
            changed.append("the weights file")
        # Any: `numpy.savez` takes the arrays as keywords, among its own options.
        arrays: dict[str, Any] = pack(self._expected)
        np.savez(self._outputs, **arrays)
        modules = [name for name, _ in self._model.named_modules()]
        parameters = [name for name, _ in self._model.named_parameters()]
        build = BuildObservations(fp32=tuple(changed), state=state, names=(*modules, *parameters))
        return evolve(super().observations(), build=build)

    def _is_unchanged(self, compute_outputs: Callable[[], dict[str, Array]]) -> bool:
        from qx.worker.outputs import equal_arrays

        try:
            return equal_arrays(compute_outputs(), self._expected)
        except Exception:
            return False

    def _make_model(self) -> torch.nn.Module:
        from qx.worker.modules import fp32_model
        from qx.worker.plugins import workload_of
        from qx.worker.weights import load_weights

        build = self._build
        model = fp32_model(
            workload_of(evolve(build, wrappers=())), quantizable=False, structure=build.structure
        )
        if build.weights is not None:
            load_weights(model, Path(build.weights))
        return model

    def _call(self, model: torch.nn.Module) -> dict[str, Array]:
        import torch

        from qx.worker.arrays import Split

        split = Split.read(self._inputs)
        arrays = list(split.rows(0, min(64, len(split))).values())
        with torch.inference_mode():
            returned = model(*(torch.from_numpy(array) for array in arrays))
        outputs = returned if isinstance(returned, tuple) else (returned,)
        structure = self._build.structure
        names = (OUTPUT,) if structure is None else structure.outputs
        return {name: output.numpy() for name, output in zip(names, outputs, strict=True)}


def process_state() -> JsonObject:
    """Return the settings that hold for the whole process, most of them torch's."""
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
