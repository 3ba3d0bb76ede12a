"""Which files a job needs on another machine, and where its fields lead there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qx.cluster.files import Shelf
from qx.cluster.packing import places_of, replace_texts
from qx.errors import UsageError

REFERENCE = {"name": "mine", "module": "_qx_mine", "path": None, "attribute": None, "folder": None}


@pytest.fixture
def shelf() -> Shelf:
    """Return what this machine sends from, to nowhere."""
    return Shelf(len)


@pytest.fixture(autouse=True)
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file of a model in the current folder, with a file beside it that it imports."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "blocks.py").write_text("width = 3\n")
    (tmp_path / "digits_cnn").mkdir()
    path = tmp_path / "net.py"
    path.write_text("import blocks\n")
    return path


def test_what_a_job_reads_is_sent(tmp_path: Path, shelf: Shelf) -> None:
    """Weights, data, artifacts and inputs of further lengths are sent, wherever they stand in a job."""
    for name in ("weights.pt", "calibration", "inputs", "long", "artifact"):
        path = tmp_path / name
        path.write_text("x") if "." in name else path.mkdir()
    fields: dict[str, Any] = {
        "weights": str(tmp_path / "weights.pt"),
        "calibration": str(tmp_path / "calibration"),
        "training": None,
        "inputs": str(tmp_path / "inputs"),
        "lengths": {"128": str(tmp_path / "long")},
        "artifact": {"folder": str(tmp_path / "artifact")},
        "outputs": str(tmp_path / "outputs"),
    }
    places = places_of(fields, shelf)
    expected = ["artifact", "calibration", "inputs", "long", "weights.pt"]
    assert sorted(place.tree.name for place in places.values()) == expected


@pytest.mark.parametrize("word", ["net.py", "net.py:Net", "{folder}/net.py:Net"])
def test_a_model_file_travels_with_the_files_beside_it(
    tmp_path: Path, shelf: Shelf, model: Path, word: str
) -> None:
    """A model's file is sent with the Python files beside it, and the factory stays behind its path."""
    word = word.format(folder=tmp_path)
    (place,) = places_of({"workload_options": {"model": word}}, shelf).values()
    assert place.tree.files.keys() == {"net.py", "blocks.py"}
    assert place.after == f"/net.py{':Net' if ':' in word else ''}"


def test_options_in_an_artifact_are_seen(shelf: Shelf) -> None:
    """Files that are named by options of an artifact's workload are sent too."""
    fields = {"artifact": {"folder": ".", "workload_options": {"model": "net.py:Net"}}}
    assert "net.py:Net" in places_of(fields, shelf)


def test_a_word_is_no_file(shelf: Shelf) -> None:
    """An option that is a name is not taken for a folder of this name."""
    assert places_of({"workload_options": {"size": "digits_cnn", "rate": 0.1, "file": "no.py"}}, shelf) == {}


def test_a_plugin_of_the_user_travels(shelf: Shelf, model: Path) -> None:
    """A plugin that is a file is sent; one that only the current folder has is refused with what to do."""
    assert str(model) in places_of({"config": REFERENCE | {"path": str(model)}}, shelf)
    with pytest.raises(UsageError, match=r"give it as FILE\.py, or install it"):
        places_of({"wrappers": [REFERENCE | {"folder": "/here"}]}, shelf)


def test_whole_texts_are_replaced() -> None:
    """Paths are replaced where they stand alone, and nothing else is."""
    value = {"a": "/data", "b": ["/data", "/data/more"], "c": {"/data": 1}}
    assert replace_texts(value, {"/data": "/there"}) == {
        "a": "/there",
        "b": ["/there", "/data/more"],
        "c": {"/data": 1},
    }
