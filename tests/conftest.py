"""What tests share: a cache of their own, no network, ``qx`` itself, and a toy workload served without torch.

Nothing here stands in for a part of qx: runs are real, with real processes and real artifacts. The toy is
small, so that a run of it takes seconds.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from importlib import import_module
from pathlib import Path
from textwrap import dedent, indent
from types import ModuleType
from typing import Any

import psutil
import pytest
from attrs import frozen

from qx.cli import main
from qx.host.host import Host
from qx.processes import fork_servers as fork_servers_module
from qx.processes.fork_servers import share_fork_servers

# ``benchmarks`` lies in the checkout alone; behind the installed qx, which is what is tested.
sys.path.append(str(Path(__file__).parents[1]))

# Tests and helpers that lie in these modules show what their assertions compare, as test files do.
pytest.register_assert_rewrite("any_runtime", "runtimes")

#: Configs and metrics of the run that tests share.
CONFIGS = ["fp32_baseline", "dynamic_int8", "static_int8_per_channel"]
if os.environ.get("QX_SLOW"):
    CONFIGS.append("static_int8_per_tensor")
METRICS = ("accuracy", "file_size", "latency", "rss")


def pytest_configure() -> None:
    """Keep no answers of plugins that test modules ask before there is a cache for tests.

    Threads that wait for others let these have the processors, which the workers of tests share: by default
    they spin, and a training by two threads took twice the time beside another one.
    """
    os.environ["QX_CACHE"] = os.devnull
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Skip the tests of the slow tier, which bear the marker ``slow``, where ``QX_SLOW`` is not set."""
    if not os.environ.get("QX_SLOW"):
        for item in items:
            if item.get_closest_marker("slow") is not None:
                item.add_marker(pytest.mark.skip(reason="QX_SLOW=1 runs it"))


@pytest.fixture(scope="session", autouse=True)
def ctrl_c() -> Iterator[None]:
    """Let Ctrl-C work in whatever tests start, though a background job of a shell ignores it."""
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if ignored:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    if ignored:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give tests a cache folder of their own, no network, and no data of the machine's user."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QX_CACHE", str(folder))
        patch.setenv("QX_OFFLINE", "1")
        patch.delenv("QX_DATA", raising=False)
        yield folder


@pytest.fixture(scope="session", autouse=True)
def fork_servers() -> Iterator[None]:
    """Import torch once for all workers of this process of tests, launches that are timed included.

    What tests hold is what becomes of times, and not how long something takes.
    """
    with share_fork_servers():
        yield


@pytest.fixture
def own_fork_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each run of a test fork servers of its own, which end with it, as those of a command do."""
    monkeypatch.setattr(fork_servers_module, "_shared", None)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin each test in an empty folder, so that nothing is written into the checkout."""
    monkeypatch.chdir(tmp_path)


# Running qx ---------------------------------------------------------------------------------------


@frozen(slots=False)
class Done:
    """A command that has ended, and where its results are, if it was a run that wrote some."""

    code: int
    out: str
    err: str
    folder: Path

    @cached_property
    def results(self) -> dict[str, Any]:
        """Return the content of ``full_results.json``."""
        place = self.folder / "full_results.json"
        assert place.is_file(), f"exit code {self.code}, and no results: {self.err[-3000:]}"
        content: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
        return content

    @property
    def table(self) -> str:
        """Return the text of ``pareto.md``."""
        return (self.folder / "pareto.md").read_text(encoding="utf-8")

    def cell(self, config: str) -> dict[str, Any]:
        """Return the only cell of a config, leaving out the control, which ``control`` names."""
        cells: list[dict[str, Any]] = [
            cell
            for name, cell in self.results["cells"].items()
            if (cell["control"] and config == "control") or (cell["config"] == config and not cell["control"])
        ]
        (cell,) = cells
        return cell

    def measurements(self, config: str | None = None, metric: str | None = None) -> list[dict[str, Any]]:
        """Return the measurements of a config and a metric, leaving out those of the control."""
        return [
            measurement
            for measurement in self.results["measurements"]
            if config in (None, measurement["config"])
            and metric in (None, measurement["metric"])
            and not self.results["cells"][measurement["cell"]]["control"]
        ]

    def measurement(self, config: str, metric: str) -> dict[str, Any]:
        """Return the only measurement of a config and a metric."""
        (measurement,) = self.measurements(config, metric)
        return measurement


