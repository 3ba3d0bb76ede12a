"""The contract: every hook that a plugin can implement.

A plugin is a module (or an object) of one of four kinds, and says which by what ``describe`` gives:

=========  ==========================================  ===============================================
kind       must implement                              may implement
=========  ==========================================  ===============================================
config     ``convert``                                 ``can_treat``, ``prepare_model``,
                                                       ``calibrate``
metric     ``measure``; ``statistic`` in its place    ``measure`` beside ``statistic``
           where samples are ``per_set``
workload   ``make_model``, ``load_data``,              ``train``
           ``example_inputs``
loader     ``load``                                    ``read_weights``
=========  ==========================================  ===============================================

It is found through an entry point of the group ``qx``, or named with ``qx -p MODULE``. The entry point's
name is the plugin's name.

A hook is called for one plugin at a time: a config never sees the hooks of another config called. A plugin
without ``describe`` may only wrap (``@hookimpl(wrapper=True)``): it is then called around the hooks of
every plugin, and must give on what it was given.

Leave out the arguments that you do not need; qx may add arguments to a hook, and that breaks nobody.
An optional hook that is not implemented is skipped. One that is implemented and gives None where a value is
due is an error of the plugin, and told as such with plugin, distribution, hook and cause.

The contract has a version, ``qx.CONTRACT``: another minor adds (hooks, arguments, fields of records),
another major may break. A plugin says in a line of its module what it was made for, ``QX_CONTRACT = "1.1"``;
without it that is the major that is there. One that was made for another major, or for a later minor, is
listed as incompatible, with what to do, and never called.

To say that a model cannot be treated, raise :class:`qx.Unsupported` with the layer and the reason; to
say that data cannot be had or used, raise :class:`qx.DataError`. Anything else that is raised makes the
cell ``failed``, with stage and cause. The other cells go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    import numpy as np
    import torch

    from qx.contract.records import Arrays, Artifact, Context, Data, Record, Samples, Subject, Weights

PROJECT = "qx"
#: The version of this contract: MAJOR.MINOR.
CONTRACT = "1.1"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


# All kinds ----------------------------------------------------------------------------------------


@hookspec(firstresult=True)
def describe() -> Record | None:
    """Say what the plugin is: a ``Config``, ``Metric``, ``Workload`` or ``Loader``.

    Called in a process of its own for each distribution, and for each plugin that is named with ``-p``: the
    process of a command imports no plugin. Importing the module and this hook have 10 seconds together; one
    that takes longer, or ends the process, is listed as broken. The answer is kept in the cache, for all
    commands, until a file of the plugin's package changes, or one that it imports from beside it, what is
    installed, Python or qx. It must follow from these alone: an environment variable, or a file elsewhere, is
    not looked at again. So import nothing heavy, read no files, print nothing. None is an error.

    On error: The plugin is listed as broken, with its distribution, version, the cause, and the last line
    that it printed; everything else goes on without it, the other plugins of its distribution too. A
    broken plugin is not kept: every command asks it again. What a plugin in order prints here is not
    shown. ::

        @hookimpl
        def describe():
            return Config(name="half", summary="Weights and arithmetic in float16.")
    """


# Workload -----------------------------------------------------------------------------------------


@hookspec(firstresult=True)
def make_model(context: Context) -> torch.nn.Module | None:
    """Make the model, in fp32 and without its weights.

    Called in build processes, and in a launch only where the loader rebuilds a module. qx loads the
    weights into it, strictly, and puts it in eval mode. With ``context.quantizable`` give the form with
    quantize and dequantize stubs, under the same state dict, or raise ``Unsupported``. None is an error.

    On error: ``Unsupported`` gives the cell the outcome ``unsupported``, any other error ``failed``, each
    with stage and cause. Before there are cells (when the weights are checked) it ends the run with exit
    2 and one line. ::

        @hookimpl
        def make_model(context):
            from mypackage.nets import Net
            return Net(quantizable=context.quantizable)
    """


@hookspec(firstresult=True)
def load_data(split: str, context: Context) -> Data | None:
    """Give the ``"train"`` or ``"test"`` split, preprocessed, in a fixed order.

    Called in a data process, never in a launch. Look in ``context.data`` first; keep what is costly to make
    in ``context.cache``; download nothing when ``context.offline``. Raise ``DataError`` where the data
    are missing or damaged, naming what and how to mend it. Report through ``context.progress`` what takes
    long, a download say: each split may take ``--timeout`` seconds without progress, or an hour where the
    user does not give it. None is an error.

    On error: ``DataError`` and ``UsageError`` end the run with their message and exit 2; the default
    workload gives way to its fallback on ``DataError``. Anything else ends the run in the same way, with
    the stage and the error's type. ::

        @hookimpl
        def load_data(split, context):
            arrays = numpy.load(context.data / f"{split}.npz")
            return Data(inputs={"image": arrays["x"]}, labels=arrays["y"], classes=("cat", "dog"))
    """


@hookspec(firstresult=True)
def example_inputs(batch_size: int, context: Context) -> tuple[torch.Tensor, ...] | None:
    """Give the tensors to trace or export the model with, each ``[batch_size, ...]``.

    Called in build processes, and in a launch only where the loader rebuilds a module. None is an error.

    On error: The cell is ``failed``, with the stage at which it was asked for, and the cause. ::

        @hookimpl
        def example_inputs(batch_size, context):
            return (torch.zeros(batch_size, 3, 32, 32),)
    """


@hookspec(firstresult=True)
def train(model: torch.nn.Module, context: Context) -> torch.nn.Module | None:
    """Train the model from scratch; for ``qx train``.

    Called in a process of its own. The model is yours to change, and what you give back is saved as the
    workload's weights. Report through ``context.progress``. None is an error.

    On error: ``qx train`` ends with exit 1 and the cause; weights that were there stay as they are. ::

        @hookimpl
        def train(model, context):
            data = load_data("train", context)
            return fit(model, data, seed=context.seed, progress=context.progress)
    """


# Config, in the order of the calls ----------------------------------------------------------------


@hookspec(firstresult=True)
def can_treat(model: torch.nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> None:
    """Say at once that a model cannot be treated: raise ``Unsupported`` with the layer and the reason.

    Called before anything is built, for all configs in one process, so that nobody waits for builds to learn
    it. It need not find everything: what it lets pass may still be ``Unsupported`` in the build. ``model``
    is the workload's, with weights (without them where the config wants stubs), in eval mode, and shared by
    all configs: leave it as it is, and be quick. None means: nothing against it; whatever else it gives means
    the same.


    On error: ``Unsupported`` makes the cell ``unsupported`` in stage ``can_treat``; anything else is
    passed over, and the build tells. ::

        @hookimpl
        def can_treat(model):
            if not any(isinstance(layer, torch.nn.Linear) for layer in model.modules()):
                raise Unsupported(f"{type(model).__name__} has no linear layer")
    """


@hookspec(firstresult=True)
def prepare_model(
    model: torch.nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context
) -> torch.nn.Module | None:
    """Make the model ready to observe: fused, observers in, fake-quantized. First step of a build.

    ``model`` is the workload's, with weights, in eval mode, and a private copy: change it as you like.
    A loader that rebuilds calls this again in every launch on a model without weights. None is an error.

    On error: ``Unsupported`` makes the cell ``unsupported``, anything else ``failed``, in stage
    ``prepare_model``. In a launch, where a module is rebuilt, the stage is ``load``. ::

        @hookimpl
        def prepare_model(model, example_inputs, context):
            model.qconfig = torch.ao.quantization.get_default_qconfig(context.engine)
            return torch.ao.quantization.prepare(model)
    """


@hookspec(firstresult=True)
def calibrate(model: torch.nn.Module, batches: Sequence[Arrays], context: Context) -> torch.nn.Module | None:
    """Let the prepared model see the calibration batches. Second step of a build.

    Called where the record says ``calibration`` or ``training``. Each batch maps the inputs' names to
    float arrays ``[batch, ...]``. Training batches together are the training split, in a random order that is
    the same for a seed; each also has ``"labels"``, ``[batch]``, where the workload has right answers. Tell
    how far a long training is through ``context.progress``: that also shows that it does not hang. The
    batches are the same for every config: leave them as they are. None is an error.

    On error: ``Unsupported`` makes the cell ``unsupported``, anything else ``failed``, in stage
    ``calibrate``. ::

        @hookimpl
        def calibrate(model, batches, context):
            for batch in batches:
                model(torch.from_numpy(batch["image"]))
            return model
    """


@hookspec(firstresult=True)
def convert(
    model: torch.nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context
) -> torch.nn.Module | Artifact | None:
    """Make the thing that is deployed. Last step of a build.

    Give either a module: qx saves its state dict, and the loader that rebuilds modules calls
    ``prepare_model`` and ``convert`` again in a launch and loads the state dict strictly. Or write files into
    ``context.folder`` and give an ``Artifact`` that names them and their loader. None is an error.

    On error: ``Unsupported`` makes the cell ``unsupported``, anything else ``failed``, in stage
    ``convert``. So do an artifact without one of its files, or with one that is no regular file inside
    the folder (a link, a path with ``..``), and a result that is neither a module nor an ``Artifact``.
    Nothing is kept of a build that did not end well. ::

        @hookimpl
        def convert(model, example_inputs, context):
            torch.onnx.export(model, example_inputs, context.folder / "model.onnx")
            return Artifact(folder=context.folder, files=["model.onnx"], loader="onnx")
    """


# Loader -------------------------------------------------------------------------------------------


@hookspec(firstresult=True)
def load(artifact: Artifact, context: Context) -> Subject | None:
    """Load an artifact into this process and give a ``Subject`` that serves it.

    Called once in every launch, after the modules in the record's ``imports`` were imported. Import only what
    serving needs: memory and start-up of the launch are measured. Threads are already limited through the
    environment; limit the runtime's own to ``context.threads``. None is an error.

    On error: The cell is ``failed`` in stage ``load``, and is not launched again. ::

        @hookimpl
        def load(artifact, context):
            return OnnxSubject(artifact.folder / artifact.files[0], context.threads)
    """


@hookspec(firstresult=True)
def read_weights(artifact: Artifact) -> Weights | None:
    """Say which weights the files of an artifact hold, in how many bits, and which kernels multiply by them.

    Called in the evaluation of a cell, where a metric asks for it with ``artifact.read_weights()``; nothing
    is loaded then. None means that it cannot be said, as where a loader does not implement this.

    On error: The metric that asked for it is ``failed`` in that cell, with the cause; no other is lost. ::

        @hookimpl
        def read_weights(artifact):
            arrays = numpy.load(artifact.folder / artifact.files[0])
            return Weights(layers={
                name: StoredWeight(elements=array.size, bits=8 * array.itemsize, type=str(array.dtype))
                for name, array in arrays.items() if array.ndim >= 2
            })
    """


# Metric -------------------------------------------------------------------------------------------


@hookspec(firstresult=True)
def measure(subject: Subject | None, data: Any, context: Context) -> Samples | Sequence[float] | float | None:
    """Give samples of the metric. qx itself computes every interval, delta and verdict from them.

    When it is called, and what ``data`` is, goes by the phase in the record:

    ===============  ===========================================  ==================  ======================
    phase            called                                       ``data``            gives
    ===============  ===========================================  ==================  ======================
    ``artifact``     once per cell, nothing loaded                ``qx.Artifact``     one value
    ``fresh``        first thing in each launch                   ``qx.Fresh``        one value
    ``block``        once a round in each launch                  ``qx.Block``        a value per call
    ``predictions``  once per cell, after the evaluation          ``qx.Predictions``  a value per item, or one
    ``derived``      after all launches, in a process of its own  ``qx.Recorded``     a value per item,
                                                                                      launch or call, or one
    ===============  ===========================================  ==================  ======================

    ``subject`` is the loaded artifact in phases ``fresh`` and ``block``, else None. Derived values of calls
    (``per_block``) need ``Samples`` with the ``waves`` and ``rounds`` of ``data``. Values must be finite and
    below 1e75, with either sign; what is compared by speedup is above 0 (``exact``: or 0). None means: not
    applicable here, and the cell shows no value; raise ``Unsupported`` to say why, which the report then
    shows. A metric whose record names ``tasks`` is only called for workloads that have one of them. An error
    costs this metric of this cell, nothing else.

    One value of phase ``predictions`` says nothing of its sampling error: it has no interval, and no verdict
    comes of it. Give a value per item, or implement ``statistic``. One value of phase ``derived`` is exact
    only where all that it was derived from is.

    On error: That metric of that cell is ``failed``, with the cause, and the exit code is 1; the cell and
    its other metrics go on. So with values that are not finite, or not as many as the record's
    ``samples`` promise; with waves, rounds or groups that are none; and with details that are nested
    deeper than 32 levels or hold whole numbers of more than 64 bits. One that ends its process is
    ``crashed`` in that cell, one that takes longer than ``--timeout`` is ``timeout``: see faults
    (docs/faults.md). ::

        @hookimpl
        def measure(subject, data, context):
            return sum((data.folder / name).stat().st_size for name in data.files)
    """


@hookspec(firstresult=True)
def statistic(
    outputs: np.ndarray,
    labels: np.ndarray | None,
    indices: np.ndarray,
    classes: tuple[str, ...],
    baseline: np.ndarray | None,
    context: Context,
) -> float | None:
    """Compute a metric of a whole set, such as F1, over the items that are named by ``indices``.

    For metrics whose record says ``samples="per_set"``. Called in the evaluation of a cell (phase
    ``predictions``), or after all launches (phase ``derived``); thousands of times, as its cost allows in ten
    seconds: over all items, with some items left out, with items drawn anew, of which some come twice and
    others not at all, and with the outputs of a single item changed. From all this qx computes the interval,
    and that of the difference of two cells.

    ``outputs`` is the array ``[n, ...]`` of all outputs and may be another one in each call; ``labels`` is
    ``[n]``, or None where there are no right answers; ``indices`` is an integer array ``[m]``. The value must
    come from ``outputs[indices]`` and ``labels[indices]`` alone, whatever their order. ``baseline`` is the
    array of the baseline's outputs in phase ``derived``, else None. All are read-only. Give a finite number
    for any items that may be drawn: leave a class out where none of it was. None means: not applicable here,
    if given for all items; of others, that these items have no value. An error costs this metric of this
    cell, nothing else.

    A metric that has details or groups implements ``measure`` as well, which must give the same value.

    On error: As of ``measure``. So with a value that is no number, that differs from what ``measure``
    gives, or that the same items do not have by themselves. ::

        @hookimpl
        def statistic(outputs, labels, indices):
            right = outputs[indices].argmax(axis=1) == labels[indices]
            return min(right[labels[indices] == label].mean() for label in set(labels[indices]))
    """
