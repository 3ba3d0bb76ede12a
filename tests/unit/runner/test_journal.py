"""The journal of a run: what comes out of it is what was written, and nothing else is believed."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from qx.contract.figures import Point
from qx.errors import UsageError
from qx.processes.answers import to_fields
from qx.results.run_record import Death, Unsteady
from qx.runner.journal import (
    ASIDE,
    FILE,
    FOLDER,
    BuildRecord,
    EvaluationRecord,
    Journal,
    SittingHead,
    WaveRecord,
    head_of,
    words_of_resumed,
)
from qx.runner.measure.log import WaveLog
from qx.runner.measure.plan import Measured
from qx.storage.journal_file import JournalFile

BUILD = BuildRecord(cell="toy/quick", seed=None, key="0123", content="4567")
SITTING = SittingHead(started="2026-01-02T03:04:05+00:00", load_before=0.5)
HEAD = head_of(("run", "net.py", "--data", "\udcff"))


def wave(number: int, **changes: Any) -> WaveRecord:
    """Return the record of a wave of one cell, in which a launch of another died."""
    fields: dict[str, Any] = {
        "workload": "toy",
        "wave": number,
        "group": 0,
        "is_whole": True,
        "seconds": 2.5,
        "budget": 60.0,
        "needed": 0.0,
        "pinned_to": 1,
        "pinned_cpus": (1,),
        "launches": {"toy/quick": 1, "toy/slow": 2},
        "deaths": (Death(cell="toy/slow", wave=number, outcome="crashed", stage=None, cause="died"),),
        "unsteady": (Unsteady(cell="toy/quick", point=Point(1, 8)),),
        "rounds": {"delay": {"1x8": 4}},
        "calls_per_block": {"toy/quick": {"1x8": 3}},
        "warm_calls": {"toy/quick": {"1x8": 1}},
        "fastest": {"toy/quick": {"1x8": 0.001}},
        "measures_fresh": True,
        "forked": ("toy_loader",),
        "not_forked": {"other_loader": "crashed in load: died"},
        "details": {"toy/quick": {"delay|1": [{"n": 1}]}},
        "fewer_rounds": ("toy/quick",),
    }
    return WaveRecord(**{**fields, **changes})


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Return a folder of results with the journal of a run that ended early."""
    journal = Journal.begin(tmp_path, HEAD)
    journal.write(SITTING)
    journal.write(BUILD)
    journal.close()
    return tmp_path


def append(results: Path, content: bytes) -> None:
    """Append a record with any content, whose checksum fits."""
    file, *_ = JournalFile.open(results / FOLDER / FILE)
    file.append(content)
    file.close()


def test_records_come_back_as_they_were(results: Path, builders: ModuleType) -> None:
    """Each record, its samples and its sitting are those that were written."""
    recording = builders.small().recording()
    recording.outputs.clear()
    journal = Journal.resume(results)
    assert journal.head == HEAD
    journal.write(SITTING)
    journal.write(wave(0), recording)
    journal.close()
    journal = Journal.resume(results)
    assert [entry.record for entry in journal.earlier] == [HEAD, SITTING, BUILD, SITTING, wave(0)]
    assert [entry.sitting for entry in journal.earlier] == [0, 0, 0, 1, 1]
    assert journal.sitting == 2
    samples = journal.earlier[-1].recording
    for cell, series_by_figure in recording.series.items():
        for figure, series in series_by_figure.items():
            np.testing.assert_array_equal(samples.series[cell][figure].values, series.values)
            np.testing.assert_array_equal(samples.series[cell][figure].wave, series.wave)
    journal.close()


def test_waves_are_restored_into_a_measurement(results: Path, builders: ModuleType) -> None:
    """Counts, deaths, samples and sittings go on where they were; waves are numbered anew without gaps."""
    recording = builders.small().recording().select({"toy/quick"})
    recording.outputs.clear()
    journal = Journal.resume(results)
    for number in (0, 5):
        journal.write(SITTING)
        journal.write(wave(number), recording)
    journal.close()
    journal = Journal.resume(results)
    log = WaveLog("toy", journal, earlier=journal.entries_of(WaveRecord, "toy"))
    measured = Measured()
    log.restore(measured)
    assert (measured.waves, measured.seconds, measured.sittings) == (2, 5.0, [1, 2])
    assert measured.launches == Counter({"toy/quick": 2, "toy/slow": 4})
    assert [death.wave for death in measured.deaths] == [0, 1]
    assert measured.unsteady == {("toy/quick", Point(1, 8))}
    assert measured.calls_per_block == {"toy/quick": {Point(1, 8): 3}}
    assert (measured.fresh_waves, measured.forkable) == (2, {"toy_loader"})
    assert measured.fewer_rounds == Counter({"toy/quick": 2})
    assert measured.unforkable == {"other_loader": "crashed in load: died"}
    assert not measured.failures
    for parts in measured.parts.values():
        assert [sorted(set(part.wave)) for part in parts] == [[0], [1]]
    assert log.sitting == 3
    journal.close()


