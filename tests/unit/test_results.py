"""``full_results.json`` and its raw samples: written whole, read back equal, held against their schema."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import numpy as np
import pytest
from attrs import NOTHING, evolve, fields

import qx.files
from qx.analysis.recompute import differences, read_samples, recompute
from qx.contract import records
from qx.contract.figures import Figure, Point
from qx.errors import UsageError
from qx.processes.answers import PlainSamples
from qx.processes.logs import logs_name
from qx.results import records as result_records
from qx.results import results_file as results
from qx.results import run_record
from qx.results.recording import Recording, Series
from qx.results.run_record import Death, Unsteady


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, builders: ModuleType) -> Path:
    """Write the results of a run into a folder."""
    run = builders.small()
    place = tmp_path_factory.mktemp("original") / "results"
    results.write(place, run.results(), "# the table\n", run.recording())
    return place


@pytest.fixture
def folder(tmp_path: Path, original: Path) -> Path:
    """Return a folder with the results of a run, which may be changed."""
    return shutil.copytree(original, tmp_path / "results")


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file, hidden ones as well."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def changed(folder: Path, **fields: Any) -> Path:
    """Write the results again with other fields, and return their path."""
    place = folder / results.RESULTS
    place.write_text(json.dumps({**json.loads(place.read_text()), **fields}))
    return place


def test_what_is_written_is_read_back(folder: Path, builders: ModuleType) -> None:
    """Results and raw samples come back equal, from the file or from its folder."""
    run = builders.small()
    assert results.read(folder) == results.read(folder / results.RESULTS) == run.results()
    assert (folder / results.TABLE).read_text() == "# the table\n"
    recording, samples = run.recording(), read_samples(folder / run.results().run.samples)
    assert samples.series.keys() == recording.series.keys()
    for cell, series in recording.series.items():
        assert samples.series[cell].keys() == series.keys()
        for key, expected in series.items():
            for name in ("values", "wave", "round", "position"):
                np.testing.assert_array_equal(
                    getattr(samples.series[cell][key], name), getattr(expected, name)
                )
    for cell, outputs in recording.outputs.items():
        for name, array in outputs.items():
            np.testing.assert_array_equal(samples.outputs[cell][name], array)


def test_samples_lie_where_measurements_say(folder: Path) -> None:
    """``samples_ref`` of each measurement is a file beside the results and a key in it."""
    for measurement in results.read(folder).measurements:
        if measurement.samples_ref is not None:
            name, _, key = measurement.samples_ref.partition("#")
            with np.load(folder / name) as arrays:
                assert len(arrays[key])


def test_figures_computed_again_are_the_same(folder: Path, builders: ModuleType) -> None:
    """Samples and results as they were written give every figure again, and the details of metrics."""
    failures = {("toy/alike", "heap"): ("failed", "no memory"), ("toy/quick", "hits"): ("crashed", "SIGSEGV")}
    run = builders.small(failures=failures)
    results.write(folder, run.results(), "", run.recording())
    loaded = results.read(folder)
    assert recompute(loaded, read_samples(folder / loaded.run.samples)) == loaded


def test_a_figure_that_is_not_the_same_is_named(folder: Path) -> None:
    """The path of each field that differs is listed, unless it differs by rounding alone."""
    loaded = results.read(folder)
    first = loaded.measurements[0]
    assert first.value is not None
    rounded = evolve(first, value=first.value * (1 + 1e-14))
    assert differences(loaded, evolve(loaded, measurements=(rounded, *loaded.measurements[1:]))) == []
    other = evolve(first, value=first.value * 1.001)
    assert differences(loaded, evolve(loaded, measurements=(other, *loaded.measurements[1:]))) == [
        "measurements[0].value"
    ]
    assert differences(loaded, evolve(loaded, picks=())) == ["picks"]


def test_samples_that_are_missing_are_an_error(folder: Path) -> None:
    """Missing samples are an error, and are not taken for a metric that does not apply."""
    loaded = results.read(folder)
    recording = read_samples(folder / loaded.run.samples)
    del recording.series["toy/quick"][Figure("heap")]
    with pytest.raises(UsageError, match=r"here\.npz are incomplete: they lack heap of toy/quick"):
        recompute(loaded, recording, Path("here.npz"))


def one_array(arrays: dict[str, Any]) -> Any:
    """Return a plain array in place of an archive."""
    return np.ones(3)


def no_name(arrays: dict[str, Any]) -> Any:
    """Add an array whose name is none of a recording."""
    return {**arrays, "values": np.ones(3)}


def short_name(arrays: dict[str, Any]) -> Any:
    """Add values whose name has no batch size."""
    return {**arrays, "toy/quick|heap|values": np.ones(3)}


def short_waves(arrays: dict[str, Any]) -> Any:
    """Leave fewer waves than values."""
    return {**arrays, "toy/quick|heap||wave": arrays["toy/quick|heap||wave"][:-1]}


def texts(arrays: dict[str, Any]) -> Any:
    """Replace outputs by words."""
    return {**arrays, "toy/quick|outputs": np.array(["yes", "no"])}


def holes(arrays: dict[str, Any]) -> Any:
    """Replace values by NaN."""
    return {**arrays, "toy/quick|heap||values": arrays["toy/quick|heap||values"] * np.nan}


def two_dimensions(arrays: dict[str, Any]) -> Any:
    """Replace values by a table."""
    return {**arrays, "toy/quick|heap||values": np.ones((6, 2))}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (one_array, "File is not a zip file"),
        (no_name, "its array 'values' is not called CELL"),
        (short_name, "its array 'toy/quick|heap|values' is not called CELL"),
        (short_waves, "toy/quick|heap||wave has shape (5,), expected (6,)"),
        (texts, "toy/quick|outputs must be an array of numbers"),
        (holes, "toy/quick|heap||values has values that are not finite"),
        (two_dimensions, "toy/quick|heap||values has shape (6, 2), expected (6,)"),
    ],
)
def test_samples_of_another_form_are_told(folder: Path, damage: Any, message: str) -> None:
    """An archive that holds no recording is a mistake of one line, with its path."""
    (place,) = folder.glob("*.npz")
    with np.load(place) as arrays:
        changed = damage({name: arrays[name] for name in arrays.files})
    with place.open("wb") as file:
        np.savez(file, **changed) if isinstance(changed, dict) else np.save(file, changed)
    with pytest.raises(UsageError) as caught:
        read_samples(place)
    assert f"the samples in {place} are damaged: {message}" in str(caught.value)


def test_no_flipped_byte_is_more_than_a_mistake(tmp_path: Path) -> None:
    """Whichever byte of the archive is changed, it is read, or reported as damaged."""
    recording = Recording()
    recording.add("toy/one", Figure("heap"), Series.plain(PlainSamples(values=[1.0, 2.0, 3.0])))
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
        assert (folder / results.read(folder).run.samples).is_file()

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


def test_logs_go_with_the_results_that_name_them(tmp_path: Path, builders: ModuleType) -> None:
    """Logs of results that are replaced are removed; so are those of a run without any, once it is over."""
    first, second, dead, young = (f"20260{number}01T000000-abcdef" for number in range(1, 5))
    for identity in (first, second, dead, young):
        (tmp_path / logs_name(identity)).mkdir()
        (tmp_path / logs_name(identity) / "toy-deep.log").write_text("deep")
    (tmp_path / "logs-mine").mkdir()
    os.utime(tmp_path / logs_name(dead), (0, 0))
    for identity in (first, second):
        run = builders.small(run={"samples": results.samples_name(identity)})
        results.write(tmp_path, run.results(), "# a table\n", run.recording())
        folders = {path.name for path in tmp_path.iterdir() if path.is_dir()}
        assert logs_name(identity) in folders and logs_name(dead) not in folders
    assert folders == {logs_name(second), logs_name(young), "logs-mine"}


def test_a_log_of_a_cell_is_read_back(tmp_path: Path, builders: ModuleType) -> None:
    """The name of a cell's log is in the results, which need none: earlier ones have no such field."""
    run = builders.small()
    written = run.results()
    cell = evolve(written.cells["toy/quick"], log="logs-20260101T000000-abcdef/toy-quick.log")
    written = evolve(written, cells={**written.cells, "toy/quick": cell})
    results.write(tmp_path, written, "", run.recording())
    assert results.read(tmp_path) == written
    assert written.logs == "logs-20260101T000000-abcdef"
    assert run.results().logs is None
    whole = json.loads((tmp_path / results.RESULTS).read_text())
    for fields_of_cell in whole["cells"].values():
        del fields_of_cell["log"]
    assert results.read(changed(tmp_path, cells=whole["cells"])) == run.results()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there are no results in .*full_results.json; qx run writes them"),
        (b"", "is not a results file"),
        (b"\xff\xfe", "is not a results file"),
        (b'{"schema_version": 1, ', "is not a results file"),
        (b"[1]", "is not a results file: it has no schema_version"),
        (b'{"cells": {}}', "is not a results file: it has no schema_version"),
        (b'{"schema_version": 3}', "has schema version 3; this qx reads versions 1 and 2"),
        (b'{"schema_version": "1"}', "has schema version '1'"),
        (b'{"schema_version": 1}', "is not a valid results file: "),
        (b'{"schema_version": 2}', "is not a valid results file: "),
    ],
)
def test_a_damaged_file_is_told(folder: Path, content: bytes | None, message: str) -> None:
    """A results file that is missing, cut off, of another kind or version is a mistake of one line."""
    place = folder / results.RESULTS
    place.unlink() if content is None else place.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        results.read(folder)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"run": {}}, "run lacks id, command, started"),
        ({"metrics": {}}, "metrics lacks delay, heap, hits"),
        ({"configs": {}}, "configs lacks alike, base, lost"),
        ({"cells": {}}, "cells lacks toy/alike, toy/base, toy/control"),
        ({"measurements": [{"cell": 1}]}, "is not a valid results file"),
    ],
)
def test_a_file_that_is_not_whole_is_told(folder: Path, fields: dict[str, Any], message: str) -> None:
    """A results file whose parts do not belong together is a mistake, and what is missing is named."""
    with pytest.raises(UsageError, match=message):
        results.read(changed(folder, **fields))


