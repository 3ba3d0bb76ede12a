"""The contract: a later minor version breaks no plugin, and every breach is reported."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

import qx
from qx.contract import hookspecs
from qx.contract.checks import check, new_manager
from qx.contract.description import Description, describe
from qx.contract.references import reference_of
from qx.errors import UsageError
from qx.host.host import Host

Write = Callable[[str, str], str]

HALF = """
    {first}
    from qx import Config, hookimpl
    @hookimpl
    def describe():
        return Config(name="half", summary="Half.")
    @hookimpl
    def convert(model):
        return model
"""


def described(plugin: str) -> Description:
    """Return the description of a plugin, which is imported in this process."""
    return describe(reference_of(plugin), new_manager().hook, named=False)


@pytest.mark.parametrize("version", ["2", "2.0", "2.3", None])
def test_what_was_made_for_this_major_is_ready(
    write_plugin: Write, monkeypatch: pytest.MonkeyPatch, version: str | None
) -> None:
    """A plugin for this major version and a minor up to this one, or without a version, is ready."""
    monkeypatch.setattr(hookspecs, "CONTRACT", "2.3")
    first = "" if version is None else f"QX_CONTRACT = {version!r}"
    assert described(write_plugin("half", HALF.format(first=first))).outcome == "ready"


@pytest.mark.parametrize(
    ("version", "todo"),
    [
        ("1", "change the plugin as docs/migration.md says"),
        ("1.9", "change the plugin as docs/migration.md says"),
        ("2.4", "upgrade quant-explorer"),
        ("3", "upgrade quant-explorer"),
    ],
)
def test_what_was_made_for_another_is_incompatible(
    write_plugin: Write, monkeypatch: pytest.MonkeyPatch, version: str, todo: str
) -> None:
    """A plugin for another version is incompatible, with both versions and what to do, and is not called."""
    monkeypatch.setattr(hookspecs, "CONTRACT", "2.3")
    description = described(write_plugin("half", HALF.format(first=f"QX_CONTRACT = {version!r}")))
    reason = f"was made for version {version} of qx's contract, and this qx has 2.3: {todo}"
    assert (description.outcome, description.reason, description.record) == ("incompatible", reason, None)


@pytest.mark.parametrize(
    ("hook", "words"),
    [
        ("can_treat(model)", "implements 'can_treat', which is now 'check_model'"),
        ("statistic(outputs, labels)", "its hook 'statistic' takes 'labels', which is now 'targets'"),
    ],
)
def test_what_is_of_the_contract_before_is_named_with_what_replaced_it(
    write_plugin: Write, hook: str, words: str
) -> None:
    """A plugin without a version that has hooks or arguments of contract 1 is incompatible, not broken."""
    source = f"{HALF.format(first='pass')}    @hookimpl\n    def {hook}:\n        return None\n"
    description = described(write_plugin("half", source))
    assert description.outcome == "incompatible"
    assert words in description.reason
    assert "docs/migration.md" in description.reason


def test_naming_an_incompatible_plugin_is_an_error(write_plugin: Write) -> None:
    """The error of naming an incompatible plugin says for which version it was made."""
    host = Host.discover([write_plugin("half", HALF.format(first="QX_CONTRACT = '9'"))])
    with pytest.raises(UsageError, match="is incompatible: was made for version"):
        host.get("config", "half")


def test_a_plugin_that_imports_a_removed_name_is_incompatible_and_not_broken(write_plugin: Write) -> None:
    """The version that a plugin was made for is read even where the plugin cannot be imported."""
    path = write_plugin("old", "QX_CONTRACT: str = '0.7'\nfrom qx import gone_since_long\n")
    assert described(path).outcome == "incompatible"


@pytest.mark.parametrize("version", ["", "one", "1.x", "1.2.3", "-1"])
def test_what_is_no_version_is_broken(write_plugin: Write, version: str) -> None:
    """The reason shows the wrong version and an example of a right one."""
    description = described(write_plugin("half", HALF.format(first=f"QX_CONTRACT = {version!r}")))
    assert description.outcome == "broken"
    assert description.reason == f"QX_CONTRACT is {version!r}, and must be a version such as {qx.CONTRACT!r}"


def test_an_object_says_it_itself_or_its_module_does(write_plugin: Write) -> None:
    """The version in an object goes before the one in the module of its class."""
    source = """
        from qx import Config, hookimpl
        QX_CONTRACT = "9"
        class Plugin:
            @hookimpl
            def describe(self):
                return Config(name="half", summary="Half.")
            @hookimpl
            def convert(self, model):
                return model
        class Explicit(Plugin):
            QX_CONTRACT = "2"
        silent, explicit = Plugin(), Explicit()
    """
    path = write_plugin("objects", source)
    assert described(f"{path}:silent").outcome == "incompatible"
    assert described(f"{path}:explicit").outcome == "ready"


def test_commands_name_an_incompatible_plugin_and_go_on(qx: Callable[..., Any], write_plugin: Write) -> None:
    """``qx list`` and ``qx show`` show an incompatible plugin, and ``qx show`` of another warns of it."""
    path = write_plugin("half", HALF.format(first="QX_CONTRACT = '9'"))
    listed = qx("list", "-p", path)
    assert (listed.code, listed.err) == (0, "")
    assert "incompatible" in listed.out
    shown = qx("show", "half", "-p", path)
    assert shown.code == 0
    assert shown.out.startswith("half: a plugin of unknown kind, incompatible\n")
    other = qx("show", "latency", "-p", path)
    assert other.code == 0
    (line,) = other.err.splitlines()
    assert line.startswith("qx: warning: plugin 'half'")
    assert "upgrade quant-explorer" in line


HOOKS = [name for name, function in vars(hookspecs).items() if hasattr(function, "qx_spec")]


@pytest.mark.parametrize("hook", [hook for hook in HOOKS if hook != "describe"])
def test_a_hook_with_fewer_arguments_is_served(hook: str, tmp_path: Path) -> None:
    """A hook that has no parameters, as if all had been added after it was written, is called."""
    kinds = {
        "config": (
            *("check_model", "quantized_layers", "rounding"),
            *("prepare_model", "calibrate", "convert"),
        ),
        "workload": (
            "make_model",
            "load_data",
            "example_inputs",
            "train",
            "postprocess",
            "score",
            "input_lengths",
        ),
        "metric": ("measure", "statistic", "combine"),
        "loader": ("load", "read_weights", "serving_code", "profile", "layer_outputs"),
    }
    kind = next(kind for kind, hooks in kinds.items() if hook in hooks)
    record = {
        "config": "Config(name='few', summary='Few.', calibration=True)",
        "workload": "Workload(name='few', summary='Few.')",
        "metric": "Metric(name='few', summary='Few.', unit='bytes', better='lower', samples='per_set', "
        "compare='ratio', phase='predictions')",
        "loader": "Loader(name='few', summary='Few.')",
    }[kind]
    hooks = "".join(f"@hookimpl\ndef {name}():\n    return 7\n" for name in kinds[kind])
    path = tmp_path / "few.py"
    path.write_text(f"from qx import *\n@hookimpl\ndef describe():\n    return {record}\n{hooks}")
    host = Host.of([reference_of(str(path))])
    arguments = dict.fromkeys(getattr(new_manager().hook, hook).spec.argnames)
    assert host.call("few", hook, **arguments) == 7


def test_an_argument_that_is_added_to_a_hook_breaks_nobody(write_plugin: Write) -> None:
    """With one more argument in every specification the built-in plugins still keep the contract."""
    manager = new_manager()
    for caller in vars(manager.hook).values():
        if hasattr(caller, "spec") and caller.spec is not None:
            caller.spec.argnames = (*caller.spec.argnames, "added_later")
    plugins = [entry for entry in Host.discover().entries if entry.state == "ready"]
    assert plugins
    for entry in plugins:
        assert entry.reference is not None
        plugin: Any = import_module(entry.reference.module)
        for part in (entry.reference.attribute or "").split("."):
            plugin = getattr(plugin, part) if part else plugin
        assert check(manager.hook, plugin, entry.name)[1] == entry.hooks


def test_every_public_name_is_listed() -> None:
    """``docs/api.md`` names everything in ``qx.__all__`` and nothing else."""
    text = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
    import re

    listed = set(re.findall(r"^\| `(\w+)`", text, re.MULTILINE))
    assert listed == set(qx.__all__)
    assert all(hasattr(qx, name) for name in qx.__all__)


# Breaches -----------------------------------------------------------------------------------------

MARK = "from qx import Config, Metric, hookimpl\n"
DESCRIBE = "@hookimpl\ndef describe(): return Config(name='acme_x', summary='S')\n"
CONVERT = "@hookimpl\ndef convert(model): return model\n"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("", "implements no hook (is @hookimpl missing?)"),
        (MARK + CONVERT, "'describe' is missing"),
        (MARK + DESCRIBE.replace("@hookimpl\n", "") + CONVERT, "'describe' lacks @hookimpl"),
        (MARK + "@hookimpl\ndef describe(): return None\n", "'describe' returned None"),
        (MARK + "@hookimpl\ndef describe(): return 'acme_x'\n", "returned an object of type 'str'"),
        (
            MARK + "@hookimpl\ndef describe(): 1 / 0\n",
            "'describe' failed: ZeroDivisionError: division by zero",
        ),
        (MARK + DESCRIBE.replace("'S'", "3") + CONVERT, "'summary' must be <class 'str'>"),
        (
            MARK + "@hookimpl\ndef describe(): return Metric(name='acme_x', summary='S', unit='s', "
            "better='lower', samples='exact', compare='ratio', phase='artifact', derived_from=['x'])\n",
            "a metric of phase 'artifact' cannot be derived from others",
        ),
        (
            MARK + DESCRIBE.replace("acme_x", "acme_y") + CONVERT,
            "record is named 'acme_y' and its entry point 'acme_x'",
        ),
        (
            MARK + DESCRIBE + "@hookimpl\ndef convrt(model): return model\n",
            "'convrt' is not a hook of qx; did you mean 'convert'?",
        ),
        (
            MARK + DESCRIBE + "@hookimpl\ndef convert(modle): return modle\n",
            "argument 'modle'; did you mean 'model'? (it may take model, example_inputs, float_model, ",
        ),
        (
            MARK + DESCRIBE + "@hookimpl\ndef convert(model, context=None): return model\n",
            "'context=None' must be a plain argument",
        ),
        (
            MARK + DESCRIBE + "@hookimpl\ndef convert(**options): return 1\n",
            "'**options' must be a plain argument",
        ),
        (
            MARK + DESCRIBE + CONVERT + "@hookimpl\ndef measure(): return 1\n",
            "a config has no hook 'measure'",
        ),
        (MARK + DESCRIBE, "a config must implement 'convert'"),
        (MARK + DESCRIBE + CONVERT.replace("@hookimpl\n", ""), "'convert' lacks @hookimpl"),
        (
            MARK + DESCRIBE + "@hookimpl(wrapper=True)\ndef convert(): return (yield)\n",
            "'convert' is a wrapper",
        ),
        (
            MARK + DESCRIBE + CONVERT + "@hookimpl\ndef calibrate(model): return model\n",
            "neither calibration nor training",
        ),
        (MARK + DESCRIBE.replace("'S'", "'S', calibration=True") + CONVERT, "'calibrate' is missing"),
        (MARK + "@hookimpl(wrapper=True)\ndef describe(): return (yield)\n", "'describe' cannot be wrapped"),
        (
            MARK + "@hookimpl(wrapper=True)\ndef convert(): return 1\n",
            "marked as a wrapper, but has no yield",
        ),
        (
            MARK + DESCRIBE.replace("'S'", "'S', requires=['>>']") + CONVERT,
            "record is wrong: InvalidRequirement",
        ),
        (
            MARK + DESCRIBE.replace("'S'", "'S', requires='onnx'") + CONVERT,
            "expected a list of texts such as ['onnx'], not the text 'onnx'",
        ),
    ],
)
def test_a_breach_of_the_contract_is_reported(write_plugin: Write, source: str, reason: str) -> None:
    """A plugin that breaks the contract is broken, with the reason, and none of its hooks is registered."""
    reference = evolve(reference_of(write_plugin("acme_x", source)), name="acme_x")
    broken = describe(reference, new_manager().hook)
    assert broken.outcome == "broken"
    assert reason in broken.reason
    assert "Attribute(" not in broken.reason  # attrs' own details are of no use to users
    assert broken.hooks == ()


def test_each_of_several_broken_plugins_is_reported(install: Callable[..., None]) -> None:
    """Two plugins with misspelt hooks are both reported, and not only the first."""
    typing_error = MARK + "@hookimpl\ndef {}(): return 1\n"
    modules = {"acme_a": typing_error.format("desribe"), "acme_b": typing_error.format("mesure")}
    install("acme", {"acme_a": "acme_a", "acme_b": "acme_b"}, modules)
    host = Host.discover()
    assert "did you mean 'describe'" in host.named("acme_a")[0].reason
    assert "did you mean 'measure'" in host.named("acme_b")[0].reason
    with pytest.raises(LookupError):
        host.implements("acme_a", "convert")


PER_SET = """
    from qx import Metric, hookimpl
    @hookimpl
    def describe():
        return Metric(
            name="figure", summary="S", unit="fraction", better="higher", samples="{samples}",
            compare="difference", phase="predictions",
        )
    {hooks}
