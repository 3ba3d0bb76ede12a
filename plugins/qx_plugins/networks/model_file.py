"""A model as a Python file: a module whose functions are named as the hooks of a workload."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from zlib import crc32

from attrs import frozen

from qx import UsageError, import_file, one_line

#: Functions of a file that are called, and the variables that name the task and the lengths of inputs.
FUNCTIONS = ("make_model", "load_data", "example_inputs", "train", "postprocess", "score")
TASK, LENGTHS = "TASK", "LENGTHS"


def is_model_file(target: str) -> bool:
    """Return whether a model is a file of functions, and not a factory in one."""
    return target.endswith(".py")


@frozen
class ModelFile:
    """The functions of a model's file. They take the arguments that they name, in any order."""

    source: str
    module: ModuleType

    @classmethod
    def of(cls, target: str) -> ModelFile | None:
        """Import the file of a model; None where a factory alone is named. Raises ``UsageError``."""
        return cls(target, import_source(target)) if is_model_file(target) else None

    def has(self, name: str) -> bool:
        """Whether the file has this function."""
        return callable(getattr(self.module, name, None))

    def takes(self, name: str, argument: str) -> bool:
        """Whether a function takes an argument of this name."""
        return argument in arguments_of(getattr(self.module, name))

    def call(self, name: str, **available: Any) -> Any:
        """Call a function with those of the available arguments that it takes. Raises ``UsageError``."""
        if not self.has(name):
            raise UsageError(f"{self.source} has no {name}(){shown_names(self.module)}")
        function: Callable[..., Any] = getattr(self.module, name)
        arguments = arguments_of(function)
        required = [key for key, is_required in arguments.items() if is_required]
        if missing := [key for key in required if key not in available]:
            raise UsageError(
                f"{self.source}: {name}() needs {', '.join(missing)}, and qx calls it with no more than "
                f"{', '.join(available)}"
            )
        return function(**{key: value for key, value in available.items() if key in arguments})

    @property
    def task(self) -> str | None:
        """The task that the file states. Raises ``UsageError`` where it is no text."""
        task = getattr(self.module, TASK, None)
        if task is not None and not isinstance(task, str):
            raise UsageError(f"{self.source}: {TASK} is of type {type(task).__name__}; expected a text")
        return task

    @property
    def lengths(self) -> tuple[int, int] | None:
        """The smallest and the largest length of the inputs, where the file states them.

        Raises ``UsageError`` where they are none, or ``example_inputs`` takes no length.
        """
        lengths = getattr(self.module, LENGTHS, None)
        if lengths is None:
            return None
        is_pair = isinstance(lengths, (tuple, list)) and len(lengths) == 2
        if not is_pair or not all(type(end) is int for end in lengths) or not 1 <= lengths[0] < lengths[1]:
            raise UsageError(
                f"{self.source}: {LENGTHS} is {lengths!r}; expected the smallest and the largest length, "
                f"such as (16, 512)"
            )
        if not self.has("example_inputs") or not self.takes("example_inputs", "length"):
            raise UsageError(f"{self.source} has {LENGTHS}, and so needs example_inputs(batch_size, length)")
        return lengths[0], lengths[1]


def defines(target: str, name: str) -> bool:
    """Return whether a model's file may define a function, without importing the file."""
    import ast

    if not is_model_file(target):
        return False
    try:
        nodes = ast.parse(Path(target).read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        # Importing it says what is wrong.
        return True
    return any(name in _names_bound_by(node) for node in nodes)


def _names_bound_by(node: Any) -> set[str]:
    """Return the names that a statement of a module binds; all that are asked for where that is not clear."""
    import ast

    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return {node.name}
    if isinstance(node, ast.Import):
        return {alias.asname or alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        names = {alias.asname or alias.name for alias in node.names}
        return set(FUNCTIONS) if "*" in names else names
    # Assignments, and definitions within `if` or `try`.
    own = {child.id for child in ast.walk(node) if isinstance(child, ast.Name)}
    return own | {child.name for child in ast.walk(node) if isinstance(child, ast.FunctionDef)}


def arguments_of(function: Callable[..., Any]) -> Mapping[str, bool]:
    """Return the names of the arguments of a function, and whether each has to be given."""
    import inspect

    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return {}
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {
        parameter.name: parameter.default is parameter.empty
        for parameter in parameters
        if parameter.kind in kinds
    }


def import_source(source: str, option: str = "MODEL") -> ModuleType:
    """Import a Python file, once in a process. Raises ``UsageError``, which names the option."""
    path = Path(source).resolve()
    if not path.is_file():
        raise UsageError(f"{option} {source}: there is no such file")
    try:
        return _import_once(path)
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(f"{option} {source}: {source} cannot be imported: {one_line(error)}") from error


@cache
def _import_once(path: Path) -> ModuleType:
    # The file may import modules beside it, as if it were run by itself.
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    return import_file(f"_qx_model_{path.stem}_{crc32(os.fsencode(path)):08x}", path)


def shown_names(module: ModuleType) -> str:
    """Return the functions and classes that a module defines itself, in words for a message."""
    names = [
        name
        for name, value in vars(module).items()
        if callable(value)
        and not name.startswith("_")
        and getattr(value, "__module__", None) == module.__name__
    ]
    return f" (it has {', '.join(names[:8])}{' and more' if len(names) > 8 else ''})" if names else ""
