"""Files on their way to a machine of a cluster: each once, whole, and inside of its folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from qx.cluster import files
from qx.cluster.files import Contents, NodeStore, Shelf, Tree
from qx.storage.digests import Damaged


class Objects:
    """An object store in memory, which counts what is put into it and what is fetched."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.fetched: list[int] = []

    def put(self, content: bytes) -> object:
        """Keep a part."""
        self.parts.append(content)
        return len(self.parts) - 1

    def fetch(self, number: Any) -> bytes:
        """Return a part."""
        self.fetched.append(number)
        return self.parts[number]


@pytest.fixture
def objects() -> Objects:
    """Return an empty object store."""
    return Objects()


@pytest.fixture
def shelf(objects: Objects) -> Shelf:
    """Return what this machine sends from."""
    return Shelf(objects.put)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with two files of one content and one of another."""
    top = tmp_path / "artifact"
    (top / "inner").mkdir(parents=True)
    (top / "weights.bin").write_bytes(b"w" * 100)
    (top / "inner" / "copy.bin").write_bytes(b"w" * 100)
    (top / "manifest.json").write_text("{}")
    return top


def store(tmp_path: Path, objects: Objects, parcels: Mapping[str, Any], name: str = "node") -> NodeStore:
    """Return the store of a machine."""
    place = tmp_path / name
    place.mkdir(exist_ok=True)
    return NodeStore(place, parcels, objects.fetch)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_arrives_as_it_was(tmp_path: Path, folder: Path, shelf: Shelf, objects: Objects) -> None:
    """A folder has the same name and the same files on another machine."""
    tree = shelf.tree(folder)
    laid = store(tmp_path, objects, shelf.parcels([tree])).lay(tree)
    assert laid.name == "artifact"
    assert contents(laid) == contents(folder)


def test_a_content_is_sent_to_a_machine_once(
    tmp_path: Path, folder: Path, shelf: Shelf, objects: Objects
) -> None:
    """Equal files, and files that a machine has, are not sent again; another machine gets its own."""
    tree = shelf.tree(folder)
    parcels = shelf.parcels([tree])
    assert len(objects.parts) == 2
    store(tmp_path, objects, parcels).lay(tree)
    store(tmp_path, objects, parcels).lay(tree)
    assert len(objects.fetched) == 2
    store(tmp_path, objects, parcels, "other").lay(tree)
    assert len(objects.fetched) == 4


def test_what_a_machine_has_made_is_not_sent_to_it(
    tmp_path: Path, folder: Path, shelf: Shelf, objects: Objects
) -> None:
    """A file that was made on a machine is there when it is needed again."""
    tree = shelf.tree(folder)
    node = store(tmp_path, objects, shelf.parcels([tree]))
    for path in files.files_in(folder):
        node.keep(path)
    assert contents(node.lay(tree)) == contents(folder)
    assert objects.fetched == []


def test_a_file_that_changes_is_sent_again(
    tmp_path: Path, folder: Path, shelf: Shelf, objects: Objects
) -> None:
    """A file with another content under the same name is another file."""
    node = store(tmp_path, objects, {})
    for content in ("{}", '{"a": 1}'):
        (folder / "manifest.json").write_text(content)
        tree = shelf.tree(folder)
        node.parcels = shelf.parcels([tree])
        assert (node.lay(tree) / "manifest.json").read_text() == content


def test_large_files_travel_in_parts(
    tmp_path: Path, shelf: Shelf, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is larger than a part is put together again."""
    monkeypatch.setattr(files, "PART", 1000)
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(range(250)) * 10)
    tree = shelf.tree(path)
    assert [len(part) for part in objects.parts] == [1000, 1000, 500]
    assert store(tmp_path, objects, shelf.parcels([tree])).lay(tree).read_bytes() == path.read_bytes()


def test_another_content_than_was_sent_is_refused(
    tmp_path: Path, folder: Path, shelf: Shelf, objects: Objects
) -> None:
    """A part that was damaged on its way raises an error, and nothing of it is kept."""
    tree = shelf.tree(folder)
    node = store(tmp_path, objects, shelf.parcels([tree]))
    whole = list(objects.parts)
    objects.parts[:] = [part[:-1] + b"x" for part in whole]
    with pytest.raises(Damaged, match="another content than was sent"):
        node.lay(tree)
    objects.parts[:] = whole
    assert contents(node.lay(tree)) == contents(folder)


@pytest.mark.parametrize("name", ["../outside", "/outside", "a/../../outside", ""])
def test_no_name_leads_out_of_its_folder(tmp_path: Path, objects: Objects, name: str) -> None:
    """Neither what is sent nor what comes back can be written outside of its folder."""
    number = objects.put(b"x")
    with pytest.raises(Damaged):
        store(tmp_path, objects, {"0": [number]}).lay(Tree("tree", True, {name: "0"}))
    with pytest.raises(Damaged):
        Contents((), {name: (b"x",)}).write(tmp_path / "out")
    assert not (tmp_path / "outside").exists()


def test_contents_come_back_with_empty_folders(tmp_path: Path, folder: Path) -> None:
    """What a machine gives back is laid down as it was there; links are left out."""
    (folder / "empty").mkdir()
    (folder / "link").symlink_to("manifest.json")
    Contents.of(folder).write(tmp_path / "back")
    expected = {name: content for name, content in contents(folder).items() if name != "link"}
    assert contents(tmp_path / "back") == expected
    assert (tmp_path / "back" / "empty").is_dir()


def test_jobs_share_a_folder_by_name(tmp_path: Path, objects: Objects) -> None:
    """The same name gives the same folder on a machine; what no job has used for long is removed."""
    machine = store(tmp_path, objects, {})
    first = machine.shared("run 1")
    (first / "export").write_text("made")
    assert machine.shared("run 1") == first
    second = machine.shared("run 2")
    assert second != first
    assert (first / "export").read_text() == "made"
    os.utime(first, (0, 0))
    assert machine.shared("run 2") == second
    assert not first.exists()