class Terminal(io.StringIO):
    """A text stream that is a terminal."""

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return True


def run_command(out: io.StringIO, arguments: Sequence[object], cwd: Path | None) -> Done:
    """Run a command in this process, with this stream as its standard output."""
    words = [str(argument) for argument in arguments]
    err, before = io.StringIO(), Path.cwd()
    try:
        os.chdir(cwd or before)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(words)
    finally:
        os.chdir(before)
    out_folder = words[words.index("--out") + 1] if "--out" in words else "artifacts/results"
    return Done(code, out.getvalue(), err.getvalue(), (cwd or before) / out_folder)


@pytest.fixture(scope="session")
def qx() -> Callable[..., Done]:
    """Run a command in this process: ``qx("run", "--seed", 1, cwd=folder)``."""

    def run(*arguments: object, cwd: Path | None = None) -> Done:
        return run_command(io.StringIO(), arguments, cwd)

    return run


@pytest.fixture
def qx_on_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """Run a command in this process whose standard output is a terminal of 100 columns with colours."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)

    def run(*arguments: object, cwd: Path | None = None) -> Done:
        return run_command(Terminal(), arguments, cwd)

    return run


#: Program that runs another where neither qx nor its plugins can be imported.
WITHOUT_QX = """
import runpy, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0].startswith("qx"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="session")
def without_qx() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs a program with arguments in a process that cannot import qx."""

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", "-c", WITHOUT_QX, *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a command as a process of its own, with a folder ``temporary`` for temporary files."""
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: object, **options: Any) -> subprocess.Popen[str]:
        temporary = tmp_path / "temporary"
        temporary.mkdir(exist_ok=True)
        process = subprocess.Popen(
            [sys.executable, "-m", "qx", *map(str, arguments)],
            env=os.environ | {"TMPDIR": str(temporary)},
            text=True,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            # Its workers would go on, and be in the way of other tests.
            for worker in psutil.Process(process.pid).children(recursive=True):
                worker.kill()
        process.kill()
        process.wait()
        for stream in filter(None, (process.stdout, process.stderr)):
            stream.close()


@pytest.fixture(scope="session")
def write_plugin(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], str]:
    """Write a plugin into a file of its own and return its path, as ``-p`` takes it.

    The same plugin has the same path each time and is written once, so that what qx learned and built of it
    is in the cache for the next test.
    """
    paths: dict[tuple[str, str], Path] = {}

    def write(name: str, source: str) -> str:
        if (name, source) not in paths:
            paths[name, source] = tmp_path_factory.mktemp("plugin") / f"{name}.py"
            paths[name, source].write_text(dedent(source), encoding="utf-8")
        return str(paths[name, source])

    return write


METRIC = """
from qx import Metric, Samples, hookimpl
{before}

@hookimpl
def describe():
    return Metric(
        name="{name}", summary="A metric of a test.", unit="things", better="lower",
        samples="{samples}", compare="ratio", phase="{phase}",
    )

@hookimpl
def measure(subject, data):
{body}
"""
#: The kind of samples of a metric in each phase, where a test does not choose it.
SAMPLES = {
    "artifact": "exact",
    "fresh": "per_launch",
    "block": "per_block",
    "predictions": "exact",
    "derived": "exact",
}


