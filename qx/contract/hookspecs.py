"""The contract: every hook that a plugin can implement.

A plugin is a module (or an object) of one of four kinds, which the record that ``describe`` returns names:

=========  ==========================================  ===============================================
kind       must implement                              may implement
=========  ==========================================  ===============================================
config     ``convert``                                 ``check_model``, ``prepare_model``,
                                                       ``calibrate``, ``read_weights``,
                                                       ``quantized_layers``, ``rounding``
metric     ``measure``; where samples are             ``measure`` beside ``statistic``
           ``per_set``: ``statistic``, or
           ``measure`` and ``combine``
workload   ``make_model``, ``load_data``,              ``train``, ``postprocess``, ``score``,
           ``example_inputs``                          ``input_lengths``
loader     ``load``                                    ``read_weights``, ``serving_code``,
                                                       ``profile``, ``layer_outputs``
=========  ==========================================  ===============================================

It is found through an entry point of the group ``qx``, or named with ``qx -p MODULE``. The entry point's
name is the plugin's name.

A hook is called for one plugin at a time, so a hook of one config is never called for another config. A
plugin without ``describe`` may only wrap (``@hookimpl(wrapper=True)``): it is called around the hooks of
every plugin, and must pass on what it receives.

Leave out the arguments that you do not need: qx may add arguments to a hook, and that breaks no plugin.
An optional hook that is not implemented is skipped. A hook that returns None where a value is required is an
error of the plugin, and the message names plugin, distribution, hook and cause.

The contract has a version, ``qx.CONTRACT``. A new minor version adds hooks, arguments and fields of records;
a new major version may break plugins. A plugin declares in its module the version that it was written for,
``QX_CONTRACT = "2.0"``; without that line it counts as written for the current major version. A plugin for
another major version, or for a later minor version, is listed as incompatible, with what to do, and is never
called.

A config may be composed of others: its record names them (``recipes``), and its hooks call theirs by
``context.recipe("other").prepare_model(model, example_inputs)``, see ``qx.Recipe``.

Raise :class:`qx.Unsupported` with the layer and the reason where a model cannot be quantized, and
:class:`qx.DataError` where data are missing or cannot be used. Any other error makes the cell ``failed``,
with stage and cause. The other cells go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    import numpy as np
    import torch

    from qx.contract.records import (
        Arrays,
        Artifact,
        Batch,
        Context,
        Converted,
        Data,
        Profile,
        Record,
        Samples,
        ServingCode,
        Subject,
        Weights,
    )
    from qx.contract.rounding import Rounding

PROJECT = "qx"
#: Version of this contract, MAJOR.MINOR.
CONTRACT = "2.0"

hookspec = pluggy.HookspecMarker(PROJECT)
#: Mark of a function of a plugin that implements the hook of its name; ``@hookimpl(wrapper=True)`` marks one
#: that is called around a hook.
hookimpl = pluggy.HookimplMarker(PROJECT)


# All kinds ----------------------------------------------------------------------------------------


@hookspec(firstresult=True)
def describe() -> Record | None:
    """Return what the plugin is: a ``Config``, ``Metric``, ``Workload`` or ``Loader``.

    Called in a process of its own for each distribution, and for each plugin that is named with ``-p``: the
    process of a command imports no plugin. Importing the module and this hook have 10 seconds together; a
    plugin that takes longer, or ends the process, is listed as broken. The answer is kept in the cache, for
    all commands, until one of these changes: a file of the plugin's package, a file beside it that it
    imports, the installed distributions, Python or qx. It must follow from these alone, since environment
    variables and other files are not checked again. So import nothing heavy, read no files, print nothing.
    None is an error.

    On error: The plugin is listed as broken, with its distribution, version, the cause, and the last line
    that it printed; everything else goes on without it, the other plugins of its distribution too. The answer
    of a broken plugin is not kept, so every command asks it again. Whatever a working plugin prints here is
    not shown. ::

        @hookimpl
        def describe():
            return Config(name="half", summary="Weights and arithmetic in float16.")
    """


# Workload -----------------------------------------------------------------------------------------


@hookspec(firstresult=True)
def make_model(context: Context) -> torch.nn.Module | None:
    """Make the model, in fp32 and without its weights.

    Called in build processes, and in a launch only where the loader asks for the model or rebuilds a module.
    qx loads the weights into it, strictly, and puts it in eval mode. With ``context.quantizable`` return the
    form with quantize and dequantize stubs, with the same state dict, or raise ``Unsupported``. None is an
    error.

    What ``forward`` returns may be a tensor, or tensors in tuples, lists, mappings and records, also nested:
    each is an output with a name (``"logits"``, ``"boxes.0"``, ``"output_1"``; a single tensor is
    ``"output"``), and must begin with the batch. Whatever else is in it is left out. All other hooks get a
    model whose ``forward`` takes tensors one after another, and returns one tensor or a tuple of them. A
    model that brings trained weights, or that settings in a file decide, says so by its attribute
    ``qx_facts``, a ``qx.ModelFacts``.

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
    """Return the ``"train"`` or ``"test"`` split, preprocessed, in a fixed order.

    Called in a data process, never in a launch. Look in ``context.data`` first, keep what is costly to make
    in ``context.cache``, and download nothing when ``context.offline``. Raise ``DataError`` where the data
    are missing or damaged: say which, and how to repair them. Report long steps, such as a download, through
    ``context.progress``: each split may take ``--timeout`` seconds without progress, or an hour without that
    option. Of the test split no more than ``context.eval_n`` items are evaluated, where that is set: qx draws
    them, so only a workload for which loading more is costly has to look at it. None is an error.

    On error: ``DataError`` and ``UsageError`` end the run with their message and exit 2; the default
    workload is replaced by its fallback on ``DataError``. Anything else ends the run in the same way, with
    the stage and the error's type. ::

        @hookimpl
        def load_data(split, context):
            arrays = numpy.load(context.data / f"{split}.npz")
            targets = {"labels": arrays["y"]}
            return Data(inputs={"image": arrays["x"]}, targets=targets, classes=("cat", "dog"))
    """


