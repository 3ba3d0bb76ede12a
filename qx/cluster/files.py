"""Files on their way through a cluster, named by their SHA-256: each is sent to a machine once."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any

from attrs import define, field, frozen

from qx.leftovers import remove_tree
from qx.storage.digests import Damaged, is_inside

#: Size of the parts in which files travel, in bytes.
PART = 16 << 20
#: Folders of a store: files by digest, folders that were laid down, what jobs share, locks.
FILES, TREES, SHARED, LOCKS = "files", "trees", "shared", "locks"
#: Seconds since its last use after which what jobs share is removed: the run that made it may be over.
KEPT = 6 * 3600.0


@frozen
class Tree:
    """A file, or the files of a folder, without their contents."""

    #: Name of the file or the folder.
    name: str
    is_folder: bool
    #: SHA-256 by relative name; of a single file under its own name.
    files: Mapping[str, str]

    @property
    def key(self) -> str:
        """SHA-256 of the names and digests."""
        lines = [
            self.name,
            str(self.is_folder),
            *(f"{name}\n{self.files[name]}" for name in sorted(self.files)),
        ]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@frozen
class Contents:
    """Files of a folder with their contents, as a machine gives them back."""

    folders: tuple[str, ...]
    files: Mapping[str, tuple[bytes, ...]]

    @classmethod
    def of(cls, folder: Path) -> Contents:
        """Read the files in a folder. What is neither a file nor a folder is left out."""
        folders = [path for path in sorted(folder.rglob("*")) if path.is_dir() and not path.is_symlink()]
        return cls(
            tuple(str(path.relative_to(folder)) for path in folders),
            {str(path.relative_to(folder)): tuple(parts_of(path)) for path in files_in(folder)},
        )

    def write(self, folder: Path) -> None:
        """Write the files into a folder. Raises ``Damaged`` for a name that leads out of it."""
        for name in (*self.folders, *self.files):
            if not is_inside(name):
                raise Damaged(f"a machine gave back a file with the name {name!r}")
        folder.mkdir(parents=True, exist_ok=True)
        for name in self.folders:
            (folder / name).mkdir(parents=True, exist_ok=True)
        for name, parts in self.files.items():
            with (folder / name).open("wb") as file:
                file.writelines(parts)


def files_in(folder: Path) -> Iterator[Path]:
    """Yield the regular files in a folder and in those below, in the order of their names."""
    yield from (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())


def parts_of(path: Path) -> Iterator[bytes]:
    """Yield the content of a file in parts."""
    with path.open("rb") as file:
        while part := file.read(PART):
            yield part


def sha256_of(parts: Iterable[bytes]) -> str:
    """Return the SHA-256 of a content in parts, in hexadecimal digits."""
    state = hashlib.sha256()
    for part in parts:
        state.update(part)
    return state.hexdigest()


@define
class Shelf:
    """The files that this machine sends: each content is put into the cluster once."""

    put: Callable[[bytes], object]
    #: What refers to the parts of a content, by its SHA-256.
    _parcels: dict[str, tuple[object, ...]] = field(factory=dict, init=False)
    #: SHA-256 of files that were read, by path, size and time of the last change.
    _read: dict[tuple[str, int, int], str] = field(factory=dict, init=False)
    _lock: Lock = field(factory=Lock, init=False)

    def tree(self, path: Path, files: Iterable[Path] | None = None) -> Tree:
        """Put a file or a folder into the cluster; of a folder all files in it, or these.

        Raises ``OSError`` where it cannot be read.
        """
        path = path.absolute()
        if not path.is_dir():
            return Tree(path.name, False, {path.name: self._add(path)})
        chosen = files_in(path) if files is None else files
        return Tree(path.name, True, {str(file.relative_to(path)): self._add(file) for file in chosen})

    def parcels(self, trees: Iterable[Tree]) -> dict[str, tuple[object, ...]]:
        """Return what refers to the contents of these trees, by SHA-256."""
        return {digest: self._parcels[digest] for tree in trees for digest in tree.files.values()}

    def _add(self, path: Path) -> str:
        status = path.stat()
        known = (str(path), status.st_size, status.st_mtime_ns)
        with self._lock:
            if known not in self._read:
                digest = sha256_of(parts_of(path))
                if digest not in self._parcels:
                    self._parcels[digest] = tuple(self.put(part) for part in parts_of(path))
                self._read[known] = digest
            return self._read[known]


@define
class NodeStore:
    """The files on a machine of a cluster: what it has is not sent again."""

    folder: Path
    #: What refers to the parts of contents that may be needed, by SHA-256.
    parcels: Mapping[str, Sequence[object]]
    #: Returns the bytes of a part.
    fetch: Callable[[Any], bytes]

    def lay(self, tree: Tree) -> Path:
        """Return the path of a tree on this machine, after fetching what it lacks. Raises ``Damaged``."""
        place = self.folder / TREES / tree.key
        with self._locked(tree.key):
            if not place.exists():
                for name, digest in tree.files.items():
                    if not is_inside(name):
                        raise Damaged(f"{name!r} leads out of the folder {tree.name}")
                    self._fetch(digest)
                self._build(tree, place)
        return place / tree.name

    def keep(self, path: Path) -> None:
        """Keep a file that was made here, so that it need not be sent when it is needed again."""
        digest = sha256_of(parts_of(path))
        with self._locked(digest):
            if not self._file(digest).exists():
                with self._new(self._file(digest)) as new:
                    shutil.copyfile(path, new)

    def shared(self, name: str) -> Path:
        """Return the folder of this machine for what the jobs share that give the same ``name``."""
        folder = self.folder / SHARED / hashlib.sha256(name.encode()).hexdigest()
        with self._locked(SHARED):
            folder.mkdir(parents=True, exist_ok=True)
            os.utime(folder)
            for other in folder.parent.iterdir():
                if other.stat().st_mtime < time.time() - KEPT:
                    remove_tree(other)
        return folder

    def _fetch(self, digest: str) -> None:
        with self._locked(digest):
            if self._file(digest).exists():
                return
            with self._new(self._file(digest)) as new, new.open("wb") as file:
                state = hashlib.sha256()
                for parcel in self.parcels[digest]:
                    part = self.fetch(parcel)
                    state.update(part)
                    file.write(part)
                if state.hexdigest() != digest:
                    raise Damaged(f"a file has arrived with another content than was sent ({digest[:12]})")

    def _build(self, tree: Tree, place: Path) -> None:
        """Lay links to files side by side in a new folder, and move it to its place."""
        place.parent.mkdir(exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=place.parent))
        try:
            (part / tree.name).mkdir() if tree.is_folder else None
            for name, digest in tree.files.items():
                path = part / tree.name / name if tree.is_folder else part / name
                path.parent.mkdir(parents=True, exist_ok=True)
                os.link(self._file(digest), path)
            part.rename(place)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise

    def _file(self, digest: str) -> Path:
        (self.folder / FILES).mkdir(exist_ok=True)
        return self.folder / FILES / digest

    @contextmanager
    def _new(self, place: Path) -> Iterator[Path]:
        """Yield the path of a new file that takes its place when it is whole, read-only."""
        descriptor, name = tempfile.mkstemp(dir=place.parent, prefix=".")
        os.close(descriptor)
        try:
            yield Path(name)
            Path(name).chmod(0o400)
            os.replace(name, place)
        except BaseException:
            with suppress(OSError):
                os.unlink(name)
            raise

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """Hold a lock of this name: tasks on one machine must not fetch the same file at once."""
        (self.folder / LOCKS).mkdir(exist_ok=True)
        with (self.folder / LOCKS / name).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