CELL = ("cells", "toy/quick")


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (
            ("environment", "load_before"),
            "much",
            'environment.load_before must be a number or null, not "much"',
        ),
        (("environment", "machine"), 64, "environment.machine must be a text, not 64"),
        (
            ("environment", "runtime", "engines"),
            "x86",
            'environment.runtime.engines must be a list, not "x86"',
        ),
        (("run", "samples"), 5, "run.samples must be a text, not 5"),
        (("run", "samples"), ["a.npz"], "run.samples must be a text, not a list"),
        (("run", "samples"), None, "run.samples must be a text, not null"),
        (("run", "samples"), "x" * 5000 + ".npz", "run.samples must have at most 100 letters, not 5,004"),
        (("run", "samples"), "../samples.npz", "run.samples must match "),
        (("run", "samples"), "a\0.npz", "run.samples must match "),
        (("run", "started"), "yesterday", "run.started must be a date-time with its time zone"),
        (("run", "started"), "2026-01-02T03:04:05", "run.started must be a date-time with its time zone"),
        (("run", "seed"), -1, "run.seed must be at least 0, not -1"),
        (
            ("run", "points"),
            [{"batch_size": 1.0}],
            "run.points[0].batch_size must be a whole number, not 1.0",
        ),
        (("run", "measuring", "budget"), "long", 'run.measuring.budget must be a number, not "long"'),
        (("run", "measuring", "deaths"), [{}], "run.measuring.deaths[0] lacks cell, wave, outcome"),
        (
            ("run", "workloads", "toy", "measuring"),
            5,
            "run.workloads.toy.measuring must be an object or null, not 5",
        ),
        (
            ("run", "workloads", "toy\n"),
            {},
            'run.workloads must match ^[a-z][a-z0-9_]{0,99}(@[0-9]+threads?)?$, not "toy\\n"',
        ),
        (("metrics", "delay", "name"), "heap", "metrics.delay must be named delay, not heap"),
        (("metrics", "delay", "margin"), 1e301, "metrics.delay.margin must be at most 1e+300, not 1e+301"),
        ((*CELL, "threads"), True, "cells['toy/quick'].threads must be a whole number, not true"),
        ((*CELL, "workload"), "other", "run.workloads lacks other"),
        ((*CELL, "strange"), 1, "cells['toy/quick'] has an unknown field, \"strange\""),
        (
            ("measurements", 0, "point"),
            {"batch_size": []},
            "measurements[0].point.batch_size must be a whole number, not a list",
        ),
        (
            ("measurements", 0, "workload"),
            "other",
            "measurements[0].workload is other, but its cell belongs to toy",
        ),
        (("measurements", 0, "ci"), [2, 1], "measurements[0].ci must have its lower end first, not [2"),
        (("measurements", 0, "value"), 1e301, "measurements[0].value must be at most 1e+300, not 1e+301"),
        (
            ("measurements", 1, "vs_baseline", "value"),
            0,
            "measurements[1] must be above 0, since it is a ratio",
        ),
        (("measurements", 2, "details", "in_rounds"), 5, "in_rounds must be an object or null, not 5"),
        (("axes", 0, "metric"), "nothing", "metrics lacks nothing"),
        (("front", "toy/quick", "tied_with"), ["toy/x"], "cells lacks toy/x"),
        (("picks", 0, "cell"), "toy/x", "cells lacks toy/x"),
        (("noise_floor", 0, "value"), -1, "noise_floor[0] must be above 0, since it is a speedup"),
    ],
)
def test_a_field_that_is_not_right_is_named(
    folder: Path, place: tuple[Any, ...], value: object, message: str
) -> None:
    """The message names the file, the field, what it must be and what it is, in one line."""
    whole = json.loads((folder / results.RESULTS).read_text())
    part = whole
    for step in place[:-1]:
        part = part[step]
    part[place[-1]] = value
    (folder / results.RESULTS).write_text(json.dumps(whole))
    with pytest.raises(UsageError) as caught:
        results.read(folder)
    text = str(caught.value)
    assert text.startswith(f"{folder / results.RESULTS} is not a valid results file: ")
    assert message in text and text.isprintable()


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("[" * 100_000 + "]" * 100_000, "it is nested deeper than 64 levels"),
        ("[" * 80 + "]" * 80, "run.deep[0] is nested deeper than 64 levels"),
        ('{"a":' * 70 + "1" + "}" * 70, "run.deep.a is nested deeper than 64 levels"),
        ("NaN", "NaN is not a number in JSON"),
        ("-Infinity", "-Infinity is not a number in JSON"),
        ("1e999", "run.deep must be a finite number"),
        ("9" * 400, "run.deep must be a whole number of at most 64 bits"),
        ("9" * 5000, "digits"),
        ('{"a": 1, "a": 2}', "the field 'a' appears twice"),
    ],
)
def test_json_is_read_strictly(folder: Path, written: str, message: str) -> None:
    """JSON that ``json`` accepts but nothing can compute with, or that is ambiguous, is a mistake."""
    place = changed(folder, run={**json.loads((folder / results.RESULTS).read_text())["run"], "deep": "here"})
    place.write_text(place.read_text().replace('"here"', written))
    with pytest.raises(UsageError) as caught:
        results.read(folder)
    assert f"{place} is not a results file: " in str(caught.value) and message in str(caught.value)


