"""``full_results.json`` and its raw samples: written whole, read back equal, held against their schema."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import numpy as np
import pytest
from attrs import evolve, fields

import qx.files
from qx import records, results
from qx.errors import UsageError
from qx.recompute import differences, read_samples, recompute
from qx.recording import Recording, Series


@pytest.fixture
def folder(tmp_path: Path, builders: ModuleType) -> Path:
    """A folder with the results of a run."""
    run = builders.small()
    place = tmp_path / "results"
    results.write(place, run.results(), "# the table\n", run.recording())
    return place


def contents(folder: Path) -> dict[str, bytes]:
    """Every file, hidden ones as well."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def changed(folder: Path, **fields: Any) -> Path:
    """The results with other fields."""
    place = folder / results.RESULTS
    place.write_text(json.dumps({**json.loads(place.read_text()), **fields}))
    return place


def test_what_is_written_is_read_back(folder: Path, builders: ModuleType) -> None:
    """Results and raw samples come back equal, from the file or from its folder."""
    run = builders.small()
    assert results.read(folder) == results.read(folder / results.RESULTS) == run.results()
    assert (folder / results.TABLE).read_text() == "# the table\n"
    recording, samples = run.recording(), read_samples(folder / run.results().run["samples"])
    assert samples.series.keys() == recording.series.keys()
    for cell, series in recording.series.items():
        assert samples.series[cell].keys() == series.keys()
        for key, one in series.items():
            for what in ("values", "wave", "round", "position"):
                np.testing.assert_array_equal(getattr(samples.series[cell][key], what), getattr(one, what))
    for cell, outputs in recording.outputs.items():
        np.testing.assert_array_equal(samples.outputs[cell], outputs)


def test_samples_lie_where_measurements_say(folder: Path) -> None:
    """``samples_ref`` of each measurement is a file beside the results and a key in it."""
    for one in results.read(folder).measurements:
        if one.samples_ref is not None:
            name, _, key = one.samples_ref.partition("#")
            with np.load(folder / name) as arrays:
                assert len(arrays[key])


def test_figures_computed_again_are_the_same(folder: Path, builders: ModuleType) -> None:
    """Samples and results as they were written give every figure again, the details of metrics included."""
    failures = {("toy/alike", "heap"): ("failed", "no memory"), ("toy/quick", "hits"): ("crashed", "SIGSEGV")}
    run = builders.small(failures=failures)
    results.write(folder, run.results(), "", run.recording())
    found = results.read(folder)
    assert recompute(found, read_samples(folder / found.run["samples"])) == found


def test_a_figure_that_is_not_the_same_is_named(folder: Path) -> None:
    """Of two results that differ it is told where, but not where they differ by rounding alone."""
    found = results.read(folder)
    first = found.measurements[0]
    assert first.value is not None
    rounded = evolve(first, value=first.value * (1 + 1e-14))
    assert differences(found, evolve(found, measurements=(rounded, *found.measurements[1:]))) == []
    other = evolve(first, value=first.value * 1.001)
    assert differences(found, evolve(found, measurements=(other, *found.measurements[1:]))) == [
        "measurements[0].value"
    ]
    assert differences(found, evolve(found, picks=())) == ["picks"]


def test_samples_that_are_missing_are_an_error(folder: Path) -> None:
    """Samples of which some are gone are not silently taken for a metric that does not apply."""
    found = results.read(folder)
    recording = read_samples(folder / found.run["samples"])
    del recording.series["toy/quick"]["heap", None]
    with pytest.raises(UsageError, match=r"here\.npz are not whole: there are none of heap of toy/quick"):
        recompute(found, recording, Path("here.npz"))


def one_array(arrays: dict[str, Any]) -> Any:
    """A ``.npy`` under the name of the archive."""
    return np.ones(3)


def no_name(arrays: dict[str, Any]) -> Any:
    """An array that is called as none of a recording."""
    return {**arrays, "values": np.ones(3)}


def short_name(arrays: dict[str, Any]) -> Any:
    """Values of no batch size."""
    return {**arrays, "toy/quick|heap|values": np.ones(3)}


def short_waves(arrays: dict[str, Any]) -> Any:
    """Fewer waves than values."""
    return {**arrays, "toy/quick|heap||wave": arrays["toy/quick|heap||wave"][:-1]}


def texts(arrays: dict[str, Any]) -> Any:
    """Words where outputs are due."""
    return {**arrays, "toy/quick|outputs": np.array(["yes", "no"])}


