"""Decoded images that are kept: taken only as they were written, and decoded again where they are not."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from qx_plugins.datasets.array_cache import cached_array

from qx.leftovers import sweep

RECORD = np.dtype([("image", np.uint8, (2, 2)), ("label", np.uint8)])


def array(dtype: np.dtype | type = np.uint8) -> np.ndarray:
    return np.arange(60, dtype=np.uint8).view(dtype) if dtype is RECORD else np.arange(60, dtype=dtype)


def kept(cache: Path, value: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the array as it comes from the cache, and how often ``make`` was called for it."""
    calls = []

    def make() -> np.ndarray:
        calls.append(1)
        return value

    cached = cached_array(cache, "images", origin=cache.parent, identities=["a", "b"], make=make)
    return np.array(cached), len(calls)


def npy(value: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, value, allow_pickle=True)
    return file.getvalue()


def zipped() -> bytes:
    file = io.BytesIO()
    np.savez(file, array())
    return file.getvalue()


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def linked(path: Path) -> None:
    elsewhere = path.with_name("elsewhere")
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


DAMAGE: Mapping[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "short": lambda path: path.write_bytes(path.read_bytes()[:20]),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"0"),
    "a bit of the header": lambda path: path.write_bytes(flipped(path.read_bytes(), 40)),
    "a bit of the values": lambda path: path.write_bytes(flipped(path.read_bytes(), -40)),
    "a bit of the digest": lambda path: path.write_bytes(flipped(path.read_bytes(), -1)),
    "of an earlier version": lambda path: path.write_bytes(npy(array())),
    "another shape": lambda path: path.write_bytes(npy(np.zeros(3))),
    "a pickle": lambda path: path.write_bytes(npy(np.array([{}], dtype=object))),
    "a zip file": lambda path: path.write_bytes(zipped()),
    "a folder": lambda path: (path.unlink(), path.mkdir(), (path / "inner").touch()),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "a link": linked,
    "a link to itself": lambda path: (path.unlink(), path.symlink_to(path.name)),
    "a link without end": lambda path: (path.unlink(), path.symlink_to("/dev/zero")),
}


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Path]:
    """Return the path of a folder that does not exist yet."""
    yield tmp_path / "cache"
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, RECORD], ids=str)
def test_an_array_is_made_once(cache: Path, dtype: np.dtype | type) -> None:
    """The second time the array comes from its file, with the same dtype, shape and values, read-only."""
    value = array(dtype)
    for times in (1, 0):
        cached, calls = kept(cache, value)
        assert calls == times
        assert cached.dtype == value.dtype
        assert np.array_equal(cached, value)
    (path,) = cache.iterdir()
    assert not np.load(path, mmap_mode="r").flags.writeable


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_array_is_made_anew(cache: Path, kind: str) -> None:
    """A damaged file is replaced by a new one without waiting, and is read the next time."""
    kept(cache, array())
    (path,) = cache.iterdir()
    whole = path.read_bytes()
    DAMAGE[kind](path)
    cached, calls = kept(cache, array())
    assert calls == 1
    assert np.array_equal(cached, array())
    assert not path.is_symlink()
    assert path.read_bytes() == whole
    assert kept(cache, array())[1] == 0


KILLED = """
import os, pathlib, signal, sys
import numpy as np
from qx_plugins.datasets import array_cache
os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
array_cache.cached_array(
    pathlib.Path(sys.argv[1]), "images", origin=pathlib.Path(sys.argv[1]).parent, identities=["a", "b"],
    make=lambda: np.zeros(1000),
)
"""


def test_what_a_killed_process_was_writing_is_removed(cache: Path) -> None:
    """A part of an array that was never finished is not read, and is removed when a run next sweeps."""
    done = subprocess.run([sys.executable, "-c", KILLED, cache])
    assert done.returncode == -signal.SIGKILL
    assert [path.suffix for path in cache.iterdir()] == [".qx-part"]
    assert kept(cache, array())[1] == 1
    sweep(cache)
    assert [path.suffix for path in cache.iterdir()] == [".npy"]