def latencies(value: float) -> Any:
    """Return a change that sets every other latency to a value."""

    def change(arrays: dict[str, Any]) -> dict[str, Any]:
        arrays["toy/quick|delay|1|values"][::2] = value
        return arrays

    return change


def places(field: str, value: float) -> Any:
    """Return a change that sets the wave, the round or the position of the first call."""

    def change(arrays: dict[str, Any]) -> dict[str, Any]:
        key = f"toy/quick|delay|1|{field}"
        arrays[key] = np.concatenate([[value], arrays[key][1:]])
        if float(value).is_integer():
            arrays[key] = arrays[key].astype(np.int64)
        return arrays

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            latencies(0.0),
            "delay of toy/quick has the value 0, but is compared by ratio, which needs values above 0",
        ),
        (latencies(-1.0), "delay of toy/quick has the value -1, but is compared by ratio"),
        (latencies(1e308), "toy/quick|delay|1|values has values too large to compute with (1e+75 or more)"),
        (
            latencies(5e-324),
            "delay of toy/quick has values too small to compute with, nearer to 0 than 1e-75",
        ),
        (places("wave", -5), "toy/quick|delay|1|wave must be from -1 to 9,999"),
        (places("wave", 2**31 - 1), "toy/quick|delay|1|wave must be from -1 to 9,999"),
        (places("wave", 1.5), "toy/quick|delay|1|wave must hold whole numbers, not float64"),
        (places("wave", np.nan), "toy/quick|delay|1|wave must hold whole numbers, not float64"),
        (places("wave", -1), "delay of toy/quick has values without a wave or a round"),
        (places("round", -5), "toy/quick|delay|1|round must be from -1 to 2,147,483,647"),
        (places("position", 2**40), "toy/quick|delay|1|position must be from -1 to 2,147,483,647"),
    ],
)
def test_samples_that_nobody_took_are_told(folder: Path, damage: Any, message: str) -> None:
    """Times of 0, impossible waves and values beyond all bounds are refused, with their place."""
    (place,) = folder.glob("*.npz")
    with np.load(place) as arrays:
        changed = damage({name: arrays[name] for name in arrays.files})
    np.savez(place, **changed)
    whole = results.read(folder)
    with pytest.raises(UsageError) as caught:
        recompute(whole, read_samples(place), place)
    assert f"the samples in {place} are damaged: {message}" in str(caught.value)


