"""The kit as pytest tests, one for each check. pytest is imported when a test is made, and not before."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import ModuleType
from typing import TYPE_CHECKING, Any

from qx.contract.conformance import Conformance

if TYPE_CHECKING:
    import pytest

    from qx.host.host import Entry
    from qx.testing.checking import Checking

#: Prepared workloads and built artifacts that the tests of one process share.
_SHARED: dict[str, Any] = {}


def conformance_test(plugin: str | ModuleType, conformance: Conformance | None = None) -> Callable[..., None]:
    """Make a test that runs once for each check, to be assigned to a name that begins with ``test``.

    ``plugin`` is a module, or what ``qx -p`` takes (a module's name or a ``.py`` file, either with
    ``:attribute``), or the name of an installed plugin. ``conformance`` adds to what the plugin says
    in its attribute of that name. A check that does not apply is skipped; an expected failure is reported as
    such (``xfailed``), and fails where the check passes. Raises ``UsageError`` for anything but a plugin.
    """
    import pytest

    from qx.testing.checks import checks_of

    target = plugin if isinstance(plugin, str) else plugin.__name__
    kind = _entry(target).kind
    checkings: list[Checking] = []

    @pytest.mark.parametrize("check", [check.name for check in checks_of(kind)])
    def test(check: str, tmp_path_factory: pytest.TempPathFactory) -> None:
        if not checkings:
            checkings.append(_checking(target, conformance, tmp_path_factory))
        verdict = checkings[0].verdict(check)
        if verdict.state == "failed":
            pytest.fail(f"{check}: {verdict.text}\n\n{verdict.excerpts}".rstrip(), pytrace=False)
        if verdict.state == "expected":
            pytest.xfail(verdict.text)
        if verdict.state != "passed":
            pytest.skip(verdict.text)

    return test


def _entry(target: str) -> Entry:
    from qx.host.host import Host

    entries = Host.discover().entries
    if not any(entry.name == target for entry in entries):
        entries = Host.discover([target]).entries
    return find_entry(entries, target)


def find_entry(entries: Iterable[Entry], target: str) -> Entry:
    """Return the entry of a plugin by its name, or by a module or file as ``-p`` takes it."""
    from qx.host.catalogue import reference_of

    for entry in entries:
        if entry.name == target:
            return entry
    reference = reference_of(target)
    location = (reference.module, reference.path, reference.attribute)
    (match,) = [
        entry
        for entry in entries
        if entry.reference
        and (entry.reference.module, entry.reference.path, entry.reference.attribute) == location
    ]
    return match


def _checking(
    target: str, conformance: Conformance | None, tmp_path_factory: pytest.TempPathFactory
) -> Checking:
    from qx.testing.checking import Checking, open_bench

    entry = _entry(target)
    plugins = [] if entry.name == target else [target]
    folder = tmp_path_factory.mktemp("conformance")
    return Checking(open_bench(plugins, entry, folder, conformance, shared=_SHARED))
