"""Add the options that several commands share: which workload, and how a config is built."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qx.errors import UsageError

if TYPE_CHECKING:
    from qx.results.constraints import Constraint
    from qx.runner.request import Request


#: Format of tabulate for what is printed as a whole.
DEFAULT_FORMAT = "simple"


def add_verbose_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that prints everything, also on a terminal."""
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="print everything, not only what fits on one screen"
    )


def add_files_option(parser: argparse.ArgumentParser, suffixes: Sequence[str], folder: str = "") -> None:
    """Add ``--out``, for files in the forms that their suffixes say, or for a folder of this kind."""
    forms = " or ".join([", ".join(suffixes[:-1]), suffixes[-1]])
    parser.add_argument(
        "--out",
        action="append",
        default=[],
        type=Path,
        metavar="PATH" if folder else "FILE",
        help=f"write it to a file too, as {forms}{f', or {folder}' if folder else ''} (repeatable)",
    )


def wants_screen(arguments: argparse.Namespace) -> bool:
    """Return whether to print one screen for a person, and not everything for a file or a program."""
    is_for_program = arguments.verbose or getattr(arguments, "format", None) is not None
    return sys.stdout.isatty() and not is_for_program


def style_of(arguments: argparse.Namespace, default: str = DEFAULT_FORMAT) -> str:
    """Return the format to print: ``markdown``, ``json``, or one of tabulate's.

    Raises ``UsageError`` for one that is none of them.
    """
    from qx.report import terminal

    style: str = arguments.format or default
    if style not in ("markdown", "json"):
        terminal.check_format(style)
    return style


#: Options of models of the user's own, as their workload and the command line name them.
MODEL_OPTIONS = ("input_shape", "mean", "std")


def add_workload_options(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    """Add MODEL and the options that choose data. With ``several``, more than one model may be named."""
    # Of an option that may be given once, the last one counts.
    repeated: dict[str, Any] = {"action": "append"} if several else {"nargs": 1}
    parser.add_argument(
        "models",
        metavar="MODEL",
        nargs="*",
        help="a workload by its name, FILE.py, FILE.py:FACTORY, FILE.pt2, FILE.onnx, package.module:FACTORY, "
        "timm:NAME, torchvision:NAME or hf:FOLDER_OR_ID (default: the default workload, or its fallback "
        "where its data cannot be had" + ("; repeatable: the grid of models by configs)" if several else ")"),
    )
    parser.add_argument(
        "--workload",
        metavar="NAME",
        **repeated,
        default=[],
        dest="workloads",
        help="a workload by its name: the same as MODEL" + (" (repeatable)" if several else ""),
    )
    parser.add_argument(
        "--model",
        **repeated,
        default=[],
        metavar="MODEL",
        help="the same as MODEL" + (" (repeatable)" if several else ""),
    )
    parser.add_argument(
        "--model-args",
        action="append",
        type=_argument,
        default=[],
        metavar="NAME=VALUE",
        help="a keyword argument of what makes the model, such as num_classes=10 (repeatable)",
    )
    parser.add_argument(
        "--example",
        action="append",
        default=[],
        dest="examples",
        metavar="NAME:TYPE[SHAPE]",
        help="an input of a model of your own, where nothing else says it: 'images:float32[1,3,32,32]', "
        "'ids:int64[1,128]=0..999', or 'ids:int64[1,16..512]=0..999' where it varies in length (repeatable, "
        "in the model's order)",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DATA",
        help="where the data lie: class folders; of a model of your own and of networks on images also an "
        ".npz of named arrays, or FILE.py:FUNCTION, which gives them (default: QX_DATA, else a cache)",
    )
    add_cache_options(parser)
    parser.add_argument("--offline", action="store_true", help="download nothing (also: QX_OFFLINE=1)")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of everything random (default: 0)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="settings",
        metavar="NAME.OPTION=VALUE",
        help="an option of a plugin, see qx show NAME (repeatable); VALUE,VALUE for a config makes two cells",
    )


