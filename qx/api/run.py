"""``qx.run``: what the command line does, as a function that also takes a session's own model and data."""

from __future__ import annotations

import inspect
import re
import time
from argparse import Namespace
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from attrs import evolve

from qx.amounts import to_seconds
from qx.api.progress import reporting
from qx.api.result import Result
from qx.api.session import hand_over_data, hand_over_model, hand_over_score, is_module
from qx.cli import UNUSABLE_STATES
from qx.cli.arguments import build_request, take_recipe
from qx.cli.places import check_writable
from qx.contract.records import as_word
from qx.errors import DataError, UsageError
from qx.foreign import to_line
from qx.host.host import Host
from qx.leftovers import temporary_folder
from qx.processes.logs import logs_in_cache
from qx.results import results_file
from qx.results.constraints import OPTIONS, read_constraints
from qx.results.quality_precision import QualityPrecision, read_quality_precision
from qx.runner import run as run_request
from qx.runner.request import DEFAULT_BATCH_SIZES, Request
from qx.storage.holding import hold_folder
from qx.storage.session_objects import REFERENCE
from qx.values import OptionValue

if TYPE_CHECKING:
    from qx.api.session import Model, Split
    from qx.results.constraints import Constraint
    from qx.runner.request import Reporter

#: Options of the command line whose arguments here have other names.
RENAMED = {
    "workload": "workloads",
    "config": "configs",
    "metric": "metrics",
    "batch-size": "batch_sizes",
    "length": "lengths",
    "plugin": "plugins",
    "set": "settings",
    "example": "examples",
    "range": "ranges",
}
#: Longest value, in characters, in the call that results record.
MAX_SHOWN = 60