"""


@pytest.mark.parametrize(
    ("samples", "hooks", "words"),
    [
        ("per_set", "statistic", None),
        ("per_set", "statistic measure", None),
        ("per_set", "measure combine", None),
        ("per_set", "measure", "so it must implement 'statistic', or 'measure' and 'combine'"),
        ("per_set", "combine", "so it must implement 'statistic', or 'measure' and 'combine'"),
        ("per_item", "measure combine", "its record must say samples='per_set', not 'per_item'"),
        ("per_item", "measure statistic", "its record must say samples='per_set', not 'per_item'"),
        ("exact", "statistic", "its record must say samples='per_set', not 'exact'"),
    ],
)
def test_a_metric_of_the_whole_set_has_a_statistic(
    write_plugin: Write, samples: str, hooks: str, words: str | None
) -> None:
    """A metric with samples per set has ``statistic``, and one with others has ``measure``."""
    source = "\n    ".join(f"@hookimpl\n    def {hook}():\n        return 1.0" for hook in hooks.split())
    entry = described(write_plugin("figure", PER_SET.format(samples=samples, hooks=source)))
    assert (entry.outcome == "ready") == (words is None)
    assert words is None or words in entry.reason


def test_what_a_plugin_made_for_1_0_calls_statistic_is_its_own(write_plugin: Write) -> None:
    """A plugin's own function ``statistic`` without @hookimpl is no hook, and the plugin is ready."""
    hooks = """
    @hookimpl
    def measure(data):
        return statistic(data.outputs["output"])
    def statistic(values, scale=1):
        return values[:, 0]
    """
    entry = described(write_plugin("figure", PER_SET.format(samples="per_item", hooks=hooks.strip())))
    assert entry.outcome == "ready", entry.reason
