"""Plugins are imported by separate processes, and their descriptions are cached while they are valid."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import qx.host.describing
import qx.host.description_cache
from qx.contract.checks import new_manager
from qx.contract.description import Description, describe
from qx.contract.references import reference_of
from qx.errors import UsageError
from qx.host.host import Entry, Host
from qx.processes.workers import Processes

Install = Callable[..., None]
Write = Callable[[str, str], str]

CONFIG = """
from qx import Config, hookimpl
@hookimpl
def describe():
    {first}
    return Config(name="{name}", summary="{summary}"{arguments})
@hookimpl
def convert(model):
    return model
"""


def config(name: str, first: str = "pass", summary: str = "A config.", arguments: str = "") -> str:
    return CONFIG.format(name=name, first=first, summary=summary, arguments=arguments and f", {arguments}")


def entry(host: Host, name: str) -> Entry:
    (match,) = (entry for entry in host.entries if entry.name == name)
    return match


@pytest.fixture(autouse=True)
def fresh_processes(own_fork_servers: None) -> None:
    """Have plugins described as a command does, by fresh processes unless there are many."""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache that trusts files which were written a moment ago."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("QX_CACHE", str(folder))
    monkeypatch.setattr(qx.host.description_cache, "TICK", -(10**12))
    monkeypatch.setattr(qx.host.description_cache, "WHOLE_SECONDS", -(10**12))
    return folder


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the processes that are started to describe plugins."""
    names: list[str] = []
    start = Processes.start

    def counted(self: Processes, job: Any, name: str, **options: Any) -> Any:
        names.append(name)
        return start(self, job, name, **options)

    monkeypatch.setattr(Processes, "start", counted)
    return names


# Whatever a plugin does, it does to its own process -----------------------------------------------


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import os; os._exit(0)", "cannot be described: the process ended itself with status 0"),
        (config("bad", "import os; os._exit(0)"), "the process ended itself with status 0"),
        (config("bad", "import ctypes; ctypes.string_at(0)"), "the process was killed by SIGSEGV"),
        (config("bad", "import os; os.kill(os.getpid(), 9)"), "the process was killed by SIGKILL"),
        (
            config("bad", "print('no licence'); import os; os._exit(3)"),
            "status 3; its last line of output: no licence",
        ),
        (config("bad", "raise KeyboardInterrupt"), "cannot be described: KeyboardInterrupt"),
        (config("bad", "raise SystemExit('why')"), "hook 'describe' failed: SystemExit: why"),
        (config("bad", "print('see the\\nlog'); 1 / 0"), "division by zero; its last line of output: log"),
        (
            config("bad", "raise type('E', (Exception,), {'__str__': lambda self: 1 / 0})"),
            "E: the text of what was raised cannot be had: asking for it raised ZeroDivisionError",
        ),
        (config("bad", "raise ValueError('x' * 10 ** 6)"), "xxx..."),
        (config("bad", arguments="instruction_sets=['a'], extra=7"), "'extra' must be <class 'str'>"),
    ],
)
def test_a_plugin_that_fails_costs_itself_alone(install: Install, source: str, reason: str) -> None:
    """A plugin that fails is broken, with the cause in one short line, and all others are ready."""
    points = {"ab_before": "ab_before", "bad": "bad_module", "zz_after": "zz_after"}
    modules = {"ab_before": config("ab_before"), "bad_module": source, "zz_after": config("zz_after")}
    install("acme", points, modules)
    install("other", {"other_one": "other_one"}, {"other_one": config("other_one")})
    host = Host.discover()
    bad = entry(host, "bad")
    assert bad.state == "broken"
    assert reason in bad.reason
    assert "\n" not in bad.reason and len(bad.reason) < 1000
    assert [entry(host, name).state for name in ("ab_before", "zz_after", "other_one")] == ["ready"] * 3