@hookspec(firstresult=True)
def example_inputs(
    batch_size: int, length: int | None, context: Context
) -> torch.Tensor | tuple[torch.Tensor, ...] | Mapping[str, torch.Tensor] | None:
    """Return the tensors to trace or export the model with, each ``[batch_size, ...]``.

    Called in build processes, and in a launch only where the loader rebuilds a module. A mapping gives the
    model its inputs by name: the parameters of its ``forward``, in the order of the inputs of the data. All
    other hooks get the tensors as a tuple. None is an error. A workload with ``takes_model`` may return no
    tensors, where the data have to say what inputs are: qx then sets its option ``example`` to inputs like
    those of the data, and asks again.

    ``length`` is that of the inputs along their free dimension, in the range that ``input_lengths`` gives;
    None for one of the workload's choice, best the largest. Only workloads with ``input_lengths`` need it.

    On error: The cell is ``failed``, with the stage that called this hook, and the cause. ::

        @hookimpl
        def example_inputs(batch_size, context):
            return (torch.zeros(batch_size, 3, 32, 32),)
    """


@hookspec(firstresult=True)
def input_lengths(context: Context) -> tuple[int, int] | None:
    """Return the smallest and the largest length of the inputs, where one dimension beside the batch is free.

    Called before anything is built. ``example_inputs`` then gives inputs of any length between; where their
    shapes for the two ends differ is the free dimension, at most one in each input, whose size is the length.
    Configs find it in ``context.lengths`` and export it as free. ``--length N`` then times inputs of N: those
    of the data, cut, or example inputs where the data are shorter. None means that shapes are fixed but for
    the batch, as for a workload that does not implement this hook.

    On error: The workload cannot be prepared; the run ends with one line and exit code 2. ::

        @hookimpl
        def input_lengths():
            return 16, 512

        @hookimpl
        def example_inputs(batch_size, length):
            return {"ids": torch.randint(1000, (batch_size, length or 512))}
    """


@hookspec(firstresult=True)
def train(model: torch.nn.Module, context: Context) -> torch.nn.Module | None:
    """Train the model from scratch, for ``qx train``.

    Called in a process of its own. You may change the model, and the weights of the model that you return
    are saved as the workload's weights. Report through ``context.progress``. None is an error.

    On error: ``qx train`` ends with exit 1 and the cause; existing weights stay as they are. ::

        @hookimpl
        def train(model, context):
            data = load_data("train", context)
            return fit(model, data, seed=context.seed, progress=context.progress)
    """


