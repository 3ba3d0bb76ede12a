"""The host calls the hooks of one plugin at a time, inside the hooks that wrap them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import attrs
import pytest

from qx.errors import PluginError
from qx.host.host import Entry, Host, Reference
from qx.runner.request import references

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
Write = Callable[[str, str], str]


def config(name: str, arguments: str = "") -> str:
    return CONFIG.format(name=name, arguments=arguments and f", {arguments}")


def entry(host: Host, name: str) -> Entry:
    (match,) = (entry for entry in host.entries if entry.name == name)
    return match


def imported(*plugins: str) -> Host:
    """Return the host that a worker has of plugins given with ``-p``."""
    entries = [entry for entry in Host.discover(plugins).entries if entry.distribution is None]
    return Host.of(references(entries))


WRAPPER = """
    from qx import hookimpl
    calls = []
    @hookimpl(wrapper=True)
    def convert(context):
        calls.append("before")
        result = yield
        calls.append(result)
        return result
"""


def test_a_plugin_is_called_inside_the_wrappers(write_plugin: Write) -> None:
    """A hook is called for one plugin inside the plugins that wrap it, and no other plugin is called."""
    other = config("other").replace("return model", "raise AssertionError('called')")
    plugins = [
        write_plugin("mine", config("mine")),
        write_plugin("other", other),
        write_plugin("trace", WRAPPER),
    ]
    host = imported(*plugins)
    assert [(entry.name, entry.kind, entry.state) for entry in host.wrappers] == [
        ("trace", "wrapper", "ready")
    ]
    assert (
        host.call("mine", "convert", model="model", example_inputs=(), float_model=None, context=None)
        == "model"
    )
    reference = host.wrappers[0].reference
    assert reference is not None
    assert sys.modules[reference.module].calls == ["before", "model"]


def test_a_wrapper_may_not_answer(write_plugin: Write) -> None:
    """A plugin without ``describe`` that answers a hook is broken, since it would answer for every config."""
    answers = WRAPPER + "    @hookimpl\n    def prepare_model(model):\n        return model\n"
    host = Host.discover([write_plugin("trace", answers)])
    assert entry(host, "trace").state == "broken"
    assert "may lack it, and 'prepare_model' is not a wrapper" in entry(host, "trace").reason


def test_none_is_an_error_of_the_plugin(install: Install) -> None:
    """A hook that returns None where a value is required is an error with plugin, distribution and hook."""
    source = config("acme_x").replace("return model", "pass")
    install("acme", {"acme_x": "acme_x"}, {"acme_x": source})
    host = Host.of(references([entry(Host.discover(), "acme_x")]))
    with pytest.raises(PluginError, match=r"'acme_x' \(acme 1\.0\): hook 'convert' returned None"):
        host.call("acme_x", "convert", model=1, example_inputs=(), float_model=None, context=None)


def test_none_of_measure_says_not_applicable(write_plugin: Write) -> None:
    """A metric may return None, which means 'not applicable here'."""
    source = """
        from qx import Metric, hookimpl
        @hookimpl
        def describe():
            return Metric(name="mine", summary="S", unit="s", better="lower", samples="exact",
                          compare="ratio", phase="artifact")
        @hookimpl
        def measure():
            return None
    """
    host = imported(write_plugin("mine", source))
    assert host.call("mine", "measure", subject=None, data=None, context=None) is None


def test_what_a_plugin_raises_comes_through(write_plugin: Write) -> None:
    """An error of a hook reaches the caller as it was raised."""
    host = imported(write_plugin("mine", config("mine").replace("return model", "raise OSError('full')")))
    with pytest.raises(OSError, match="full"):
        host.call("mine", "convert", model=1, example_inputs=(), float_model=None, context=None)


def test_a_hook_that_is_not_implemented_can_be_asked_for(write_plugin: Write) -> None:
    """``implements`` returns whether a plugin has a hook, and calling a missing one is an error."""
    host = imported(write_plugin("mine", config("mine")))
    assert host.implements("mine", "convert")
    assert not host.implements("mine", "prepare_model")
    with pytest.raises(LookupError, match="does not implement 'prepare_model'"):
        host.call("mine", "prepare_model", model=1, example_inputs=(), context=None)


def test_the_host_process_calls_no_plugin(write_plugin: Write) -> None:
    """The host knows which hooks a described plugin implements, and calls them in workers only."""
    host = Host.discover([write_plugin("mine", config("mine"))])
    assert host.implements("mine", "convert")
    with pytest.raises(LookupError, match="'mine' is not imported here"):
        host.call("mine", "convert", model=1, example_inputs=(), float_model=None, context=None)


def test_a_reference_leads_another_process_to_the_plugin(
    install: Install, write_plugin: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker's host is made from references sent as JSON, and reads no entry point."""
    install("acme", {"acme_x": "acme_x"}, {"acme_x": config("acme_x")})
    host_here = Host.discover([write_plugin("mine", config("mine")), write_plugin("trace", WRAPPER)])
    names = ("acme_x", "mine", "trace")
    sent = json.dumps(
        [attrs.asdict(reference) for reference in references([entry(host_here, name) for name in names])]
    )
    monkeypatch.setattr("qx.host.discovery.installation", None)
    host = Host.of([Reference(**fields) for fields in json.loads(sent)])
    assert [(entry.kind, entry.name, entry.state) for entry in host.entries] == [
        ("config", "acme_x", "ready"),
        ("config", "mine", "ready"),
        ("wrapper", "trace", "ready"),
    ]
    assert host.get("config", "acme_x").record == host_here.get("config", "acme_x").record


def test_a_reference_that_leads_nowhere_is_an_error() -> None:
    """A worker that cannot import its plugin names the plugin, its distribution and the cause."""
    with pytest.raises(PluginError, match=r"'gone' \(acme 1\.0\): cannot be imported: ModuleNotFoundError"):
        Host.of([Reference("gone", "no_such_module", None, None, "acme", "1.0")])


def test_a_wrapper_under_two_names_is_broken(install: Install) -> None:
    """A module under two names is one plugin, and the second name is broken."""
    install("acme", {"acme_a": "acme_trace", "acme_b": "acme_trace"}, {"acme_trace": WRAPPER})
    host = Host.discover()
    assert entry(host, "acme_a").state == "ready"
    assert entry(host, "acme_b").reason == "is the same as plugin 'acme_a'"


def test_the_order_is_stable(write_plugin: Write) -> None:
    """Entries are sorted by kind and name, with the reference config before the others."""
    sources = {"zz_base": "reference=True", "yy": "", "xx": ""}
    host = Host.discover([write_plugin(name, config(name, arguments)) for name, arguments in sources.items()])
    assert [entry.name for entry in host.entries if entry.name in sources] == ["zz_base", "xx", "yy"]