def test_a_wave_of_an_earlier_version_had_equal_rounds(results: Path) -> None:
    """A record that does not say which cells had fewer rounds is read: none had."""
    fields = to_fields(wave(0))
    del fields["fewer_rounds"]
    append(
        results, json.dumps({"kind": "wave", "seconds": 1.0, "fields": fields}, default=to_fields).encode()
    )
    journal = Journal.resume(results)
    assert journal.of(WaveRecord) == [wave(0, fewer_rounds=())]
    journal.close()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[1]",
        b"\xff",
        b"{" * 100_000,
        b'{"kind": "build", "seconds": 1, "fields": {"cell": "a"}}',
        b'{"kind": "build", "seconds": NaN, "fields": {}}',
        b'{"kind": "run", "kind": "run", "seconds": 1, "fields": {}}',
        b'{"kind": "system", "seconds": 1, "fields": {"words": ["rm"]}}',
        json.dumps({"kind": "build", "seconds": -1.0, "fields": {}}).encode(),
        b'{"kind": "sitting", "seconds": 1, "fields": {"started": "a", "load_before": null}}\nno archive',
    ],
    ids=range(11),
)
def test_what_is_no_record_is_refused(results: Path, content: bytes) -> None:
    """Whatever stands in a record whose checksum fits: one line, and the file stays as it was."""
    append(results, content)
    before = (results / FOLDER / FILE).read_bytes()
    with pytest.raises(UsageError, match="cannot be used") as error:
        Journal.resume(results)
    assert "\n" not in str(error.value)
    assert (results / FOLDER / FILE).read_bytes() == before


def test_a_torn_record_is_dropped_and_said(results: Path) -> None:
    """The next sitting says how many bytes were dropped, and what is left to go on from."""
    place = results / FOLDER / FILE
    place.write_bytes(place.read_bytes() + b"torn")
    journal = Journal.resume(results)
    words = words_of_resumed(journal)
    assert "which has finished 1 build, 0 evaluations, 0 waves; 4 bytes that were not" in words
    journal.close()


def test_a_journal_without_finished_work_leaves_no_trace(tmp_path: Path) -> None:
    """Where nothing was finished there is nothing to go on from, and nothing lies about."""
    journal = Journal.begin(tmp_path, HEAD)
    journal.write(SITTING)
    assert journal.evaluations is not None
    journal.close()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match="there is no journal of an unfinished run"):
        Journal.resume(tmp_path)


def test_one_unfinished_journal_is_set_aside(results: Path) -> None:
    """A new run keeps it beside; of one without finished work nothing is kept."""
    journal = Journal.begin(results, HEAD)
    assert journal.set_aside == results / ASIDE
    journal.close()
    assert [path.name for path in results.iterdir()] == [ASIDE]
    journal = Journal.resume(results / ASIDE)
    assert journal.results == results
    assert [entry.record for entry in journal.earlier][-1] == BUILD
    journal.remove()
    journal.close()
    assert list(results.iterdir()) == []


def test_a_finished_evaluation_counts_while_its_files_are_whole(results: Path) -> None:
    """A changed byte in its folder, and it is carried out again."""
    journal = Journal.resume(results)
    assert journal.evaluations is not None
    place = journal.evaluations / "key"
    place.mkdir()
    (place / "outputs.npy").write_bytes(b"values")
    journal.finish_evaluation(EvaluationRecord(cell="toy/quick", seed=None, key="key"))
    journal.close()
    journal = Journal.resume(results)
    assert journal.has_evaluation("key")
    assert not journal.has_evaluation("other")
    (place / "outputs.npy").write_bytes(b"valuez")
    assert not journal.has_evaluation("key")
    journal.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_strangers_journal_is_refused(results: Path) -> None:
    """The words of a journal say what is run, so it must belong to the user."""
    os.chown(results / FOLDER, 12345, -1)
    with pytest.raises(UsageError, match="belongs to another user"):
        Journal.resume(results)
