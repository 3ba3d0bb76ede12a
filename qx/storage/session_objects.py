"""Objects of the Python session that asks for a run (a model, data), as its workers load them.

An object is pickled by cloudpickle, which also takes classes and functions of a notebook. Its file is named
by the SHA-256 of its content and lies in a folder that belongs to one call of ``qx.run`` alone: only its user
can read or write the folder, and it is removed with the run. A reference, ``session:NAME:SHA256``, is an
option of the workload, so the key of every build names the objects that decide it. A worker compares the
digest before it unpickles anything, and looks for an object nowhere else: not in the cache, and in no folder
that results or plugins name.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import BinaryIO

from qx.errors import UsageError
from qx.files import open_regular
from qx.foreign import one_line

#: Environment variable of workers with the folder of the objects; empty where the run has none.
SESSION = "QX_SESSION"
#: Pattern of references.
REFERENCE = re.compile(r"session:(?P<name>\w{1,60}):(?P<digest>[0-9a-f]{64})")
#: Number of bytes that are hashed at a time.
_CHUNK = 1 << 20


def is_reference(text: str) -> bool:
    """Return whether a text is a reference to an object of a session."""
    return REFERENCE.fullmatch(text) is not None


def write_object(folder: Path, name: str, value: object) -> str:
    """Write an object into the folder of a session, and return its reference.

    ``name`` is a word for messages, such as the name of a class. Tensors are stored as ``torch.save`` stores
    them: equal models of one session have equal digests, whatever the addresses of their tensors. Raises what
    cloudpickle raises where the object cannot be pickled.
    """
    import cloudpickle
    import torch

    draft = folder / "draft"
    with os.fdopen(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), "w+b") as file:
        torch.save(value, file, pickle_module=cloudpickle, pickle_protocol=5)
        file.seek(0)
        digest = _digest(file)
    draft.rename(folder / digest)
    return f"session:{re.sub('[^A-Za-z0-9_]', '_', name)[:60] or '_'}:{digest}"


def session_object(reference: str) -> object:
    """Load an object that ``qx.run`` was called with, in a worker of that run.

    ``reference`` is the value of the option of the workload that stands for the object. Tensors are loaded
    into the memory of the processor. Every call loads the object anew. Raises ``UsageError`` where there is
    no such object in this run, where its file has changed, and where it cannot be unpickled.
    """
    import torch

    match = REFERENCE.fullmatch(reference)
    if match is None:
        raise UsageError(f"{reference!r} is no reference to an object of a session")
    folder = os.environ.get(SESSION)
    if not folder:
        raise UsageError(
            f"{match['name']} was an object of a Python session, which qx.run hands to its own workers alone"
        )
    try:
        with open_regular(Path(folder) / match["digest"]) as file:
            if _digest(file) != match["digest"]:
                raise UsageError(f"{match['name']}: the file of this object is not as the session wrote it")
            file.seek(0)
            # The session's own object, which is code anyway: its digest has been compared.
            value: object = torch.load(file, map_location="cpu", weights_only=False)
            return value
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(
            f"{match['name']} cannot be loaded in a process of its own ({one_line(error)}): put it into a "
            f"file that can be imported, and name that"
        ) from error


def _digest(file: BinaryIO) -> str:
    state = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        state.update(chunk)
    return state.hexdigest()
