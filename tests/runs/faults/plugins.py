"""Plugins that misbehave in one hook each, ``-p plugins.py:HOOK__FAULT``, and sound ones beside them.

A workload, a config, a loader or a metric of this module commits the fault that one half of its name says, in
the hook that the other half says, and is sound otherwise. All share a toy: points in four dimensions.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from itertools import repeat

# Imported here, since one fault breaks them for later faults in its process.
from os import _exit, kill, write
from pathlib import Path
from typing import Any

from qx import (
    LABELS,
    OUTPUT,
    Artifact,
    Config,
    Data,
    Loader,
    Metric,
    Samples,
    StoredWeight,
    Weights,
    Workload,
    hookimpl,
)

#: Returned by a fault that leaves the hook to do its work as if nothing had happened.
GO_ON = object()


# What goes wrong ----------------------------------------------------------------------------------


class WickedError(Exception):
    """An error that raises when it is asked for its text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class Hostile:
    """An object that raises ``BaseException`` for any operation of Python."""

    def _raise(self, *_: object) -> Any:
        raise BaseException("hostile")

    __bool__ = __call__ = __contains__ = __eq__ = __float__ = __getitem__ = __index__ = __int__ = _raise
    __iter__ = __len__ = __repr__ = __str__ = _raise
    __hash__ = None  # type: ignore[assignment]


def raises(error: BaseException) -> Callable[[], Any]:
    def fault() -> Any:
        raise error

    return fault


def sleeps() -> Any:
    time.sleep(100_000)


def spins() -> Any:
    # This runs in C, without looking for signals, and holds the interpreter's lock.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    deque(repeat(None), maxlen=0)


def prints_without_end() -> Any:
    while True:
        sys.stdout.write("x" * 65_536 + "\n")


def writes_to_descriptors() -> Any:
    for descriptor in range(3, 256):
        try:
            write(descriptor, b"garbage\n")
        except OSError:
            continue
    return GO_ON


def closes_descriptors() -> Any:
    os.closerange(0, 4096)
    return GO_ON


def leaves_a_child() -> Any:
    if os.fork() == 0:
        os.setsid()
        time.sleep(100_000)
        _exit(0)
    return GO_ON


def patches_modules() -> Any:
    def broken(*_: object, **__: object) -> Any:
        raise RuntimeError("patched")

    for module, names in (
        (json, ("dumps", "loads", "dump", "load")),
        (os, ("write", "read", "_exit", "kill")),
    ):
        for name in names:
            setattr(module, name, broken)
    return GO_ON


def fills_memory() -> Any:
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), resource.RLIM_INFINITY))
    return [bytearray(1 << 20) for _ in range(1 << 20)]