@hookspec(firstresult=True)
def postprocess(outputs: Arrays, context: Context) -> Arrays | None:
    """Turn outputs of the model into what its answers are judged by, such as boxes after suppression.

    Called in evaluations, with the outputs of one batch after another, outside of all timed calls.
    ``outputs`` are arrays ``[batch, ...]`` by name, as the model gives them; return arrays of numbers
    ``[batch, ...]`` by name, of one shape for all batches but for their first dimension (pad where there are
    more of something in one item than in another). Metrics of phase ``predictions`` and the hook ``score``
    get these. How near the outputs are to the baseline's is computed from the model's own, and these are what
    launches give. None means that this model needs no such step.

    On error: The cell is ``failed`` in stage ``postprocess``, with the cause. ::

        @hookimpl
        def postprocess(outputs):
            boxes, scores = decoded(outputs["heads"])
            return suppressed(boxes, scores, most=20)
    """


@hookspec(firstresult=True)
def score(outputs: Arrays, targets: Arrays, context: Context) -> Sequence[float] | float | np.ndarray | None:
    """Say how good the answers to some items are: a value for each item, or one for all of them together.

    Called in evaluations, for the metric that takes such a function (``Metric.takes_score``). ``outputs`` are
    those of the evaluation after ``postprocess``, arrays ``[n, ...]`` by name; ``targets`` are the right
    answers by name, and empty where there are none. Return finite numbers: an array or a list of ``n`` of
    them, of which qx takes the mean, or a single one. A single one is computed again and again for items that
    are left out or drawn anew, as often as ten seconds a cell allow, for its interval; so it must depend on
    these items alone, in whatever order, and not on how many there are. None means that this workload has no
    score of its own.

    On error: The metric is ``failed`` in that cell, with the cause; nothing else is lost. ::

        @hookimpl
        def score(outputs, targets):
            return -abs(outputs["output"][:, 0] - targets["labels"])
    """


# Config, in the order of the calls ----------------------------------------------------------------


@hookspec(firstresult=True)
def check_model(model: torch.nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context) -> None:
    """Raise ``Unsupported`` early, with the layer and the reason, for a model that cannot be quantized.

    Called before anything is built, for all configs in one process, so that nobody waits for a build first.
    It need not find everything, since the build may still raise ``Unsupported``. ``model`` is the workload's
    model, with weights (without them where the config wants stubs), in eval mode, and shared by all configs:
    do not change it, and be quick. None, like any other return value, means that there is no objection.

    On error: ``Unsupported`` makes the cell ``unsupported`` in stage ``check_model``; any other error is
    ignored, and the build decides. ::

        @hookimpl
        def check_model(model):
            if not any(isinstance(layer, torch.nn.Linear) for layer in model.modules()):
                raise Unsupported(f"{type(model).__name__} has no linear layer")
    """


@hookspec(firstresult=True)
def quantized_layers(
    model: torch.nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context
) -> Sequence[str] | None:
    """Return the names of the layers that the config quantizes, each of which it can leave in float.

    Only for configs whose record says ``float_layers``. Names are those of the model's ``named_modules``.
    Called before anything is built, where the user sets the option ``float_layers`` or asks for the names
    (``qx layers --list``): a pattern that names none of these layers, nor a module around one, ends the run.
    Leave out what the config cannot leave in float, and what it never quantizes. ``model`` is that of
    ``check_model``: do not change it, and be quick. None, as for a config that does not implement this hook,
    means all layers that have a parameter of two or more dimensions themselves.

    On error: The run ends with exit 2 and one line. ::

        @hookimpl
        def quantized_layers(model):
            return [name for name, layer in model.named_modules() if type(layer) is torch.nn.Linear]
    """


@hookspec(firstresult=True)
def rounding(context: Context) -> Rounding | None:
    """Return how the config rounds layers, with the options in ``context.options``.

    Only for configs whose record says ``float_layers``. The first step of ``qx layers``, which decides what
    is tried in float, and ``qx search`` simulate layers by it, where an artifact is no module whose layers
    could be called. None, as for a config that does not implement this hook, means ``Rounding()``: weights
    and activations of 8 bits, and a scale for each output channel.

    On error: ``qx layers`` ends with exit 1 and the cause; ``qx search`` notes it and leaves no layers in
    float. ::

        @hookimpl
        def rounding(context):
            return Rounding(weight_bits=4, group_size=context.options["group_size"], activation_bits=None)
    """


