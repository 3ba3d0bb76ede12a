"""How a plugin is named to a process that is to import it, and what the arguments of ``-p`` mean."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias
from zlib import crc32

from attrs import frozen

from qx.errors import UsageError
from qx.values import JsonMapping

#: The distribution of qx, and its import package.
DISTRIBUTION, PACKAGE = "quant-explorer", __name__.partition(".")[0]
#: Module, file and attribute: two references to one place are references to one plugin.
Place: TypeAlias = tuple[str, str | None, str | None]


@frozen
class Reference:
    """How to import a plugin in another process; nothing in it that JSON cannot hold."""

    name: str
    module: str
    #: The file, where the user gave one: it is imported under the name ``module``.
    path: str | None = None
    #: The plugin is this object of the module, and not the module itself.
    attribute: str | None = None
    #: Whose it is; None where the user named it with ``-p``.
    distribution: str | None = None
    version: str | None = None
    #: The folder that the module is imported from, where the search path does not lead to it.
    folder: str | None = None

    @property
    def is_own(self) -> bool:
        """It comes with qx: from its distribution, or from its package."""
        is_module = self.path is None and self.module.partition(".")[0] == PACKAGE
        return self.distribution == DISTRIBUTION or is_module

    @property
    def place(self) -> Place:
        """Where it is, whoever names it."""
        return self.module, self.path, self.attribute

    @property
    def target(self) -> str:
        """Where it is, as one writes it after ``-p``."""
        return (self.path or self.module) + (f":{self.attribute}" if self.attribute else "")

    def extend_search_path(self) -> None:
        """Have this process, which is to import the plugin, look for modules in its folder first."""
        if self.folder is not None and self.folder not in sys.path:
            sys.path.insert(0, self.folder)

    @property
    def provider(self) -> str:
        """Who brings it: the distribution with its version, or ``-p MODULE``."""
        if self.distribution is None:
            return f"-p {self.target}"
        return f"{self.distribution} {self.version or '(no version)'}"


def to_reference(value: Reference | JsonMapping) -> Reference:
    """For fields: a reference, or the fields of one as they come from JSON."""
    return value if isinstance(value, Reference) else Reference(**value)


def reference_of(argument: str) -> Reference:
    """What ``-p ARGUMENT`` names. The plugin's own name is a guess, until it has described itself."""
    if file := re.fullmatch(r"(?P<path>.*\.py)(:(?P<attribute>[\w.]+))?", argument):
        try:
            # Not ``Path.resolve``, for which a loop of links is no ``OSError``.
            path = Path(os.path.realpath(file["path"]))
            is_file = path.is_file()
        except OSError as error:  # a name that is too long, or a current folder that is gone
            raise UsageError(f"-p {argument}: {error.strerror}") from error
        if not is_file:
            raise UsageError(f"-p {argument}: there is no such file")
        # Two files may share a name, and none may take the name of a module that is there already.
        module = f"_qx_{re.sub(r'[^0-9A-Za-z_]', '_', path.stem)}_{crc32(os.fsencode(path)):08x}"
        return Reference(file["attribute"] or path.stem, module, str(path), file["attribute"])
    module, _, attribute = argument.partition(":")
    name = (attribute or module).rpartition(".")[2]
    return Reference(name, module, None, attribute or None, folder=_current_folder_of(module))


def _current_folder_of(module: str) -> str | None:
    """The current folder where it has this module, as with ``python -m``; qx's own are not looked for there.

    Only the processes that import the plugin have it on their search path, never the host.
    """
    from importlib.machinery import PathFinder

    top = module.partition(".")[0]
    if top == PACKAGE:
        return None
    try:
        here = os.getcwd()
    except FileNotFoundError:  # somebody has removed it
        return None
    return here if PathFinder.find_spec(top, [here]) is not None else None


def top_level_paths(plugins: Iterable[Reference]) -> list[Path]:
    """The folders of the plugins' top-level packages, or the files of their modules. Nothing is imported."""
    places = dict.fromkeys((one.path, one.folder, one.module.partition(".")[0]) for one in plugins)
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