def run(
    *,
    model: Model | None = None,
    data: str | Path | Split | Mapping[str, Split] | None = None,
    configs: str | Sequence[str] = (),
    all: bool = False,  # noqa: A002 - as on the command line
    metrics: str | Sequence[str] = (),
    batch_sizes: int | Sequence[int] = (),
    lengths: int | Sequence[int] = (),
    workloads: str | Sequence[str] = (),
    settings: Mapping[str, OptionValue | Sequence[OptionValue]] | Sequence[str] = (),
    threads: int | Sequence[int] = 1,
    device: str = "cpu",
    precision: float = 0.01,
    quality_precision: str | float | None = None,
    budget: float | None = None,
    max_time: float | str | None = None,
    quick: bool = False,
    cpus: Sequence[int] = (),
    front: str | Sequence[str] = (),
    max_drop: str | Sequence[str] = (),
    max_latency: str | Sequence[str] = (),
    max_size: str | Sequence[str] = (),
    max_memory: str | Sequence[str] = (),
    recipe: str | Path | None = None,
    model_args: Mapping[str, object] | None = None,
    trained: bool | None = None,
    examples: str | Sequence[str] = (),
    input_shape: str | Sequence[int] | None = None,
    mean: str | Sequence[float] | None = None,
    std: str | Sequence[float] | None = None,
    weights: str | Path | None = None,
    calibration_data: str | Path | None = None,
    calibration_n: int | None = None,
    eval_n: int | None = None,
    engine: str | None = None,
    seed: int = 0,
    build_seeds: int = 1,
    score: str | Callable[..., Any] | None = None,
    score_better: Literal["higher", "lower"] | None = None,
    timeout: float | None = None,
    rebuild: bool = False,
    offline: bool = False,
    trust_cache: str | Path | None = None,
    yes: bool = False,
    plugins: str | Sequence[str] = (),
    out: str | Path | None = None,
    progress: bool = True,
    debug: bool = False,
) -> Result:
    """Compare configs on a model, as ``qx run`` does, and return the result.

    The arguments are the options of the command line, with the same defaults. Those that can be repeated
    there are plurals here, and take one value or several. Unlike the command line it writes no files, unless
    ``out`` names a folder, but for logs in the cache. Ctrl-C, or interrupting the kernel, ends all processes
    of the run and raises ``KeyboardInterrupt``. No ``if __name__ == "__main__"`` is needed: workers do not
    run the calling script.

    Parameters
    ----------
    model : str, nn.Module or callable, optional
        What the command line takes as MODEL: ``"FILE.py"``, ``"FILE.py:FACTORY"``, ``"FILE.pt2"``,
        ``"FILE.onnx"``, ``"package.module:FACTORY"``, ``"timm:NAME"``, ``"torchvision:NAME"``; or an
        ``nn.Module`` of this session; or a function or class that makes one. One that takes an argument
        ``quantizable`` is called with it for the form with quantize and dequantize stubs, which eager-mode
        static configs need.
    data : path, arrays, Dataset or qx.Data, optional
        What the command line takes as ``--data``; or, with ``model``, items of this session: inputs
        ``[items, ...]``, a pair of inputs and labels ``[items]``, a torch Dataset of such items, or
        ``qx.Data``. Inputs are an array, a
        tensor, or a dict of them where a model has several. A dict ``{"train": ..., "test": ...}`` gives the
        items that calibrate and those that are evaluated; of items that are given together some are set aside
        for calibration: a fifth, or 256 where that is more, at most half. Float64 inputs become float32.
    configs : str or sequence of str
        Configs to compare beside the baseline; by default all but those that train.
    all : bool
        Whether configs that train for minutes take part too, where none is named.
    metrics : str or sequence of str
        Metrics to measure; by default all.
    batch_sizes : int or sequence of int
        Batch sizes that are timed; by default those that the workload says, else 1 and 32. The first is
        the front's.
    lengths : int or sequence of int
        Lengths of inputs that are timed at each batch size, where a dimension of the inputs is free; by
        default those that the workload says, else inputs as the data have them.
    workloads : str or sequence of str
        Workloads to run in place of a model of one's own.
    settings : mapping or sequence of str
        Options of plugins, as ``--set``: ``{"my_config.bits": [4, 8]}``, where a list makes a cell for each
        value, or ``["my_config.bits=4,8"]``.
    threads : int or sequence of int
        Threads that serve. Each of several numbers has waves and a baseline of its own.
    device : str
        Device that serves: ``"cpu"``, ``"cuda"`` or ``"cuda:1"``. The configs that are for it take part.
    precision : float
        Relative half-width that the 95 % interval of every speedup is to reach.
    quality_precision : str or float, optional
        Half-width of the 95 % interval of the quality of every config against the baseline at which the
        evaluation ends: ``"0.2pt"`` for shares, a number for other metrics. By default all items are
        evaluated.
    budget : float, optional
        Seconds of all launches.
    max_time : float or str, optional
        Limit of the whole run: seconds, or a text such as ``"10m"``. What it is too short for is left out.
    quick : bool
        Whether to take a first look: three waves and 15 s, whose intervals claim too much, and of some
        workloads a part of the items.
    cpus : sequence of int
        CPUs that launches are held to.
    front : str or sequence of str
        Metrics that are the axes of the front; by default those that say they are.
    max_drop, max_latency, max_size, max_memory : str or sequence of str
        What is accepted of a config, such as ``"0.5pt"``, ``"2ms"``, ``"10MB"``, or as a share of the
        baseline's ``"0.3x"``. ``Result.within`` says which configs meet it.
    recipe : path, optional
        A file that ``qx search`` wrote, whose config takes part with its options.
    model_args : mapping, optional
        Keyword arguments of what makes the model.
    trained : bool, optional
        Whether the model is trained, so that its answers can be right or wrong. By default that holds for an
        ``nn.Module``, and for what makes a model only with ``weights``.
    examples : str or sequence of str
        Inputs of the model, in its order, where nothing else says them: ``"images:float32[1,3,32,32]"``.
    input_shape, mean, std : str or sequence of numbers, optional
        Of a model on a folder of images: channels, height and width, and how pixels are normalised.
    weights : path, optional
        File of the weights; by default the workload's own, or those that the model has.
    calibration_data : path, optional
        Data that calibrate, in the forms of ``--data``; by default those that the data call ``"train"``, else
        items of theirs, which are set aside.
    calibration_n : int, optional
        Number of calibration items of every config.
    eval_n : int, optional
        Number of items that are evaluated, of each class by its share, always the same ones; 0 for all. By
        default all, but of a folder of images 1,000 and of a Dataset 10,000.
    engine : str, optional
        Quantized engine of torch.
    seed : int
        Seed of all that is random.
    build_seeds : int
        Number of builds of each config that calibrates or trains, with the seeds ``seed``, ``seed + 1`` and
        so on, each with calibration items of its own. All are evaluated, and the first is timed.
    score : str or callable, optional
        Function that judges answers, ``"FILE.py:FUNCTION"`` or one of this session. It gets outputs and
        targets, arrays ``[n, ...]`` by name, and gives a value for each item or one for all of them.
    score_better : {"higher", "lower"}, optional
        Which way its values are better; by default higher.
    timeout : float, optional
        Seconds for each stage of a cell.
    rebuild : bool
        Whether to build anew what is in the cache.
    offline : bool
        Whether nothing may be downloaded.
    trust_cache : path, optional
        A cache folder that is used although others can write it.
    yes : bool
        Whether more than 1,000 cells are meant.
    plugins : str or sequence of str
        Plugins to load from modules or files; ``"no:NAME"`` leaves one out.
    out : path, optional
        Folder that the results are written into, as by ``Result.save``.
    progress : bool
        Whether progress is shown: in a notebook as one line that is rewritten.
    debug : bool
        Whether what plugins print, and tracebacks of their errors, are shown at once. They are in
        ``Result.logs`` in any case.

    Returns
    -------
    Result
        The figures of all cells, the front, the picks and the raw samples.

    Raises
    ------
    qx.UsageError
        An argument does not fit, a plugin is not known, or an object cannot be handed to the workers. A cell
        that fails raises nothing: its row has the outcome and the cause, and ``Result.logs`` the traceback.

    Notes
    -----
    The processes of the run get the session's objects pickled by cloudpickle, in a folder that only its user
    can read, and that is removed when the run ends. Classes and functions of a notebook go along; those of a
    module are imported again, as the module's file is by then.
    """
    # First, so that it holds the arguments and nothing else.
    arguments = dict(locals())
    began = time.monotonic()
    with errors_in_python_words(run), ExitStack() as stack:
        request = request_of(arguments, stack)
        out_folder = None if out is None else check_writable(Path(out))
        reporter = stack.enter_context(reporting(is_shown=progress))
        host = discover(plugins, request, reporter)
        if out_folder is not None:
            stack.enter_context(hold_folder(out_folder))
            results_file.settle(out_folder)
        logs = logs_in_cache(request.trust_cache) if out_folder is None else out_folder
        results, recording = run_request(host, request, reporter, lambda _: logs, began)
        result = Result(results, recording, logs_folder=logs)
        return result if out_folder is None else result.save(out_folder)