def add_score_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a function of the user's own that judges answers."""
    parser.add_argument(
        "--score",
        metavar="FILE.py:FUNCTION",
        help="judge answers by FUNCTION(outputs, targets), which gives a value for each item or one for all",
    )
    parser.add_argument(
        "--score-better",
        choices=("higher", "lower"),
        help="which way values of the score are better (default: higher)",
    )


def add_recipe_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that takes a recipe as ``qx search`` writes it."""
    parser.add_argument(
        "--recipe",
        type=Path,
        metavar="FILE",
        help="a config and its options from a file that qx search wrote, in place of -c and --set",
    )


def take_recipe(arguments: argparse.Namespace) -> None:
    """Add the config and the options of ``--recipe`` to those that are named. Raises ``UsageError``."""
    if arguments.recipe is None:
        return
    from qx.searching.recipe import read_recipe

    recipe = read_recipe(arguments.recipe)
    if recipe.config not in arguments.configs:
        arguments.configs.append(recipe.config)
    arguments.settings += recipe.settings


#: The options that limit what is accepted of a config, with their help.
LIMITS = {
    "--max-drop": "the quality that may be lost against fp32: 0.5pt (points), or 2%% where it is a ratio",
    "--max-latency": "the longest call that is accepted: 2ms, or 0.5x (half of fp32's)",
    "--max-size": "the largest artifact that is accepted: 10MB, or 0.3x (0.3 of fp32's)",
    "--max-memory": "the most memory that is accepted: 200MB, or 0.5x (half of fp32's)",
}


def add_limit_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that limit what is accepted of a config."""
    for option, text in LIMITS.items():
        parser.add_argument(option, action="append", default=[], metavar="AMOUNT", help=text)


def constraints_of(arguments: argparse.Namespace) -> tuple[Constraint, ...]:
    """Return the constraints that the options set. Raises ``UsageError``."""
    from qx.results.constraints import OPTIONS, read_constraints

    names = {aim: option[2:].replace("-", "_") for aim, option in OPTIONS.items()}
    return read_constraints({aim: getattr(arguments, name) for aim, name in names.items()})


def add_cache_options(parser: argparse.ArgumentParser) -> None:
    """Add the option that allows a cache folder."""
    parser.add_argument(
        "--trust-cache",
        type=Path,
        metavar="DIR",
        help="use the cache folder DIR although others can write it (what they put there is run)",
    )


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the device."""
    parser.add_argument(
        "--device",
        default="cpu",
        metavar="DEVICE",
        help="serve on cpu, cuda or cuda:N: the configs that are for it take part (default: cpu)",
    )


def add_build_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that decide how a config is built."""
    parser.add_argument(
        "--trained",
        action="store_true",
        help="what makes a model of your own gives trained weights, so accuracy applies without --weights",
    )
    parser.add_argument(
        "--input-shape", metavar="C,H,W", help="of a model of your own on images: channels, height, width"
    )
    parser.add_argument(
        "--mean", metavar="LIST", help="of a model of your own on images: of each channel (default: its own)"
    )
    parser.add_argument(
        "--std", metavar="LIST", help="of a model of your own on images: of each channel (default: its own)"
    )
    parser.add_argument("--weights", type=Path, metavar="FILE", help="default: the workload's own")
    parser.add_argument(
        "--calibration-n",
        type=int,
        metavar="N",
        help="calibration items of every config (default: each config's own, 256 unless it says otherwise)",
    )
    parser.add_argument(
        "--calibration-data",
        type=Path,
        metavar="DATA",
        help="what calibrates, in the forms of --data (default: the split that the data call train, else "
        "some of their items, which are set aside)",
    )
    parser.add_argument(
        "--eval-n",
        type=int,
        metavar="N",
        help="items that are evaluated, each class by its share, always the same; 0 for all (default: all, "
        "but for images of a model of your own 1,000, and 10,000 of what a function gives one by one)",
    )
    parser.add_argument(
        "--engine",
        metavar="NAME",
        help="torch's quantized engine (default: x86 on x86-64, qnnpack on Arm; never silently another)",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        metavar="SECONDS",
        help="for each stage of a cell, and for each split of the data to be loaded; they begin again with "
        "progress (default: 600, and for data, which may have to be downloaded, 3600)",
    )
    parser.add_argument("--rebuild", action="store_true", help="build anew although the build is cached")