@hookspec(firstresult=True)
def prepare_model(
    model: torch.nn.Module, example_inputs: tuple[torch.Tensor, ...], context: Context
) -> torch.nn.Module | None:
    """Prepare the model for calibration: fuse it, insert observers or fake-quantization.

    First step of a build. ``model`` is the workload's model, with weights, in eval mode, and a private copy:
    change it as you like. A loader that rebuilds modules calls this again in every launch on a model without
    weights. None is an error.

    On error: ``Unsupported`` makes the cell ``unsupported``, anything else ``failed``, in stage
    ``prepare_model``. In a launch, where a module is rebuilt, the stage is ``load``. ::

        @hookimpl
        def prepare_model(model, example_inputs, context):
            model.qconfig = torch.ao.quantization.get_default_qconfig(context.engine)
            return torch.ao.quantization.prepare(model)
    """


@hookspec(firstresult=True)
def calibrate(
    model: torch.nn.Module, batches: Sequence[Batch], float_model: torch.nn.Module, context: Context
) -> torch.nn.Module | None:
    """Run the prepared model on the calibration batches. Second step of a build.

    Called where the record says ``calibration`` or ``training``. Each batch has ``inputs`` and ``targets``,
    arrays ``[batch, ...]`` by name. The targets of calibration batches are those of the calibration items
    alone, and empty where the workload has no right answers. The training batches together are the training
    split, in a random order that depends on the seed alone. Report the progress of a long training through
    ``context.progress``, which also shows that it does not hang. The batches are the same for every config:
    do not change them. None is an error.

    ``float_model`` is what ``prepare_model`` was given: the workload's model in fp32, with weights and in
    eval mode, but another copy, so that what the prepared model computes can be held against it. It is made
    only for a hook that takes it, once for ``calibrate`` and ``convert`` together; change it as you like.

    On error: ``Unsupported`` makes the cell ``unsupported``, anything else ``failed``, in stage
    ``calibrate``. ::

        @hookimpl
        def calibrate(model, batches, context):
            for batch in batches:
                model(torch.from_numpy(batch.inputs["image"]))
            return model
    """


@hookspec(firstresult=True)
def convert(
    model: torch.nn.Module,
    example_inputs: tuple[torch.Tensor, ...],
    float_model: torch.nn.Module,
    context: Context,
) -> torch.nn.Module | Converted | Artifact | None:
    """Make the artifact that is deployed. Last step of a build.

    Return a module, or write files into ``context.folder`` and return an ``Artifact`` that names them and
    their loader. qx saves the state dict of a module; the loader that rebuilds modules calls
    ``prepare_model`` and ``convert`` again in a launch and loads the state dict strictly. There
    ``context.folder`` is None: what only a build needs is left out where it is None. None is an error.

    A ``Converted`` is a module with notes for readers and a table by layer (bits, error), which an
    ``Artifact`` may have, too; both are kept with the build and in the results. In a launch nobody reads
    them, and errors of a model without weights mean nothing: work them out in ``calibrate``, or where
    ``context.folder`` is not None.

    ``float_model`` is the fp32 model beside the prepared one, as in ``calibrate``. In a launch both are
    without weights, and a hook that takes it there has it made there, in memory that the launch is measured
    by: what needs its values belongs into ``calibrate``.

    On error: ``Unsupported`` makes the cell ``unsupported``, anything else ``failed``, in stage
    ``convert``. The cell also fails if a file of the artifact is missing or is no regular file inside the
    folder (a link, a path with ``..``), and if the result is no module, ``Converted`` or ``Artifact``.
    Nothing is kept of a build that failed. ::

        @hookimpl
        def convert(model, example_inputs, context):
            torch.onnx.export(model, example_inputs, context.folder / "model.onnx")
            return Artifact(folder=context.folder, files=["model.onnx"], loader="onnx")
    """


# Loader -------------------------------------------------------------------------------------------


