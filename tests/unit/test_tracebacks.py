"""The traceback of a plugin's error begins at the plugin's first frame, and loses nothing that led to it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from qx.contract.checks import import_plugin, new_manager
from qx.contract.references import reference_of
from qx.errors import DataError, PluginError, Unsupported, UsageError
from qx.host.host import Host
from qx.tracebacks import MOST, NO_TRACEBACK, Traceback, traceback_of

CONFIG = """
from qx import Config, hookimpl

@hookimpl
def describe():
    return Config(name="deep", summary="Raises.")

@hookimpl
def convert(model):
    return inner(model)

def inner(model):
    return {}["missing"]
"""


def raised(work: Callable[[], object]) -> BaseException:
    """Return what a function raises, without the frames of this file that called it."""
    try:
        work()
    except BaseException as error:
        frame = error.__traceback__
        while frame is not None and frame.tb_next and frame.tb_frame.f_code.co_filename == __file__:
            frame = frame.tb_next
        return error.with_traceback(frame)
    pytest.fail("it raises nothing")


def test_it_begins_at_the_first_frame_of_the_plugin(tmp_path: Path) -> None:
    """Frames of qx and of its library of hooks are left out before it, and are in the full one."""
    file = tmp_path / "deep.py"
    file.write_text(CONFIG, encoding="utf-8")
    host = Host.of([reference_of(str(file))])
    arguments = {"model": None, "example_inputs": None, "float_model": None, "context": None}
    traceback = traceback_of(raised(lambda: host.call(host.entries[0].name, "convert", **arguments)))
    # Newer versions of Python mark a part of a line below it.
    assert [line for line in traceback.shown.splitlines() if line.strip("~^ ")] == [
        "Traceback (most recent call last):",
        f'  File "{file}", line 10, in convert',
        "    return inner(model)",
        f'  File "{file}", line 13, in inner',
        '    return {}["missing"]',
        "KeyError: 'missing'",
    ]
    for part in ("pluggy", "qx/host/host.py", f'File "{file}", line 13, in inner'):
        assert part in traceback.full


def test_an_error_of_qx_itself_keeps_its_frames() -> None:
    """Where no plugin has a part in an error, all frames are shown, since it may be a bug of qx."""
    traceback = traceback_of(raised(lambda: Host([]).call("nobody", "convert")))
    assert traceback.shown == traceback.full
    assert "qx/host/host.py" in traceback.shown


def test_an_error_in_the_syntax_shows_the_line(tmp_path: Path) -> None:
    """Of a file that cannot be compiled the line is shown, without a frame of what imported it."""
    file = tmp_path / "torn.py"
    file.write_text("def f(:\n", encoding="utf-8")
    error = raised(lambda: import_plugin(reference_of(str(file)))).__cause__
    assert error is not None
    traceback = traceback_of(error)
    assert traceback.shown.startswith(f'  File "{file}", line 1')
    assert "SyntaxError" in traceback.shown
    assert "import_file" not in traceback.shown


def test_errors_that_led_to_it_are_kept() -> None:
    """Causes and contexts stand before the error, as Python prints them."""

    def call() -> None:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError("second") from error

    shown = traceback_of(raised(call)).shown
    assert shown.index("KeyError: 'first'") < shown.index("direct cause") < shown.index("ValueError: second")


def test_an_error_that_is_raised_on_purpose_has_none() -> None:
    """What a plugin says on purpose says all; another error that led to it does not go lost."""
    for kind in (Unsupported, DataError, UsageError):

        def refuse(kind: type[Exception] = kind, cause: Exception | None = None) -> None:
            raise kind("no") from cause

        assert traceback_of(raised(refuse)) == NO_TRACEBACK
        with_cause = traceback_of(raised(lambda refuse=refuse: refuse(cause=OSError("deep"))))
        assert "OSError: deep" in with_cause.full
    assert traceback_of(PluginError("breaks the contract")).full


def test_a_hostile_error_costs_nothing() -> None:
    """An error whose text cannot be had, one without end, and a recursion give a bounded traceback."""

    class Nameless(Exception):
        def __str__(self) -> str:
            raise KeyboardInterrupt

    def recur(depth: int) -> int:
        return recur(depth + 1)

    def endless() -> None:
        raise ValueError("x" * 10_000_000)

    def nameless() -> None:
        raise Nameless

    assert "Nameless" in traceback_of(raised(nameless)).shown
    recursion = traceback_of(raised(lambda: recur(0)))
    assert "RecursionError" in recursion.shown
    long = traceback_of(raised(endless)).full
    assert len(long) < MOST + 100
    assert "characters are left out here" in long
    assert long.startswith("Traceback") and long.endswith("x")


def test_a_plugin_that_breaks_the_library_costs_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a plugin has replaced the module of tracebacks there is none, and nothing else goes wrong."""
    monkeypatch.setitem(sys.modules, "traceback", None)
    assert traceback_of(ValueError("torn")) == NO_TRACEBACK == Traceback()


def test_a_broken_plugin_is_described_with_its_traceback(tmp_path: Path) -> None:
    """The description of a plugin that raises has the line; of one that breaks the contract the reason."""
    from qx.contract.description import describe

    specs = new_manager().hook
    raising = CONFIG.replace('return Config(name="deep"', 'return 1 / 0, Config(name="deep"')
    sources = {"ZeroDivisionError": raising, "line 2, in <module>": "import qx\nno_such_name\n"}
    for line, source in sources.items():
        file = tmp_path / f"{line.partition(' ')[0]}.py"
        file.write_text(source, encoding="utf-8")
        described = describe(reference_of(str(file)), specs, named=False)
        assert line in described.traceback
        assert f'File "{file}"' in described.traceback
    empty = tmp_path / "empty.py"
    empty.write_text("", encoding="utf-8")
    assert describe(reference_of(str(empty)), specs, named=False).traceback == ""
