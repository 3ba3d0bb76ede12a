"""Digests of the files in a folder, which show whether files still are as they were written.

They reveal damage by a bad disk, a broken copy or a mistake. They are no protection against attackers, since
whoever can write the folder can write the digests too: ownership and mode are, see ``qx.storage.cache``.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from attrs import asdict, frozen

from qx.files import write_whole
from qx.values import Json, JsonMapping

#: Name of the file with the digests of all other files in a folder.
FILE = "digests.json"
#: Version of the format, increased when digests of an earlier version could be misread.
VERSION = 1
#: Largest JSON file that is read, in bytes: no record of qx is nearly as large.
MOST_JSON = 16 << 20
#: Number of bytes that are read at a time.
CHUNK = 1 << 20


class Damaged(ValueError):
    """Files are not as they were written. The message names the file and what is wrong with it."""


@frozen
class FileDigest:
    """Size and SHA-256 of a file, by which damage is noticed."""

    #: Size of the file in bytes.
    size: int
    sha256: str


def to_digest(value: FileDigest | JsonMapping) -> FileDigest:
    """Convert the fields of a digest, as they come from JSON; a digest stays as it is. Raises ``Damaged``."""
    if isinstance(value, FileDigest):
        return value
    if not isinstance(value, Mapping) or value.keys() != {"size", "sha256"}:
        raise Damaged("a digest has a size and a sha256, and nothing else")
    size, sha256 = value["size"], value["sha256"]
    if not (type(size) is int and size >= 0 and isinstance(sha256, str)):
        raise Damaged("a digest has a number of bytes, and SHA-256 in hexadecimal digits")
    return FileDigest(size, sha256)


def is_inside(name: object) -> bool:
    """Return whether this is the name of a file inside a folder: a relative path that does not lead out.

    Parts are separated by ``/``, and none is empty, ``.`` or ``..``. All characters can be printed.
    """
    if not isinstance(name, str) or not name.isprintable():
        return False
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and str(path) == name


def digest_of(folder: Path, name: str, size: int | None = None) -> FileDigest:
    """Return the digest of a regular file inside a folder, to which no symbolic link leads.

    With ``size``, in bytes, a file of another size is not read. Raises ``Damaged``.
    """
    state = hashlib.sha256()
    with os.fdopen(_open_regular(folder, name), "rb", buffering=0) as file:
        actual = os.fstat(file.fileno()).st_size
        if size is not None and actual != size:
            raise Damaged(f"{name} has {actual:,} bytes, expected {size:,}")
        buffer = bytearray(CHUNK)
        count = 0
        while received := file.readinto(buffer):
            state.update(memoryview(buffer)[:received])
            count += received
    return FileDigest(count, state.hexdigest())


def write_digests(folder: Path) -> None:
    """Write the digests of all regular files of a folder into it, and replace earlier ones."""
    names = (str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if _is_regular(path))
    files = {name: asdict(digest_of(folder, name)) for name in names if is_inside(name) and name != FILE}
    content = json.dumps({"version": VERSION, "files": files}, indent=1)
    write_whole(folder / FILE, content.encode() + b"\n")


def check_digests(folder: Path) -> Mapping[str, FileDigest]:
    """Return the digests of a folder, after checking its files against them. Raises ``Damaged``.

    Files that were added later are not checked.
    """
    try:
        fields = read_json(folder, FILE)
        if not isinstance(fields, dict) or fields.get("version") != VERSION:
            raise Damaged(f"{FILE} is not of version {VERSION}")
        files = fields.get("files")
        if not isinstance(files, dict) or not all(map(is_inside, files)):
            raise Damaged(f"{FILE} does not name files of the folder")
        digests = {name: to_digest(value) for name, value in files.items()}
        for name, digest in digests.items():
            if digest_of(folder, name, digest.size) != digest:
                raise Damaged(f"{name} does not have the bytes that were written")
    except OSError as error:
        raise Damaged(f"{error.filename or folder} cannot be read: {error.strerror or error}") from error
    return digests


def read_json(folder: Path, name: str) -> Json:
    """Return the content of a JSON file inside a folder. Raises ``Damaged``."""
    try:
        with os.fdopen(_open_regular(folder, name), "rb") as file:
            content = file.read(MOST_JSON + 1)
        if len(content) > MOST_JSON:
            raise Damaged(f"{name} has more than {MOST_JSON:,} bytes")
        return json.loads(content)
    except OSError as error:
        raise Damaged(f"{name} cannot be read: {error.strerror or error}") from error
    except Damaged:
        raise
    # Text that is no JSON, bytes that are no text, and lists that are nested too deeply.
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{name} is not the JSON that was written") from error


def _open_regular(folder: Path, name: str) -> int:
    """Open a regular file inside a folder, without waiting for a pipe or a device; return the descriptor."""
    if not is_inside(name):
        raise Damaged(f"{name!r} is not the name of a file inside a folder")
    place = folder
    for part in PurePosixPath(name).parts[:-1]:
        place /= part
        if not stat.S_ISDIR(_status(place, name).st_mode):
            raise Damaged(f"{name} does not lie in a folder of its own")
    if not stat.S_ISREG(_status(folder / name, name).st_mode):
        raise Damaged(f"{name} is not a regular file")
    handle = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise Damaged(f"{name} is not a regular file")
    return handle


def _status(place: Path, name: str) -> os.stat_result:
    try:
        return place.lstat()
    except FileNotFoundError as error:
        raise Damaged(f"{name} is missing") from error


def _is_regular(path: Path) -> bool:
    return stat.S_ISREG(path.lstat().st_mode)
