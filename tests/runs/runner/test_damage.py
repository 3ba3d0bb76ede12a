"""The cache after damage: a build or split that was damaged in any way is made anew, and a line says so."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from attrs import Factory, define

from qx.cli.display import Lines
from qx.errors import PluginError
from qx.host.host import Host, Reference
from qx.processes.answers import Answer
from qx.processes.job_answers import DataAnswer
from qx.processes.jobs import DataJob, Job
from qx.processes.logs import Subject
from qx.processes.workers import Processes
from qx.runner.builds import Build, build
from qx.runner.preparation import Prepared, prepare
from qx.runner.request import Request, cell_of
from qx.runner.settings import variants
from qx.storage.digests import write_digests
from qx.storage.uses import Uses

A = TypeVar("A", bound=Answer)

MODULE = """
    from qx import Config, hookimpl

    @hookimpl
    def describe():
        return Config(name="{name}", summary="The module as it is.")

    @hookimpl
    def convert(model):
        return model
"""


@define
class InThisProcess:
    """Does jobs in this process by the code that workers run, so that each takes milliseconds."""

    jobs: int = 0
    last: Any = None
    uses: Uses = Factory(Uses)

    def run(self, job: Job[A], name: str = "", subject: Subject | None = None, *, timeout: float = 0.0) -> A:
        """Do the job and return its answer."""
        self.jobs += 1
        import_module(job.module).run(job, self)
        assert isinstance(self.last, job.answer_type)
        return self.last

    def run_timed(
        self, job: Job[A], name: str, subject: Subject | None = None, *, timeout: float = 0.0
    ) -> tuple[A, float]:
        """Do the job and return its answer, and the seconds that it took."""
        began = time.perf_counter()
        return self.run(job, name, subject, timeout=timeout), time.perf_counter() - began

    def stage(self, name: str) -> None:
        """Ignore the stage, which a channel sends."""

    def progress(self, done: float, text: str) -> None:
        """Ignore the progress, which a channel sends."""

    def answer(self, answer: Answer) -> None:
        """Keep the answer, which a channel sends."""
        self.last = answer


@pytest.fixture(scope="module", autouse=True)
def torch_as_it_was() -> Iterator[None]:
    """Restore torch's threads and random generators, which a build sets in its process."""
    import torch

    threads, state, legacy = torch.get_num_threads(), torch.get_rng_state(), np.random.get_state()
    yield
    torch.set_num_threads(threads)
    torch.set_rng_state(state)
    np.random.set_state(legacy)


# What can become of a file, of a folder, and of what qx has written about them ----------------------

#: Ways to damage a file, whatever its content.
FILE_DAMAGE: Mapping[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"0"),
    "one bit": lambda path: path.write_bytes(flipped(path.read_bytes())),
    "missing": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir(), (path / "inner").mkdir()),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "a link to the same bytes": lambda path: moved_away(path),
    "a link to itself": lambda path: (path.unlink(), path.symlink_to(path.name)),
    "a link without end": lambda path: (path.unlink(), path.symlink_to("/dev/zero")),
    "a link to nowhere": lambda path: (path.unlink(), path.symlink_to("nowhere")),
}

#: Ways to damage the folder of an entry.
FOLDER_DAMAGE: Mapping[str, Callable[[Path], object]] = {
    "empty": lambda place: (shutil.rmtree(place), place.mkdir()),
    "a file": lambda place: (shutil.rmtree(place), place.write_text("what is this?")),
    "a pipe": lambda place: (shutil.rmtree(place), os.mkfifo(place)),
    "a link to the same files": lambda place: moved_away(place),
    "a link to itself": lambda place: (shutil.rmtree(place), place.symlink_to(place.name)),
    "a link to nowhere": lambda place: (shutil.rmtree(place), place.symlink_to("nowhere")),
}

DEEP = b"[" * 100_000
#: Contents of a JSON file that qx has not written.
JSON_DAMAGE: Mapping[str, bytes] = {
    "a list": b"[]",
    "a number": b"7",
    "null": b"null",
    "no fields": b"{}",
    "no JSON": b"{",
    "no text": b"\xff\xfe\x00",
    "nested deep": DEEP,
    "nested deep in a field": b'{"version": ' + DEEP,
    "not a number": b'{"version": NaN}',
    "a number of many digits": b'{"version": ' + b"9" * 5000 + b"}",
    "very long": b" " * (17 << 20),
}


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def moved_away(path: Path) -> Path:
    """Move a file or folder away, leave a link to it in its place, and return where it now lies."""
    elsewhere = path.parent.parent / f"{path.name}-elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    return elsewhere


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def reads_everything() -> bool:
    """Return whether permissions mean nothing to this user, as to root."""
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).chmod(0)
        return os.access(file.name, os.R_OK)