def _argument(text: str) -> tuple[str, Any]:
    """Parse ``NAME=VALUE``. The value is read as a Python literal (10, 0.5, True, (1, 2)), else as text."""
    import ast

    name, sign, value = text.partition("=")
    if not sign or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=VALUE, such as num_classes=10")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return name, value


def models_of(arguments: argparse.Namespace) -> tuple[str, ...]:
    """Return the models that the user named, each once. Raises ``UsageError`` where two options name them."""
    named = {
        "MODEL": arguments.models,
        "--model": arguments.model,
        "--workload": arguments.workloads,
    }
    if len(used := [option for option, words in named.items() if words]) > 1:
        raise UsageError(f"give {' or '.join(used)}, not both: they mean the same")
    return tuple(dict.fromkeys((*arguments.models, *arguments.model)))


def model_options(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the options of models of the user's own, by the names that their workload has for them."""
    options = {
        name: str(value) for name in MODEL_OPTIONS if (value := getattr(arguments, name, None)) is not None
    }
    if arguments.model_args:
        options["model_args"] = repr(dict(arguments.model_args))
    if arguments.examples:
        options["example"] = "; ".join(arguments.examples)
    return options


def build_request(arguments: argparse.Namespace, **fields: Any) -> Request:
    """Return the request that the shared options make. ``fields`` are its other fields."""
    from qx.runner.request import Request

    timeout = arguments.timeout
    return Request(
        workloads=tuple(dict.fromkeys(arguments.workloads)),
        models=models_of(arguments),
        data=arguments.data,
        calibration_data=arguments.calibration_data,
        eval_n=arguments.eval_n,
        offline=arguments.offline,
        seed=arguments.seed,
        weights=arguments.weights,
        calibration_n=arguments.calibration_n,
        settings=arguments.settings,
        model=model_options(arguments),
        trained=arguments.trained,
        engine=arguments.engine,
        **({} if timeout is None else {"timeout": timeout, "data_timeout": timeout}),
        rebuild=arguments.rebuild,
        trust_cache=arguments.trust_cache,
        debug=arguments.debug,
        **fields,
    )


#: Options that ``qx run`` has too and that decide what it runs, by the name of their value.
SHARED_OPTIONS = {
    "workloads": "--workload",
    "model": "--model",
    "model_args": "--model-args",
    "examples": "--example",
    "input_shape": "--input-shape",
    "mean": "--mean",
    "std": "--std",
    "weights": "--weights",
    "trained": "--trained",
    "data": "--data",
    "calibration_data": "--calibration-data",
    "calibration_n": "--calibration-n",
    "eval_n": "--eval-n",
    "engine": "--engine",
    "seed": "--seed",
    "offline": "--offline",
    "score": "--score",
    "score_better": "--score-better",
    "settings": "--set",
}


def shared_words(arguments: argparse.Namespace, but: str | None = None) -> list[str]:
    """Return the command line of ``qx run`` for the same model, data and options, without the config.

    It lacks what is for the command alone, and the option ``float_layers`` of the config ``but``.
    """
    words = ["qx", *(f"--plugin={name}" for name in arguments.plugins), "run", *arguments.models]
    for name, option in SHARED_OPTIONS.items():
        value = getattr(arguments, name, None)
        if value is True:
            words.append(option)
        elif isinstance(value, list):
            words += [f"{option}={_text(one)}" for one in value if not _is_of(but, one)]
        elif value or (value == 0 and name == "eval_n"):
            # Of what is evaluated 0 means all; of everything else it is the default.
            words.append(f"{option}={value}")
    return words


def _text(value: object) -> str:
    """Return a value of an option as it is written: of ``--model-args`` a name and a literal."""
    return f"{value[0]}={value[1]!r}" if isinstance(value, tuple) else str(value)


def _is_of(config: str | None, value: object) -> bool:
    return config is not None and isinstance(value, str) and value.startswith(f"{config}.float_layers=")
