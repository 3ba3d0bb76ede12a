"""Digests of the files in a folder: what is read is what was written, or it is seen that it is not.

They find damage: a bad disk, a broken copy, a slip of the hand. Whoever can write the folder can write the
digests too, so they keep nobody out: ownership and mode do, see ``qx.storage.cache``.
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

#: Holds the digests of all other files in a folder.
FILE = "digests.json"
#: Raised when the digests of an earlier version could be misread.
VERSION = 1
#: Bytes of the largest JSON file that is read: no record of qx comes near it.
MOST_JSON = 16 << 20
#: Bytes that are read at a time.
CHUNK = 1 << 20


class Damaged(ValueError):
    """Files are not as they were written. The message names the file, and what is wrong with it."""


@frozen
class FileDigest:
    """What tells whether a file is as it was written."""

    #: Bytes.
    size: int
    sha256: str


def to_digest(value: FileDigest | JsonMapping) -> FileDigest:
    """For fields: a digest, or the fields of one as they come from JSON. Raises ``Damaged``."""
    if isinstance(value, FileDigest):
        return value
    if not isinstance(value, Mapping) or value.keys() != {"size", "sha256"}:
        raise Damaged("a digest has a size and a sha256, and nothing else")
    size, sha256 = value["size"], value["sha256"]
    if not (type(size) is int and size >= 0 and isinstance(sha256, str)):
        raise Damaged("a digest has a number of bytes, and SHA-256 in hexadecimal digits")
    return FileDigest(size, sha256)


def is_inside(name: object) -> bool:
    """Whether this is the name of a file inside a folder: a plain relative path that does not lead out of it.

    Parts are separated by ``/``; none is empty, ``.`` or ``..``; all characters can be printed.
    """
    if not isinstance(name, str) or not name.isprintable():
        return False
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and str(path) == name


def digest_of(folder: Path, name: str, size: int | None = None) -> FileDigest:
    """The digest of a regular file inside a folder, which no symbolic link leads to.

    With a ``size`` in bytes a file of another size is not read. Raises ``Damaged``.
    """
    state = hashlib.sha256()
    with os.fdopen(_open_regular(folder, name), "rb", buffering=0) as file:
        there = os.fstat(file.fileno()).st_size
        if size is not None and there != size:
            raise Damaged(f"{name} has {there:,} bytes, and was written with {size:,}")
        buffer = bytearray(CHUNK)
        count = 0
        while received := file.readinto(buffer):
            state.update(memoryview(buffer)[:received])
            count += received
    return FileDigest(count, state.hexdigest())


def write_digests(folder: Path) -> None:
    """Write the digests of all regular files of a folder into it, in place of earlier ones."""
    names = (str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if _is_regular(path))
    files = {name: asdict(digest_of(folder, name)) for name in names if is_inside(name) and name != FILE}
    content = json.dumps({"version": VERSION, "files": files}, indent=1)
    write_whole(folder / FILE, content.encode() + b"\n")


def check_digests(folder: Path) -> Mapping[str, FileDigest]:
    """The digests of a folder, each of which its file still has. Raises ``Damaged``.

    Files that came later are no concern of it.
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
    """What a JSON file inside a folder holds. Raises ``Damaged``."""
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
    # Text that is no JSON, bytes that are no text, and lists in lists without end.
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{name} is not the JSON that was written") from error


def _open_regular(folder: Path, name: str) -> int:
    """A descriptor of a file inside a folder. A pipe or a device in its place is not waited for."""
    if not is_inside(name):
        raise Damaged(f"{name!r} is no name of a file inside a folder")
    place = folder
    for part in PurePosixPath(name).parts[:-1]:
        place /= part
        if not stat.S_ISDIR(_status(place, name).st_mode):
            raise Damaged(f"{name} does not lie in a folder of its own")
    if not stat.S_ISREG(_status(folder / name, name).st_mode):
        raise Damaged(f"{name} is no regular file")
    handle = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise Damaged(f"{name} is no regular file")
    return handle


def _status(place: Path, name: str) -> os.stat_result:
    try:
        return place.lstat()
    except FileNotFoundError as error:
        raise Damaged(f"{name} is missing") from error


def _is_regular(path: Path) -> bool:
    return stat.S_ISREG(path.lstat().st_mode)