def request_of(arguments: Mapping[str, Any], stack: ExitStack) -> Request:
    """Return the request that the arguments of ``run`` make, with the objects of the session handed over.

    They lie in a folder that ``stack`` removes. Raises ``UsageError``.
    """
    model, data, score = (arguments[name] for name in ("model", "data", "score"))
    has_own_model = not (model is None or isinstance(model, str))
    has_own_score = not (score is None or isinstance(score, str))
    has_own_data = not (data is None or isinstance(data, (str, Path)))
    if has_own_data and model is None:
        raise UsageError("data of a session go with a model: give model=..., or a folder of data")
    request = _request(arguments, has_own_model=has_own_model, has_own_data=has_own_data)
    request.check()
    if not (has_own_model or has_own_data or has_own_score):
        return request
    session = stack.enter_context(temporary_folder())
    own: dict[str, str] = {}
    if has_own_model:
        own["model"] = hand_over_model(model, arguments["model_args"] or {}, session)
    if has_own_data:
        own |= hand_over_data(data, session)
    if has_own_score:
        request = evolve(request, score=hand_over_score(score, session))
    models = (own.pop("model"),) if has_own_model else request.models
    return evolve(request, session=session, models=models, model={**request.model, **own})


def discover(plugins: str | Sequence[str], request: Request, reporter: Reporter) -> Host:
    """Return the host of a call, and warn of plugins that cannot be used."""
    host = Host.discover(_strings(plugins), trust_cache=request.trust_cache)
    unusable = {entry.complaint: entry.traceback for entry in host.entries if entry.state in UNUSABLE_STATES}
    for complaint, traceback in sorted(unusable.items()):
        reporter.say(f"warning: {complaint}")
        if request.debug and traceback:
            reporter.show(traceback)
    return host


def constraints_of(arguments: Mapping[str, Any]) -> tuple[Constraint, ...]:
    """Return the constraints that the arguments set. Raises ``UsageError``."""
    return read_constraints(
        {aim: _strings(arguments[option[2:].replace("-", "_")]) for aim, option in OPTIONS.items()}
    )


