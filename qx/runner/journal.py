"""The journal of a run: what is finished is kept at once, so that another sitting goes on from it.

It lies in a folder beside the results: a file of records (``qx.storage.journal_file``) and a folder for each
evaluation. What is finished is named by what it is (the key of a build and the digests of its artifact, the
job and the data of an evaluation), never by where it was made. Records are JSON, and samples arrays; nothing
of them is ever run. All of it is checked when it is read.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from threading import Lock
from typing import TypeVar

from attrs import Factory, define, field, frozen

from qx.errors import UsageError
from qx.files import FULL
from qx.leftovers import remove_tree
from qx.processes.answers import to_fields
from qx.processes.structuring import structure
from qx.results.recording import Recording
from qx.results.run_record import Death, ItemLooks, Unsteady
from qx.storage import strict_json
from qx.storage.digests import Damaged, check_digests, write_digests
from qx.storage.journal_file import JournalFile, read_records
from qx.values import JsonMapping

R = TypeVar("R")

#: Folder of the journal within that of the results, and where that of an earlier run is set aside.
FOLDER, ASIDE = "journal", "journal-earlier"
#: Names in it: the file of records, and the folder of the evaluations.
FILE, EVALUATIONS = "records", "evaluations"
#: Plurals that have no s at their end.
PLURALS = {"look at items": "looks at items"}
#: What ends the JSON of a record; arrays may follow.
BREAK = b"\n"


@frozen(kw_only=True)
class RunHead:
    """What a run is: what was asked for, where, and with what; another sitting must have the same."""

    #: Words of the command line after ``qx``.
    words: tuple[str, ...]
    #: Folder in which the command was called.
    place: str
    #: Date and time of the start, ISO 8601.
    started: str


@frozen(kw_only=True)
class Identity:
    """What decides the figures of a run besides its request and its data; see ``qx.runner.resuming``."""

    #: Properties of the machine, by their names for readers.
    machine: Mapping[str, str]
    #: Versions of Python and of distributions.
    versions: Mapping[str, str]
    #: SHA-256 of the sources of plugins and of qx, and of files that the request names.
    sources: Mapping[str, str]


@frozen(kw_only=True)
class SittingHead:
    """One sitting: the time from a start of qx to its end, in which it worked for the run."""

    #: Date and time of the start, ISO 8601.
    started: str
    #: Load of the system in the minute before.
    load_before: float | None


@frozen(kw_only=True)
class PreparedRecord:
    """Digests of what a workload was prepared from."""

    workload: str
    digests: Mapping[str, str]


@frozen(kw_only=True)
class BuildRecord:
    """A finished build. Its files lie in the cache, under its key."""

    cell: str
    #: Seed of a further build; None for the build with the seed of the run.
    seed: int | None
    key: str
    #: SHA-256 of what is served: the digests of all files, the loader and the details.
    content: str


@frozen(kw_only=True)
class EvaluationRecord:
    """A finished evaluation. Its files lie in the folder of its key, with their digests."""

    cell: str
    seed: int | None
    key: str


@frozen(kw_only=True)
class ItemLookRecord:
    """A look at the widths of intervals after so many items of a workload, all of whose cells have them.

    The outputs of these items lie in the folders of the evaluations, which say themselves how far they are.
    """

    workload: str
    looks: ItemLooks
    #: SHA-256 of what was evaluated, by cell, as in ``BuildRecord``.
    builds: Mapping[str, str]


@frozen(kw_only=True)
class GroupsRecord:
    """The cells that share waves, of a workload."""

    workload: str
    groups: tuple[tuple[str, ...], ...]


@frozen(kw_only=True)
class WaveRecord:
    """A complete wave of a group. Its samples follow as arrays."""

    workload: str
    #: Number of the wave, from 0, and of its group.
    wave: int
    group: int
    #: Whether the launch of the baseline completed it.
    is_whole: bool
    #: Time that it took, in seconds.
    seconds: float
    #: Budget of the workload in seconds, and what the least number of waves was estimated to need.
    budget: float
    needed: float
    pinned_to: int
    #: CPUs that launches were pinned to; None where no rounds were run.
    pinned_cpus: tuple[int, ...] | None
    launches: Mapping[str, int]
    deaths: tuple[Death, ...]
    unsteady: tuple[Unsteady, ...]
    #: Number of rounds, by metric and by point as text; calls and warm-up calls of a block, and the fastest
    #: call so far in seconds, by cell and by point as text.
    rounds: Mapping[str, Mapping[str, int]]
    calls_per_block: Mapping[str, Mapping[str, int]]
    warm_calls: Mapping[str, Mapping[str, int]]
    fastest: Mapping[str, Mapping[str, float]]
    #: Whether it measured the metrics of phase ``fresh``.
    measures_fresh: bool
    #: Loaders whose launches were forked so far, and those whose could not be, with the reason.
    forked: tuple[str, ...]
    not_forked: Mapping[str, str]
    #: Details of the samples, by cell and by the key of the figure.
    details: Mapping[str, Mapping[str, Sequence[JsonMapping]]]
    #: Cells that completed it with fewer rounds than others, since they were settled.
    fewer_rounds: tuple[str, ...] = ()
    #: Identifier of the machine of a cluster that measured it; None: it was the one that wrote it.
    machine: str | None = None


#: Types of records by the name that stands in their JSON.
KINDS: Mapping[str, type] = {
    "run": RunHead,
    "identity": Identity,
    "sitting": SittingHead,
    "prepared": PreparedRecord,
    "build": BuildRecord,
    "evaluation": EvaluationRecord,
    "item look": ItemLookRecord,
    "groups": GroupsRecord,
    "wave": WaveRecord,
}
#: Fields that records lack which earlier versions have written, by kind.
ADDED: Mapping[str, JsonMapping] = {"wave": {"fewer_rounds": []}}
NAMES = {kind: name for name, kind in KINDS.items()}
#: Kinds that are finished work, which is worth resuming.
FINISHED = (BuildRecord, EvaluationRecord, ItemLookRecord, WaveRecord)


class JournalError(UsageError):
    """The journal could not be written; what was finished before is kept."""


@frozen
class Entry:
    """A record with its arrays, and the sitting that it was written in."""

    record: object
    recording: Recording
    #: Number of the sitting, from 0.
    sitting: int
    #: Seconds from the start of the sitting.
    seconds: float


@define
class Journal:
    """What a run has finished, and the file that keeps it; without a folder nothing is kept."""

    #: Folder of the journal; None: there is none.
    folder: Path | None = None
    #: Folder of the results, as the user names it.
    results: Path | None = None
    #: Records of earlier sittings.
    earlier: tuple[Entry, ...] = ()
    #: Size of what was torn at the end of the file, in bytes.
    torn: int = 0
    _file: JournalFile | None = None
    _began: float = field(factory=time.monotonic)
    #: Seconds that writing took so far.
    seconds: float = 0.0
    #: Number of records that this sitting has written, by kind.
    counts: dict[str, int] = Factory(dict)
    #: Folder of the journal of an unfinished run that stood in its place; None: there was none.
    set_aside: Path | None = None
    # Builds and evaluations end side by side.
    _lock: Lock = field(factory=Lock)

    # Opening --------------------------------------------------------------------------------------

    @classmethod
    def begin(cls, results: Path, head: RunHead) -> Journal:
        """Begin the journal of a new run beside its results. That of an unfinished run is set aside."""
        folder = results / FOLDER
        aside = set_aside(folder)
        folder.mkdir(mode=0o700)
        journal = cls(folder, results, file=JournalFile.create(folder / FILE), set_aside=aside)
        try:
            journal.write(head)
        except BaseException:
            journal.close()
            raise
        return journal

    @classmethod
    def resume(cls, results: Path) -> Journal:
        """Go on with the journal in a folder of results, or with a folder of a journal itself.

        Raises ``UsageError`` where there is none, or where it is none that can be trusted.
        """
        folder = results if (results / FILE).is_file() else results / FOLDER
        read_head(results)
        file, records, torn = JournalFile.open(folder / FILE)
        try:
            earlier = tuple(_entries(records))
        except ValueError as error:
            file.close()
            raise UsageError(f"--resume: {folder / FILE} cannot be used: {error}") from error
        return cls(folder, folder.parent, earlier, torn, file=file)

    # Reading --------------------------------------------------------------------------------------

    @property
    def head(self) -> RunHead:
        """The head of the run that it is the journal of."""
        (head,) = self.of(RunHead)
        return head

    def of(self, kind: type[R]) -> list[R]:
        """Return the records of a kind from earlier sittings, in their order."""
        return [entry.record for entry in self.earlier if isinstance(entry.record, kind)]

    def entries_of(self, kind: type, workload: str) -> list[Entry]:
        """Return the records of a kind of one workload from earlier sittings, in their order."""
        return [
            entry
            for entry in self.earlier
            if isinstance(entry.record, kind) and getattr(entry.record, "workload", None) == workload
        ]

    @property
    def is_begun(self) -> bool:
        """Whether the sitting that is at work has written anything."""
        return bool(self.counts)

    @property
    def is_resumed(self) -> bool:
        """Whether an earlier sitting has begun the run."""
        return bool(self.earlier)

    @property
    def sitting(self) -> int:
        """Number of the sitting that is at work, from 0."""
        return len(self.of(SittingHead))

    @property
    def has_finished_work(self) -> bool:
        """Whether it holds anything that is worth resuming."""
        names = {NAMES[kind] for kind in FINISHED}
        return bool(names & self.counts.keys()) or any(
            isinstance(entry.record, FINISHED) for entry in self.earlier
        )

    # Writing --------------------------------------------------------------------------------------

    def write(self, record: object, recording: Recording | None = None) -> None:
        """Append a record, with samples as arrays. It is on the disk when this returns.

        Call it while nothing is timed. Raises ``JournalError``.
        """
        if self._file is None:
            return
        start = time.monotonic()
        name = NAMES[type(record)]
        fields = {"kind": name, "seconds": round(start - self._began, 3), "fields": record}
        arrays = b"" if recording is None else recording.to_bytes()
        content = json.dumps(fields, default=to_fields).encode() + BREAK + arrays
        with self._lock:
            try:
                self._file.append(content)
            except OSError as error:
                raise self.error(error) from error
            self.counts[name] = self.counts.get(name, 0) + 1
            self.seconds += time.monotonic() - start

    def error(self, error: OSError) -> JournalError:
        """Return an error that says in one line why the journal cannot be written, and how to go on."""
        advice = "free space there, then " if error.errno in FULL else ""
        return JournalError(
            f"cannot write the journal in {self.folder}: {error.strerror or error}; what was finished before "
            f"is kept: {advice}{self.command}"
        )

    @property
    def command(self) -> str:
        """What to do to go on with the run, in words."""
        return f"go on with: qx run --resume {self.results}"

    # Evaluations ----------------------------------------------------------------------------------

    @property
    def evaluations(self) -> Path | None:
        """The folder of the evaluations, which is made if needed; None without a journal."""
        if self.folder is None:
            return None
        (self.folder / EVALUATIONS).mkdir(exist_ok=True)
        return self.folder / EVALUATIONS

    def has_evaluation(self, key: str) -> bool:
        """Return whether an evaluation is finished and its files are as they were written."""
        if self.folder is None or all(record.key != key for record in self.of(EvaluationRecord)):
            return False
        try:
            check_digests(self.folder / EVALUATIONS / key)
        except Damaged:
            return False
        return True

    def finish_evaluation(self, record: EvaluationRecord) -> None:
        """Note that an evaluation is finished, once its files are on the disk. Raises ``JournalError``."""
        if self.folder is None:
            return
        start = time.monotonic()
        place = self.folder / EVALUATIONS / record.key
        try:
            for path in place.rglob("*"):
                if path.is_file() and not path.is_symlink():
                    _sync(path)
            write_digests(place)
        except OSError as error:
            raise self.error(error) from error
        self.seconds += time.monotonic() - start
        self.write(record)

    # Ending ---------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the file, and remove the journal where it holds nothing to go on from."""
        if self._file is not None:
            self._file.close()
            if not self.has_finished_work:
                self.remove(with_aside=False)

    def remove(self, *, with_aside: bool = True) -> None:
        """Remove the journal of a run whose results are written, and one that was set aside."""
        if self.folder is not None and self.results is not None:
            remove_tree(self.folder)
            for name in (FOLDER, ASIDE) if with_aside else ():
                remove_tree(self.results / name)
            self.counts.clear()