def holes(arrays: dict[str, Any]) -> Any:
    """Values that are none."""
    return {**arrays, "toy/quick|heap||values": arrays["toy/quick|heap||values"] * np.nan}


def two_dimensions(arrays: dict[str, Any]) -> Any:
    """Values in a table."""
    return {**arrays, "toy/quick|heap||values": np.ones((6, 2))}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (one_array, "it is a single array"),
        (no_name, "its array 'values' is not called CELL"),
        (short_name, "its array 'toy/quick|heap|values' is not called CELL"),
        (short_waves, "toy/quick|heap||wave has shape (5,), and (6,) is due"),
        (texts, "toy/quick|outputs is no array of numbers"),
        (holes, "toy/quick|heap||values has values that are not finite"),
        (two_dimensions, "toy/quick|heap||values has shape (6, 2), and (6,) is due"),
    ],
)
def test_samples_of_another_form_are_told(folder: Path, damage: Any, message: str) -> None:
    """An archive that is read and holds no recording is a mistake, told with its path in one line."""
    (place,) = folder.glob("*.npz")
    with np.load(place) as arrays:
        changed = damage({name: arrays[name] for name in arrays.files})
    with place.open("wb") as file:
        np.savez(file, **changed) if isinstance(changed, dict) else np.save(file, changed)
    with pytest.raises(UsageError) as caught:
        read_samples(place)
    assert f"the samples in {place} are damaged: {message}" in str(caught.value)


def test_no_flipped_byte_is_more_than_a_mistake(tmp_path: Path) -> None:
    """Whichever byte of the archive is another one, it is read, or it is told to be damaged."""
    recording = Recording()
    recording.add("toy/one", ("heap", None), Series.plain({"values": [1.0, 2.0, 3.0]}))
    place, whole = tmp_path / "samples.npz", recording.to_bytes()
    for index in range(len(whole)):
        place.write_bytes(whole[:index] + bytes([whole[index] ^ 0xFF]) + whole[index + 1 :])
        with contextlib.suppress(UsageError):
            read_samples(place)


@pytest.mark.parametrize("failing", [1, 2])
def test_earlier_results_survive_a_full_disk(
    folder: Path, builders: ModuleType, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """When samples or results cannot be written, all earlier files stay, and nothing of the new ones."""
    before, calls, fsync = contents(folder), 0, os.fsync

    def full(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise OSError(28, "No space left on device")
        fsync(handle)

    monkeypatch.setattr(qx.files.os, "fsync", full)
    run = builders.small(seed=1, run={"samples": "samples-later.npz"})
    with pytest.raises(OSError, match="No space"):
        results.write(folder, run.results(), "# another table\n", run.recording())
    assert contents(folder) == before


def test_ctrl_c_leaves_the_earlier_results(
    folder: Path, builders: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interruption while the results are written leaves the earlier ones whole."""
    before, replace = contents(folder), os.replace

    def interrupted(source: str, target: Path) -> None:
        if target.name == results.RESULTS:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(qx.files.os, "replace", interrupted)
    run = builders.small(seed=1, run={"samples": "samples-later.npz"})
    with pytest.raises(KeyboardInterrupt):
        results.write(folder, run.results(), "# another table\n", run.recording())
    assert contents(folder) == before


def test_earlier_samples_go_last(folder: Path, builders: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every moment the samples that the results name are there; those of earlier runs go in the end."""
    unlink = Path.unlink

    def look() -> None:
        assert (folder / results.read(folder).run["samples"]).is_file()

    def looking(path: Path, missing_ok: bool = False) -> None:
        look()
        unlink(path, missing_ok)
        look()

    def replacing(source: str, target: Path) -> None:
        look()
        os.rename(source, target)
        look()

    monkeypatch.setattr(Path, "unlink", looking)
    monkeypatch.setattr(qx.files.os, "replace", replacing)
    run = builders.small(seed=1, run={"samples": "samples-later.npz"})
    results.write(folder, run.results(), "# another table\n", run.recording())
    assert sorted(contents(folder)) == ["full_results.json", "pareto.md", "samples-later.npz"]
    assert results.read(folder) == run.results()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there are no results in .*full_results.json; qx run writes them"),
        (b"", "is no results file"),
        (b"\xff\xfe", "is no results file"),
        (b'{"schema_version": 1, ', "is no results file"),
        (b"[1]", "is no results file: it has no schema_version"),
        (b'{"cells": {}}', "is no results file: it has no schema_version"),
        (b'{"schema_version": 2}', "has schema version 2; this qx reads version 1"),
        (b'{"schema_version": "1"}', "has schema version '1'"),
        (b'{"schema_version": 1}', "is no whole results file: "),
    ],
)
def test_a_damaged_file_is_told(folder: Path, content: bytes | None, message: str) -> None:
    """A results file that is missing, cut off, of another kind or version is a mistake told in one line."""
    place = folder / results.RESULTS
    place.unlink() if content is None else place.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        results.read(folder)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"run": {}}, "run lacks baseline, batch_sizes, due_failures"),
        ({"metrics": {}}, "metrics lacks delay, heap, hits"),
        ({"configs": {}}, "configs lacks alike, base, lost"),
        ({"cells": {}}, "cells lacks toy/alike, toy/base, toy/control"),
        ({"measurements": [{"cell": 1}]}, "is no whole results file"),
    ],
)
def test_a_file_that_is_not_whole_is_told(folder: Path, fields: dict[str, Any], message: str) -> None:
    """A results file whose parts do not belong together is a mistake, and what is missing is named."""
    with pytest.raises(UsageError, match=message):
        results.read(changed(folder, **fields))


