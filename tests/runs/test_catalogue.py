"""The catalogue: which plugins are discovered, their states, and why a plugin is not ready."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from qx.errors import UsageError
from qx.host.host import Entry, Host, Reference

CONFIG = """
    from qx import Config, hookimpl
    @hookimpl
    def describe():
        return Config(name="{name}", summary="A config."{arguments})
    @hookimpl
    def convert(model):
        return model
"""

Install = Callable[..., None]


def config(name: str, arguments: str = "") -> str:
    return CONFIG.format(name=name, arguments=arguments and f", {arguments}")


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, install: Install) -> Callable[[str, str], str]:
    """Write a module into the current folder."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def write(module: str, source: str) -> str:
        folder.joinpath(f"{module}.py").write_text(dedent(source))
        return f"{module}.py"

    return write


def entry(host: Host, name: str) -> Entry:
    (match,) = (entry for entry in host.entries if entry.name == name)
    return match


def test_a_plugin_is_found_through_its_entry_point(install: Install) -> None:
    """An installed plugin is ready under the name of its entry point, with its distribution and version."""
    install("acme", {"acme_half": "acme_one"}, {"acme_one": config("acme_half")}, version="2.5")
    plugin = Host.discover().get("config", "acme_half")
    assert (plugin.state, plugin.kind, plugin.distribution, plugin.version) == (
        "ready",
        "config",
        "acme",
        "2.5",
    )
    assert plugin.reference == Reference("acme_half", "acme_one", None, None, "acme", "2.5")
    assert plugin.hooks == ("describe", "convert")


def test_an_entry_point_may_name_an_object(install: Install) -> None:
    """An entry point may name an object in a module as a plugin."""
    source = """
        from qx import Metric, hookimpl
        class Size:
            @hookimpl
            def describe(self):
                return Metric(name="acme_size", summary="S", unit="bytes", better="lower", samples="exact",
                              compare="ratio", phase="artifact")
            @hookimpl
            def measure(self, data):
                return data
        size = Size()
    """
    install("acme", {"acme_size": "acme_object:size"}, {"acme_object": source})
    reference = Host.discover().get("metric", "acme_size").reference
    assert reference is not None
    host = Host.of([reference])
    assert host.call("acme_size", "measure", subject=None, data=7, context=None) == 7


@pytest.mark.parametrize("failure", ["import no_such_module_at_all", "raise SystemExit(3)", "def f(:"])
def test_a_plugin_that_cannot_be_imported_leaves_the_others(install: Install, failure: str) -> None:
    """A plugin that cannot be imported is broken, with distribution and reason, and the others are ready."""
    points = {"acme_bad": "acme_bad", "acme_good": "acme_good"}
    install("acme", points, {"acme_bad": failure, "acme_good": config("acme_good")})
    host = Host.discover()
    bad = entry(host, "acme_bad")
    assert (bad.state, bad.distribution, bad.version, bad.kind) == ("broken", "acme", "1.0", None)
    assert bad.reason.startswith("cannot be imported: ")
    assert "\n" not in bad.reason
    assert entry(host, "acme_good").state == "ready"
    with pytest.raises(UsageError, match=r"'acme_bad' \(acme 1\.0\) is broken: cannot be imported"):
        host.get("config", "acme_bad")


def test_a_damaged_distribution_leaves_the_others(install: Install, tmp_path: Path) -> None:
    """A damaged list of entry points is reported, and the plugins of other distributions are ready."""
    install("acme", {"acme_half": "acme_half"}, {"acme_half": config("acme_half")})
    install("torn", {}, {})
    next(tmp_path.glob("site-torn*/*/entry_points.txt")).write_text("[qx]\nno equals sign\n")
    host = Host.discover()
    assert entry(host, "acme_half").state == "ready"
    torn = entry(host, "torn")
    assert (torn.state, torn.provider) == ("broken", "torn 1.0")
    next(tmp_path.glob("site-torn*/*/entry_points.txt")).write_bytes(b"[qx]\n\xff = torn\n")
    assert entry(Host.discover(), "torn").complaint.startswith("plugin 'torn' (torn 1.0) is broken: entry_")