FAULTS: dict[str, Callable[[], Any]] = {
    "raises": raises(ValueError("a fault")),
    "raises_base_exception": raises(BaseException("a fault")),
    "raises_keyboard_interrupt": raises(KeyboardInterrupt()),
    "raises_system_exit": raises(SystemExit(3)),
    "raises_without_text": raises(WickedError()),
    "gives_none": lambda: None,
    "gives_rubbish": object,
    "gives_hostile": Hostile,
    "exits": lambda: _exit(0),
    "segfaults": lambda: ctypes.string_at(0),
    "kills_itself": lambda: kill(os.getpid(), signal.SIGKILL),
    "terminates_itself": lambda: kill(os.getpid(), signal.SIGTERM),
    "sleeps": sleeps,
    "spins": spins,
    "prints_without_end": prints_without_end,
    "writes_to_descriptors": writes_to_descriptors,
    "closes_descriptors": closes_descriptors,
    "leaves_a_child": leaves_a_child,
    "patches_modules": patches_modules,
    "fills_memory": fills_memory,
    "finds_the_disk_full": raises(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/some/file")),
}

# Where it goes wrong ------------------------------------------------------------------------------

WORKLOAD_HOOKS = ("make_model", "load_data", "example_inputs", "input_lengths")
#: Hooks of a workload that evaluations call.
ANSWER_HOOKS = ("postprocess", "score")
CONFIG_HOOKS = ("check_model", "prepare_model", "calibrate", "convert")
#: Steps of a subject in the evaluation, and ``call`` in a launch.
LOADER_HOOKS = ("load", "prepare", "call", "outputs", "call_in_launch")
PHASES = ("artifact", "fresh", "block", "predictions", "derived")
#: ``read_weights`` is a loader's hook, which only a metric calls, so that its fault costs the metric.
METRIC_HOOKS = (*(f"measure_{phase}" for phase in PHASES), "statistic", "combine", "read_weights")
HOOKS = ("describe", *WORKLOAD_HOOKS, *ANSWER_HOOKS, "train", *CONFIG_HOOKS, *LOADER_HOOKS, *METRIC_HOOKS)
SAMPLES = {
    "artifact": "exact",
    "fresh": "per_launch",
    "block": "per_block",
    "predictions": "exact",
    "derived": "exact",
}


class Faulty:
    """A plugin that commits ``fault`` in ``hook``, and is sound without one."""

    def __init__(self, hook: str = "", fault: str = "", name: str = "") -> None:
        self.hook, self.fault = hook, fault
        self.name = name or f"{hook}__{fault}"

    def run_hook(self, hook: str, work: Callable[[], Any]) -> Any:
        """Do the work of a hook, or commit the fault if it belongs to this hook."""
        result = FAULTS[self.fault]() if self.fault and hook == self.hook else GO_ON
        return work() if result is GO_ON else result


class FaultyConfig(Faulty):
    @hookimpl
    def describe(self) -> Any:
        return self.run_hook("describe", self._record)

    def _record(self) -> Config:
        calibration = self.hook == "calibrate"
        record = Config(name=self.name, summary="A toy.", reference=self.name == BASELINE)
        return Config(name=self.name, summary="A toy.", calibration=True) if calibration else record

    @hookimpl
    def check_model(self) -> Any:
        return self.run_hook("check_model", lambda: None)

    @hookimpl
    def prepare_model(self, model: Any) -> Any:
        return self.run_hook("prepare_model", lambda: model)

    @hookimpl
    def convert(self, model: Any, context: Any) -> Any:
        return self.run_hook("convert", lambda: self._written(model, context.folder))

    def _written(self, model: Any, folder: Path) -> Artifact:
        import numpy

        weight, bias = (tensor.detach().numpy() for tensor in (model.weight, model.bias))
        numpy.savez(folder / "model.npz", weight=weight, bias=bias)
        details = {"hook": self.hook, "fault": self.fault} if self.hook in LOADER_HOOKS else {}
        return Artifact(folder=folder, files=["model.npz"], loader=LOADER, details=details)


class CalibratedConfig(FaultyConfig):
    @hookimpl
    def calibrate(self, model: Any) -> Any:
        return self.run_hook("calibrate", lambda: model)


class ToyLoader:
    @hookimpl
    def describe(self) -> Loader:
        return Loader(name=LOADER, summary="A matrix product in numpy.", imports=["numpy"])

    @hookimpl
    def load(self, artifact: Artifact) -> Any:
        import numpy

        with numpy.load(artifact.folder / artifact.files[0]) as arrays:
            subject = Subject(arrays["weight"], arrays["bias"], **artifact.details)
        return subject.run_hook("load", lambda: subject)

    #: The fault of ``read_weights``; the metric that asks for it sets it.
    fault = ""

    @hookimpl
    def read_weights(self, artifact: Artifact) -> Any:
        weight = StoredWeight(elements=12, bits=32, type="float32")
        reader = Faulty("read_weights", ToyLoader.fault)
        return reader.run_hook("read_weights", lambda: Weights(layers={"weight": weight}))


class Subject(Faulty):
    def __init__(self, weight: Any, bias: Any, hook: str = "", fault: str = "") -> None:
        super().__init__(hook, fault)
        self.weight, self.bias = weight, bias

    def prepare(self, arrays: Any) -> Any:
        return self.run_hook("prepare", lambda: arrays["point"])

    def call(self, native: Any) -> Any:
        # An evaluation has more than one item in a call.
        hook = "call_in_launch" if len(native) == 1 else "call"
        return self.run_hook(hook, lambda: native @ self.weight.T + self.bias)

    def outputs(self, native: Any) -> Any:
        return self.run_hook("outputs", lambda: {OUTPUT: native})


class FaultyMetric(Faulty):
    @hookimpl
    def describe(self) -> Metric:
        phase = self.hook.removeprefix("measure_")
        return Metric(
            name=self.name,
            summary="A metric.",
            unit="things",
            better="lower",
            samples=SAMPLES[phase],
            compare="ratio",
            phase=phase,
        )

    @hookimpl
    def measure(self) -> Any:
        return self.run_hook(self.hook, lambda: Samples(1.0))


class FaultyWorkload(Faulty):
    @hookimpl
    def describe(self) -> Workload:
        return Workload(name=self.name, summary="Points of three kinds.", random_weights=True)

    @hookimpl
    def make_model(self) -> Any:
        import torch

        return self.run_hook("make_model", lambda: torch.nn.Linear(4, 3))

    @hookimpl
    def load_data(self, split: str) -> Any:
        return self.run_hook("load_data", lambda: self._points(split))

    def _points(self, split: str) -> Data:
        import numpy

        random = numpy.random.RandomState(len(split))
        labels = numpy.repeat(numpy.arange(3), 12 if split == "test" else 120)
        points = random.randn(len(labels), 4).astype("float32")
        points[numpy.arange(len(labels)), labels] += 2
        targets = {LABELS: labels}
        return Data(inputs={"point": points}, targets=targets, classes=("x", "y", "z"), source="points")

    @hookimpl
    def example_inputs(self, batch_size: int) -> Any:
        import torch

        return self.run_hook("example_inputs", lambda: (torch.zeros(batch_size, 4),))

    @hookimpl
    def input_lengths(self) -> Any:
        return self.run_hook("input_lengths", lambda: None)

    @hookimpl
    def train(self, model: Any) -> Any:
        return self.run_hook("train", lambda: model)


class ScoredWorkload(FaultyWorkload):
    """A workload with a score of its own, of what it makes of the outputs."""

    @hookimpl
    def postprocess(self, outputs: Any) -> Any:
        return self.run_hook("postprocess", lambda: {"kinds": outputs[OUTPUT].argmax(1)})

    @hookimpl
    def score(self, outputs: Any) -> Any:
        # A model whose weights are random gets no targets.
        return self.run_hook("score", lambda: (outputs["kinds"] == 0).astype(float))


class SetMetric(Faulty):
    """What metrics of the whole set say of themselves."""

    @hookimpl
    def describe(self) -> Metric:
        return Metric(
            name=self.name,
            summary="A metric of the whole set.",
            unit="things",
            better="lower",
            samples="per_set",
            compare="difference",
            phase="predictions",
        )


class FaultySetMetric(SetMetric):
    """A metric of the whole set from its items."""

    @hookimpl
    def statistic(self, outputs: Any, indices: Any) -> Any:
        return self.run_hook(self.hook, lambda: float(outputs[OUTPUT][indices].mean()))


class FaultyCombinedMetric(SetMetric):
    """A metric of the whole set from statistics of its items."""

    @hookimpl
    def measure(self, data: Any) -> Any:
        import numpy

        values = data.outputs[OUTPUT][:, 0].astype(float)
        return Samples(numpy.stack([values, numpy.ones(len(values))], axis=1))

    @hookimpl
    def combine(self, statistics: Any) -> Any:
        return self.run_hook(self.hook, lambda: statistics[..., 0] / statistics[..., 1])


class WeightsMetric(Faulty):
    """A metric that asks the loader for the weights of an artifact, and has no fault itself."""

    @hookimpl
    def describe(self) -> Metric:
        return Metric(
            name=self.name,
            summary="A metric of weights.",
            unit="weights",
            better="neither",
            samples="exact",
            compare="difference",
            phase="artifact",
        )

    @hookimpl
    def measure(self, data: Artifact) -> Any:
        ToyLoader.fault = self.fault
        weights = data.read_weights()
        return None if weights is None else Samples(float(len(weights.layers)))


def _metric(hook: str, fault: str = "", name: str = "") -> Faulty:
    kinds: dict[str, type[Faulty]] = {
        "statistic": FaultySetMetric,
        "combine": FaultyCombinedMetric,
        "read_weights": WeightsMetric,
    }
    return kinds.get(hook, FaultyMetric)(hook, fault, name)


BASELINE, SOUND, LOADER, WORKLOAD = "sound_baseline", "sound_config", "sound_loader", "sound_workload"
#: A sound metric for each hook of metrics.
METRICS = tuple(f"sound_{hook.removeprefix('measure_')}" for hook in METRIC_HOOKS)


def _plugin(hook: str, fault: str) -> Faulty:
    kinds: dict[str, tuple[str, ...]] = {
        "workload": (*WORKLOAD_HOOKS, "train"),
        "scored": ANSWER_HOOKS,
        "metric": METRIC_HOOKS,
        "calibrated": ("calibrate",),
    }
    classes = {
        "workload": FaultyWorkload,
        "scored": ScoredWorkload,
        "metric": _metric,
        "calibrated": CalibratedConfig,
    }
    kind = next((kind for kind, hooks in kinds.items() if hook in hooks), "config")
    return classes.get(kind, FaultyConfig)(hook, fault)


sound_baseline, sound_config = FaultyConfig(name=BASELINE), FaultyConfig(name=SOUND)
sound_loader, sound_workload = ToyLoader(), FaultyWorkload(name=WORKLOAD)
globals().update({name: _metric(hook, name=name) for name, hook in zip(METRICS, METRIC_HOOKS, strict=True)})
globals().update({f"{hook}__{fault}": _plugin(hook, fault) for hook in HOOKS for fault in FAULTS})