def _request(arguments: Mapping[str, Any], *, has_own_model: bool, has_own_data: bool) -> Request:
    """Return the request that the arguments of ``run`` make, without the objects of the session."""
    model_args = dict(arguments["model_args"] or {})
    model, trained = arguments["model"], arguments["trained"]
    namespace = Namespace(
        **{
            name: arguments[name]
            for name in (
                *("offline", "seed", "calibration_n", "eval_n", "engine"),
                *("timeout", "rebuild", "debug"),
            )
        },
        workloads=_strings(arguments["workloads"]),
        data=None if has_own_data else _path(arguments["data"]),
        calibration_data=_path(arguments["calibration_data"]),
        weights=_path(arguments["weights"]),
        trust_cache=_path(arguments["trust_cache"]),
        settings=_settings(arguments["settings"]),
        models=[] if model is None or has_own_model else [model],
        model=[],
        examples=_strings(arguments["examples"]),
        # What makes a model of the session takes its arguments along.
        model_args=() if has_own_model else tuple(model_args.items()),
        **{name: _listed(arguments[name]) for name in ("input_shape", "mean", "std")},
        trained=is_module(model) if trained is None else trained,
    )
    namespace.configs, namespace.recipe = [*_strings(arguments["configs"])], _path(arguments["recipe"])
    namespace.settings = [*namespace.settings]
    take_recipe(namespace)
    return build_request(
        namespace,
        configs=namespace.configs,
        every=arguments["all"],
        metrics=_strings(arguments["metrics"]),
        batch_sizes=tuple(dict.fromkeys(_integers(arguments["batch_sizes"]) or DEFAULT_BATCH_SIZES)),
        is_default_batch_sizes=not _integers(arguments["batch_sizes"]),
        lengths=tuple(dict.fromkeys(_integers(arguments["lengths"]))),
        threads=_integers(arguments["threads"]),
        device=arguments["device"],
        precision=arguments["precision"],
        quality_precision=_quality_precision(arguments["quality_precision"]),
        budget=arguments["budget"],
        max_time=None if arguments["max_time"] is None else to_seconds(arguments["max_time"], "--max-time"),
        quick=arguments["quick"],
        cpus=tuple(arguments["cpus"]),
        front=_strings(arguments["front"]),
        constraints=constraints_of(arguments),
        build_seeds=arguments["build_seeds"],
        score=arguments["score"] if isinstance(arguments["score"], str) else None,
        score_better=arguments["score_better"],
        yes=arguments["yes"],
        command=(_call(arguments),),
    )


def _quality_precision(value: str | float | None) -> QualityPrecision | None:
    from numpy import format_float_positional

    if isinstance(value, (int, float)):
        # Never as 1e-05, which is no amount.
        value = format_float_positional(value, trim="-")
    return read_quality_precision(value)


def _strings(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _integers(value: int | Sequence[int]) -> tuple[int, ...]:
    return (value,) if isinstance(value, int) else tuple(value)


def _path(value: str | Path | None) -> Path | None:
    return None if value is None else Path(value)


def _listed(value: str | Sequence[float] | None) -> str | None:
    """Return numbers as the command line takes them: ``3,32,32``."""
    return value if value is None or isinstance(value, str) else ",".join(map(str, value))


def _settings(settings: Mapping[str, Any] | Sequence[str]) -> tuple[str, ...]:
    """Return options of plugins as the command line takes them: ``NAME.OPTION=VALUE,VALUE``."""
    if not isinstance(settings, Mapping):
        return _strings(settings)
    return tuple(
        f"{name}={','.join(map(_quoted, value if isinstance(value, (list, tuple)) else [value]))}"
        for name, value in settings.items()
    )


def _quoted(value: OptionValue) -> str:
    text = as_word(value)
    return '"' + text.replace('"', '""') + '"' if isinstance(value, str) else text


def _call(arguments: Mapping[str, Any]) -> str:
    """Return the call in one line, as results record it, with types in place of a session's objects."""
    defaults = inspect.signature(run).parameters
    parts = []
    for name, value in arguments.items():
        if value is defaults[name].default or (
            isinstance(value, (str, int, float)) and value == defaults[name].default
        ):
            continue
        is_plain = isinstance(value, (str, int, float, Path)) or (
            name not in ("model", "data") and isinstance(value, (list, tuple, dict))
        )
        shown = repr(str(value) if isinstance(value, Path) else value)
        parts.append(f"{name}={to_line(shown, MAX_SHOWN) if is_plain else f'<{type(value).__name__}>'}")
    return f"qx.run({', '.join(parts)})"


@contextmanager
def errors_in_python_words(function: Callable[..., Any]) -> Iterator[None]:
    """Name arguments in errors as a function names them, and objects of the session by their own names."""
    try:
        yield
    except (UsageError, DataError) as error:
        text = _in_python_words(str(error), inspect.signature(function).parameters)
        if text == str(error):
            raise
        raise type(error)(text) from error


def _in_python_words(text: str, parameters: Collection[str]) -> str:
    def renamed(match: re.Match[str]) -> str:
        names = (RENAMED.get(match[1], ""), match[1].replace("-", "_"))
        return next((name for name in names if name in parameters), match[0])

    text = re.sub(r"\bMODEL\b", "model", REFERENCE.sub(r"\g<name>", text))
    return re.sub(r"(?<![\w-])--([a-z][a-z-]*)", renamed, text)