@pytest.fixture(scope="session")
def write_metric(write_plugin: Callable[[str, str], str]) -> Callable[..., str]:
    """Write a metric of a phase into a file and return its path, as ``-p`` takes it."""

    def write(name: str, phase: str, body: str, *, before: str = "", samples: str = "") -> str:
        """Write a metric; ``body`` is what ``measure`` does, and ``before`` stands above its hooks."""
        source = METRIC.format(
            name=name,
            phase=phase,
            samples=samples or SAMPLES[phase],
            body=indent(dedent(body), "    "),
            before=dedent(before),
        )
        return write_plugin(name, source)

    return write


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Install a distribution with entry points, as pip leaves it: a ``.dist-info`` beside its modules."""
    before = set(sys.modules)

    def install(
        name: str, points: Mapping[str, str], modules: Mapping[str, str], version: str = "1.0"
    ) -> None:
        site = tmp_path / f"site-{name}-{version}"
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        lines = [f"{point} = {value}" for point, value in points.items()]
        info.joinpath("entry_points.txt").write_text("\n".join(["[qx]", *lines]) + "\n")
        for module, source in modules.items():
            site.joinpath(f"{module}.py").write_text(dedent(source))
        monkeypatch.syspath_prepend(site)

    yield install
    for name in set(sys.modules) - before:
        # Others, such as numpy, may not be imported twice.
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture(scope="session")
def loaded_modules(write_plugin: Callable[[str, str], str]) -> str:
    """Return a metric that reports which of the heavy packages a launch has imported."""
    return write_plugin(
        "loaded_modules",
        """
        import os, sys
        from qx import Metric, Samples, hookimpl

        @hookimpl
        def describe():
            return Metric(
                name="loaded_modules", summary="Modules in a launch.", unit="modules", better="neither",
                samples="per_launch", compare="difference", phase="fresh",
            )

        @hookimpl
        def measure():
            names = sorted({name.partition(".")[0] for name in sys.modules})
            details = {"packages": names, "threads": os.environ["OMP_NUM_THREADS"]}
            return Samples(float(len(sys.modules)), details=details)
        """,
    )


# The digits, once for all -------------------------------------------------------------------------


@pytest.fixture(scope="session")
def digits(qx: Callable[..., Done], loaded_modules: str, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """Run torch's eager configs on the digits in an empty folder, with as few waves as possible."""
    home = tmp_path_factory.mktemp("digits")
    configs = [word for name in CONFIGS for word in ("-c", name)]
    metrics = [word for name in (*METRICS, "loaded_modules") for word in ("-m", name)]
    with pytest.MonkeyPatch.context() as patch:
        # All configs in one group, however little memory there is.
        patch.setattr(import_module("qx.runner.measure.timing"), "_room", lambda *_: 9)
        done = qx(
            *("run", "--workload", "digits_cnn", "-p", loaded_modules, *configs, *metrics),
            *("--quick", "--budget", 0.01, "--batch-size", 1),
            cwd=home,
        )
    return Done(done.code, done.out, done.err, home / "artifacts" / "results" / "digits_cnn")


# The toy ------------------------------------------------------------------------------------------

TOY_WORKLOAD = """
    from qx import Data, Option, Workload, hookimpl

    COUNTS = {"train": (180, 90, 30), "test": (20, 10, 6)}

    @hookimpl
    def describe():
        return Workload(
            name="toy",
            summary="Points in four dimensions, of three kinds.",
            options=[Option(name="epochs", default=2, help="Passes over the training points.")],
        )

    @hookimpl
    def make_model():
        import torch
        return torch.nn.Linear(4, 3)

    @hookimpl
    def load_data(split):
        import numpy
        random = numpy.random.RandomState(len(split))
        labels = numpy.repeat(numpy.arange(3), COUNTS[split])
        points = random.randn(len(labels), 4).astype("float32")
        points[numpy.arange(len(labels)), labels] += 2
        targets, kinds = {"labels": labels}, ("x", "y", "z")
        return Data(inputs={"point": points}, targets=targets, classes=kinds, source="toy points")

    @hookimpl
    def example_inputs(batch_size):
        import torch
        return (torch.zeros(batch_size, 4),)

    @hookimpl
    def train(model, context):
        import torch
        with torch.no_grad():
            model.weight.copy_(torch.eye(3, 4) * context.options["epochs"])
            model.bias.copy_(torch.rand(3) / 100)
        context.progress(1.0, "trained")
        return model
"""

