"""Where distributions were installed from, and the command of pip that installs more: one that can be had."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from qx.contract.references import DISTRIBUTION

#: Record of where a distribution came from, if that was no index (PEP 610).
DIRECT_URL = "direct_url.json"


def install_command(requirements: Iterable[str], distributions: Iterable[str] = (DISTRIBUTION,)) -> str:
    """Return the command that installs requirements.

    Where a distribution was installed from a folder, a file or a repository, and its extras have what is
    required, the command names that place with these extras. Otherwise it names the requirements, which any
    index has: no message says to install a distribution that cannot be had.
    """
    words: list[str] = []
    rest = list(dict.fromkeys(requirements))
    for distribution in dict.fromkeys(distributions):
        if (place := origin_of(distribution)) is None:
            continue
        extras = _extras(distribution)
        chosen = {name for text in rest if (name := _extra_with(text, extras)) is not None}
        if chosen:
            words.append(_with_extras(place, distribution, sorted(chosen)))
            rest = [text for text in rest if not any(_key(text) in extras[name] for name in chosen)]
    return f"pip install {' '.join(shlex.quote(word) for word in [*words, *rest])}"


def extra_command(extra: str) -> str:
    """Return the command that installs an extra of qx: by where qx came from, else by what is in it."""
    if (place := origin_of(DISTRIBUTION)) is not None:
        return f"pip install {shlex.quote(_with_extras(place, DISTRIBUTION, [extra]))}"
    texts = _extras(DISTRIBUTION).get(extra, {}).values()
    return f"pip install {' '.join(shlex.quote(text) for text in texts) or DISTRIBUTION}"


def origin_of(distribution: str) -> str | None:
    """Return where an installed distribution came from, as pip takes it; None where that is not recorded.

    That is a folder or a file that still exists, or the address of an archive or of a repository with the
    commit.
    """
    record = _direct_url(distribution)
    address = record.get("url")
    if not isinstance(address, str) or not address.isprintable():
        return None
    if (parts := urlsplit(address)).scheme == "file":
        path = Path(unquote(parts.path))
        is_source = (path / "pyproject.toml").is_file() or (path / "setup.py").is_file() or path.is_file()
        return str(path) if is_source and str(path).isprintable() else None
    repository = record.get("vcs_info")
    if isinstance(repository, Mapping):
        return f"{repository.get('vcs')}+{address}@{repository.get('commit_id')}"
    return address if isinstance(record.get("archive_info"), Mapping) else None


def _direct_url(distribution: str) -> Mapping[str, object]:
    # Imported here, since it takes a fifth of the time of `qx list`.
    from importlib import metadata

    try:
        record = json.loads(metadata.distribution(distribution).read_text(DIRECT_URL) or "{}")
    except (metadata.PackageNotFoundError, OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _with_extras(place: str, distribution: str, extras: Iterable[str]) -> str:
    names = f"[{','.join(extras)}]"
    return f"{place}{names}" if Path(place).is_absolute() else f"{distribution}{names} @ {place}"


def _extras(distribution: str) -> dict[str, dict[str, str]]:
    """Return the requirements of each extra of an installed distribution, by what ``_key`` makes of them."""
    from importlib import metadata

    from packaging.requirements import InvalidRequirement, Requirement

    try:
        contents = metadata.metadata(distribution)
    except metadata.PackageNotFoundError:
        return {}
    extras: dict[str, dict[str, str]] = {name: {} for name in contents.get_all("Provides-Extra") or ()}
    for text in contents.get_all("Requires-Dist") or ():
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        marker, requirement.marker = requirement.marker, None
        if marker is None or "extra" not in str(marker):
            continue
        for name, members in extras.items():
            if marker.evaluate({"extra": name}):
                members[_key(str(requirement))] = str(requirement)
    return extras


def _extra_with(requirement: str, extras: Mapping[str, Mapping[str, str]]) -> str | None:
    """Return the smallest extra that has a requirement; None where none has."""
    holders = [name for name, members in extras.items() if _key(requirement) in members]
    return min(holders, key=lambda name: (len(extras[name]), name), default=None)


def _key(requirement: str) -> str:
    """Return what is the same for two spellings of a requirement."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    try:
        parsed = Requirement(requirement)
    except InvalidRequirement:
        return requirement
    return f"{canonicalize_name(parsed.name)}{parsed.specifier}"
