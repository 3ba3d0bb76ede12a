"""Determine which source files decide what a plugin does: its module and what that imports.

Nothing is imported for that.
"""

from __future__ import annotations

import ast
import hashlib
import threading
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from pathlib import Path

from qx.contract.references import Reference, top_level_paths

#: Functions that import by name or run code, so that the source may not show what is imported.
DYNAMIC = frozenset({"import_module", "__import__", "exec", "eval", "entry_points", "iter_modules"})


def fingerprint(references: Iterable[Reference]) -> str:
    """Return the SHA-256 of all source files that decide what these plugins do."""
    return _fingerprint(path for reference in references for path in source_files(reference))


@cache
def own_fingerprint(*modules: str) -> str:
    """Return the SHA-256 of modules of qx and all their imports, except for imports by a computed name."""
    package = _Package("qx", Path(__file__).parents[1])
    return _fingerprint(path for module in modules for path in package.closure(module, whole=False))


@cache
def rooms_fingerprint(*rooms: str) -> str:
    """Return the SHA-256 of all modules of qx in these folders, and of those that lie in none."""
    top = Path(__file__).parents[1]
    return _fingerprint([*top.glob("*.py"), *(path for room in rooms for path in (top / room).rglob("*.py"))])


def _fingerprint(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(set(paths)):
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def source_files(reference: Reference) -> list[Path]:
    """Return the source files that decide what a plugin does.

    They are the file of its module, the files of its package that it imports anywhere, directly or
    indirectly, and the ``__init__.py`` above each. Where one of them imports by a computed name, all files of
    the package count. For a plugin that is a file of the user, all files beside it count. Other distributions
    do not count, since they have versions.
    """
    if reference.path is not None:
        return sorted(Path(reference.path).parent.glob("*.py"))
    top, *_ = reference.module.split(".")
    files: dict[Path, None] = {}
    for place in top_level_paths([reference]):
        if not place.is_dir():
            return [place]
        package = _Package(top, place)
        files |= dict.fromkeys(package.closure(reference.module))
    return sorted(files)


class _Package:
    """The modules of an import package in a folder."""

    def __init__(self, top: str, folder: Path) -> None:
        self._top = top
        self._folder = folder

    def closure(self, module: str, *, whole: bool = True) -> set[Path]:
        """Return the files that importing a module can run.

        With ``whole`` these are all files of the package where one of them imports by a computed name, or
        where the module has no source here, as a compiled one.
        """
        reached: dict[str, Path] = {}
        pending = [module]
        while pending:
            name = pending.pop()
            if name in reached or (path := self._file(name)) is None:
                continue
            reached[name] = path
            names, is_dynamic = _imports(path, name, path.stat().st_mtime_ns, path.stat().st_size)
            if is_dynamic and whole:
                return self._all_files()
            # Importing a module runs the ``__init__.py`` of every package above it.
            pending += [name.rpartition(".")[0], *names]
        return self._all_files() if whole and module not in reached else set(reached.values())

    def _all_files(self) -> set[Path]:
        return set(self._folder.rglob("*.py"))

    def _file(self, name: str) -> Path | None:
        first, *rest = name.split(".")
        if first != self._top:
            return None
        path = self._folder.joinpath(*rest)
        for candidate in (path / "__init__.py", path.with_name(f"{path.name}.py")):
            if candidate.is_file():
                return candidate
        return None


#: Held while a file is parsed.
_PARSER = threading.Lock()


@lru_cache(maxsize=4096)
def _imports(path: Path, name: str, changed: int, size: int) -> tuple[tuple[str, ...], bool]:
    """Return the names that a file may import, and whether it may import others by a computed name.

    ``changed`` and ``size`` are part of the key of the cache, so that a changed file is read again.
    """
    try:
        # CPython before 3.13 counts the depth of recursion in one place for all threads (gh-106905), and
        # raises a SystemError where two of them parse at a time.
        with _PARSER:
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return (), True
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    nodes = list(_run_nodes(tree))
    calls = [node for node in nodes if isinstance(node, ast.Call) and _called(node) in DYNAMIC]
    literal = [node.args[0].value for node in calls if node.args and isinstance(node.args[0], ast.Constant)]
    names = [*_imported(nodes, package), *map(str, literal)]
    return tuple(dict.fromkeys(names)), len(literal) < len(calls)


def _called(call: ast.Call) -> str | None:
    """Return the name of the called function; None for a method that only has the name of a builtin."""
    if isinstance(call.func, ast.Name):
        return call.func.id
    if isinstance(call.func, ast.Attribute) and call.func.attr not in ("eval", "exec"):
        return call.func.attr
    return None


def _run_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a module without those that only a type checker reads."""
    pending = [tree]
    while pending:
        node = pending.pop()
        yield node
        if isinstance(node, ast.If) and _is_for_type_checkers(node.test):
            pending += node.orelse
        else:
            pending += ast.iter_child_nodes(node)


def _is_for_type_checkers(condition: ast.expr) -> bool:
    name = condition.attr if isinstance(condition, ast.Attribute) else getattr(condition, "id", None)
    return name == "TYPE_CHECKING"


def _imported(nodes: Iterable[ast.AST], package: str) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            # A name that is imported from a package may be a module of it.
            yield from (f"{module}.{alias.name}" for alias in node.names)