def test_two_providers_of_a_name_are_in_conflict(install: Install) -> None:
    """Neither of two plugins with one name is used, whatever their kinds, and the error names both."""
    metric = """
        from qx import Metric, hookimpl
        @hookimpl
        def describe():
            return Metric(name="acme_half", summary="S", unit="s", better="lower", samples="exact",
                          compare="ratio", phase="artifact")
        @hookimpl
        def measure():
            return 1
    """
    install("acme", {"acme_half": "acme_half"}, {"acme_half": config("acme_half")})
    install("other", {"acme_half": "other_half"}, {"other_half": metric}, version="3.1")
    host = Host.discover()
    assert [entry.state for entry in host.entries if entry.name == "acme_half"] == ["conflict", "conflict"]
    both = r"claimed by acme 1\.0 \(acme_half\) and by other 3\.1 \(other_half\)"
    with pytest.raises(UsageError, match=both):
        host.get("config", "acme_half")
    assert "acme_half" not in [entry.name for entry in host.ready("config")]


def test_one_distribution_found_twice_is_no_conflict(install: Install) -> None:
    """A distribution that is on the path twice (installed, and in the current folder) counts once."""
    install("acme-x", {"acme_half": "acme_half"}, {"acme_half": config("acme_half")})
    install("acme_x", {"acme_half": "acme_half"}, {"acme_half": config("acme_half")}, version="1.1")
    assert entry(Host.discover(), "acme_half").version == "1.1"


def test_a_plugin_may_be_a_file(write: Callable[[str, str], str], capsys: pytest.CaptureFixture[str]) -> None:
    """``-p FILE`` loads a plugin under its record's name, and its prints do not get into qx's output."""
    path = write("my-config", "print('noise')\n" + dedent(config("mine")))
    plugin = Host.discover([path]).get("config", "mine")
    assert plugin.distribution is None
    assert plugin.provider == f"-p {Path(path).resolve()}"
    out, err = capsys.readouterr()
    assert (out, err) == ("", "")


OBJECT = """\
from attrs import define
from qx import Config, hookimpl
@define(eq={eq})
class Plugin:
    @hookimpl
    def describe(self):
        return Config(name="mine", summary="S")
    @hookimpl
    def convert(self, model):
        return model
"""


def test_a_plugin_may_be_a_module_of_the_current_folder(write: Callable[[str, str], str]) -> None:
    """``-p MODULE:ATTRIBUTE`` imports modules of the current folder, as ``python -m`` does."""
    write("my_plugins", OBJECT.format(eq="False") + "plugin = Plugin()\n")
    host = Host.discover(["my_plugins:plugin"])
    assert host.get("config", "mine").provider == "-p my_plugins:plugin"


def test_an_object_that_cannot_be_a_plugin_is_broken(write: Callable[[str, str], str]) -> None:
    """A class or an unhashable object is a broken plugin, and the reason says so."""
    path = write("my_plugins", OBJECT.format(eq="True") + "plugin = Plugin()\n")
    host = Host.discover([f"{path}:Plugin", f"{path}:plugin"])
    assert "is a class" in entry(host, "Plugin").reason
    assert "unhashable" in entry(host, "plugin").reason


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("no_such_module", "-p no_such_module cannot be imported: ModuleNotFoundError: No module named"),
        ("no_such.py", "-p no_such.py: there is no such file"),
        ("json:nothing", "-p json:nothing cannot be imported: AttributeError"),
        ("", "cannot be imported"),
    ],
)
def test_what_cannot_be_loaded_is_a_mistake(
    write: Callable[[str, str], str], argument: str, message: str
) -> None:
    """A ``-p`` that cannot be imported is a usage error of one line with the cause."""
    with pytest.raises(UsageError) as caught:
        Host.discover([argument])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_installed_plugin_may_be_named_as_well(install: Install) -> None:
    """``-p MODULE`` with the module of an installed plugin is no conflict."""
    install("acme", {"acme_half": "acme_half"}, {"acme_half": config("acme_half")})
    assert entry(Host.discover(["acme_half", "acme_half"]), "acme_half").state == "ready"


