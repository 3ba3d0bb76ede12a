"""Checks of workloads."""

from __future__ import annotations

from attrs import evolve, frozen

from qx.contract.records import LABELS, Workload
from qx.errors import DataError, UsageError
from qx.processes.job_answers import InspectAnswer
from qx.processes.jobs import InspectJob
from qx.processes.workers import Failure
from qx.runner.preparation import default_engine, weights_file
from qx.runner.request import Request
from qx.testing.answers import ExamineAnswer, ExaminedModel, Watched
from qx.testing.bench import Bench
from qx.testing.check import Check
from qx.testing.for_all import needs_only, try_bad_options
from qx.testing.jobs import ExamineJob
from qx.testing.verdicts import Failed, NotApplicable
from qx.values import OptionValues

#: Largest share of test items that may lie in the training split too: large collections have a few doubles.
SHARED = 0.01
#: Largest change of an item's outputs by the others of its batch, as a share of the largest output.
COMPANY = 1e-4


@frozen
class ModelTrial:
    """The result of making the workload's model and loading its weights, where it has any."""

    #: The worker's answer, with what was observed; None where the model could not be made.
    watched: Watched[InspectAnswer] | None
    weights: str | None = None
    #: Why the model could not be made.
    flaw: str = ""


def _record(bench: Bench) -> Workload:
    assert isinstance(bench.record, Workload)
    return bench.record


def _model_trial(bench: Bench) -> ModelTrial:
    """Make the model and try it on its example inputs, once for each bench."""

    def try_model() -> ModelTrial:
        try:
            job = _inspect_job(bench)
            return ModelTrial(bench.watch(job, "inspect"), job.weights)
        except (UsageError, DataError, Failure) as error:
            return ModelTrial(None, flaw=str(error))

    trial: ModelTrial = bench.cached("model trial", try_model)
    return trial


def _inspect_job(bench: Bench, options: OptionValues | None = None) -> InspectJob:
    """Return the job that makes the model. Raises ``UsageError`` where its weights are missing."""
    weights = None if _record(bench).weights is None else str(weights_file(bench.entry, Request()))
    return InspectJob(
        workload=bench.reference,
        workload_options={**bench.defaults, **(options or {})},
        weights=weights,
        engine=default_engine(),
    )


def _examine_job(bench: Bench, **fields: object) -> ExamineJob:
    """Return the job that examines the data, and the model too where it has weights that fit."""
    defaults = {
        "weights": _model_trial(bench).weights,
        "workload_options": bench.defaults,
        **bench.data_fields(),
    }
    return ExamineJob(workload=bench.reference, **{**defaults, **fields})


def _examined(bench: Bench) -> Watched[ExamineAnswer]:
    """Examine data and model, once for each bench. Raises ``NotApplicable`` where there are no data."""

    def examine() -> Watched[ExamineAnswer]:
        try:
            return bench.watch(_examine_job(bench), "examine")
        except DataError as error:
            raise NotApplicable(f"its data cannot be had: {error}") from error
        except UsageError as error:
            if _record(bench).takes_model:
                raise NotApplicable(f"the user names its model and data: {error}") from error
            raise
        except Failure as failure:
            raise Failed(str(failure)) from failure

    examined: Watched[ExamineAnswer] = bench.cached("findings", examine)
    return examined


def _findings(bench: Bench) -> ExamineAnswer:
    return _examined(bench).answer


def _model_findings(bench: Bench) -> ExaminedModel:
    """Return what was found of the model. Raises ``NotApplicable`` where it has no weights."""
    model = _findings(bench).model
    if model is None:
        raise NotApplicable("brings no weights")
    return model


def weights_fit(bench: Bench) -> str:
    """Its weights are there and fit its model, name by name and shape by shape.

    Of a workload that brings none the model is only made, and must take its example inputs.
    """
    if bench.entry.state == "unavailable":
        raise NotApplicable(bench.entry.reason)
    trial, record = _model_trial(bench), _record(bench)
    if trial.watched is None and not record.takes_model:
        raise Failed(trial.flaw)
    if trial.watched is None or record.weights is None:
        raise NotApplicable("brings no weights")
    return f"{trial.watched.answer.parameters:,} parameters"


def loads_data(bench: Bench) -> str:
    """Both splits load: named arrays of one length, finite; targets are numbers, and labels are classes."""
    if bench.entry.state == "unavailable":
        raise NotApplicable(bench.entry.reason)
    for name, split in _findings(bench).splits.items():
        if len(set(split.lengths.values())) != 1 or not min(split.lengths.values()):
            raise Failed(f"the {name} split is empty, or its arrays differ in length: {split.lengths}")
        if not split.finite:
            raise Failed(f"the {name} split has values that are not finite")
        for target, values in split.targets.items():
            low, high, dtype = values.lowest, values.highest, values.dtype
            if low is None or high is None:
                raise Failed(f"the {target} of the {name} split must be numbers, not {dtype}")
            are_classes = target == LABELS and split.classes and values.dimensions == 1 and dtype[1] in "iub"
            if are_classes and not 0 <= low <= high < split.classes:
                raise Failed(f"the {name} split has labels from {low} to {high} and {split.classes} classes")
        if not split.source:
            raise Failed(f"the {name} split does not say its source, by which results name it")
    sizes = {name: next(iter(split.lengths.values())) for name, split in _findings(bench).splits.items()}
    return ", ".join(f"{count:,} {name}" for name, count in sizes.items())