@hookspec(firstresult=True)
def load(artifact: Artifact, context: Context) -> Subject | None:
    """Load an artifact into this process and return a ``Subject`` that serves it.

    Called once in every launch, after the modules in the record's ``imports`` were imported. Import only what
    serving needs: memory and start-up of the launch are measured. The environment already limits threads;
    limit the runtime's own threads to ``context.threads``. None is an error.

    All weights must come from the artifact's files. For a module to put them into there are two functions,
    and neither loads weights. ``context.make_model()`` gives the workload's fp32 model, as the hook
    ``make_model`` makes it: call it where ``convert`` writes files of its own. ``context.rebuild()`` gives
    the module that ``convert`` returned, by calling ``prepare_model`` and ``convert`` again with a
    ``context.folder`` of None: it is for state dicts that qx saved, and a ``convert`` that writes files fails
    there.

    A subject whose calls change a state, such as a cache that grows, has ``reset(native, kind)``, and one
    with several kinds of call names the others in ``kinds``: see ``qx.Subject``.

    A loader whose record names devices beside the CPU finds the one of the run in ``context.device``, puts
    what it serves there, and may keep what it compiles in ``context.cache``. Calls may return before the
    device has done their work. Where a device, or a library for it, cannot be used, raise ``Unsupported``: to
    serve by something else would be measured as if it were what was asked for.

    On error: The cell is ``failed`` in stage ``load``, and is not launched again. ::

        @hookimpl
        def load(artifact, context):
            return OnnxSubject(artifact.folder / artifact.files[0], context.threads)
    """


@hookspec(firstresult=True)
def read_weights(artifact: Artifact, context: Context) -> Weights | None:
    """Return which weights an artifact's files hold, in how many bits, and which kernels multiply by them.

    Called in the evaluation of a cell, where a metric calls ``artifact.read_weights()``; nothing is loaded
    then. None means that the weights are not known, as for a loader that does not implement this hook.

    A config may implement it as well, for weights that the loader cannot know, such as two numbers that its
    own layer packs into a byte. Its answer goes first, and None leaves the answer to the loader; in the
    config's hook, ``artifact.read_weights()`` gives what the loader reads, of which it may replace a part.

    On error: The metric that asked for it is ``failed`` in that cell, with the cause; no other is lost. ::

        @hookimpl
        def read_weights(artifact):
            arrays = numpy.load(artifact.folder / artifact.files[0])
            return Weights(layers={
                name: StoredWeight(elements=array.size, bits=8 * array.itemsize, type=str(array.dtype))
                for name, array in arrays.items() if array.ndim >= 2
            })
    """


@hookspec(firstresult=True)
def serving_code(artifact: Artifact, context: Context) -> ServingCode | None:
    """Return source code that serves an artifact with its runtime alone, for people who do not have qx.

    Called by ``qx quantize --to``, in a process of its own in which the artifact was loaded before. The
    artifact's folder, which is ``context.folder`` too, is the one that the user gets. In it lie
    ``example_inputs.npz`` and ``example_outputs.npz``: two items by name, and what the loaded artifact gave
    for them. Write further files that serving needs into it, such as an exported program of a module
    (``context.rebuild`` is as for ``load``). qx writes ``serve.py`` around the source and runs it once in a
    process that can import neither qx nor its plugins. Its outputs must be those of the loaded artifact bit
    for bit. None means that only qx serves the artifact, as for a loader that does not implement this hook.

    On error: The artifact is left without ``serve.py``. Its ``README.md`` says why, and so does a line on
    standard error. The same happens where the outputs differ, or a file has a name that qx writes itself. ::

        @hookimpl
        def serving_code(artifact):
            def load(files, details, threads):
                import onnxruntime
                return onnxruntime.InferenceSession(files[0])

            def run(model, inputs):
                return {"output": model.run(None, inputs)[0]}

            return ServingCode.from_functions(load, run, requires=["acme-runtime"])
    """


@hookspec(firstresult=True)
def profile(artifact: Artifact, inputs: Arrays, calls: int, context: Context) -> Profile | None:
    """Load an artifact with a profiler of its runtime, and return where the time of its calls goes.

    Called by ``qx profile``, in a process of its own in which nothing is timed for a table. ``inputs`` is one
    batch, as ``prepare`` takes it. Load the artifact as ``load`` does, with the same threads and settings,
    but watched; call it until it is warm; then call it ``calls`` times, and return what every operator takes
    in a typical one. Name the modules of the fp32 model where the runtime keeps their names. qx has called
    the artifact without a profiler before, and shows both times of a call.

    None means that this runtime has no profiler, as for a loader that does not implement this hook; raise
    ``Unsupported`` to say what there is to know instead. A config whose files hold the names of operators
    only if it is built for that has an option ``kernel_profile``, which ``qx profile`` sets to true.

    On error: That config has no profile, with the cause, and the exit code is 1; others have theirs. ::

        @hookimpl
        def profile(artifact, inputs, calls, context):
            session = open_session(artifact, context.threads, profiling=True)
            rows, seconds = run(session, inputs, calls)
            return Profile(operators=[ProfiledOperator(**row) for row in rows], seconds=seconds)
    """


