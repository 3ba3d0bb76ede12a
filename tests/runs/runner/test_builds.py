"""Builds are kept under a key of all that decides them, found again, and made anew when any of it changes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attrs import define, evolve

from qx.cli.display import Lines
from qx.host.host import Host
from qx.processes.workers import Failure, Processes
from qx.runner.builds import Build, _key, build, build_job
from qx.runner.preparation import Prepared, prepare
from qx.runner.request import Request, cell_of
from qx.runner.settings import Variant, variants
from qx.worker.arrays import Split

CALIBRATED = """
    from qx import Artifact, Config, hookimpl

    @hookimpl
    def describe():
        return Config(name="calibrated", summary="Knows what it saw.", calibration=True)

    @hookimpl
    def calibrate(model, batches):
        model.seen = [batch.inputs["point"] for batch in batches]
        return model

    @hookimpl
    def convert(model, context):
        import numpy
        weight, bias = (tensor.detach().numpy() for tensor in (model.weight, model.bias))
        seen, drawn = numpy.concatenate(model.seen), numpy.random.rand(3)
        numpy.savez(context.folder / "model.npz", weight=weight, bias=bias, seen=seen, drawn=drawn)
        return Artifact(
            folder=context.folder, files=["model.npz"], loader="toy_numpy", details={"config": "calibrated"}
        )
