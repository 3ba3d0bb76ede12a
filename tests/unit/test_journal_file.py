"""A file of records: each is whole or not there, whatever happens to the file."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import pytest

from qx.errors import UsageError
from qx.storage import holding
from qx.storage.holding import hold_folder
from qx.storage.journal_file import MAGIC, PREFIX, JournalFile

RECORDS = [b"first", b"", b"third " * 40, b"\0\xff\n"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return the path of a file with the records."""
    path = tmp_path / "records"
    file = JournalFile.create(path)
    for record in RECORDS:
        file.append(record)
    file.close()
    return path


def read(path: Path) -> tuple[list[bytes], int]:
    """Return the records of a file, and the number of bytes that were torn; close it."""
    file, records, torn = JournalFile.open(path)
    file.close()
    return records, torn


def test_records_come_back_and_more_can_follow(place: Path) -> None:
    """A file that is opened again has its records, and takes more."""
    file, records, torn = JournalFile.open(place)
    assert (records, torn) == (RECORDS, 0)
    file.append(b"more")
    file.close()
    assert read(place) == ([*RECORDS, b"more"], 0)


def test_a_torn_end_is_dropped_wherever_it_is_torn(place: Path) -> None:
    """Cut off at any byte, a file has the records that are whole; the rest is gone, and more can follow."""
    content = place.read_bytes()
    ends = [len(MAGIC)]
    for record in RECORDS:
        ends.append(ends[-1] + PREFIX.size + len(record))
    for size in range(len(MAGIC), len(content) + 1):
        place.write_bytes(content[:size])
        whole = sum(end <= size for end in ends) - 1
        file, records, torn = JournalFile.open(place)
        assert (records, torn) == (RECORDS[:whole], size - ends[whole])
        file.append(b"more")
        file.close()
        assert read(place) == ([*RECORDS[:whole], b"more"], 0)


def test_a_changed_byte_ends_the_file(place: Path) -> None:
    """From the record on in which a byte was changed nothing is believed."""
    content, order = place.read_bytes(), random.Random(3)
    for _ in range(100):
        position = order.randrange(len(MAGIC), len(content))
        changed = bytearray(content)
        changed[position] ^= 1 << order.randrange(8)
        place.write_bytes(bytes(changed))
        records, torn = read(place)
        assert torn > 0
        assert records == RECORDS[: len(records)]


def test_records_cannot_be_taken_out_or_moved(place: Path) -> None:
    """A record that is whole in itself counts only behind the records that it was written behind."""
    content = place.read_bytes()
    first = PREFIX.size + len(RECORDS[0])
    place.write_bytes(MAGIC + content[len(MAGIC) + first :])
    assert read(place)[0] == []


def test_another_file_is_refused(tmp_path: Path) -> None:
    """What does not begin as a journal, or is no regular file, is not opened."""
    other = tmp_path / "other"
    other.write_bytes(b"something else\n")
    with pytest.raises(ValueError, match="does not begin as a journal"):
        JournalFile.open(other)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        JournalFile.open(tmp_path / "pipe")
    assert other.read_bytes() == b"something else\n"


def test_a_record_that_claims_to_be_huge_is_not_read(place: Path) -> None:
    """A length beyond the file costs no memory: the record is torn."""
    content = place.read_bytes()
    place.write_bytes(content + PREFIX.pack(2**62, b"x" * 32))
    assert read(place) == (RECORDS, PREFIX.size)


def test_a_full_disk_leaves_the_file_as_it_was(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk takes a part of a record, that part is taken back, and a later record is whole."""
    before, write = place.read_bytes(), os.write
    file, *_ = JournalFile.open(place)

    def full(descriptor: int, content: bytes) -> int:
        if len(content) > 20:
            return write(descriptor, content[:20])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("qx.storage.journal_file.os.write", full)
        with pytest.raises(OSError, match="No space left") as error:
            file.append(b"more")
    assert error.value.filename == str(place)
    assert place.read_bytes() == before
    file.append(b"more")
    file.close()
    assert read(place) == ([*RECORDS, b"more"], 0)


def test_a_folder_has_one_run_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second is refused in a line that says who holds it; afterwards no trace is left."""
    folder = tmp_path / "new" / "results"
    monkeypatch.setattr(holding.platform, "node", lambda: "this-host\n")
    with hold_folder(folder, ".note"):
        with pytest.raises(UsageError) as error, hold_folder(folder, ".note"):
            pass
        words = str(error.value)
        assert words.startswith(f"another run writes into {folder}: process {os.getpid()} on this-host")
        assert "\n" not in words
        (folder / ".note").write_bytes(b"[" * 10_000)
        with pytest.raises(UsageError, match="only just begun"), hold_folder(folder, ".note"):
            pass
    assert list(tmp_path.iterdir()) == []
    with hold_folder(folder, ".note"):
        (folder / "results").touch()
    assert [path.name for path in folder.iterdir()] == ["results"]
