"""References, by which a process imports a plugin, and the meaning of the arguments of ``-p``."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import TypeAlias
from zlib import crc32

from attrs import frozen

from qx.errors import UsageError
from qx.values import JsonMapping

#: Names of the distribution of qx and of its import package.
DISTRIBUTION, PACKAGE = "quant-explorer", __name__.partition(".")[0]
#: Module, file and attribute: two references with the same place are to the same plugin.
Place: TypeAlias = tuple[str, str | None, str | None]


@frozen
class Reference:
    """How to import a plugin in another process, as plain values for JSON."""

    name: str
    module: str
    #: File that the user named, which is imported under the name ``module``; else None.
    path: str | None = None
    #: Name of the object in the module that is the plugin; None where it is the module itself.
    attribute: str | None = None
    #: Distribution of the plugin; None where the user named it with ``-p``.
    distribution: str | None = None
    version: str | None = None
    #: Folder that the module is imported from, where it is not on the search path.
    folder: str | None = None

    @property
    def is_own(self) -> bool:
        """Whether it comes with qx, from its distribution or its package."""
        is_module = self.path is None and self.module.partition(".")[0] == PACKAGE
        return self.distribution == DISTRIBUTION or is_module

    @property
    def place(self) -> Place:
        """Where the plugin is, independent of its name."""
        return self.module, self.path, self.attribute

    @property
    def target(self) -> str:
        """Where the plugin is, as written after ``-p``."""
        return (self.path or self.module) + (f":{self.attribute}" if self.attribute else "")

    def extend_search_path(self) -> None:
        """Put the plugin's folder first on the search path of this process."""
        if self.folder is not None and self.folder not in sys.path:
            sys.path.insert(0, self.folder)

    @property
    def provider(self) -> str:
        """Where the plugin comes from: the distribution with its version, or ``-p MODULE``."""
        if self.distribution is None:
            return f"-p {self.target}"
        return f"{self.distribution} {self.version or '(no version)'}"


def to_reference(value: Reference | JsonMapping) -> Reference:
    """Convert the fields of a reference, as they come from JSON; a reference stays as it is."""
    return value if isinstance(value, Reference) else Reference(**value)


def reference_of(argument: str) -> Reference:
    """Return what ``-p ARGUMENT`` refers to. The name is a guess until the plugin has described itself."""
    if file := re.fullmatch(r"(?P<path>.*\.py)(:(?P<attribute>[\w.]+))?", argument):
        try:
            # Not ``Path.resolve``, which does not raise ``OSError`` for a loop of links.
            path = Path(os.path.realpath(file["path"]))
            is_file = path.is_file()
        except OSError as error:  # a name that is too long, or a current folder that is gone
            raise UsageError(f"-p {argument}: {error.strerror}") from error
        if not is_file:
            raise UsageError(f"-p {argument}: there is no such file")
        # Two files may share a name, and none may take the name of an existing module.
        module = f"_qx_{re.sub(r'[^0-9A-Za-z_]', '_', path.stem)}_{crc32(os.fsencode(path)):08x}"
        return Reference(file["attribute"] or path.stem, module, str(path), file["attribute"])
    module, _, attribute = argument.partition(":")
    name = (attribute or module).rpartition(".")[2]
    return Reference(name, module, None, attribute or None, folder=_current_folder_of(module))


def _current_folder_of(module: str) -> str | None:
    """Return the current folder where it has this module, as with ``python -m``; else None.

    Modules of qx are not looked for there. Only the processes that import the plugin have the folder on their
    search path, never the host.
    """
    from importlib.machinery import PathFinder

    top = module.partition(".")[0]
    if top == PACKAGE:
        return None
    try:
        folder = os.getcwd()
    except FileNotFoundError:  # somebody has removed it
        return None
    return folder if PathFinder.find_spec(top, [folder]) is not None else None


def import_file(module: str, path: str | Path) -> ModuleType:
    """Import a Python file as the module of this name, once in a process. Raises what the file raises."""
    import importlib.util

    if module in sys.modules:
        return sys.modules[module]
    spec = importlib.util.spec_from_file_location(module, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    loaded = importlib.util.module_from_spec(spec)
    # Before the module runs, as the import system does: its classes may look up their own module.
    sys.modules[module] = loaded
    try:
        spec.loader.exec_module(loaded)
    except BaseException:
        del sys.modules[module]
        raise
    return loaded


def top_level_paths(plugins: Iterable[Reference]) -> list[Path]:
    """Return the folders of the plugins' top-level packages, or the files of their modules.

    Nothing is imported.
    """
    places = dict.fromkeys(
        (plugin.path, plugin.folder, plugin.module.partition(".")[0]) for plugin in plugins
    )
    return [path for place in places for path in _paths(*place)]


def _paths(path: str | None, folder: str | None, top: str) -> list[Path]:
    from importlib.machinery import PathFinder
    from importlib.util import find_spec

    if path is not None:
        return [Path(path)]
    spec = PathFinder.find_spec(top, [folder, *sys.path]) if folder is not None else None
    try:
        spec = spec or find_spec(top)
    except ValueError:  # no module has this name, or one that was not imported from anywhere
        return []
    if spec is None:
        return []
    if spec.submodule_search_locations is not None:
        return [Path(place) for place in spec.submodule_search_locations]
    return [Path(spec.origin)] if spec.has_location and spec.origin is not None else []