class Unpickled:
    """An object that leaves a file behind where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path("unpickled").touch, ()


def header(shape: str, kind: str = "'<f8'") -> bytes:
    """Return an array without data whose header has this shape and type."""
    text = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def pickled() -> bytes:
    """Return an array of objects, one of which acts when it is unpickled."""
    buffer = io.BytesIO()
    np.save(buffer, np.array([Unpickled()], dtype=object))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickled(), "its array 'toy/quick|heap||values' holds objects, which are never unpacked"),
        (header("(6000000000,)"), "is not as long as its header says"),
        (header("(-1,)"), "is not as long as its header says"),
        (header("(2**31,)"), "header"),
        (header("(1,)", "'<U100000000'"), "is not as long as its header says"),
        (header("((" * 400), ""),
        (b"", "EOF"),
        (b"\x93NUMPY\x09\x09", ""),
    ],
)
def test_headers_are_looked_at_before_anything_is_unpacked(
    folder: Path, content: bytes, message: str, recwarn: pytest.WarningsRecorder
) -> None:
    """An array that claims more than it has, or that would run something, is refused by its header."""
    (place,) = folder.glob("*.npz")
    with zipfile.ZipFile(place) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(place, "w") as archive:
        for name, member in {**members, "toy/quick|heap||values.npy": content}.items():
            archive.writestr(name, member)
    with pytest.raises(UsageError, match=r"the samples in .* are damaged: ") as caught:
        read_samples(place)
    assert message in str(caught.value)
    assert not Path("unpickled").exists() and not recwarn.list


def test_an_archive_is_not_unpacked_to_more_than_fits(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The unpacked size is read from the archive's directory before anything is unpacked."""
    (place,) = folder.glob("*.npz")
    np.savez_compressed(place, **{"toy/quick|outputs": np.zeros(2_000_000)})
    assert place.stat().st_size < 50_000
    monkeypatch.setattr("qx.storage.archive.MOST_BYTES", 10_000_000)
    with pytest.raises(
        UsageError, match="it unpacks to 16,000,128 bytes, more than the 10,000,000 that can be read here"
    ):
        read_samples(place)