"""


def _prepared(host: Host, request: Request, processes: Processes, trained: Sequence[Variant]) -> Prepared:
    return prepare(host, request, host.get("workload", "toy"), processes, Lines(), {}, trained)


@define
class Bench:
    """Builds configs of the toy, and counts the processes that this takes."""

    plugins: list[str]
    request: Request
    processes: Processes
    logs: Path
    prepared: Prepared

    def prepare(self, **changes: Any) -> Prepared:
        request = evolve(self.request, **changes)
        return _prepared(Host.discover(self.plugins), request, self.processes, ())

    def prepare_for_training(self) -> Prepared:
        host = Host.discover(self.plugins)
        trained = variants(host.get("config", "trained"), {})
        return _prepared(host, self.request, self.processes, trained)

    def build(
        self, config: str, prepared: Prepared | None = None, *extra_plugins: str, **changes: Any
    ) -> tuple[Build, int]:
        """Return the build, and how many processes were started for it."""
        host = Host.discover([*self.plugins, *extra_plugins])
        before = len(list(self.logs.glob("*-build-*")))
        request = evolve(self.request, **changes)
        (variant,) = variants(host.get("config", config), {}, request.calibration_n)
        cell = cell_of("toy", variant, request)
        built = build(host, request, prepared or self.prepared, cell, self.processes, Lines())
        return built, len(list(self.logs.glob("*-build-*"))) - before


@pytest.fixture(scope="module")
def bench(
    toy: Any,
    write_plugin: Callable[[str, str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Bench]:
    """The toy, prepared for the builds of all tests here."""
    logs = tmp_path_factory.mktemp("logs")
    plugins = [
        *toy.plugins,
        write_plugin("calibrated", CALIBRATED),
        write_plugin(
            "trained",
            CALIBRATED.replace("calibration=True", "training=True").replace("calibrated", "trained"),
        ),
        toy.config("kept"),
        toy.config("raising", first="open(context.folder / 'half', 'w').close(); raise ValueError('torn')"),
    ]
    request = Request(workload="toy", weights=toy.weights, calibration_n=40)
    with Processes(logs) as processes:
        prepared = _prepared(Host.discover(plugins), request, processes, ())
        yield Bench(plugins, request, processes, logs, prepared)


def test_a_build_is_found_again(bench: Bench, cache: Path) -> None:
    """The second time no process is started: the build has the same folder, and the seconds that it took."""
    first, started_first = bench.build("kept")
    second, started = bench.build("kept")
    assert (started_first, first.cached) == (1, False)
    assert (started, second.cached) == (0, True)
    assert second.artifact == first.artifact == cache / "builds" / first.key / "artifact"
    assert second.seconds == first.seconds > 0
    assert sorted(path.name for path in first.artifact.iterdir()) == ["manifest.json", "model.npz"]


def test_what_the_steps_of_a_build_took_is_kept_with_it(bench: Bench) -> None:
    """A build knows seconds and memory of its steps, and one from the cache knows the same."""
    first, _ = bench.build("calibrated", rebuild=True)
    names = ["import", "make_model", "calibrate", "convert", "save"]
    assert [step.name for step in first.steps] == names
    assert 0 < sum(step.seconds for step in first.steps) < first.seconds
    assert all(20 < step.peak <= step.peak_of_all for step in first.steps)
    cached, started = bench.build("calibrated")
    assert (started, cached.cached, cached.steps) == (0, True, first.steps)


def test_memory_of_a_build_holds_that_of_processes_that_it_starts(bench: Bench, toy: Any) -> None:
    """What a started program takes counts in the step that started it, and only there."""
    program = "import time; held = bytearray(150 << 20); time.sleep(1.5)"
    first = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {program!r}])"
    built, _ = bench.build("compiles", None, toy.config("compiles", first=first))
    steps = {step.name: step for step in built.steps}
    assert steps["convert"].peak_of_all - steps["convert"].peak > 140
    assert steps["import"].peak_of_all - steps["import"].peak < 100


def test_rebuild_builds_anew(bench: Bench) -> None:
    """``--rebuild`` builds even where there is a build, and replaces that."""
    first, _ = bench.build("kept")
    second, started = bench.build("kept", rebuild=True)
    assert (started, second.cached) == (1, False)
    assert second.key == first.key


def test_another_seed_is_another_build(bench: Bench) -> None:
    """A build of another seed is made anew, and neither takes the place of the other."""
    first, _ = bench.build("calibrated")
    other, started = bench.build("calibrated", seed=1)
    assert (started, other.cached) == (1, False)
    assert other.key != first.key
    assert bench.build("calibrated")[1] == 0
    assert bench.build("calibrated", seed=1)[1] == 0
    assert (first.artifact / "model.npz").read_bytes() != (other.artifact / "model.npz").read_bytes()


def test_other_calibration_images_are_another_build_where_there_is_calibration(bench: Bench) -> None:
    """With another number of images a calibrated config is built anew, and any other is found."""
    for config in ("calibrated", "kept"):
        bench.build(config)
    prepared = bench.prepare(calibration_n=41)
    other, started = bench.build("calibrated", prepared, calibration_n=41)
    assert (started, other.cached) == (1, False)
    assert bench.build("kept", prepared)[1] == 0


def test_a_config_that_trains_sees_the_training_split(bench: Bench) -> None:
    """A config that trains sees each training item once; with other items it alone is built anew."""
    prepared = bench.prepare_for_training()
    first, _ = bench.build("trained", prepared)
    with np.load(first.artifact / "model.npz") as arrays:
        trained_on = arrays["seen"]
    assert prepared.training is not None
    expected = Split.read(prepared.training).inputs["point"]
    assert not np.array_equal(trained_on, expected)
    assert np.array_equal(np.sort(trained_on, axis=0), np.sort(expected, axis=0))
    assert bench.build("trained", prepared)[1] == 0
    moved = evolve(prepared, training=prepared.evaluation)
    bench.build("kept", prepared)
    assert bench.build("kept", moved)[1] == 0
    assert bench.build("trained", moved)[1] == 1


def test_other_weights_are_another_build(bench: Bench, tmp_path: Path) -> None:
    """With other weights every config is built anew; where the file lies makes no difference."""
    import torch

    first, _ = bench.build("kept")
    (tmp_path / "moved.pt").write_bytes(bench.prepared.weights.read_bytes())
    moved = evolve(bench.prepared, weights=tmp_path / "moved.pt")
    assert bench.build("kept", moved)[1] == 0
    torch.save({"weight": torch.ones(3, 4), "bias": torch.zeros(3)}, tmp_path / "other.pt")
    other, started = bench.build("kept", bench.prepare(weights=tmp_path / "other.pt"))
    assert started == 1
    assert other.key != first.key


def test_a_changed_plugin_is_another_build(bench: Bench) -> None:
    """When the source of the config changes it is built anew; when it is changed back, it is found."""
    first, _ = bench.build("kept")
    path = Path(next(plugin for plugin in bench.plugins if plugin.endswith("kept.py")))
    source = path.read_text()
    try:
        path.write_text(source + "\n# another thought\n")
        other, started = bench.build("kept")
    finally:
        path.write_text(source)
    assert started == 1
    assert other.key != first.key
    third, started = bench.build("kept")
    assert (started, third.key) == (0, first.key)


COMPOSED = """
    from qx import Config, hookimpl

    @hookimpl
    def describe():
        return Config(name="composed", summary="Doubles, then as kept.", recipes=["kept"])

    @hookimpl
    def convert(model, example_inputs, context):
        model.weight.data *= 2
        return context.recipe("kept").convert(model, example_inputs)