def test_a_plugin_can_be_left_out(install: Install) -> None:
    """``-p no:NAME`` leaves a plugin out without importing it, and asking for its name says so."""
    install("acme", {"acme_exit": "acme_exit"}, {"acme_exit": "raise KeyboardInterrupt"})
    host = Host.discover(["no:acme_exit"])
    assert entry(host, "acme_exit").state == "left_out"
    assert "acme_exit" not in sys.modules
    with pytest.raises(UsageError, match="is left out: -p no:acme_exit"):
        host.get("config", "acme_exit")


def test_a_plugin_can_replace_another(install: Install, write: Callable[[str, str], str]) -> None:
    """With ``-p no:NAME`` a plugin given with ``-p`` replaces the installed one of its name."""
    install("acme", {"acme_half": "acme_half"}, {"acme_half": config("acme_half")})
    path = write("mine", config("acme_half"))
    with pytest.raises(UsageError, match=r"claimed by -p .*mine\.py and by acme 1\.0"):
        Host.discover([path]).get("config", "acme_half")
    assert Host.discover([path, "no:acme_half"]).get("config", "acme_half").distribution is None
    assert entry(Host.discover([write("other", config("mine")), "no:mine"]), "mine").state == "left_out"


def test_leaving_out_an_unknown_name_is_a_mistake(install: Install) -> None:
    """``-p no:NAME`` with an unknown name lists the names, similar ones first."""
    install("acme", {"acme_half": "acme_half", "aaa": "a"}, {"acme_half": config("acme_half")})
    with pytest.raises(UsageError, match=r"no plugin 'acme_hlf' \(choose from acme_half, aaa"):
        Host.discover(["no:acme_hlf"])


def test_an_unknown_name_lists_the_choices(write: Callable[[str, str], str]) -> None:
    """Asking for an unknown name lists those of the kind, and for a name of another kind says that kind."""
    host = Host.discover([write("a", config("aaa_first")), write("b", config("zzz_last"))])
    with pytest.raises(UsageError, match=r"unknown config 'zz_last' \(choose from zzz_last, .*aaa_first"):
        host.get("config", "zz_last")
    with pytest.raises(UsageError, match="'zzz_last' is a config, not a metric"):
        host.get("metric", "zzz_last")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (
            "requires=['no_such_dist>=2'], extra='fast'",
            "needs no_such_dist>=2: pip install 'no_such_dist>=2'",
        ),
        ("requires=['attrs', 'no_such_dist']", "needs no_such_dist: pip install 'attrs' 'no_such_dist'"),
        ("requires=['pluggy>=99']", "needs pluggy>=99 ("),
        ("instruction_sets=['no_such_flag']", "needs a CPU with no_such_flag"),
        (
            "programs=['no_such_cc', 'nor_this']",
            "needs one of these commands on the PATH: no_such_cc, nor_this",
        ),
    ],
)
def test_what_is_lacking_is_reported(install: Install, arguments: str, reason: str) -> None:
    """A plugin whose package or CPU is missing stays in the catalogue, and says what it needs."""
    if "instruction" in arguments and not Path("/proc/cpuinfo").exists():
        pytest.skip("this system does not tell its CPU's flags")
    install("acme", {"acme_x": "acme_x"}, {"acme_x": config("acme_x", arguments)})
    host = Host.discover()
    plugin = host.get("config", "acme_x")
    assert plugin.state == "unavailable"
    assert plugin.reason.startswith(reason)
    assert plugin not in host.ready("config")


def test_what_is_installed_is_enough(install: Install) -> None:
    """A plugin whose requirements are installed is ready, and those for other systems do not count."""
    arguments = (
        "requires=['pluggy>=1.7', 'no_such_dist; sys_platform == \"plan9\"'], programs=['no_such_cc', 'sh']"
    )
    install("acme", {"acme_x": "acme_x"}, {"acme_x": config("acme_x", arguments)})
    assert entry(Host.discover(), "acme_x").state == "ready"
