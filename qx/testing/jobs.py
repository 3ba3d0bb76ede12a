"""Jobs of the conformance kit alone: serve, look inside, examine, combine statistics, watch a job."""

from __future__ import annotations

from types import GenericAlias
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar, cast

from attrs import field, frozen

from qx.contract.fields import to_integers, to_strings
from qx.contract.references import to_reference
from qx.host.host import Reference
from qx.processes.answers import Answer
from qx.processes.jobs import (
    ArtifactJob,
    DeriveJob,
    EvaluateJob,
    Job,
    LoadingJob,
    StoredArtifact,
    to_artifact,
    to_job,
)
from qx.values import JsonMapping, JsonObject, OptionValues

if TYPE_CHECKING:
    # The type checker reads these names in texts.
    from qx.testing.answers import (  # noqa: F401
        CombineAnswer,
        ExamineAnswer,
        LayerValuesAnswer,
        ServeAnswer,
        Watched,
    )

A = TypeVar("A", bound=Answer)

#: The package of the modules that do these jobs.
PACKAGE = "qx.testing.worker"
#: The module of their answers.
ANSWERS = "qx.testing.answers"


@frozen(kw_only=True)
class ServeJob(ArtifactJob["ServeAnswer"]):
    """Serve an artifact's evaluation inputs at several batch sizes, and answer with what the loader did."""

    do: ClassVar[str] = "serve"
    answers: ClassVar[str] = ANSWERS
    package: ClassVar[str] = PACKAGE
    batch_sizes: tuple[int, ...] = field(converter=to_integers)
    #: Where to leave the outputs at the last batch size, as an ``.npz`` file of packed outputs.
    outputs: str


@frozen(kw_only=True)
class LayerValuesJob(ArtifactJob["LayerValuesAnswer"]):
    """Have a loader give what layers give inside of an artifact, and compare that with its answers."""

    do: ClassVar[str] = "layer_values"
    answers: ClassVar[str] = ANSWERS
    package: ClassVar[str] = PACKAGE
    #: The artifact in float, of the same loader.
    reference: StoredArtifact = field(converter=to_artifact)
    #: Number of items of the batch.
    items: int


@frozen(kw_only=True)
class ExamineJob(LoadingJob["ExamineAnswer"]):
    """Find out whether a workload keeps what its contract promises: its model and its data."""

    do: ClassVar[str] = "examine"
    answers: ClassVar[str] = ANSWERS
    package: ClassVar[str] = PACKAGE
    weights: str | None


def _measuring(value: EvaluateJob | DeriveJob | JsonMapping) -> EvaluateJob | DeriveJob:
    return cast("EvaluateJob | DeriveJob", to_job(value))


@frozen(kw_only=True)
class CombineJob(Job["CombineAnswer"]):
    """Combine a metric's statistics of items in sets of several shapes, and compare with each set alone."""

    do: ClassVar[str] = "combine"
    answers: ClassVar[str] = ANSWERS
    package: ClassVar[str] = PACKAGE
    metric: Reference = field(converter=to_reference)
    options: OptionValues
    #: The job that has measured the metric; of an evaluation the outputs are written already.
    job: EvaluateJob | DeriveJob = field(converter=_measuring)

    def fields(self) -> JsonObject:
        """Return the fields of the job, with those of the job that has measured as ``job``."""
        return {**super().fields(), "job": self.job.fields()}


def _inner(value: Job[A] | JsonMapping) -> Job[A]:
    return cast("Job[A]", to_job(value))


@frozen(kw_only=True)
class WatchJob(Job["Watched[A]"], Generic[A]):
    """Do another job, and answer too with what the plugins changed: their arguments, the process, files."""

    do: ClassVar[str] = "watch"
    package: ClassVar[str] = PACKAGE
    job: Job[A] = field(converter=_inner)
    #: Top-level modules to hide, as if they were not installed.
    absent: tuple[str, ...] = field(default=(), converter=to_strings)
    #: An empty folder to work in, where files that plugins write into the current folder are detected.
    folder: str
    #: For a build: evaluation inputs, and where to leave the fp32 model's packed outputs for them (``.npz``).
    inputs: str | None = None
    outputs: str | None = None

    @property
    def answer_type(self) -> type[Watched[A]]:
        """The record of the inner job's answer, with the observations."""
        from qx.testing.answers import Watched

        return cast("type[Watched[A]]", GenericAlias(Watched, (self.job.answer_type,)))

    @property
    def stage(self) -> str:
        """The stage in which the job fails, which is that of the inner job."""
        return self.job.stage

    def fields(self) -> JsonObject:
        """Return the fields of the job, with those of the inner job as ``job``."""
        return {**super().fields(), "job": self.job.fields()}
