"""``qx.search``: what the command ``qx search`` does, as a function that also takes a session's own model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from qx.amounts import to_seconds
from qx.api.progress import reporting
from qx.api.run import constraints_of, discover, errors_in_python_words, request_of, run
from qx.cli.places import check_writable_file
from qx.errors import QxError, UsageError
from qx.files import write_together
from qx.processes.workers import Failure
from qx.report.search import to_json, to_recipe
from qx.results.constraints import AIMS
from qx.searching.report import SearchReport
from qx.searching.search import search as carry_out
from qx.searching.task import Task, make_report
from qx.values import OptionValue

if TYPE_CHECKING:
    from qx.api.session import Model, Split

#: What is minimized where nothing else is asked for.
AIM = next(iter(AIMS))
#: What can be written, by the suffix of the file.
WRITERS: dict[str, Callable[[SearchReport], str]] = {".toml": to_recipe, ".json": to_json}


def search(
    *,
    max_drop: str,
    model: Model | None = None,
    data: str | Path | Split | Mapping[str, Split] | None = None,
    configs: str | Sequence[str] = (),
    max_latency: str | Sequence[str] = (),
    max_size: str | Sequence[str] = (),
    max_memory: str | Sequence[str] = (),
    minimize: str = AIM,
    ranges: str | Sequence[str] = (),
    trials: int = 32,
    no_float_layers: bool = False,
    max_time: float | str | None = None,
    batch_size: int = 1,
    budget: float | None = None,
    quick: bool = False,
    workloads: str | Sequence[str] = (),
    settings: Mapping[str, OptionValue | Sequence[OptionValue]] | Sequence[str] = (),
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
    score: str | Callable[..., Any] | None = None,
    score_better: Literal["higher", "lower"] | None = None,
    timeout: float | None = None,
    rebuild: bool = False,
    offline: bool = False,
    trust_cache: str | Path | None = None,
    yes: bool = False,
    plugins: str | Sequence[str] = (),
    out: str | Path | Sequence[str | Path] = (),
    progress: bool = True,
    debug: bool = False,
) -> SearchReport:
    """Find the fastest or smallest recipe that meets constraints, as ``qx search`` does.

    Configs, values of their options and layers in float race on growing samples of items and waves, and the
    best are verified on items that took no part in the choice.

    Parameters
    ----------
    max_drop : str
        How much quality may be lost, such as ``"0.5pt"``.
    model, data, configs
        As for ``qx.run``; by default all configs that quantize, are ready and do not train.
    max_latency, max_size, max_memory : str or sequence of str
        Further limits, such as ``"2ms"``, ``"10MB"`` or ``"0.3x"`` of the baseline's.
    minimize : str
        What is to be small: latency (the default), size or memory.
    ranges : str or sequence of str
        Values of an option to try: ``"CONFIG.OPTION=LOW..HIGH"``, or values with commas.
    trials : int
        Candidates that are drawn from the ranges of a config with too many values.
    no_float_layers : bool
        Whether no layers are left in float but those of ``settings``.
    max_time : float or str, optional
        Seconds, or ``"10m"`` or ``"1h"``, after which the race ends, with what seems best so far.
    batch_size : int
        The batch size that is timed.
    budget : float, optional
        Seconds of launches in the final; by default 60.
    quick : bool
        A first look: three waves in the final, whose intervals claim too much.
    workloads : str or sequence of str
        The workload to search on in place of a model of one's own.
    settings, model_args, trained, examples, input_shape, mean, std, weights
        As for ``qx.run``.
    calibration_data, calibration_n, eval_n, engine, seed, score, score_better, timeout, rebuild, offline
        As for ``qx.run``.
    trust_cache, plugins, progress, debug
        As for ``qx.run``.
    yes : bool
        Whether more than 1,000 candidates are meant.
    out : path or sequence of path
        Files to write: the recipe as ``.toml``, which is not written where there is none, and everything as
        ``.json``.

    Returns
    -------
    SearchReport
        ``recipe`` (None where none is verified; its ``words`` are those of a command line), ``row``,
        ``is_verified``, ``finalists`` with the figures that they were held to, ``path`` of the race, look by
        look, ``nearest`` where none meets the constraints, and ``stopped`` where the time was over.

    Raises
    ------
    qx.UsageError
        An argument does not fit, or the items cannot show the constraints, whatever is built.
    qx.QxError
        The baseline cannot be built or evaluated: its outcome, stage and cause.
    """
    # First, so that it holds the arguments and nothing else.
    arguments = dict(locals())
    with errors_in_python_words(search), ExitStack() as stack:
        task = _task(arguments)
        files = _files(out)
        request = request_of(_as_of_run(arguments), stack)
        reporter = stack.enter_context(reporting(is_shown=progress))
        report = make_report(task)
        try:
            carry_out(discover(plugins, request, reporter), request, task, reporter, report)
        except Failure as failure:
            raise QxError(f"{report.baseline or 'the baseline'}: {failure}") from failure
        written = [file for file in files if file.suffix != ".toml" or report.recipe is not None]
        write_together({file: WRITERS[file.suffix](report).encode() for file in written})
        return report


def _task(arguments: Mapping[str, Any]) -> Task:
    """Return what is searched for. Raises ``UsageError``."""
    minimize, ranges, max_time = (arguments[name] for name in ("minimize", "ranges", "max_time"))
    if minimize not in AIMS:
        raise UsageError(f"--minimize must be one of {', '.join(AIMS)}, not {minimize!r}")
    task = Task(
        constraints=constraints_of(arguments),
        minimize=minimize,
        ranges=(ranges,) if isinstance(ranges, str) else tuple(ranges),
        trials=arguments["trials"],
        has_layers=not arguments["no_float_layers"],
        max_time=None if max_time is None else to_seconds(max_time, "--max-time"),
    )
    task.check()
    return task


def _files(out: str | Path | Sequence[str | Path]) -> list[Path]:
    """Return the files that are to be written. Raises ``UsageError`` where one cannot be."""
    files = [Path(out)] if isinstance(out, (str, Path)) else list(map(Path, out))
    for file in files:
        if file.suffix not in WRITERS:
            raise UsageError(f"--out {file}: its suffix must be {' or '.join(WRITERS)}")
        check_writable_file(file)
    return files


def _as_of_run(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``run`` for the same model and data: limits and times are the search's own."""
    own = {"max_drop", "max_latency", "max_size", "max_memory", "max_time", "out"}
    parameters = inspect.signature(run).parameters
    return {
        **{name: parameter.default for name, parameter in parameters.items()},
        **{name: value for name, value in arguments.items() if name in parameters and name not in own},
        "batch_sizes": arguments["batch_size"],
    }
