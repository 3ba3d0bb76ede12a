"""Make what is built the same bytes wherever and whenever it is built; the rest is in setup.cfg."""

from __future__ import annotations

import gzip
import os
import tarfile
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

#: Time of every file where SOURCE_DATE_EPOCH does not say another: the first that a zip archive can hold.
FIRST_TIME = 315532800

# The modes of files that are generated go into the wheel.
os.umask(0o022)


def set_modes(folder: str) -> None:
    """Give every file and folder in a folder the mode that it has under the usual umask."""
    for path in Path(folder).rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


class ReproducibleBuild(build_py):
    """Copy the packages with modes that no umask of the checkout changes."""

    def run(self):
        """Copy the packages, unless they are used where they lie."""
        super().run()
        if not self.editable_mode:
            set_modes(self.build_lib)


class ReproducibleWheel(bdist_wheel):
    """Copy the licences with such modes, too."""

    def egg2dist(self, egginfo_path, distinfo_path):
        """Write the metadata into their folder."""
        super().egg2dist(egginfo_path, distinfo_path)
        set_modes(distinfo_path)


class ReproducibleSdist(sdist):
    """Write the archive in the order of names, with one time, no owner, and modes that no umask changes."""

    def make_archive(self, base_name, format, root_dir=None, base_dir=None, **_):  # noqa: A002
        """Return the path of the archive of a folder, as ``Command.make_archive`` does."""
        if format != "gztar":
            return super().make_archive(base_name, format, root_dir=root_dir, base_dir=base_dir)
        time = int(os.environ.get("SOURCE_DATE_EPOCH", FIRST_TIME))

        def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            entry.mtime = time
            entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
            return entry

        folder, place = Path(root_dir or ".", base_dir), Path(f"{base_name}.tar.gz")
        place.parent.mkdir(parents=True, exist_ok=True)
        with (
            place.open("wb") as file,
            gzip.GzipFile("", "wb", 9, file, mtime=time) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            for path in sorted([folder, *folder.rglob("*")]):
                name = str(Path(base_dir, path.relative_to(folder)))
                archive.add(path, name, recursive=False, filter=plain)
        return str(place)


setup(cmdclass={"bdist_wheel": ReproducibleWheel, "build_py": ReproducibleBuild, "sdist": ReproducibleSdist})
