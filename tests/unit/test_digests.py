"""Digests: which names are those of files inside a folder, and which files have changed since."""

from __future__ import annotations

from pathlib import Path

import pytest

from qx.storage.digests import Damaged, check_digests, digest_of, is_inside, write_digests


@pytest.mark.parametrize(
    "name", ["model.pt", "a/b/c.bin", "weights of today.bin", "größe.onnx", "..b", "a..b"]
)
def test_plain_relative_paths_are_names_of_files_inside_a_folder(name: str) -> None:
    """A file of a folder, or of a folder in it, may have any printable name."""
    assert is_inside(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../a",
        "a/../b",
        "a/..",
        "/etc/passwd",
        "./a",
        "a//b",
        "a/",
        "a\nb",
        "a\x1b[2J",
        "a\0",
        5,
        None,
    ],
)
def test_what_leads_out_of_a_folder_is_no_name_of_a_file_in_it(name: object) -> None:
    """Absolute paths, steps upwards, second spellings and unprintable characters are refused."""
    assert not is_inside(name)


def test_a_folder_of_any_depth_is_checked(tmp_path: Path) -> None:
    """Every file has a digest, and a change of one byte deep inside is reported with the file's name."""
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "c").write_bytes(b"123")
    (tmp_path / "d").write_bytes(b"")
    write_digests(tmp_path)
    assert check_digests(tmp_path) == {"a/b/c": digest_of(tmp_path, "a/b/c"), "d": digest_of(tmp_path, "d")}
    (deep / "c").write_bytes(b"124")
    with pytest.raises(Damaged, match="a/b/c does not have the bytes that were written"):
        check_digests(tmp_path)


def test_a_link_on_the_way_to_a_file_is_not_followed(tmp_path: Path) -> None:
    """A file that is reached through a symbolic link to another folder is not read, though it is the same."""
    folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "b").write_bytes(b"123")
    write_digests(folder)
    (folder / "a").rename(elsewhere)
    (folder / "a").symlink_to(elsewhere)
    with pytest.raises(Damaged, match="a/b does not lie in a folder of its own"):
        check_digests(folder)


def test_files_that_came_later_are_no_damage(tmp_path: Path) -> None:
    """Files that a loader keeps beside those of an artifact are no damage."""
    (tmp_path / "a").write_bytes(b"1")
    write_digests(tmp_path)
    (tmp_path / "b").write_bytes(b"2")
    assert list(check_digests(tmp_path)) == ["a"]


def test_digests_are_written_anew(tmp_path: Path) -> None:
    """Earlier digests are replaced, and are not counted as a file of the folder."""
    for content in (b"1", b"22"):
        (tmp_path / "a").write_bytes(content)
        write_digests(tmp_path)
        assert check_digests(tmp_path) == {"a": digest_of(tmp_path, "a")}
