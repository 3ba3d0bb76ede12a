"""The text of ``serve.py``: a loader's serving code in a program that reads and writes named arrays."""

from __future__ import annotations

import json
import pprint
import re
from collections.abc import Collection, Mapping, Sequence
from importlib.resources import files
from string import Template

from qx.contract.records import ServingCode
from qx.processes.job_answers import Arrangement
from qx.values import JsonMapping

#: Names of the files that qx writes beside an artifact, beside the manifest.
SERVE, README = "serve.py", "README.md"
EXAMPLE_INPUTS, EXAMPLE_OUTPUTS = "example_inputs.npz", "example_outputs.npz"
NAMES = (SERVE, README, EXAMPLE_INPUTS, EXAMPLE_OUTPUTS)
#: Width of the program's lines.
WIDTH = 100


def taken_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of qx's own files that files of an artifact have already, whatever their case."""
    used = {name.partition("/")[0].casefold() for name in names}
    return tuple(name for name in NAMES if name.casefold() in used)


def serve_program(
    code: ServingCode, digests: Mapping[str, str], inputs: Sequence[Arrangement], title: str
) -> str:
    """Return the text of ``serve.py``.

    ``digests`` has the SHA-256 of each file that it loads, and ``title`` is what it serves. Raises
    ``ValueError`` for details that are no JSON, and ``SyntaxError`` for a source that is no Python.
    """
    arrangements = {entry.name: (entry.dtype, tuple(entry.shape)) for entry in inputs}
    words = {
        "title": title,
        "example": _example(arrangements),
        "files": _literal(dict(digests)),
        "details": _literal(_plain(code.details)),
        "inputs": _literal(arrangements),
        "source": code.source.strip(),
    }
    template = (files("qx.shipping") / "serve.py.txt").read_text(encoding="utf-8")
    text = Template(template).substitute(words)
    compile(text, SERVE, "exec")
    return text


def _example(names: Collection[str]) -> str:
    """Return the inputs of a call for a docstring, which not every name can stand in."""
    entries = [f'"{name}": {name if name.isidentifier() else "array"}' for name in names]
    is_plain = all(re.fullmatch(r"[\w.-]{1,30}", name) for name in names)
    return f"{{{', '.join(entries)}}}" if is_plain else "inputs"


def _plain(details: JsonMapping) -> object:
    """Return details as Python reads them from JSON, where infinities have no literal."""
    return json.loads(json.dumps(dict(details), allow_nan=False))


def _literal(value: object) -> str:
    # In the order of the mapping: inputs are in the model's.
    return pprint.pformat(value, width=WIDTH, sort_dicts=False)