"""


def test_a_changed_recipe_is_another_build_of_what_is_composed_of_it(
    bench: Bench, write_plugin: Callable[[str, str], str]
) -> None:
    """A config that calls another is built anew when the source of that changes, and computes both."""
    composed = write_plugin("composed", COMPOSED)
    kept, (first, _) = bench.build("kept")[0], bench.build("composed", None, composed)
    assert bench.build("composed", None, composed)[1] == 0
    with np.load(kept.artifact / "model.npz") as once, np.load(first.artifact / "model.npz") as twice:
        assert (twice["weight"] == 2 * once["weight"]).all() and once["weight"].any()
    path = Path(next(plugin for plugin in bench.plugins if plugin.endswith("kept.py")))
    source = path.read_text()
    try:
        path.write_text(source + "\n# another thought\n")
        other, started = bench.build("composed", None, composed)
    finally:
        path.write_text(source)
    assert started == 1
    assert other.key != first.key
    assert bench.build("composed", None, composed)[1] == 0


def test_another_compiler_is_another_build(
    bench: Bench, toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A config that names a program is built anew when that program changes; the others are not."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    program = tmp_path / "qx-compiler"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    compiled = toy.config("compiled", record="programs=['qx-compiler', 'no-such-program']")
    bench.build("kept")
    assert [bench.build("compiled", None, compiled)[1] for _ in range(2)] == [1, 0]
    program.write_text("#!/bin/sh\n# of another version\n")
    assert [bench.build("compiled", None, compiled)[1] for _ in range(2)] == [1, 0]
    assert bench.build("kept")[1] == 0


def test_another_version_of_what_made_the_model_is_another_build(
    bench: Bench, install: Callable[..., None], tmp_path: Path
) -> None:
    """Where layers come from another distribution, an upgrade of that makes a new build."""
    source = "import torch\nclass Layer(torch.nn.Linear): pass\n"
    path = tmp_path / "toy.py"
    toy = Path(bench.plugins[0]).read_text()
    path.write_text(toy.replace("return torch.nn.Linear(4, 3)", "from nets import Layer; return Layer(4, 3)"))
    plugins = [str(path), *bench.plugins[1:]]
    versions, keys = [], []
    for version in ("1.0", "1.1"):
        install("some-nets", {}, {"nets": source}, version)
        info = tmp_path / f"site-some-nets-{version}" / f"some_nets-{version}.dist-info"
        (info / "top_level.txt").write_text("nets\n")
        host = Host.discover(plugins)
        prepared = _prepared(host, bench.request, bench.processes, ())
        versions.append(prepared.model_versions["some-nets"])
        (variant,) = variants(host.get("config", "kept"), {}, bench.request.calibration_n)
        cell = cell_of("toy", variant, bench.request)
        entry = host.get("config", "kept")
        keys.append(_key(host, build_job(host, bench.request, prepared, cell, entry), prepared, entry))
    assert versions == ["1.0", "1.1"]
    assert keys[0] != keys[1]


def test_a_wrapper_is_another_build(bench: Bench, write_plugin: Callable[[str, str], str]) -> None:
    """A wrapper of a build's hooks may change the artifact: with one, the config is built anew."""
    source = """
        from qx import hookimpl

        @hookimpl(wrapper=True)
        def convert():
            return (yield)
    """
    bench.build("kept")
    _, started = bench.build("kept", None, write_plugin("around", source))
    assert started == 1


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("artifact/model.npz", b"half of it"),
        pytest.param("artifact/model.npz", None, marks=pytest.mark.slow),
        pytest.param("artifact/manifest.json", b"{", marks=pytest.mark.slow),
        pytest.param("artifact/manifest.json", None, marks=pytest.mark.slow),
        ("build.json", b""),
        pytest.param("build.json", b'{"seconds": 1.0, "key": "?"}', marks=pytest.mark.slow),
    ],
)
def test_a_damaged_build_is_made_anew(bench: Bench, file: str, content: bytes | None) -> None:
    """A build with a file that is cut off, unreadable or missing is not used; the new one is whole."""
    first, _ = bench.build("kept")
    path = first.artifact.parent / file
    content_before = path.read_bytes()
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    second, started = bench.build("kept")
    assert (started, second.cached, second.key) == (1, False, first.key)
    if file != "build.json":
        assert path.read_bytes() == content_before
    assert bench.build("kept")[1] == 0


def test_the_manifest_says_what_the_artifact_is(bench: Bench) -> None:
    """The manifest names the loader, size and SHA-256 of each file, and the build's inputs, but no module."""
    built, _ = bench.build("kept", seed=5)
    manifest = json.loads((built.artifact / "manifest.json").read_text())
    content = (built.artifact / "model.npz").read_bytes()
    assert manifest == {
        "version": 2,
        "loader": "toy_numpy",
        "files": {"model.npz": {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}},
        "details": {"config": "kept"},
        "notes": [],
        "layers": [],
        "weight_elements": 12,
        "origin": {
            "config": {"name": "kept", "distribution": None, "version": None, "options": {}},
            "workload": {"name": "toy", "distribution": None, "version": None, "options": {}},
            "seed": 5,
            "build_seed": 5,
            "engine": bench.prepared.engine,
        },
    }


def test_a_build_that_fails_leaves_nothing(bench: Bench, cache: Path) -> None:
    """The files of a failed build are removed, and the build is tried anew the next time."""
    before = sorted(path.name for path in (cache / "builds").iterdir())
    for _ in range(2):
        with pytest.raises(Failure, match="failed in convert: ValueError: torn"):
            bench.build("raising")
    assert sorted(path.name for path in (cache / "builds").iterdir()) == before
