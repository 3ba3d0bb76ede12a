"""Check that a release can be had: built twice to the same bytes, whole, and working where it is installed.

    python .ci/release.py                                    # build twice, compare, look into the files
    python .ci/release.py --install PYTHON --install ...     # and install in an empty environment of each
    python .ci/release.py --full PYTHON                      # there with torch, and make a short run offline

The commit that is checked out is built, nothing else. What was built stays in ``--out`` (dist/).
"""

from __future__ import annotations

import argparse
import configparser
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from email.parser import HeaderParser
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
#: Folders of the checkout that are shipped, and the packages that they become.
SHIPPED = {"qx": "qx", "plugins/qx_plugins": "qx_plugins", "artifacts/weights": "qx_weights"}
#: Requirements that take gigabytes, which an environment for a look at the command line does without.
HEAVY = ("torch", "torchvision", "scikit-learn")
#: What every source distribution must carry beside the code, for whoever builds, tests and documents it.
CARRIED = ("LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "setup.cfg", "setup.py", "tox.ini")
CARRIED_FOLDERS = ("tests", "docs", "examples", "benchmarks", "artifacts/results")


class Wrong(Exception):
    """A reason not to release, in a line."""


def main() -> int:
    """Carry out the command line."""
    parser = argparse.ArgumentParser(description="Check that a release can be had.")
    parser.add_argument("--out", type=Path, default=TOP / "dist", help="where the files stay (default: dist)")
    parser.add_argument(
        "--install", action="append", default=[], metavar="PYTHON", help="install, without torch"
    )
    parser.add_argument(
        "--full", action="append", default=[], metavar="PYTHON", help="install, and make a run"
    )
    parser.add_argument("--constraint", type=Path, help="a constraints file for pip")
    arguments = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as folder:
            wheel, sdist = build(Path(folder), arguments.out.absolute())
            for python in arguments.install:
                install(Path(folder), wheel, python, arguments.constraint, full=False)
            for python in arguments.full:
                install(Path(folder), wheel, python, arguments.constraint, full=True)
    except (Wrong, subprocess.CalledProcessError) as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    print(f"release: {wheel.name} and {sdist.name} are in order")
    return 0


# Building ----------------------------------------------------------------------------------------


def build(folder: Path, out: Path) -> tuple[Path, Path]:
    """Build the commit twice in two places, and return wheel and sdist in ``out``. Raises ``Wrong``."""
    commit = git("rev-parse", "HEAD").strip()
    if changed := git("status", "--porcelain", "--untracked-files=no").strip():
        print(f"release: changes that are not committed are left out: {changed.splitlines()[0].strip()} ...")
    environment = {**os.environ, "SOURCE_DATE_EPOCH": git("log", "-1", "--format=%ct").strip(), "LC_ALL": "C"}
    files = git("ls-files", "-z").strip("\0").split("\0")
    first, second = folder / "first", folder / "a second place"
    # Other paths, another umask, another time: none of them may matter.
    export(commit, first / "source", mask=0o022)
    sdist = build_one("sdist", first / "source", first / "dist", environment, mask=0o022)
    build_one("wheel", first / "source", first / "dist", environment, mask=0o022)
    export(commit, second / "source", mask=0o027)
    build_one("sdist", second / "source", second / "dist", environment, mask=0o027)
    # From what the sdist has, as whoever packages it does.
    shutil.unpack_archive(sdist, second / "sdist", filter="data")
    (source,) = (second / "sdist").iterdir()
    build_one("wheel", source, second / "dist", environment, mask=0o027)
    builds = [first / "dist", second / "dist"]
    digests = [digests_of(results) for results in builds]
    if digests[0] != digests[1]:
        raise Wrong(f"two builds differ: {digests[0]} and {digests[1]}")
    wheel = next(builds[0].glob("*.whl"))
    sdist = next(builds[0].glob("*.tar.gz"))
    check_wheel(wheel, files)
    check_sdist(sdist, files)
    out.mkdir(parents=True, exist_ok=True)
    if importlib.util.find_spec("twine") is not None:
        run([sys.executable, "-m", "twine", "check", "--strict", str(wheel), str(sdist)])
    print(f"release: built by setuptools {importlib.metadata.version('setuptools')}")
    for path in (wheel, sdist):
        shutil.copy(path, out / path.name)
        print(f"release: {digests[0][path.name]}  {path.name} ({path.stat().st_size:,} bytes), twice")
    return out / wheel.name, out / sdist.name


def export(commit: str, folder: Path, *, mask: int) -> None:
    """Write the files of a commit into a folder, with modes under a umask."""
    folder.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", commit], cwd=TOP, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x"], cwd=folder, input=archive, check=True, umask=mask)


