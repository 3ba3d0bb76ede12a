"""The kit as pytest tests, one for each check. pytest is imported only when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import ModuleType
from typing import TYPE_CHECKING, Any

from qx.contract.conformance import Conformance

if TYPE_CHECKING:
    import pytest

    from qx.contract.records import Kind
    from qx.host.host import Entry
    from qx.testing.checking import Checking

#: What the tests of one process prepare alike.
_SHARED: dict[str, Any] = {}


def conformance_test(plugin: str | ModuleType, conformance: Conformance | None = None) -> Callable[..., None]:
    """Make a test, to be kept under a name that begins with ``test``; it is run once for each check.

    ``plugin`` is a module, or what ``qx -p`` takes (a module's name or a ``.py`` file, either with
    ``:attribute``), or the name of an installed plugin. ``conformance`` adds to what the plugin says
    in its attribute of that name. A check that does not apply is skipped; an expected failure is reported as
    such (``xfailed``), and fails where the check passes. Raises ``UsageError`` for what is no plugin.
    """
    import pytest

    from qx.testing.checks import checks_of

    given, kind = _found(plugin)
    checkings: list[Checking] = []

    @pytest.mark.parametrize("check", [check.name for check in checks_of(kind)])
    def test(check: str, tmp_path_factory: pytest.TempPathFactory) -> None:
        if not checkings:
            checkings.append(_checking(given, conformance, tmp_path_factory))
        verdict = checkings[0].verdict(check)
        if verdict.state == "failed":
            pytest.fail(f"{check}: {verdict.text}", pytrace=False)
        if verdict.state == "expected":
            pytest.xfail(verdict.text)
        if verdict.state != "passed":
            pytest.skip(verdict.text)

    return test


def _found(plugin: str | ModuleType) -> tuple[str, Kind | None]:
    """What to give to ``-p`` (or a name), and the kind, if it can be told."""
    given = plugin if isinstance(plugin, str) else plugin.__name__
    entry = _entry(given)
    return given, entry.kind


def _entry(given: str) -> Entry:
    from qx.host.host import Host

    entries = Host.discover().entries
    if not any(entry.name == given for entry in entries):
        entries = Host.discover([given]).entries
    return given_entry(entries, given)


def given_entry(entries: Iterable[Entry], given: str) -> Entry:
    """The entry that a name, or an argument of ``-p``, means."""
    from qx.host.catalogue import reference_of

    for entry in entries:
        if entry.name == given:
            return entry
    wanted = reference_of(given)
    place = (wanted.module, wanted.path, wanted.attribute)
    (found,) = [
        entry
        for entry in entries
        if entry.reference
        and (entry.reference.module, entry.reference.path, entry.reference.attribute) == place
    ]
    return found


def _checking(
    given: str, conformance: Conformance | None, tmp_path_factory: pytest.TempPathFactory
) -> Checking:
    from qx.testing.checking import Checking, open_bench

    entry = _entry(given)
    plugins = [] if entry.name == given else [given]
    folder = tmp_path_factory.mktemp("conformance")
    return Checking(open_bench(plugins, entry, folder, conformance, shared=_SHARED))