@hookspec(firstresult=True)
def layer_outputs(
    artifact: Artifact, reference: Artifact, inputs: Arrays, context: Context
) -> Mapping[str, tuple[np.ndarray, np.ndarray]] | None:
    """Return what layers give inside of an artifact and, beside it, the same values in another one in float.

    Called by ``qx layers`` for artifacts that are no module, several times with one batch of ``inputs``, as
    ``prepare`` takes them. ``reference`` is the artifact of the config's ``runtime_baseline``, made of the
    same model and served by the same loader. Have a copy of each artifact give the values as further
    outputs, load both as ``load`` does, and return two arrays of one shape ``[items, ...]`` for each layer,
    by its name in the fp32 model: first that of ``artifact``, in float numbers, then that of ``reference``.
    Leave out a layer whose value is not in both. ``convert`` can leave what it knows of names in
    ``Artifact.details``. Leave the files of both artifacts as they are.

    None means that no value inside of an artifact is known, as for a loader that does not implement this
    hook; raise ``Unsupported`` to say why.

    On error: The errors that have arrived at layers are left out, with the cause; all else is shown. ::

        @hookimpl
        def layer_outputs(artifact, reference, inputs, context):
            names = artifact.details["layer_outputs"]
            ours, theirs = (run_with_outputs(one, names.values(), inputs) for one in (artifact, reference))
            return {layer: (ours[name], theirs[name]) for layer, name in names.items()}
    """


# Metric -------------------------------------------------------------------------------------------


@hookspec(firstresult=True)
def measure(subject: Subject | None, data: Any, context: Context) -> Samples | Sequence[float] | float | None:
    """Return samples of the metric. qx itself computes every interval, delta and verdict from them.

    The phase in the record decides when it is called, and what ``data`` is:

    ===============  ===========================================  ==================  ======================
    phase            called                                       ``data``            returns
    ===============  ===========================================  ==================  ======================
    ``build``        once per cell, of what its build recorded    ``qx.Building``     one value
    ``artifact``     once per cell, nothing loaded                ``qx.Artifact``     one value
    ``fresh``        in fresh launches, before calls are timed    ``qx.Fresh``        one value
    ``block``        once a round in each launch                  ``qx.Block``        a value per call, or one
                                                                                      for the block
    ``predictions``  once per cell, after the evaluation          ``qx.Predictions``  a value per item, or one
    ``derived``      after all launches, in a process of its own  ``qx.Recorded``     a value per item,
                                                                                      launch or call, or one
    ===============  ===========================================  ==================  ======================

    ``subject`` is the loaded artifact in phases ``fresh`` and ``block``, else None. A metric of phase
    ``block`` makes the calls itself, ``data.calls`` of them, by ``subject.call(data.native)``, or by
    ``data.reset()`` and ``data.call(data.native)`` where only the latter counts. What a single call does not
    show, such as its energy, is one value for all of them where the record says ``samples="per_round"``; the
    number of calls differs between cells, so give it for one call or one item. Derived values of calls and
    blocks (``per_block``, ``per_round``) need ``Samples`` with the ``waves`` and ``rounds`` of ``data``.
    Values must be finite and below 1e75, with either sign; those compared by speedup must be above 0
    (``exact``: or 0). None means that the metric does not apply here, and the cell shows no value. Raise
    ``Unsupported`` to give the reason, which the report then shows. A metric whose record names ``tasks`` is
    only called for workloads that have one of them. An error costs this metric of this cell, nothing else.

    Outputs may be larger than memory: they are memory-mapped, and cannot be written to. A metric of outputs
    whose record says ``by_parts`` is called with some of the items at a time, and what it gives is joined; it
    is also called with a few items alone, and must give the same for them.

    In phase ``build`` no code of a metric runs in the build's process, which it would disturb and, being part
    of it, decide: qx itself records the steps of every build and keeps them with it, so that the metric has
    them of a build from the cache as well, as they were when it was made. One build does not say how much
    builds differ, so the value has no interval and no verdict.

    A single value of phase ``predictions`` says nothing about its sampling error, so it has no interval and
    no verdict. Return a value per item, or implement ``combine`` or ``statistic``. A single value of phase
    ``derived`` is exact only where all values that it was derived from are exact.

    On error: That metric of that cell is ``failed``, with the cause, and the exit code is 1; the cell and
    its other metrics go on. The same happens for values that are not finite, or not as many as the record's
    ``samples`` promise, for waves, rounds or groups that do not exist, and for details that are nested
    deeper than 32 levels or hold whole numbers of more than 64 bits. A metric that ends its process is
    ``crashed`` in that cell; one that takes longer than ``--timeout`` is ``timeout``: see faults
    (docs/faults.md). ::

        @hookimpl
        def measure(subject, data, context):
            return sum((data.folder / name).stat().st_size for name in data.files)
    """