def build_one(kind: str, source: Path, out: Path, environment: Mapping[str, str], *, mask: int) -> Path:
    """Build the wheel or the sdist of a source tree by its backend, and return the file."""
    out.mkdir(parents=True, exist_ok=True)
    program = f"import sys; from setuptools import build_meta; print(build_meta.build_{kind}(sys.argv[1]))"
    printed = run(
        [sys.executable, "-W", "ignore", "-c", program, str(out)],
        cwd=source,
        environment=environment,
        mask=mask,
    )
    return out / printed.splitlines()[-1]


def digests_of(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of a folder by its name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


# Looking into the files ---------------------------------------------------------------------------


def check_wheel(wheel: Path, files: Sequence[str]) -> None:
    """Raise ``Wrong`` unless the wheel has every file of the packages, no other, and sound metadata."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (path,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(path).decode()
        licences = [name for name in archive.namelist() if "LICENSE" in name]
    expected = set()
    for source, package in SHIPPED.items():
        expected |= {name.replace(source, package, 1) for name in files if name.startswith(f"{source}/")}
    if difference := sorted(names ^ expected):
        raise Wrong(f"the wheel and the checkout differ in {', '.join(difference[:5])}")
    if len(licences) < 2:
        raise Wrong("the wheel lacks a licence: its own, or D3's")
    check_metadata(metadata)


def check_metadata(text: str) -> None:
    """Raise ``Wrong`` for metadata that an index refuses, or that setup.cfg and the changelog contradict."""
    metadata = HeaderParser().parsestr(text)
    version = metadata["Version"]
    setup = configparser.ConfigParser()
    setup.read(TOP / "setup.cfg")
    if version != setup["metadata"]["version"]:
        raise Wrong(f"the wheel has the version {version}, setup.cfg another")
    if not re.search(rf"^## {re.escape(version)}\b", (TOP / "CHANGELOG.md").read_text(), re.MULTILINE):
        raise Wrong(f"CHANGELOG.md has no section for {version}")
    if metadata["Description-Content-Type"] != "text/markdown" or not str(metadata.get_payload()).strip():
        raise Wrong("the description is not the README")
    for address in metadata.get_all("Requires-Dist") or ():
        if " @ " in address:
            raise Wrong(f"{address}: an index takes no requirement with an address")


def check_sdist(sdist: Path, files: Sequence[str]) -> None:
    """Raise ``Wrong`` unless the sdist has all that it takes to build, test and document."""
    with tarfile.open(sdist) as archive:
        names = {entry.name.partition("/")[2] for entry in archive if entry.isfile()}
    wanted = {*CARRIED, *(name for name in files if name.startswith((*SHIPPED, *CARRIED_FOLDERS)))}
    if missing := sorted(wanted - names):
        raise Wrong(f"the sdist lacks {', '.join(missing[:5])}")
    generated = re.compile(r"PKG-INFO$|\.egg-info/|setup\.cfg$")
    if foreign := sorted(name for name in names - set(files) if not generated.search(name)):
        raise Wrong(f"the sdist has what no commit has: {', '.join(foreign[:5])}")


# Installing --------------------------------------------------------------------------------------


def install(folder: Path, wheel: Path, python: str, constraint: Path | None, *, full: bool) -> None:
    """Install the wheel in an empty environment, and see that it works there. Raises ``Wrong``."""
    place = folder / f"environment-{len(list(folder.iterdir()))}"
    run([python, "-m", "venv", str(place)])
    own = str(place / "bin" / "python")
    pip = [own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if constraint is not None:
        pip += ["--constraint", str(constraint.absolute())]
    if full:
        run([*pip, str(wheel)])
    else:
        run([*pip, "--no-deps", str(wheel)])
        run([*pip, *light_requirements(wheel)])
    elsewhere = folder / f"{place.name}-work"
    elsewhere.mkdir()
    environment = {**os.environ, "QX_CACHE": str(elsewhere / "cache"), "QX_OFFLINE": "1"}
    environment.pop("PYTHONPATH", None)
    program = str(place / "bin" / "qx")
    run([own, "-W", "error::SyntaxWarning", "-m", "compileall", "-q", "-f", str(site_of(own) / "qx")])
    for words in (["--version"], ["--help"], ["list"], ["show", "dynamic_int8"]):
        run([program, *words], cwd=elsewhere, environment=environment, quiet=True)
    check_plugins(program, elsewhere, environment)
    if full:
        words = [
            "run",
            "--quick",
            "--offline",
            "--workload",
            "digits_cnn",
            "-c",
            "dynamic_int8",
            "--out",
            "out",
        ]
        run([program, *words], cwd=elsewhere, environment=environment, quiet=True)
        if not (elsewhere / "out" / "report.html").is_file():
            raise Wrong(f"{python}: the run left no report.html")
        words = ["quantize", "--workload", "digits_cnn", "-c", "dynamic_int8", "--offline", "--to", "shipped"]
        run([program, *words], cwd=elsewhere, environment=environment, quiet=True)
        run([own, "shipped/serve.py", "--check"], cwd=elsewhere, environment=environment, quiet=True)
    version = subprocess.run([own, "-V"], capture_output=True, text=True, check=True).stdout.strip()
    print(f"release: {version}: installed, {'a run and serve.py' if full else 'qx list and qx show'} work")


def check_plugins(program: str, folder: Path, environment: Mapping[str, str]) -> None:
    """Raise ``Wrong`` where a built-in plugin is broken in a fresh installation."""
    done = subprocess.run(
        [program, "list", "--json"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    entries = json.loads(done.stdout)
    plugins = entries["plugins"] if isinstance(entries, dict) else entries
    if broken := [entry["name"] for entry in plugins if entry["state"] not in ("ready", "unavailable")]:
        raise Wrong(f"in a fresh environment {', '.join(broken)} cannot be used")


def light_requirements(wheel: Path) -> list[str]:
    """Return what the wheel requires without extras, but for what takes gigabytes."""
    with zipfile.ZipFile(wheel) as archive:
        (path,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = HeaderParser().parsestr(archive.read(path).decode()).get_all("Requires-Dist") or []
    names = ((re.match(r"[\w.-]+", line), line) for line in lines if "extra ==" not in line)
    return [line for name, line in names if name is not None and name[0] not in HEAVY]


def site_of(python: str) -> Path:
    """Return the folder of the packages of an interpreter."""
    program = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    done = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True)
    return Path(done.stdout.strip())


# Programs ----------------------------------------------------------------------------------------


def git(*words: str) -> str:
    """Return what a command of git prints."""
    return subprocess.run(["git", *words], cwd=TOP, check=True, capture_output=True, text=True).stdout


def run(
    words: Iterable[str],
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    mask: int | None = None,
    quiet: bool = False,
) -> str:
    """Run a program and return what it printed. Raises ``Wrong`` with the end of that where it fails."""
    command = list(words)
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        umask=-1 if mask is None else mask,
    )
    if done.returncode != 0:
        raise Wrong(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout[-3000:]}")
    if quiet and "Traceback" in done.stdout:
        raise Wrong(f"{' '.join(command)}: a traceback\n{done.stdout[-3000:]}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