TOY_LOADER = """
    from qx import Loader, hookimpl

    @hookimpl
    def describe():
        return Loader(name="toy_numpy", summary="A matrix product in numpy.", imports=["numpy"])

    @hookimpl
    def load(artifact):
        import numpy
        with numpy.load(artifact.folder / artifact.files[0]) as arrays:
            return Subject(arrays["weight"], arrays["bias"], artifact.details)

    class Subject:
        def __init__(self, weight, bias, details):
            self.weight, self.bias, self.config = weight, bias, details["config"]

        def prepare(self, arrays):
            return arrays["point"]

        def call(self, native):
            return native @ self.weight.T + self.bias

        def outputs(self, native):
            return {"output": native}
"""

TOY_CONFIG = """
    from qx import Artifact, Config, hookimpl

    @hookimpl
    def describe():
        return Config(name="{name}", summary="A toy."{record})

    @hookimpl
    def convert(model, context):
        import numpy
        {first}
        weight, bias = (tensor.detach().numpy() for tensor in (model.weight, model.bias))
        numpy.savez(context.folder / "model.npz", weight=weight, bias=bias)
        return Artifact(
            folder=context.folder, files=["model.npz"], loader="{loader}", details={{"config": "{name}"}}
        )
"""


def toy_config(name: str, first: str = "pass", record: str = "", loader: str = "toy_numpy") -> str:
    """Return the source of a config for the toy workload."""
    keywords = record and f", {record}"
    return dedent(TOY_CONFIG).format(name=name, first=first, record=keywords, loader=loader)


@frozen
class Toy:
    """A workload with a loader and a baseline, which ``-p`` adds to the command line."""

    #: Arguments of ``-p``; the built-in configs are left out.
    plugins: tuple[str, ...]
    weights: Path
    _write: Callable[[str, str], str]

    def config(self, name: str, *, first: str = "pass", record: str = "", loader: str = "toy_numpy") -> str:
        """Write a config for the toy and return its path; ``first`` is what its ``convert`` does first."""
        return self._write(name, toy_config(name, first, record, loader))

    def loader(self, name: str, hook: str) -> str:
        """Write a loader that serves as the toy's does and implements one hook more; return its path."""
        source = dedent(TOY_LOADER).replace('"toy_numpy"', repr(name))
        return self._write(name, f"{source}\n{dedent(hook)}")

    def arguments(self, *plugins: str) -> list[str]:
        """Return the command-line arguments that choose the toy and add plugins."""
        return ["--workload", "toy", "--weights", str(self.weights), *self.plugin_arguments(*plugins)]

    def plugin_arguments(self, *plugins: str) -> list[str]:
        """Return the toy's plugins and others as command-line arguments."""
        return [word for plugin in (*self.plugins, *plugins) for word in ("-p", plugin)]


@pytest.fixture(scope="session")
def toy(write_plugin: Callable[[str, str], str], tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """Return the toy workload, its loader and its baseline."""
    import torch

    weights = tmp_path_factory.mktemp("toy") / "toy.pt"
    torch.save({"weight": torch.eye(3, 4), "bias": torch.zeros(3)}, weights)
    built_in: Sequence[str] = [
        f"no:{entry.name}" for entry in Host.discover().entries if entry.kind == "config"
    ]
    plugins = (
        write_plugin("toy", TOY_WORKLOAD),
        write_plugin("toy_numpy", TOY_LOADER),
        write_plugin("toy_fp32", toy_config("toy_fp32", record="reference=True")),
        *built_in,
    )
    return Toy(plugins, weights, write_plugin)


# Runs made by hand --------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def builders() -> ModuleType:
    """Return ``builders.py``, which lies beside this file: recordings with known ratios and their results."""
    import builders

    return builders


@pytest.fixture(scope="session")
def damage() -> ModuleType:
    """Return ``damage.py``, which lies beside this file: files of a run, damaged at random."""
    import damage

    return damage