# The schema ---------------------------------------------------------------------------------------


def test_the_schema_holds_for_what_is_written(folder: Path, builders: ModuleType) -> None:
    """The schema in the package is a valid one, and what is written is valid under it."""
    jsonschema.Draft202012Validator.check_schema(results.schema())
    validator = jsonschema.Draft202012Validator(results.schema())
    validator.validate(json.loads((folder / results.RESULTS).read_text()))
    death = {"cell": "toy/quick", "wave": 2, "outcome": "crashed", "stage": "launch", "cause": "SIGSEGV"}
    measuring = {"deaths": [death], "unsteady": [["toy/quick", 32]], "ended_by": "budget"}
    others = (
        builders.small(measuring=measuring, failures={("toy/quick", "heap"): ("failed", "no memory")}),
        builders.Run(cells={}, control=None),
        builders.Run(cells={"one": builders.Made(waves=(0,))}),
        builders.Run(cells={"one": builders.Made(counterpart="base", notes=("a note",))}),
    )
    for run in others:
        validator.validate(json.loads(run.results().to_json()))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("schema_version",), 2),
        (("cells", "toy/quick", "outcome"), "good"),
        (("cells", "toy/lost", "cause"), None),
        (("cells", "toy/quick", "extra"), 1),
        (("measurements", 0, "ci"), [1.0]),
        (("measurements", 0, "ci"), [1.0, 2.0, 3.0]),
        (("measurements", 0, "value"), None),
        (("measurements", 0, "extra"), 1),
        (("measurements", 5, "comparisons", 0, "against"), None),
        (("front", "toy/quick", "probability"), 1.5),
        (("noise_floor", 0, "alarm"), "no"),
        (("run", "baseline"), None),
    ],
)
def test_the_schema_rejects(folder: Path, place: tuple[Any, ...], value: object) -> None:
    """Unknown outcomes, intervals that are no pairs and fields that nobody knows are invalid."""
    whole = json.loads((folder / results.RESULTS).read_text())
    part = whole
    for step in place[:-1]:
        part = part[step]
    part[place[-1]] = value
    assert not jsonschema.Draft202012Validator(results.schema()).is_valid(whole)


@pytest.mark.parametrize(
    ("definition", "record"),
    [
        ("cell", results.CellResult),
        ("config", results.ConfigResult),
        ("comparison", results.Comparison),
        ("measurement", results.Measurement),
        ("front", results.FrontResult),
        ("pick", results.PickResult),
        ("noise_floor", results.NoiseFloor),
        ("pair", results.PairResult),
        ("metric", records.Metric),
        ("option", records.Option),
    ],
)
def test_the_schema_knows_every_field(definition: str, record: type) -> None:
    """A field that a record gains or loses is one that the schema gains or loses."""
    assert set(results.schema()["$defs"][definition]["properties"]) == {
        field.name for field in fields(record)
    }


def test_the_schema_is_open_where_results_may_grow(folder: Path) -> None:
    """What a later version adds to run, environment and details does not make its files invalid."""
    whole = json.loads((folder / results.RESULTS).read_text())
    for part in (
        whole["run"],
        whole["run"]["measuring"],
        whole["environment"],
        whole["measurements"][0]["details"],
    ):
        part["later"] = 1
    jsonschema.Draft202012Validator(results.schema()).validate(whole)