def read_head(results: Path) -> RunHead:
    """Return what the run was that a journal is of, without opening it for writing. Raises ``UsageError``."""
    folder = results if (results / FILE).is_file() else results / FOLDER
    check_owner(folder)
    try:
        entries = list(_entries(read_records(folder / FILE)[0][:1]))
    except FileNotFoundError as error:
        raise UsageError(f"--resume: there is no journal of an unfinished run in {results}") from error
    except OSError as error:
        raise UsageError(f"--resume: {folder / FILE}: {error.strerror or error}") from error
    except ValueError as error:
        raise UsageError(f"--resume: {folder / FILE} cannot be used: {error}") from error
    if not entries or not isinstance(entries[0].record, RunHead):
        raise UsageError(f"--resume: the journal in {results} is of a run that had finished nothing")
    return entries[0].record


def set_aside(folder: Path) -> Path | None:
    """Move the journal of an unfinished run aside, and return where to; None where nothing was finished."""
    if not os.path.lexists(folder):
        return None
    try:
        file, records, _ = JournalFile.open(folder / FILE)
        file.close()
        is_worth = any(isinstance(entry.record, FINISHED) for entry in _entries(records))
    except (OSError, ValueError):
        is_worth = False
    if not is_worth:
        remove_tree(folder)
        return None
    remove_tree(folder.with_name(ASIDE))
    folder.rename(folder.with_name(ASIDE))
    return folder.with_name(ASIDE)


