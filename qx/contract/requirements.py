"""Check what a plugin's record requires of the machine, and say what is missing here."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from qx.contract.records import Record
from qx.environment import cpu_flags

#: Between what is missing and the requirements, in a reason.
INSTALL = ": pip install "


def missing_distributions(record: Record) -> str:
    """Return what must be installed, and by which command; empty where nothing is missing.

    The command names the requirements themselves, so that it is the same on every machine: results carry it.
    A screen shows the one for its machine, see ``qx.contract.installation``. Raises ``ValueError`` for a
    string that is no requirement.
    """
    missing = [text for requirement in record.requires if (text := _unmet(requirement))]
    if not missing:
        return ""
    arguments = " ".join(f"'{text}'" for text in record.requires)
    return f"needs {', '.join(missing)}{INSTALL}{arguments}"


def install_arguments(reason: str) -> list[str]:
    """Return what pip is to install by a reason that ``missing_distributions`` gave; empty for another."""
    import shlex

    match = re.fullmatch(rf"needs .+{INSTALL}(.+)", reason, re.DOTALL)
    try:
        return shlex.split(match.group(1)) if match else []
    except ValueError:  # a quotation mark without its counterpart
        return []


def missing_on_machine(record: Record) -> str:
    """Return which files, commands or CPU flags are missing; empty where none is. Raises ``ValueError``."""
    if patterns := getattr(record, "files", ()):
        return _missing_file(patterns)
    programs = getattr(record, "programs", ())
    if programs and not any(shutil.which(os.path.expandvars(program)) for program in programs):
        return f"needs one of these commands on the PATH: {', '.join(programs)}"
    flags = getattr(record, "instruction_sets", ())
    present = cpu_flags() if flags else None
    # Where the system does not report its flags, the config is tried: a wrong instruction crashes its cell.
    absent = [flag for flag in flags if present and flag not in present]
    return f"needs a CPU with {', '.join(absent)}" if absent else ""


def _missing_file(patterns: Sequence[str]) -> str:
    """Return why none of these files can be read, and what to do about it; empty where one can."""
    # A variable that is not set stays as it is written, and matches no file.
    shown = [text for pattern in patterns if "$" not in (text := os.path.expandvars(pattern))]
    found = {path: pattern for pattern in shown for path in _matching(pattern)}
    if any(os.access(path, os.R_OK) for path in found):
        return ""
    if found:
        path, pattern = next(iter(found.items()))
        return f"needs to read {path}, which this user may not: sudo chmod a+r {pattern}"
    hint = ": this is a virtual machine, and few of them have any" if "hypervisor" in cpu_flags() else ""
    return f"needs a file {' or '.join(shown)}, and there is none{hint}"


def _matching(pattern: str) -> list[Path]:
    """Return the files that a shell pattern matches."""
    anchor = Path(pattern).anchor
    return sorted(Path(anchor).glob(str(Path(pattern).relative_to(anchor))))


def _unmet(text: str) -> str:
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        if re.fullmatch(r"[\w.-]+", text):
            distribution(text)
            return ""
        # Importing packaging takes a fifth of the time of `qx list`; a bare name can do without.
        from packaging.requirements import Requirement

        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate():
            return ""
        installed = distribution(requirement.name).version
    except PackageNotFoundError:
        return text
    if installed and requirement.specifier.contains(installed, prereleases=True):
        return ""
    return f"{text} ({installed or 'no version'} is installed)"