def splits_disjoint(bench: Bench) -> str:
    """No item of the test split lies in the training split (up to 1 % of doubles)."""
    shared = _findings(bench).shared
    if shared > SHARED:
        raise Failed(f"{shared:.1%} of the test items lie in the training split too")
    return f"{shared:.2%} in both"


def same_data_again(bench: Bench) -> str:
    """Another process with another seed loads the same items in the same order."""
    again = bench.run(evolve(_examine_job(bench, weights=None), seed=bench.request.seed + 1), "examine")
    for name, split in _findings(bench).splits.items():
        if again.splits[name].fingerprint != split.fingerprint:
            raise Failed(f"the {name} split differs from one process, or seed, to the next")
    return "equal in two processes with two seeds"


def says_what_data_it_needs(bench: Bench) -> str:
    """Offline and with an empty folder for data it loads all the same, or raises ``DataError``."""
    empty = {
        "data": str(bench.new_folder("no-data")),
        "cache": str(bench.new_folder("no-cache")),
        "offline": True,
    }
    try:
        bench.run(_examine_job(bench, weights=None, **empty), "examine")
    except DataError as error:
        return f"DataError: {error}"
    except Failure as failure:
        raise Failed(f"without its data it fails with {failure}; expected a DataError") from failure
    return "needs none"


def example_inputs_accepted(bench: Bench) -> str:
    """Example inputs of any batch size have the shapes and types of the data, and the model takes them."""
    test = _findings(bench).splits["test"]
    dtypes = list(test.dtypes.values())
    for example in _model_findings(bench).examples:
        size = example.batch_size
        expected = [[size, *shape] for shape in test.shapes.values()]
        if (shapes := list(map(list, example.shapes))) != expected:
            raise Failed(f"at batch size {size} they have shapes {shapes}, the data {expected}")
        if list(example.dtypes) != dtypes:
            raise Failed(f"they have types {list(example.dtypes)}, the data {dtypes}")
        if example.outputs[0] != size:
            raise Failed(f"at batch size {size} the model gives shape {list(example.outputs)}")
    return ", ".join(f"{name} {['n', *shape]}".replace("'", "") for name, shape in test.shapes.items())


def model_is_fp32_and_settled(bench: Bench) -> str:
    """The model is fp32, answers the same twice, and answers an item alike alone and in a batch."""
    model = _model_findings(bench)
    if model.types != ("torch.float32",):
        raise Failed(f"its parameters are {', '.join(model.types)}, not torch.float32")
    if not model.repeats:
        raise Failed("in eval mode it gives different outputs for the same inputs")
    if (change := model.company) > COMPANY:
        raise Failed(f"an item's outputs depend on the others of its batch, by up to {change:.2g}")
    return f"outputs {list(model.outputs)}"


def stubs_change_nothing(bench: Bench) -> str:
    """The form with stubs has the same state dict and outputs, or raises ``Unsupported``."""
    stubs = _model_findings(bench).stubs
    if stubs.startswith("unsupported"):
        raise NotApplicable(stubs)
    if stubs:
        raise Failed(f"with context.quantizable it gives {stubs}")
    return "the same outputs, bit for bit"


def knows_its_data(bench: Bench) -> str:
    """With its weights it does better on the test split than chance, where there are labels and classes."""
    from qx.statistics import over_items

    tried = _model_findings(bench).correct
    if tried is None:
        raise NotApplicable("no labels of classes")
    right, count = tried.correct, tried.items
    chance = 1 / _findings(bench).splits["test"].classes
    low, _ = over_items.wilson(right, count, 0.999).ci or (0.0, 0.0)
    if low <= chance:
        raise Failed(
            f"{right} of {count} are right, where chance gives {chance:.1%}: are the data preprocessed?"
        )
    return f"{right} of {count} right"


def needs_what_it_says(bench: Bench) -> str:
    """It works with what its record requires, uses that, and imports no other distribution."""
    trial = _model_trial(bench)
    if trial.watched is None:
        raise NotApplicable(f"its model cannot be made here: {trial.flaw}")

    def work_without(absent: tuple[str, ...]) -> None:
        bench.watch(_inspect_job(bench), "inspect", absent)
        bench.watch(_examine_job(bench), "examine", absent)

    imported = {*_examined(bench).watched.modules, *trial.watched.watched.modules}
    return needs_only(bench, imported, work_without)


def refuses_bad_options(bench: Bench) -> str:
    """A value that an option cannot have is refused in words that name the option."""

    def attempt(options: OptionValues) -> None:
        job = _examine_job(bench, workload_options={**bench.defaults, **options})
        try:
            bench.run(job, "examine")
            if job.weights is None:  # the model has not been made yet
                bench.run(_inspect_job(bench, options), "inspect")
        except (UsageError, DataError) as error:
            raise Failure("failed", "examine", str(error)) from error

    # Training does not run here, so its options are not checked.
    return try_bad_options(bench, attempt)


#: The checks of a workload, in the order in which they are run.
CHECKS = (
    Check(weights_fit, after=("valid_record", "unique_name")),
    Check(loads_data, after=("valid_record", "unique_name")),
    Check(splits_disjoint, after=("loads_data",)),
    Check(same_data_again, after=("loads_data",)),
    Check(says_what_data_it_needs, after=("loads_data",)),
    Check(example_inputs_accepted, after=("loads_data", "weights_fit")),
    Check(model_is_fp32_and_settled, after=("loads_data", "weights_fit")),
    Check(stubs_change_nothing, after=("loads_data", "weights_fit")),
    Check(knows_its_data, after=("loads_data", "weights_fit")),
    Check(needs_what_it_says, after=("loads_data",)),
    Check(refuses_bad_options, after=("loads_data",)),
)