def check_owner(folder: Path) -> None:
    """Raise ``UsageError`` unless a journal is the user's own: its words say what is run.

    Folders that do not exist pass.
    """
    for place in (folder, folder / FILE):
        with suppress(FileNotFoundError):
            status = place.stat()
            if status.st_uid not in (os.geteuid(), 0) or status.st_mode & 0o022:
                raise UsageError(
                    f"--resume: {place} belongs to another user or can be written by others, who would "
                    f"decide what is run: chmod go-w it, or give the whole command line into another --out"
                )


def head_of(words: Sequence[str]) -> RunHead:
    """Return the head of a run that begins now, with these words after ``qx``."""
    return RunHead(words=tuple(words), place=os.getcwd(), started=now())


def words_of_resumed(journal: Journal) -> str:
    """Say what earlier sittings have finished, and whether the last of them was cut off while it wrote."""
    counts = {
        "build": len({(record.cell, record.seed) for record in journal.of(BuildRecord)}),
        "evaluation": len({record.key for record in journal.of(EvaluationRecord)}),
        "wave": len(journal.of(WaveRecord)),
    }
    if looks := len(journal.of(ItemLookRecord)):
        counts["look at items"] = looks
    words = ", ".join(
        f"{count} {name if count == 1 else PLURALS.get(name, name + 's')}" for name, count in counts.items()
    )
    torn = f"; {journal.torn:,} bytes that were not written whole are dropped" if journal.torn else ""
    return f"resuming the run of {journal.head.started}, which has finished {words}{torn}"


def now() -> str:
    """Return the date and the time, as records have them."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _entries(records: Sequence[bytes]) -> Iterator[Entry]:
    """Yield the records in the contents of a file. Raises ``ValueError`` for what is none."""
    sitting = -1
    for content in records:
        text, _, arrays = content.partition(BREAK)
        fields = strict_json.loads(text)
        if not isinstance(fields, dict) or fields.keys() != {"kind", "seconds", "fields"}:
            raise ValueError("a record has other fields than kind, seconds and fields")
        kind, seconds = KINDS.get(str(fields["kind"])), fields["seconds"]
        if kind is None or not isinstance(seconds, (int, float)) or seconds < 0:
            raise ValueError(f"a record of the kind {fields['kind']!r} is not known")
        record_fields = fields["fields"]
        if isinstance(record_fields, dict):
            record_fields = {**ADDED.get(str(fields["kind"]), {}), **record_fields}
        record: object = structure(kind, record_fields)
        sitting += kind is SittingHead
        yield Entry(record, Recording.from_bytes(arrays) if arrays else Recording(), max(0, sitting), seconds)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
