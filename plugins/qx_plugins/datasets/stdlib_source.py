"""The source of a Python installation's standard library, in modules that are held out and others.

It is real text that every installation has. What is held out are whole modules, of which none has much in
common with those that are left for training.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from attrs import frozen

from qx import DataError

#: Folders whose modules are left out: tests, what is not the library, and tables that are no prose or code.
LEFT_OUT = frozenset(
    {"test", "tests", "idle_test", "site-packages", "__pycache__", "encodings", "pydoc_data", "lib2to3"}
)
#: Files that are mostly tables.
TABLES = frozenset({"html/entities.py", "stringprep.py"})
#: Number of modules that are held out, and their smallest and largest size in characters.
HELD_OUT, SHORTEST, LONGEST = 128, 2_500, 60_000
#: Number of words in a row that are compared, and the largest share of them that a module that is held out
#: has in common with those for training.
WORDS, LARGEST_OVERLAP = 12, 0.05


@frozen
class Module:
    """A module of the standard library."""

    #: Path within the library, such as ``json/decoder.py``.
    name: str
    text: str


def read_modules(folder: Path) -> list[Module]:
    """Return the modules of a standard library, by name. Raises ``DataError`` where the folder is none."""
    if not (folder / "os.py").is_file():
        raise DataError(f"{folder} is no standard library of Python: it has no os.py")
    modules = []
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder)
        is_left_out = LEFT_OUT.intersection(name.parts) or name.as_posix() in TABLES
        if is_left_out or name.name.startswith("_sysconfigdata"):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if text.strip():
            modules.append(Module(name.as_posix(), text))
    return modules


def split_modules(modules: Iterable[Module]) -> tuple[list[Module], list[Module]]:
    """Return the modules for training, and those that are held out.

    Which those are is decided by a digest of their names, so that it depends on nothing else. One that has
    more than ``LARGEST_OVERLAP`` of its words in common with the others is left for training.
    """
    modules = list(modules)
    candidates = sorted(
        (module for module in modules if SHORTEST <= len(module.text) <= LONGEST),
        key=lambda module: hashlib.sha256(module.name.encode()).hexdigest(),
    )
    phrases = {module.name: _phrases(module.text) for module in modules}
    counts: dict[int, int] = {}
    for own in phrases.values():
        for phrase in own:
            counts[phrase] = counts.get(phrase, 0) + 1
    held_out: list[Module] = []
    for module in candidates:
        own = phrases[module.name]
        # What two held-out modules share counts too, which leaves out rather too many.
        if len(held_out) < HELD_OUT and overlap(own, counts) <= LARGEST_OVERLAP:
            held_out.append(module)
    names = {module.name for module in held_out}
    return [module for module in modules if module.name not in names], held_out


def modules_without(modules: Iterable[Module], held_out: Iterable[Module]) -> list[Module]:
    """Return the modules that are none of those held out, which may be of another version of the library.

    A module is left out where it has the name of one of them, or more than ``LARGEST_OVERLAP`` of its phrases
    in common with them, as one that was moved has.
    """
    held_out = list(held_out)
    names = {module.name for module in held_out}
    phrases: set[int] = set().union(*(_phrases(module.text) for module in held_out))
    rest = [module for module in modules if module.name not in names]
    return [module for module in rest if _share(_phrases(module.text), phrases) <= LARGEST_OVERLAP]


def _share(phrases: set[int], others: set[int]) -> float:
    return len(phrases & others) / max(1, len(phrases))


def overlap(phrases: set[int], counts: dict[int, int]) -> float:
    """Return the share of a module's phrases that another module has too."""
    return sum(counts[phrase] > 1 for phrase in phrases) / max(1, len(phrases))


def _phrases(text: str) -> set[int]:
    """Return the phrases of a text: every ``WORDS`` words or signs in a row, as numbers."""
    words = re.findall(r"\w+|[^\w\s]", text)
    return {hash(tuple(words[start : start + WORDS])) for start in range(len(words) - WORDS + 1)}
