"""The answers to the jobs of the conformance kit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

from attrs import frozen

from qx.processes.answers import Answer

A = TypeVar("A", bound=Answer)


# Serving ------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class ServedBatch:
    """What a loader did with one batch."""

    #: Number of items.
    batch_size: int
    #: Names of the outputs of each of three calls.
    names: tuple[tuple[str, ...], ...]
    #: Name of the type of each output.
    types: Mapping[str, str]
    #: Type of each output's elements, as numpy writes it: ``<f4``.
    dtypes: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    #: Whether all outputs are finite numbers.
    finite: bool
    #: Whether the arrays that were prepared are unchanged.
    inputs_kept: bool
    #: Whether the same prepared inputs gave the same outputs again.
    repeats: bool
    #: Whether the same inputs, prepared again, gave the same outputs.
    repeats_anew: bool


@frozen(kw_only=True)
class ServeAnswer(Answer):
    """What a loader did with an artifact."""

    #: Whether there was a probe, with which the artifact agreed.
    probed: bool
    #: Modules of the loader's ``imports`` that were not imported before.
    newly_imported: tuple[str, ...]
    #: Top-level modules that were imported while the artifact was loaded.
    during_load: tuple[str, ...]
    served: tuple[ServedBatch, ...]
    #: Whether the same inputs gave the same outputs again, by further kind of call.
    repeated_kinds: Mapping[str, bool]
    #: CPU time that each thread took while the artifact was called, in seconds, the largest first.
    busy_threads: tuple[float, ...]


@frozen(kw_only=True)
class LayerValue:
    """What a loader gave for one layer inside of an artifact."""

    name: str
    #: Shape of both arrays.
    shape: tuple[int, ...]
    #: Whether all values are finite, in both.
    finite: bool
    #: Where the layer gives an output of the fp32 model: how far each array is from that output of its
    #: artifact, as a share of the largest value there. Empty for all other layers.
    distances: tuple[float, ...] = ()


@frozen(kw_only=True)
class LayerValuesAnswer(Answer):
    """What a loader gave for layers inside of an artifact, and what that changed."""

    #: Why it gave nothing; empty where it did.
    refusal: str = ""
    values: tuple[LayerValue, ...] = ()
    #: Names of the fp32 model's modules.
    modules: tuple[str, ...] = ()
    #: What is no longer as it was before, in words.
    changed: tuple[str, ...] = ()


# Workloads ----------------------------------------------------------------------------------------


@frozen(kw_only=True)
class ExaminedTarget:
    """One target of a split, such as its labels."""

    #: Smallest and largest value; None if they are no numbers.
    lowest: int | float | None
    highest: int | float | None
    #: Type of the values, as numpy writes it: ``<i8``.
    dtype: str
    #: Number of dimensions.
    dimensions: int


@frozen(kw_only=True)
class ExaminedSplit:
    """One split of a workload's data."""

    #: Number of items of each input and of each target.
    lengths: Mapping[str, int]
    #: Type of each input, as numpy writes it.
    dtypes: Mapping[str, str]
    #: Shape of one item of each input.
    shapes: Mapping[str, tuple[int, ...]]
    #: Whether all inputs are finite.
    finite: bool
    targets: Mapping[str, ExaminedTarget]
    #: Number of classes.
    classes: int
    #: Name of the data in results.
    source: str
    #: SHA-256 of the split.
    fingerprint: str


@frozen(kw_only=True)
class ExaminedExample:
    """The example inputs at one batch size, and what the model gives for them."""

    batch_size: int
    #: Shape of each input.
    shapes: tuple[tuple[int, ...], ...]
    #: Type of each input, as numpy writes it.
    dtypes: tuple[str, ...]
    #: Shape of the outputs.
    outputs: tuple[int, ...]


@frozen(kw_only=True)
class CorrectItems:
    """The items of the test split that the model was tried on."""

    #: Number of items whose class the model found.
    correct: int
    #: Number of all items tried.
    items: int


@frozen(kw_only=True)
class ExaminedModel:
    """The model of a workload, with its weights."""

    #: Types of the parameters, such as ``torch.float32``.
    types: tuple[str, ...]
    examples: tuple[ExaminedExample, ...]
    #: Whether the same inputs gave the same outputs twice.
    repeats: bool
    #: Shape of the outputs for some items of the test split.
    outputs: tuple[int, ...]
    #: Largest change of an item's outputs by the others of its batch, as a share of the largest output.
    company: float
    #: None without labels of classes.
    correct: CorrectItems | None
    #: What is wrong with the form of the model that has stubs; empty where nothing is.
    stubs: str


@frozen(kw_only=True)
class ExamineAnswer(Answer):
    """What the data of a workload show and, where it has weights, its model."""

    #: The splits ``train`` and ``test``.
    splits: Mapping[str, ExaminedSplit]
    #: Share of the test items that lie in the training split as well.
    shared: float
    #: None if the job names no weights.
    model: ExaminedModel | None


# Metrics ------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class CombineAnswer(Answer):
    """The shapes of the sets that a metric combined as it combines each of them; empty if it has no rows."""

    shapes: tuple[tuple[int, ...], ...]


# Watching -----------------------------------------------------------------------------------------


@frozen(kw_only=True)
class StateChange:
    """A setting of the process that a build has changed, as text."""

    before: str
    now: str


@frozen(kw_only=True)
class BuildObservations:
    """What was observed in a build."""

    #: Fp32 models that have changed, in words.
    fp32: tuple[str, ...]
    #: Settings of the whole process that have changed, by name.
    state: Mapping[str, StateChange]
    #: Names of the fp32 model's modules and parameters.
    names: tuple[str, ...]


@frozen(kw_only=True)
class Observations:
    """What plugins changed beside their work, until an answer was sent."""

    #: Arguments of hooks that were changed in place, in words.
    changed: tuple[str, ...]
    #: Top-level modules that are imported.
    modules: tuple[str, ...]
    #: Files in the current folder, relative to it.
    strays: tuple[str, ...]
    #: None unless the job is a build.
    build: BuildObservations | None = None


@frozen(kw_only=True)
class Watched(Answer, Generic[A]):
    """The answer of a job that was watched, and what was observed."""

    answer: A
    watched: Observations