def test_a_plugin_that_hangs_is_broken_in_seconds(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that hangs is broken after a limit that the reason names, and the others are asked."""
    monkeypatch.setattr(qx.host.describing, "LIMIT", 3.0)
    points = {"acme_hangs": "acme_hangs", "acme_well": "acme_well"}
    hangs = config("acme_hangs", "import time; time.sleep(1000)")
    install("acme", points, {"acme_hangs": hangs, "acme_well": "import acme_hangs\n" + config("acme_well")})
    host = Host.discover()
    assert entry(host, "acme_hangs").reason == (
        "describe did not return within 3 s; -p no:acme_hangs leaves it out"
    )
    assert entry(host, "acme_well").state == "ready"


def test_a_plugin_that_dies_of_another_is_asked_alone(install: Install) -> None:
    """A plugin whose process dies after another was imported in it is asked again in a new process."""
    points = {"acme_a": "acme_a", "acme_b": "acme_b"}
    dies = "import os, sys\nif 'acme_a' in sys.modules: os._exit(1)\n"
    install("acme", points, {"acme_a": config("acme_a"), "acme_b": dies + config("acme_b")})
    host = Host.discover()
    assert [entry(host, name).state for name in points] == ["ready", "ready"]


def test_what_a_module_changes_it_changes_for_itself(install: Install, tmp_path: Path) -> None:
    """A module cannot change environment, folder, search path, signals or standard output of the host."""
    source = f"""
import os, signal, sys
os.environ["ACME_WAS_HERE"] = "1"
os.chdir("/")
sys.path.insert(0, "/acme")
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.close(1)
open({str(tmp_path / "pid")!r}, "w").write(str(os.getpid()))
"""
    install("acme", {"acme_x": "acme_x"}, {"acme_x": source + config("acme_x")})
    before = dict(os.environ), os.getcwd(), [*sys.path]
    assert entry(Host.discover(), "acme_x").state == "ready"
    assert (dict(os.environ), os.getcwd(), [*sys.path]) == before
    assert "acme_x" not in sys.modules
    assert int((tmp_path / "pid").read_text()) != os.getpid()


def test_a_child_does_not_speak_for_its_parent(install: Install) -> None:
    """A module that forks is described by the process that qx asked, and by no other."""
    forks = "import os, time\nif os.fork(): time.sleep(0.5)\n"
    points = {"acme_a": "acme_a", "acme_b": "acme_b"}
    install("acme", points, {"acme_a": forks + config("acme_a"), "acme_b": config("acme_b")})
    host = Host.discover()
    assert [entry(host, name).state for name in points] == ["ready", "ready"]


def test_the_plugins_of_a_distribution_share_a_process(install: Install, started: list[str]) -> None:
    """Plugins are described by one process for each distribution that is not qx's own."""
    for name in ("acme", "other"):
        points = {f"{name}_{letter}": f"{name}_{letter}" for letter in "abc"}
        install(name, points, {point: config(point) for point in points})
    Host.discover()
    assert sorted(started) == ["describe-acme_a", "describe-other_a"]


def test_the_host_imports_no_module_of_the_current_folder(tmp_path: Path) -> None:
    """With ``-p MODULE`` the current folder is on the search path of the plugin's process alone."""
    work, program = tmp_path / "work", tmp_path / "program.py"
    work.mkdir()
    program.write_text("from qx.cli import main\nmain()\n")
    work.joinpath("mine.py").write_text("import helper_of_mine\n" + config("mine"))
    work.joinpath("helper_of_mine.py").write_text("")
    # The host imports a module of this name, which must not be this one.
    work.joinpath("concurrent.py").write_text("open('was_imported', 'w')")
    words = [sys.executable, str(program), "list", "-p", "mine"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(words, cwd=work, env=environment, capture_output=True, text=True, check=True)
    assert any(line.split()[:3] == ["config", "mine", "ready"] for line in done.stdout.splitlines())
    assert not work.joinpath("was_imported").exists()


# What is kept -------------------------------------------------------------------------------------


def test_the_description_of_a_plugin_is_kept(
    install: Install, write_plugin: Write, cache: Path, started: list[str]
) -> None:
    """The second time no process is started, and the descriptions are complete."""
    full = config(
        "acme_x", arguments="options=[Option(name='bits', default=0.5, help='H', choices=(0.5, 1.0))]"
    )
    source = "'''Words.'''\nfrom qx import Option\nfrom qx.testing import Conformance\n" + full
    source += "conformance = Conformance(bad_options={'bits': [0.25]})\n"
    install("acme", {"acme_x": "acme_x"}, {"acme_x": source})
    path = write_plugin("mine", config("mine"))
    first = Host.discover([path])
    assert sorted(started) == ["describe-acme_x", "describe-mine"]
    second = Host.discover([path])
    assert len(started) == 2
    assert second.entries == first.entries
    kept = entry(second, "acme_x")
    assert kept.record is not None and kept.description is not None
    assert kept.record.options[0].choices == (0.5, 1.0)
    assert kept.description.documentation == "Words."
    assert kept.description.conformance["bad_options"] == {"bits": [0.25]}


def test_every_built_in_record_survives_the_journey(cache: Path) -> None:
    """Each record is the same after it was written as JSON and read."""
    specs = new_manager().hook
    for plugin in Host.discover().entries:
        assert plugin.reference is not None
        description = describe(plugin.reference, specs)
        assert Description.from_json(json.loads(json.dumps(description.to_json()))) == description


def changed_file(site: Path, install: Install) -> None:
    (site / "acme_pack" / "plugin.py").write_text(config("acme_x", summary="Now."))


def changed_neighbour(site: Path, install: Install) -> None:
    (site / "acme_pack" / "words.py").write_text("SUMMARY = 'Now.'\n")


def changed_data(site: Path, install: Install) -> None:
    (site / "acme_pack" / "data.json").write_text('"Now."')


def changed_beside(site: Path, install: Install) -> None:
    (site / "acme_beside.py").write_text("SUMMARY = 'Now.'\n")


def installed_another(site: Path, install: Install) -> None:
    (site / "optional-1.0.dist-info").mkdir()
    (site / "optional-1.0.dist-info" / "METADATA").write_text("Name: optional\nVersion: 1.0\n")
    (site / "acme_optional.py").write_text("SUMMARY = 'Now.'\n")


PACKAGE = """
import json, pathlib
from acme_pack.words import SUMMARY
import acme_beside
data = pathlib.Path(__file__).with_name("data.json")
SUMMARY = SUMMARY or acme_beside.SUMMARY or json.loads(data.read_text())
try:
    from acme_optional import SUMMARY
except ImportError:
    pass
"""


@pytest.mark.parametrize(
    "change", [changed_file, changed_neighbour, changed_data, changed_beside, installed_another]
)
def test_a_change_is_seen_at_once(install: Install, tmp_path: Path, cache: Path, change: Any) -> None:
    """A change of a package's file, of what it imports, or of what is installed makes a new description."""
    source = PACKAGE + config("acme_x").replace('"A config."', "SUMMARY")
    install("acme", {"acme_x": "acme_pack.plugin"}, {"acme_beside": "SUMMARY = ''\n"})
    site = tmp_path / "site-acme-1.0"
    (site / "acme_pack").mkdir()
    for name, text in {"plugin.py": source, "words.py": "SUMMARY = ''\n", "data.json": '"Then."'}.items():
        (site / "acme_pack" / name).write_text(text)
    for _ in range(2):
        assert entry(Host.discover(), "acme_x").record.summary == "Then."  # type: ignore[union-attr]
    change(site, install)
    assert entry(Host.discover(), "acme_x").record.summary == "Now."  # type: ignore[union-attr]


def test_a_file_that_was_just_written_is_not_trusted_to_stay(
    write_plugin: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[str]
) -> None:
    """A description is not cached while another change could leave the same size and times."""
    monkeypatch.setenv("QX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(qx.host.description_cache, "TICK", 10**15)
    path = write_plugin("mine", config("mine"))
    for _ in range(2):
        assert entry(Host.discover([path]), "mine").state == "ready"
    assert len(started) == 2


def test_a_broken_plugin_is_asked_again(
    install: Install, cache: Path, monkeypatch: pytest.MonkeyPatch, started: list[str]
) -> None:
    """A broken plugin is asked again by each command, and the descriptions of others are kept."""
    needs = "import os\nif 'ACME_KEY' not in os.environ: raise RuntimeError('set ACME_KEY')\n"
    points = {"acme_a": "acme_a", "acme_b": "acme_b"}
    install("acme", points, {"acme_a": config("acme_a"), "acme_b": needs + config("acme_b")})
    for _ in range(2):
        assert "set ACME_KEY" in entry(Host.discover(), "acme_b").reason
    assert started == ["describe-acme_a", "describe-acme_b"]
    monkeypatch.setenv("ACME_KEY", "1")
    for _ in range(2):
        assert [entry(Host.discover(), name).state for name in points] == ["ready", "ready"]
    assert started == ["describe-acme_a", "describe-acme_b", "describe-acme_b"]


def test_each_plugin_is_asked_once_in_a_command(write_plugin: Write, started: list[str]) -> None:
    """A later host of the same command uses the descriptions of the first, even those that are not cached."""
    path = write_plugin("mine", "import os; os._exit(0)")
    first = Host.discover([path])
    second = Host.discover([path, "no:bf16"], known=first)
    assert len(started) == 1
    assert entry(second, "mine").reason == entry(first, "mine").reason


# The cache is data --------------------------------------------------------------------------------

DAMAGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "no object": lambda kept: [],
    "empty": lambda kept: {},
    "no plugins": lambda kept: kept | {"plugins": 3},
    "plugins as a list": lambda kept: kept | {"plugins": list(kept["plugins"])},
    "no description": lambda kept: kept | {"plugins": dict.fromkeys(kept["plugins"], 5)},
    "no fields": lambda kept: kept | {"plugins": {name: {} for name in kept["plugins"]}},
    "files as a number": lambda kept: kept | {"files": 1},
    "files that are numbers": lambda kept: kept | {"files": {"/": 1, "7": None}},
    "a file with a null byte": lambda kept: kept | {"files": {"\0": "1 1 1"}},
    "another environment": lambda kept: kept | {"environment": "another"},
    "another group": lambda kept: kept | {"group": ["another"]},
    "no packages": lambda kept: kept | {"packages": {}},
}


def field_damage(**fields: object) -> Callable[[dict[str, Any]], object]:
    def damage(kept: dict[str, Any]) -> object:
        return kept | {
            "plugins": {name: description | fields for name, description in kept["plugins"].items()}
        }

    return damage


def record_damage(**fields: object) -> Callable[[dict[str, Any]], object]:
    def damage(kept: dict[str, Any]) -> object:
        plugins = {
            name: description | {"record": description["record"] | fields}
            for name, description in kept["plugins"].items()
        }
        return kept | {"plugins": plugins}

    return damage


DAMAGES |= {
    "an unknown outcome": field_damage(outcome="fine"),
    "broken": field_damage(outcome="broken", reason="so it says"),
    "an unknown field": field_damage(more=1),
    "hooks that are none": field_damage(hooks=["__import__"]),
    "hooks as a text": field_damage(hooks="convert"),
    "a reason that is none": field_damage(reason=["x"]),
    "conformance that is none": field_damage(conformance=3),
    "weights that are none": field_damage(weights=7),
    "a record that is none": field_damage(record=[1]),
    "an unknown kind": record_damage(kind="thing"),
    "a kind that is none": record_damage(kind=["config"]),
    "another's name": record_damage(name="another"),
    "no name": record_damage(name=None),
    "options that are none": record_damage(options=[{"name": "x"}]),
    "requirements as a text": record_damage(requires="onnx"),
    "a flag that is none": record_damage(calibration="yes"),
    "a summary that is none": record_damage(summary={}),
}


def test_many_plugins_share_what_their_processes_import(
    write_plugin: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes of more plugins than processors are forked, one for each, and tell what fresh ones tell."""
    start, forked = Processes.start, []

    def noted(self: Processes, *arguments: Any, **options: Any) -> Any:
        worker = start(self, *arguments, **options)
        forked.append(worker.is_forked)
        return worker

    monkeypatch.setattr(Processes, "start", noted)
    first = "import sys; raise ValueError(sorted({'numpy', 'pytest', 'qx'} & {*sys.modules}))"
    paths = [write_plugin(name, config(name, first)) for name in ("here", "there")]
    reasons = []
    for processors in (2, 1):
        monkeypatch.setattr("qx.environment.usable_cpus", lambda count=processors: count)
        host = Host.discover(paths)
        reasons.append([entry(host, name).reason for name in ("here", "there")])
    assert forked == [False, False, True, True]
    assert reasons[0] == reasons[1]
    assert all(reason.endswith("ValueError: ['qx']") for reason in reasons[0])


@pytest.fixture
def kept(install: Install, cache: Path, started: list[str]) -> Path:
    """The file that holds the description of an installed plugin."""
    install("acme", {"acme_x": "acme_x"}, {"acme_x": config("acme_x")})
    Host.discover()
    (file,) = (path for path in (cache / "descriptions").iterdir() if b"acme_x" in path.read_bytes())
    assert file.stat().st_mode & 0o22 == 0
    started.clear()
    Host.discover()
    assert started == []
    return file


def assert_made_anew(kept: Path, started: list[str]) -> None:
    """Check that the next command describes the plugin anew, and that the one after it does not."""
    ready = entry(Host.discover(), "acme_x")
    assert (ready.state, ready.record.summary) == ("ready", "A config.")  # type: ignore[union-attr]
    assert started == ["describe-acme_x"]
    Host.discover()
    assert started == ["describe-acme_x"]


#: Damages of the fast tier, one of each kind.
QUICK = {
    *("no object", "no fields", "files that are numbers", "another environment", "broken"),
    *("a record that is none", "another's name", "a flag that is none"),
}


@pytest.mark.parametrize(
    "damage", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in DAMAGES]
)
def test_a_kept_answer_that_is_wrong_is_asked_for_anew(kept: Path, started: list[str], damage: str) -> None:
    """Wrong content of the file ends no command and imports nothing, and the file is replaced."""
    kept.write_text(json.dumps(DAMAGES[damage](json.loads(kept.read_text()))))
    assert_made_anew(kept, started)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[" * 10**5,
        b" " * (5 << 20),
        *(
            pytest.param(content, marks=pytest.mark.slow)
            for content in (b"\xff\xfe", b"{", b"1" * 10**5, b"NaN")
        ),
    ],
)
def test_a_kept_answer_that_is_no_answer_is_asked_for_anew(
    kept: Path, started: list[str], content: bytes
) -> None:
    """A file that is cut off, deeply nested, too large or no text is replaced."""
    kept.write_bytes(content)
    assert_made_anew(kept, started)


def test_only_regular_files_are_read(kept: Path, started: list[str], tmp_path: Path) -> None:
    """A pipe or a link in place of the file is not read, but replaced."""
    content = kept.read_bytes()
    kept.unlink()
    os.mkfifo(kept)
    assert_made_anew(kept, started)
    tmp_path.joinpath("elsewhere").write_bytes(content)
    kept.unlink()
    kept.symlink_to(tmp_path / "elsewhere")
    started.clear()
    assert_made_anew(kept, started)


def test_a_folder_that_others_can_write_is_not_read(kept: Path, started: list[str]) -> None:
    """Descriptions that other users can change are not read."""
    kept.parent.chmod(0o777)
    assert entry(Host.discover(), "acme_x").state == "ready"
    assert started == ["describe-acme_x"]


@pytest.mark.parametrize("command", [["list"], ["show", "acme_x"]], ids=["list", "show"])
def test_a_folder_that_is_trusted_by_name_is_read_and_written(
    qx: Callable[..., Any], kept: Path, started: list[str], cache: Path, command: list[str]
) -> None:
    """Only ``--trust-cache`` with the cache's own name allows a folder that others can write."""
    kept.parent.chmod(0o777)
    assert "A config." in qx(*command, "--trust-cache", cache).out
    assert started == []
    kept.unlink()
    assert "A config." in qx(*command, "--trust-cache", cache.parent / "other").out
    assert (started, kept.exists()) == (["describe-acme_x"], False)
    assert "A config." in qx(*command, "--trust-cache", cache).out
    assert kept.exists()
    started.clear()
    assert "A config." in qx(*command, "--trust-cache", cache).out
    assert started == []


@pytest.mark.parametrize("place", ["/proc/qx", "a_file/cache"])
def test_without_a_cache_each_command_asks(
    install: Install, monkeypatch: pytest.MonkeyPatch, started: list[str], place: str
) -> None:
    """Without a cache plugins are ready all the same, and each command describes them."""
    Path("a_file").write_text("")
    monkeypatch.setenv("QX_CACHE", str(Path(place).absolute()))
    install("acme", {"acme_x": "acme_x"}, {"acme_x": config("acme_x")})
    for count in (1, 2):
        assert entry(Host.discover(), "acme_x").state == "ready"
        assert len(started) == count


def test_old_answers_make_room(cache: Path, monkeypatch: pytest.MonkeyPatch, write_plugin: Write) -> None:
    """Old descriptions are removed when there are too many."""
    monkeypatch.setattr(qx.host.description_cache, "MOST_KEPT", 3)
    for name in ("one", "two", "three", "four"):
        Host.discover([write_plugin(name, config(name))])
    assert len([*(cache / "descriptions").iterdir()]) == 3


# What travels with it -----------------------------------------------------------------------------


def test_a_record_of_a_subclass_is_read_as_one_of_qx(write_plugin: Write) -> None:
    """A record of a subclass with more fields is read as qx's own record."""
    source = """
        from attrs import frozen
        from qx import Config, hookimpl
        @frozen(kw_only=True)
        class Mine(Config):
            more: object = None
        @hookimpl
        def describe():
            return Mine(name="mine", summary="S", more=print)
        @hookimpl
        def convert(model):
            return model
    """
    assert type(entry(Host.discover([write_plugin("mine", source)]), "mine").record).__name__ == "Config"


def test_weights_whose_package_is_not_installed_are_reported(
    qx: Callable[..., Any], write_plugin: Write
) -> None:
    """A workload whose weights' package is missing is ready, and a run says which package it needs."""
    source = """
        from qx import Workload, hookimpl
        @hookimpl
        def describe():
            return Workload(name="mine", summary="S", weights="no_such_package:weights.pt")
        @hookimpl
        def make_model(): ...
        @hookimpl
        def load_data(): ...
        @hookimpl
        def example_inputs(): ...
    """
    done = qx("run", "--workload", "mine", "-p", write_plugin("mine", source))
    assert done.code == 2
    assert "the weights of mine (no_such_package:weights.pt) are not installed: no package" in done.err


def test_a_conformance_of_another_type_is_reported(qx: Callable[..., Any], write_plugin: Write) -> None:
    """An attribute ``conformance`` of another type is an error for ``qx check`` alone."""
    path = write_plugin("mine", config("mine") + "conformance = {}\n")
    assert entry(Host.discover([path]), "mine").state == "ready"
    done = qx("check", "-p", path)
    assert done.code == 2
    assert (
        "'conformance' cannot be read: TypeError: it must be a qx.testing.Conformance, not dict" in done.err
    )


def test_the_limit_is_documented() -> None:
    """The contract and its pages name the seconds that describing a plugin may take."""
    top = Path(__file__).parents[2]
    for name in ("qx/contract/hookspecs.py", "docs/hooks.md", "docs/plugins.md"):
        text = " ".join((top / name).read_text().split())
        assert f"{qx.host.describing.LIMIT:g} seconds" in text, name


def test_a_process_that_imports_looks_into_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``-p MODULE`` puts the module's folder on the search path, for other modules that lie there."""
    tmp_path.joinpath("my_loader.py").write_text("")
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert reference_of("no_such_module").folder is None
    reference_of("my_loader").extend_search_path()
    assert sys.path[0] == str(Path.cwd())


def test_a_reference_is_a_file_that_can_be_named(tmp_path: Path) -> None:
    """A file name that is too long is a usage error."""
    with pytest.raises(UsageError, match="File name too long"):
        Host.discover([f"{'x' * 5000}.py"])