@hookspec(firstresult=True)
def combine(statistics: np.ndarray, context: Context) -> np.ndarray | None:
    """Compute a metric of a whole set, such as F1, from the mean of statistics of its items.

    For metrics whose record says ``samples="per_set"``. Their ``measure`` gives statistics of each item, an
    array of finite numbers ``[n, k]``, as the values of ``Samples``: of F1 whether the item is a true
    positive, predicted, and a member, for each class. Each row must follow from its own item alone.
    ``statistics`` are means of such rows over sets of items, ``[..., k]``; return the value of each set,
    ``[...]``, and NaN for sets that have none. (Means and not sums, so that the value does not depend on the
    number of items.) None is an error.

    From this qx computes the influence of every single item exactly, and the value of items drawn with
    replacement, in a few calls; so it is to be preferred over ``statistic``, which is called thousands of
    times. A metric may implement both: ``combine`` is used where ``measure`` gave ``[n, k]``, and
    ``statistic`` where it gave a single value.

    On error: That metric of that cell is ``failed``, with the cause. The same happens for a result of another
    shape than ``[...]``, or that depends on the other sets beside one, and for rows that depend on other
    items. ::

        @hookimpl
        def combine(statistics):
            hits, predicted, members = numpy.moveaxis(statistics, -1, 0)
            return 2 * hits / (predicted + members)
    """


@hookspec(firstresult=True)
def statistic(
    outputs: Arrays,
    targets: Arrays,
    indices: np.ndarray,
    classes: tuple[str, ...],
    baseline: Arrays | None,
    score: Callable[[Arrays, Arrays], Any] | None,
    context: Context,
) -> float | None:
    """Compute a metric of a whole set, such as F1, over the items in ``indices``.

    For metrics whose record says ``samples="per_set"``. Called in the evaluation of a cell (phase
    ``predictions``), or after all launches (phase ``derived``). It is called up to thousands of times, as
    many as ten seconds allow: over all items, with some items left out, with items drawn with replacement,
    and with the outputs of a single item changed. From all this qx computes the interval, and that of the
    difference of two cells.

    ``outputs`` maps names to the arrays ``[n, ...]`` of all outputs, after the workload's ``postprocess`` in
    phase ``predictions``; they may differ between calls. ``targets`` maps names to the right answers
    ``[n, ...]``, and is empty where there are none. ``indices`` is an integer array ``[m]``. The value must
    come from the items at ``indices`` of these arrays alone, whatever their order. ``baseline`` has the
    baseline's outputs in phase ``derived``, and is None else; ``score`` is that of ``qx.Predictions`` in
    phase ``predictions``. All arrays are read-only. Return a finite number for any items that may be drawn,
    and leave out a class of which none was drawn. None for all items means that the metric does not apply
    here; None for other items means that these have no value. An error costs this metric of this cell,
    nothing else.

    A metric that has details or groups implements ``measure`` as well, which must return the same value.

    On error: As for ``measure``. The same happens for a value that is no number, that differs from what
    ``measure`` returns, or that depends on other items than those in ``indices``. ::

        @hookimpl
        def statistic(outputs, targets, indices):
            labels = targets["labels"][indices]
            right = outputs["output"][indices].argmax(axis=1) == labels
            return min(right[labels == label].mean() for label in set(labels))
    """