def test_a_directory_that_says_too_much_is_not_believed(folder: Path) -> None:
    """Deflate packs at most 1,032 bytes into one, so a size beyond that is refused."""
    (place,) = folder.glob("*.npz")
    content = bytearray(place.read_bytes())
    size = content.index(b"PK\x01\x02") + 24
    content[size : size + 4] = (2**32 - 2).to_bytes(4, "little")
    place.write_bytes(content)
    with pytest.raises(UsageError, match="claims an impossible unpacked size"):
        read_samples(place)


# The schema ---------------------------------------------------------------------------------------


def test_the_schema_holds_for_what_is_written(folder: Path, builders: ModuleType) -> None:
    """The schema in the package is a valid one, and what is written is valid under it."""
    jsonschema.Draft202012Validator.check_schema(results.schema())
    validator = jsonschema.Draft202012Validator(results.schema())
    validator.validate(json.loads((folder / results.RESULTS).read_text()))
    death = Death(cell="toy/quick", wave=2, outcome="crashed", stage="launch", cause="SIGSEGV")
    unsteady = Unsteady(cell="toy/quick", point=Point(32, length=128, call="decode"))
    measuring = {"deaths": (death,), "unsteady": (unsteady,), "ended_by": "budget"}
    others = (
        builders.small(measuring=measuring, failures={("toy/quick", "heap"): ("failed", "no memory")}),
        builders.Run(cells={}, control=None),
        builders.Run(cells={"one": builders.Cell(waves=(0,))}),
        builders.Run(cells={"one": builders.Cell(counterpart="base", notes=("a note",))}),
    )
    for number, run in enumerate(others):
        validator.validate(json.loads(results.to_json(run.results())))
        results.write(folder / str(number), run.results(), "", run.recording())
        assert results.read(folder / str(number)) == run.results()


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("schema_version",), 3),
        (("cells", "toy/quick", "outcome"), "good"),
        (("cells", "toy/lost", "cause"), None),
        (("cells", "toy/quick", "extra"), 1),
        (("cells", "toy/quick", "log"), "/etc/passwd.log"),
        (("cells", "toy/quick", "log"), "logs-a/../../secret.log"),
        (("cells", "toy/quick", "log"), "logs-a/<img>.log"),
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
    """Unknown outcomes, intervals that are no pairs and unknown fields are invalid."""
    whole = json.loads((folder / results.RESULTS).read_text())
    part = whole
    for step in place[:-1]:
        part = part[step]
    part[place[-1]] = value
    assert not jsonschema.Draft202012Validator(results.schema()).is_valid(whole)


