"""Outputs that are too large to be kept with the samples: what stays, and what it is good for."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from attrs import evolve

from qx.analysis.recompute import differences, read_samples, recompute
from qx.comparison.compare import compare
from qx.comparison.sources import read
from qx.errors import UsageError
from qx.report import markdown
from qx.results import output_traces, results_file
from qx.results.output_traces import equal_outputs, traces_of
from qx.results.recording import Recording
from qx.results.records import Results

SCORES = np.array([[0.5, 0.25], [-0.0, np.nan], [1, 2]], dtype=np.float32)


def with_large_outputs(results: Results) -> Results:
    """Return the results of a run whose outputs are not kept."""
    ((name, workload),) = results.run.workloads.items()
    return evolve(
        results,
        run=evolve(results.run, workloads={name: evolve(workload, outputs_not_kept=4_800_000_000)}),
    )


@pytest.fixture
def folder(tmp_path: Path, builders: ModuleType) -> Path:
    """Write the results of a run whose outputs are not kept."""
    run = builders.small()
    written = with_large_outputs(run.results())
    place = tmp_path / "artifacts" / "results"
    results_file.write(place, written, markdown.render(written), run.recording())
    return place


def test_the_samples_have_traces_in_the_place_of_outputs(folder: Path, builders: ModuleType) -> None:
    """They hold no output, but its digest, its shape, and the answers."""
    stored, recording = results_file.read(folder), builders.small().recording()
    samples = read_samples(folder / stored.run.samples)
    assert samples.outputs == {}
    assert samples.traces == {cell: traces_of(outputs) for cell, outputs in recording.outputs.items()}
    for cell, outputs in recording.outputs.items():
        answers, classes = samples.answers(cell) or (None, 0)
        assert answers is not None
        assert (answers.tolist(), classes) == (outputs["output"].argmax(axis=1).tolist(), 2)
    assert samples.series.keys() == recording.series.keys()


def test_a_report_shows_what_cannot_be_computed_anew(
    folder: Path, builders: ModuleType, qx: Callable[..., Any]
) -> None:
    """``qx report`` says which figures are those of the file, shows them, and computes all others."""
    stored = results_file.read(folder)
    assert stored.outputs
    computed = recompute(stored, read_samples(folder / stored.run.samples))
    assert differences(stored, computed) == []
    assert (computed.outputs, computed.front) == (stored.outputs, builders.small().results().front)
    page = (folder / "pareto.md").read_bytes()
    done = qx("report")
    words = "toy: the outputs (4.80 GB) were too large to be kept with the samples, so their errors against"
    assert (done.code, done.err.count("\n")) == (0, 1)
    assert words in done.err
    assert (folder / "pareto.md").read_bytes() == page
    assert b"The outputs (4.80 GB) are too large to be kept" in page


@pytest.mark.parametrize("seed", [0, 1])
def test_runs_are_compared_by_digests_and_answers(
    folder: Path, builders: ModuleType, tmp_path: Path, seed: int
) -> None:
    """Equal outputs are found equal, and of others the answers that differ are counted."""
    cells = {**builders.small().cells, "quick": builders.Cell(hits=790)} if seed else builders.small().cells
    run = builders.small(cells=cells, seed=seed)
    results_file.write(tmp_path / "other", run.results(), "", run.recording())
    compared = compare([read(f"a={folder}"), read(f"b={tmp_path / 'other'}")])
    rows = {change.config: change for change in compared.changes if change.metric == "outputs"}
    assert (rows["alike"].verdict, rows["alike"].reason) == ("same", "equal bit for bit")
    if seed:
        assert rows["quick"].verdict == "changed"
        assert "answers differ; how far they are apart is not known" in str(rows["quick"].reason)


def test_answers_of_outputs_that_cannot_be_written_to_take_no_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The highest scores of memory-mapped outputs are found part by part: numpy would copy all of them."""
    scores = np.zeros((4096, 256), dtype=np.float32)
    scores[np.arange(4096), np.arange(4096) % 256] = 1
    scores.flags.writeable = False
    monkeypatch.setattr(output_traces, "AT_ONCE", 1 << 16)
    recording = Recording(outputs={"toy/fp32": {"output": scores}})
    tracemalloc.start()
    answers = recording.answers("toy/fp32")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert answers is not None and answers[1] == 256
    assert np.array_equal(answers[0], np.arange(4096) % 256)
    assert peak < scores.nbytes / 4


def test_equal_numbers_have_one_digest() -> None:
    """A digest takes every NaN for the same and -0 for 0, as the comparison of whole outputs does."""
    others = SCORES.copy()
    others[1] = 0.0, -np.float32(np.nan)
    assert equal_outputs({"output": SCORES}, {"output": others})
    assert traces_of({"output": SCORES}) == traces_of({"output": others})
    others[0, 0] = np.nextafter(others[0, 0], 1)
    assert not equal_outputs({"output": SCORES}, {"output": others})
    assert traces_of({"output": SCORES}) != traces_of({"output": others})


@pytest.mark.parametrize("name", ["outputs", "outputs_sha256", "a b/c", "ü"])
def test_an_output_may_have_any_name(builders: ModuleType, tmp_path: Path, name: str) -> None:
    """Names of outputs are read back, kept whole or not."""
    recording = builders.small().recording()
    cell = next(iter(recording.outputs))
    recording.outputs[cell] = {name: SCORES}
    (tmp_path / "whole.npz").write_bytes(recording.to_bytes())
    assert list(read_samples(tmp_path / "whole.npz").outputs[cell]) == [name]
    (tmp_path / "traces.npz").write_bytes(recording.without_outputs([cell]).to_bytes())
    assert list(read_samples(tmp_path / "traces.npz").traces[cell]) == [name]


def test_answers_are_those_of_postprocess_where_there_is_one(builders: ModuleType, tmp_path: Path) -> None:
    """Classes that ``postprocess`` puts highest are kept, and the first output is not taken for scores."""
    recording = builders.small().recording()
    cell = next(iter(recording.outputs))
    recording.outputs[cell] = {"boxes": SCORES, "scores": -SCORES}
    recording.answer_traces[cell] = traces_of({"scores": -SCORES})
    (tmp_path / "samples.npz").write_bytes(recording.to_bytes())
    answers = read_samples(tmp_path / "samples.npz").answers(cell)
    assert answers is not None
    assert answers[0].tolist() == (-SCORES).argmax(1).tolist()
    assert answers[1] == SCORES.shape[1]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("outputs_shape", None),
        ("outputs_shape", np.array([3, 1])),
        ("outputs_shape", np.array([-3, 2])),
        ("outputs_highest", np.array([0, 1, 2])),
        ("outputs_highest", np.array([0.5, 1, 1])),
        ("outputs_sha256", np.array(["a", "b"])),
        ("outputs_sha256", np.array(["a" * 100])),
    ],
)
def test_damaged_traces_are_refused(builders: ModuleType, tmp_path: Path, key: str, value: Any) -> None:
    """Traces that contradict themselves are one line."""
    recording = builders.small().recording()
    cell = next(iter(recording.outputs))
    recording.outputs[cell] = {"scores": SCORES}
    place = tmp_path / "samples.npz"
    place.write_bytes(recording.without_outputs([cell]).to_bytes())
    with np.load(place) as archive:
        arrays: Any = {name: archive[name] for name in archive.files}
    del arrays[f"{cell}|{key}|scores"]
    if value is not None:
        arrays[f"{cell}|{key}|scores"] = value
    np.savez(place, **arrays)
    with pytest.raises(UsageError, match="are damaged: "):
        read_samples(place)
