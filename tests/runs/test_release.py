"""The files of a release: the same bytes twice, and with all that they need."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest

from qx import import_file

TOP = Path(__file__).parents[2]
VERSION = version("quant-explorer")


@pytest.fixture(scope="module")
def release() -> ModuleType:
    """Return ``.ci/release.py``."""
    return import_file("release", TOP / ".ci" / "release.py")


@pytest.mark.slow
def test_wheel_and_sdist_are_reproducible_and_whole(tmp_path: Path) -> None:
    """Builds in other folders, under other umasks and from the sdist have the same bytes, and all files."""
    if shutil.which("git") is None or not (TOP / ".git").exists():
        pytest.skip("needs a checkout, and git")
    command = [sys.executable, str(TOP / ".ci" / "release.py"), "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".gz", ".whl"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ((f"Version: {VERSION}", "Version: 9.9"), "the version 9.9"),
        (("text/markdown", "text/plain"), "the description is not the README"),
        (("Requires-Dist: attrs", "Requires-Dist: it @ https://example.org/it.whl"), "no requirement with"),
    ],
)
def test_metadata_that_an_index_refuses_is_refused(
    release: ModuleType, change: tuple[str, str], reason: str
) -> None:
    """Wrong metadata end the check, with the reason."""
    text = (
        f"Metadata-Version: 2.1\nName: quant-explorer\nVersion: {VERSION}\nRequires-Dist: attrs\n"
        "Description-Content-Type: text/markdown\n\n# qx\n"
    )
    release.check_metadata(text)
    with pytest.raises(release.Wrong, match=reason):
        release.check_metadata(text.replace(*change))