@pytest.mark.parametrize(
    ("definition", "record"),
    [
        ("run", run_record.RunRecord),
        ("workload", run_record.WorkloadRecord),
        ("measuring", run_record.Measuring),
        ("death", run_record.Death),
        ("unsteady", run_record.Unsteady),
        ("environment", run_record.Environment),
        ("cell", result_records.CellResult),
        ("config", result_records.ConfigResult),
        ("comparison", result_records.Comparison),
        ("measurement", result_records.Measurement),
        ("front", result_records.FrontResult),
        ("axis", result_records.AxisResult),
        ("pick", result_records.PickResult),
        ("undecided", result_records.UndecidedResult),
        ("outputs", result_records.OutputsResult),
        ("summary", result_records.SummaryResult),
        ("summary_figure", result_records.SummaryFigure),
        ("noise_floor", result_records.NoiseFloor),
        ("pair", result_records.PairResult),
        ("metric", records.Metric),
        ("option", records.Option),
    ],
)
def test_the_schema_knows_every_field(definition: str, record: type) -> None:
    """A field that a record gains or loses is one that the schema gains or loses."""
    schema = results.schema()["$defs"][definition]
    assert set(schema["properties"]) == {field.name for field in fields(record)}
    # What has no default in the record is always written, and so required of a file.
    always = {field.name for field in fields(record) if field.default is NOTHING}
    assert set(schema.get("required", ())) >= always - {"trained"}


def test_the_schema_knows_every_part_of_the_results() -> None:
    """The results themselves are held against their schema in the same way."""
    assert set(results.schema()["properties"]) == {field.name for field in fields(result_records.Results)}


def test_the_schema_is_open_where_results_may_grow(folder: Path) -> None:
    """Fields that a later version adds to run, environment and details keep its files valid."""
    whole = json.loads((folder / results.RESULTS).read_text())
    for part in (
        whole["run"],
        whole["run"]["measuring"],
        whole["environment"],
        whole["measurements"][0]["details"],
    ):
        part["later"] = 1
    jsonschema.Draft202012Validator(results.schema()).validate(whole)