# Builds -------------------------------------------------------------------------------------------


@define
class Bench:
    """Builds one config of the toy in this process."""

    host: Host
    request: Request
    prepared: Prepared
    config: str = "module"

    def build(self, processes: InThisProcess | None = None) -> tuple[Build, int]:
        """Return the build, and how many jobs it took."""
        processes = processes or InThisProcess()
        (variant,) = variants(self.host.get("config", self.config), {})
        cell = cell_of("toy", variant, self.request)
        built = build(self.host, self.request, self.prepared, cell, processes, Lines())
        return built, processes.jobs


@pytest.fixture(scope="module")
def bench(
    toy: Any, write_plugin: Callable[[str, str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    """The toy, prepared once, with a cache for this module."""
    plugins = [write_plugin(name, MODULE.format(name=name)) for name in ("module", "other")]
    host = Host.discover([*toy.plugins, *plugins])
    request = Request(workload="toy", weights=toy.weights)
    with (
        pytest.MonkeyPatch.context() as patch,
        Processes(tmp_path_factory.mktemp("logs")) as processes,
    ):
        patch.setenv("QX_CACHE", str(tmp_path_factory.mktemp("cache")))
        prepared = prepare(host, request, host.get("workload", "toy"), processes, Lines(), {}, ())
        yield Bench(host, request, prepared)


@pytest.fixture
def intact(bench: Bench) -> Build:
    """A build in the cache as it was written."""
    bench.build()
    built, jobs = bench.build()
    assert (built.cached, jobs) == (True, 0)
    return built


def expect_built_anew(bench: Bench, intact: Build, before: Mapping[str, bytes], capsys: Any) -> None:
    """Check that the next build is made anew and says so, and that the one after finds it."""
    place = intact.artifact.parent
    capsys.readouterr()
    built, jobs = bench.build()
    assert (built.cached, jobs, built.key) == (False, 1, intact.key)
    assert (built.manifest, built.stored) == (intact.manifest, intact.stored)
    after = contents(place)
    assert after.keys() == before.keys()
    # The seconds that a build took differ, and so does their digest.
    assert {name for name in after if after[name] != before[name]} <= {"build.json", "digests.json"}
    assert not any(path.is_symlink() for path in (place, *place.rglob("*")))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("qx: toy/module: its build in the cache is damaged (")
    assert line.endswith("); it is built again")
    assert bench.build()[1] == 0


FILES = ("artifact/model.pt", "artifact/manifest.json", "probe.npz", "build.json", "digests.json")


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("kind", FILE_DAMAGE)
def test_a_build_with_a_damaged_file_is_built_anew(
    bench: Bench, intact: Build, capsys: Any, file: str, kind: str
) -> None:
    """A build with a damaged file of any kind is made anew, and the check never waits."""
    before = contents(intact.artifact.parent)
    FILE_DAMAGE[kind](intact.artifact.parent / file)
    expect_built_anew(bench, intact, before, capsys)


@pytest.mark.parametrize("folder", ["", "artifact"])
@pytest.mark.parametrize("kind", FOLDER_DAMAGE)
def test_a_build_that_is_no_longer_a_folder_of_its_own_is_built_anew(
    bench: Bench, intact: Build, capsys: Any, folder: str, kind: str
) -> None:
    """Whatever lies in place of a build or its artifact is put away, and the target of a link stays."""
    place = intact.artifact.parent
    before = contents(place)
    elsewhere = FOLDER_DAMAGE[kind](place / folder)
    expect_built_anew(bench, intact, before, capsys)
    if isinstance(elsewhere, Path) and not folder:
        assert contents(elsewhere) == before


@pytest.mark.skipif(reads_everything(), reason="this user reads what nobody may read")
@pytest.mark.parametrize("file", [*FILES, "artifact", ""])
def test_a_build_that_may_not_be_read_is_built_anew(
    bench: Bench, intact: Build, capsys: Any, file: str
) -> None:
    """A build with a file or folder that may not be read is built anew."""
    before = contents(intact.artifact.parent)
    (intact.artifact.parent / file).chmod(0)
    expect_built_anew(bench, intact, before, capsys)


@pytest.mark.parametrize("kind", JSON_DAMAGE)
def test_digests_that_are_none_are_damage(bench: Bench, intact: Build, capsys: Any, kind: str) -> None:
    """Whatever the file of digests holds is read without harm, since no digest vouches for it."""
    before = contents(intact.artifact.parent)
    (intact.artifact.parent / "digests.json").write_bytes(JSON_DAMAGE[kind])
    expect_built_anew(bench, intact, before, capsys)


ZEROS = {"size": 0, "sha256": "0" * 64}


@pytest.mark.parametrize(
    "files",
    [
        *({name: ZEROS} for name in ("../build.json", "/etc/passwd", "", ".", "a\nb", "a//b", "missing")),
        *({"build.json": value} for value in (None, [], "text", {}, {**ZEROS, "size": "0"})),
        *({"build.json": {**ZEROS, "size": size}} for size in (-1, 10**30, 1.5, True)),
        {"build.json": {**ZEROS, "sha256": None}},
        {"build.json": {**ZEROS, "more": 1}},
        {},
        [],
    ],
    ids=str,
)
def test_digests_of_no_files_are_damage(bench: Bench, intact: Build, capsys: Any, files: Any) -> None:
    """Names that lead out of the folder, and values that are no sizes or digests, are read without harm."""
    before = contents(intact.artifact.parent)
    (intact.artifact.parent / "digests.json").write_text(json.dumps({"version": 1, "files": files}))
    expect_built_anew(bench, intact, before, capsys)


@pytest.mark.parametrize("file", ["artifact/manifest.json", "build.json"])
@pytest.mark.parametrize("kind", JSON_DAMAGE)
def test_records_that_are_none_are_damage_though_their_digests_are_right(
    bench: Bench, intact: Build, capsys: Any, file: str, kind: str
) -> None:
    """A record with the right digest, and with content that qx never writes, is read without harm."""
    place = intact.artifact.parent
    before = contents(place)
    (place / file).write_bytes(JSON_DAMAGE[kind])
    write_digests(place)
    expect_built_anew(bench, intact, before, capsys)


def strange_file(name: Any) -> Callable[[dict[str, Any]], object]:
    """Return a change of a manifest that gives its file another name."""
    return lambda manifest: manifest.update(files={name: manifest["files"]["model.pt"]})


@pytest.mark.parametrize(
    "change",
    [
        strange_file("../probe.npz"),
        strange_file("/etc/passwd"),
        strange_file("artifact/../model.pt"),
        strange_file("model\n.pt"),
        strange_file("other.pt"),
        lambda manifest: manifest.update(files=["model.pt"]),
        lambda manifest: manifest.update(files={"model.pt": 5}),
        lambda manifest: manifest["files"]["model.pt"].update(sha256="0" * 64),
        lambda manifest: manifest.update(details=[]),
        lambda manifest: manifest.update(notes="a note"),
        lambda manifest: manifest.update(notes=[1]),
        lambda manifest: manifest.update(origin=None),
        lambda manifest: manifest.update(loader="no_such_loader"),
        lambda manifest: manifest.update(loader={"name": "torch_eager", "module": "os"}),
        lambda manifest: manifest.update(imports=["antigravity"]),
        lambda manifest: manifest.update(version=1),
        lambda manifest: manifest.pop("loader"),
    ],
)
def test_a_manifest_that_names_what_it_may_not_is_damage(
    bench: Bench, intact: Build, capsys: Any, change: Callable[[dict[str, Any]], object]
) -> None:
    """A manifest with files elsewhere, an unknown loader or a module is refused, whatever its digest."""
    place = intact.artifact.parent
    before = contents(place)
    manifest = json.loads(before["artifact/manifest.json"])
    change(manifest)
    (place / "artifact" / "manifest.json").write_text(json.dumps(manifest))
    write_digests(place)
    expect_built_anew(bench, intact, before, capsys)


@pytest.mark.parametrize("record", [{"key": "another"}, {"seconds": "long"}, {"seconds": None}], ids=str)
def test_a_record_of_another_build_is_damage(
    bench: Bench, intact: Build, capsys: Any, record: dict[str, Any]
) -> None:
    """A build of another key, or without the seconds that it took, is not used."""
    place = intact.artifact.parent
    before = contents(place)
    (place / "build.json").write_text(json.dumps(json.loads(before["build.json"]) | record))
    write_digests(place)
    expect_built_anew(bench, intact, before, capsys)


def test_one_build_is_not_taken_for_another(bench: Bench, intact: Build, capsys: Any) -> None:
    """Another config's build that was copied into the folder is detected."""
    place = intact.artifact.parent
    before = contents(place)
    other = Bench(bench.host, bench.request, bench.prepared, "other").build()[0]
    shutil.rmtree(place)
    shutil.copytree(other.artifact.parent, place)
    expect_built_anew(bench, intact, before, capsys)


def test_the_plugins_that_serve_a_build_are_those_of_the_host(bench: Bench, intact: Build) -> None:
    """Loader, config and workload are imported from where this run found them; no manifest names a place."""
    stored = intact.stored
    for kind, reference in (
        ("loader", stored.loader),
        ("config", stored.config),
        ("workload", stored.workload),
    ):
        assert reference == bench.host.get(kind, reference.name).reference
    assert stored.imports == ("torch",)
    text = (intact.artifact / "manifest.json").read_text()
    assert not any(word in text for word in ("qx_plugins", ".py", '"module":'))


STRAY = """
    import os
    from qx import Artifact, Config, hookimpl

    @hookimpl
    def describe():
        return Config(name="stray", summary="Gives a file that is none of its own.")

    @hookimpl
    def convert(model, context):
        open(context.folder / "model.npz", "w").close()
        (context.folder / "inner").mkdir()
        os.symlink("model.npz", context.folder / "link")
        os.symlink(context.folder, context.folder / "inner" / "back")
        return Artifact(folder=context.folder, files=[{name!r}], loader="toy_numpy")
"""


@pytest.mark.parametrize(
    "name",
    [
        *("../model.npz", "inner/../model.npz", "./model.npz", "/etc/passwd", "model\n"),
        *("link", "inner", "inner/back/model.npz", "missing"),
    ],
)
def test_an_artifact_is_of_regular_files_in_its_folder(
    bench: Bench, toy: Any, write_plugin: Callable[[str, str], str], name: str
) -> None:
    """A path that leads out of the artifact's folder, or a link, is an error in one line."""
    host = Host.discover([*toy.plugins, write_plugin("stray", STRAY.format(name=name))])
    with pytest.raises(PluginError, match="stray: convert gave an artifact with") as caught:
        Bench(host, bench.request, bench.prepared, "stray").build()
    assert "\n" not in str(caught.value)


def test_a_file_more_is_no_damage(bench: Bench, intact: Build) -> None:
    """A file that a runtime keeps beside those of an artifact does not make a build stale."""
    (intact.artifact / "compiled.cache").write_bytes(b"0")
    assert bench.build()[1] == 0
    (intact.artifact / "compiled.cache").unlink()


def test_of_two_runs_that_build_the_same_the_first_to_end_is_kept(bench: Bench, intact: Build) -> None:
    """The run that ends later uses the first run's build, and leaves nothing of its own."""
    place = intact.artifact.parent
    shutil.rmtree(place)
    inner: list[Build] = []

    class Meanwhile(InThisProcess):
        def run(
            self, job: Job[A], name: str = "", subject: Subject | None = None, *, timeout: float = 0.0
        ) -> A:
            answer = super().run(job, name, timeout=timeout)
            inner.append(bench.build()[0])
            return answer

    outer, _ = bench.build(Meanwhile())
    assert [outer] == inner
    assert [path for path in place.parent.iterdir() if path.name.startswith(".")] == []
    assert bench.build()[1] == 0


# Splits -------------------------------------------------------------------------------------------


@define
class Data:
    """Lays the toy's data down in this process."""

    job: DataJob

    def lay_down(self) -> DataAnswer:
        """Return the answer of the job."""
        return InThisProcess().run(self.job)

    @property
    def place(self) -> Path:
        """Folder of the evaluation split."""
        answer = self.lay_down()
        return Path(answer.folder) / answer.evaluation


@pytest.fixture(scope="module")
def data(toy: Any, tmp_path_factory: pytest.TempPathFactory) -> Data:
    """The toy's data, in a separate cache."""
    workload = Host.discover(toy.plugins).get("workload", "toy").reference
    assert isinstance(workload, Reference)
    return Data(DataJob(workload=workload, cache=str(tmp_path_factory.mktemp("cache"))))


def expect_laid_down_anew(data: Data, place: Path, before: Mapping[str, bytes]) -> None:
    """Check that the next job writes the split anew and reports it, and that the one after finds it."""
    answer = data.lay_down()
    assert answer.damaged.keys() == {place.name} == {answer.evaluation}
    assert contents(place) == before
    assert not any(path.is_symlink() for path in (place, *place.rglob("*")))
    assert data.lay_down().damaged == {}


@pytest.mark.parametrize("file", ["input_0.npy", "target_0.npy", "split.json", "digests.json"])
@pytest.mark.parametrize("kind", FILE_DAMAGE)
def test_a_split_with_a_damaged_file_is_laid_down_anew(data: Data, file: str, kind: str) -> None:
    """A split with a damaged file is not evaluated with, but laid down anew."""
    place = data.place
    before = contents(place)
    FILE_DAMAGE[kind](place / file)
    expect_laid_down_anew(data, place, before)


@pytest.mark.parametrize("kind", FOLDER_DAMAGE)
def test_a_split_that_is_no_longer_a_folder_is_laid_down_anew(data: Data, kind: str) -> None:
    """Whatever lies in place of a split is put away."""
    place = data.place
    before = contents(place)
    FOLDER_DAMAGE[kind](place)
    expect_laid_down_anew(data, place, before)


@pytest.mark.parametrize("kind", JSON_DAMAGE)
def test_a_split_whose_digests_are_none_is_laid_down_anew(data: Data, kind: str) -> None:
    """A split is laid down anew whatever its file of digests holds."""
    place = data.place
    before = contents(place)
    (place / "digests.json").write_bytes(JSON_DAMAGE[kind])
    expect_laid_down_anew(data, place, before)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(36, dtype=np.int64),
        np.zeros(35, dtype=np.int64),
        np.zeros((36, 2)),
        np.array([object()] * 36, dtype=object),
    ],
    ids=["other labels", "too few", "another shape", "a pickle"],
)
def test_other_labels_are_found_out(data: Data, array: Any) -> None:
    """An array that could be read but was not written by qx is not used; a pickle is not even opened."""
    place = data.place
    before = contents(place)
    np.save(place / "target_0.npy", array, allow_pickle=True)
    expect_laid_down_anew(data, place, before)


@pytest.mark.parametrize("missing", ["input_0.npy", "target_0.npy", "split.json"])
def test_a_split_without_digests_of_all_files_is_laid_down_anew(data: Data, missing: str) -> None:
    """A file without a digest is not read."""
    place = data.place
    before = contents(place)
    digests = json.loads(before["digests.json"])
    del digests["files"][missing]
    (place / "digests.json").write_text(json.dumps(digests))
    expect_laid_down_anew(data, place, before)


# Whole runs ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_after_damage_gives_what_a_run_before_gave(
    qx: Callable[..., Any], toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damaged labels, weights and manifest change no accuracy, run no foreign code, and have a line each."""
    monkeypatch.setenv("QX_CACHE", str(tmp_path / "cache"))
    module = toy._write("module", MODULE.format(name="module"))
    arguments = ["run", *toy.arguments(module), "-c", "module", "-m", "accuracy", "-m", "file_size"]
    first = qx(*arguments, "--out", "first")
    assert first.code == 0, first.err

    ran = tmp_path / "ran"
    strange = tmp_path / "strange.py"
    strange.write_text(f"open({str(ran)!r}, 'w').close()")
    builds = tmp_path / "cache" / "builds"
    model = builds / first.cell("module")["build"] / "artifact" / "model.pt"
    model.write_bytes(flipped(model.read_bytes()))
    path = builds / first.cell("toy_fp32")["build"] / "artifact" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["loader"] = {"name": "toy_numpy", "module": "strange", "path": str(strange)}
    size = path.stat().st_size
    changed = path.write_text(json.dumps(manifest))
    split = first.results["run"]["workloads"]["toy"]["evaluation_sha256"]
    labels = tmp_path / "cache" / "splits" / split / "target_0.npy"
    np.save(labels, np.load(labels)[::-1])

    second = qx(*arguments, "--out", "second")
    assert second.code == 0, second.err
    assert not ran.exists()
    for config in ("module", "toy_fp32"):
        accuracies = [done.measurement(config, "accuracy")["value"] for done in (first, second)]
        assert accuracies[0] == accuracies[1] > 0.5
        assert not second.cell(config)["build_cached"]
    lines = [line for line in second.err.splitlines() if "damaged" in line]
    assert sorted(lines) == [
        "qx: toy/module: its build in the cache is damaged (artifact/model.pt does not have the bytes that "
        "were written); it is built again",
        "qx: toy/toy_fp32: its build in the cache is damaged (artifact/manifest.json has "
        f"{changed} bytes, expected {size}); it is built again",
        "qx: toy: data in the cache were damaged (target_0.npy does not have the bytes that were written), "
        "and are written again",
    ]
