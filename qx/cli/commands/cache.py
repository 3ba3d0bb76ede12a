"""``qx cache``: where the cache is, how large it is, and the removal of what is not needed."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qx.cli import Commands
    from qx.storage.pruning import CacheEntry, Pruned

#: Days after which an entry is removed that was not used, where neither age nor size is given.
DAYS = "30d"


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "cache",
        help="where the cache is, how large it is, and remove what was not used for long",
        description="Show where the cache is and how large it is, and remove what was not used for long. It "
        "can be removed at any time: a run uses what is there, and makes the rest again.",
    )
    # Those of all commands (-p) go to the parser that is listed in `qx --help`.
    actions = parser.add_subparsers(metavar="ACTION", required=True, dest="action")
    path = actions.add_parser("path", help="print the folder", description="Print the folder of the cache.")
    path.set_defaults(func=print_path)
    size = actions.add_parser(
        "size", help="number and size of what is there", description="Show what is there, kind by kind."
    )
    size.set_defaults(func=print_size)
    prune = actions.add_parser(
        "prune",
        help="remove what was not used for long",
        description="Remove entries that were not used for long, and none that a run is using.",
    )
    prune.add_argument(
        "--older-than",
        metavar="TIME",
        help=f"remove what was not used for so long: 12h, 30d (default: {DAYS}, unless --max-size is given)",
    )
    prune.add_argument(
        "--max-size", metavar="SIZE", help="remove what was used longest ago until no more is left: 500M, 2G"
    )
    prune.add_argument(
        "--downloads", action="store_true", help="also what workloads keep there: downloads, decoded images"
    )
    prune.add_argument("--dry-run", action="store_true", help="remove nothing, and say what would be removed")
    prune.add_argument(
        "--trust-cache",
        type=Path,
        metavar="DIR",
        help="remove entries of the cache folder DIR although others can write it",
    )
    prune.set_defaults(func=run_prune)


def print_path(arguments: argparse.Namespace) -> int:
    """Print the folder of the cache, whether it exists or not."""
    from qx.cli import OK
    from qx.files import cache_folder
    from qx.foreign import path_to_terminal

    print(path_to_terminal(cache_folder()))
    return OK


def print_size(arguments: argparse.Namespace) -> int:
    """Print the number and the size of the entries of each kind."""
    from qx.amounts import size_in_words
    from qx.cli import OK
    from qx.foreign import path_to_terminal
    from qx.report.wording import count
    from qx.storage.pruning import DOWNLOADS, NAMES, strangers, total_size

    if (cache := _existing_cache()) is None:
        return OK
    found = _entries(cache)
    print(path_to_terminal(cache))
    for kind in (*NAMES, DOWNLOADS):
        chosen = [entry for entry in found if entry.kind == kind]
        number = count(len(chosen), "entry", "entries")
        print(f"  {kind:<13}{number:>14}{size_in_words(total_size(chosen)):>12}{_names(kind, chosen)}")
    print(f"  {'total':<13}{'':>14}{size_in_words(total_size(found)):>12}")
    if others := strangers(cache):
        shown = ", ".join(path_to_terminal(path.relative_to(cache)) for path in others[:3])
        print(f"not qx's, and left alone: {shown}{', ...' if len(others) > 3 else ''}")
    return OK


def _names(kind: str, found: list[CacheEntry]) -> str:
    """Return the names of what workloads keep, as far as a line has room."""
    from qx.foreign import path_to_terminal
    from qx.storage.pruning import DOWNLOADS

    if kind != DOWNLOADS or not found:
        return ""
    names = [path_to_terminal(entry.path.name) for entry in found]
    return f"  {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"


def run_prune(arguments: argparse.Namespace) -> int:
    """Remove entries, and say what was freed."""
    from qx.amounts import to_bytes, to_seconds
    from qx.cli import NOT_WELL, OK
    from qx.cli.streams import say
    from qx.errors import UsageError
    from qx.files import sweep_cache
    from qx.foreign import path_to_terminal
    from qx.storage.cache import private_folder
    from qx.storage.pruning import prune

    most = None if arguments.max_size is None else to_bytes(arguments.max_size, "--max-size")
    age = arguments.older_than or (DAYS if most is None else None)
    seconds = None if age is None else to_seconds(age, "--older-than")
    if (cache := _existing_cache()) is None:
        return OK
    private_folder(cache, arguments.trust_cache, tighten=False)
    _entries(cache)
    _require_writable(cache)
    if not arguments.dry_run:
        sweep_cache()
    try:
        pruned = prune(
            cache,
            unused_for=seconds,
            most_bytes=most,
            downloads=arguments.downloads,
            dry_run=arguments.dry_run,
        )
    except OSError as error:
        raise UsageError(f"the cache folder {cache} cannot be read: {error.strerror or error}") from error
    for line in _lines(pruned, dry_run=arguments.dry_run):
        print(line)
    for entry, reason in pruned.failed:
        say(f"qx: cannot remove {path_to_terminal(entry.path)}: {reason}")
    return NOT_WELL if pruned.failed else OK


def _lines(pruned: Pruned, *, dry_run: bool) -> list[str]:
    from qx.amounts import size_in_words
    from qx.report.wording import count, listed
    from qx.storage.pruning import DOWNLOADS, NAMES, total_size

    kinds = Counter(entry.kind for entry in pruned.removed)
    numbers = [count(kinds[kind], kind.removesuffix("s")) for kind in (*NAMES, DOWNLOADS) if kind in kinds]
    freed = size_in_words(total_size(pruned.removed))
    verb = "would be removed" if dry_run else "removed"
    lines = [f"{verb}: {listed(numbers)}, {freed}" if numbers else f"nothing {verb}"]
    if pruned.in_use:
        lines.append(f"left, since a run is using them: {count(len(pruned.in_use), 'entry', 'entries')}")
    return lines


def _existing_cache() -> Path | None:
    """Return the folder of the cache. None, after saying so, where there is none."""
    from qx.errors import UsageError
    from qx.files import cache_folder
    from qx.foreign import path_to_terminal

    cache = cache_folder()
    try:
        cache.stat()
    except FileNotFoundError:
        print(f"there is no cache yet: {path_to_terminal(cache)} does not exist")
        return None
    except OSError as error:
        raise UsageError(f"the cache folder {cache} cannot be used: {error.strerror or error}") from error
    if not cache.is_dir():
        raise UsageError(f"the cache folder {cache} is a file: remove it, or name a folder in QX_CACHE")
    return cache


def _entries(cache: Path) -> list[CacheEntry]:
    from qx.errors import UsageError
    from qx.storage.pruning import entries

    try:
        return entries(cache)
    except OSError as error:
        raise UsageError(f"the cache folder {cache} cannot be read: {error.strerror or error}") from error


def _require_writable(cache: Path) -> None:
    import os

    from qx.errors import UsageError
    from qx.storage.pruning import NAMES

    for folder in (cache, *(cache / kind for kind in NAMES)):
        if folder.is_dir() and not folder.is_symlink() and not os.access(folder, os.W_OK | os.X_OK):
            raise UsageError(f"the cache folder {folder} cannot be written, so nothing in it can be removed")
