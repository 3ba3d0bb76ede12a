"""Running the checks of one plugin: what comes first, what is expected to fail."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve

from qx.contract.conformance import Conformance
from qx.contract.records import Kind
from qx.errors import DataError, UsageError
from qx.host.catalogue import unknown
from qx.host.discovery import NotImported
from qx.host.host import Entry, Host
from qx.processes.workers import Failure
from qx.testing.bench import TESTBENCH, Bench, conformance_of, named
from qx.testing.check import Check
from qx.testing.checks import checks_of
from qx.testing.verdicts import KINDS, Failed, NotApplicable, Verdict


class Checking:
    """The checks of one plugin. Each is run once, when it is first asked for."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        kind = bench.entry.kind
        self.checks = checks_of(kind if kind in KINDS else None)
        self._verdicts: dict[str, Verdict] = {}
        expect_known(bench.conformance.expected_failures, kind)

    def verdict(self, name: str) -> Verdict:
        """What comes of a check. What must come before it is run first. Raises ``UsageError``."""
        if name not in self._verdicts:
            found = [one for one in self.checks if one.name == name]
            if not found:
                names = [check.name for check in self.checks]
                raise unknown(f"unknown check of a {self.bench.entry.kind}", name, names)
            self._verdicts[name] = self._strictly(self._run(found[0]))
        return self._verdicts[name]

    def verdicts(self) -> Iterator[Verdict]:
        """Of all checks, in their order."""
        return (self.verdict(check.name) for check in self.checks)

    def _run(self, check: Check) -> Verdict:
        for name in check.after:
            before = self.verdict(name)
            if before.state == "not_applicable":
                return Verdict(check.name, "not_applicable", before.text)
            if before.state != "passed":
                return Verdict(check.name, "not_run", f"{name} did not pass")
        try:
            return Verdict(check.name, "passed", check.run(self.bench) or "")
        except NotApplicable as error:
            return Verdict(check.name, "not_applicable", str(error))
        except (Failed, Failure, UsageError, DataError) as error:
            return Verdict(check.name, "failed", str(error))

    def _strictly(self, verdict: Verdict) -> Verdict:
        reason = self.bench.conformance.expected_failures.get(verdict.check)
        if reason is None:
            return verdict
        if verdict.state == "failed":
            return evolve(verdict, state="expected", text=f"{reason} ({verdict.text})")
        if verdict.state == "passed":
            text = f"it passes, and was expected to fail ({reason}): expect it no longer"
            return evolve(verdict, state="failed", text=text)
        return verdict


def expect_known(expected: Mapping[str, str], kind: Kind | None) -> None:
    """Raise ``UsageError`` for an expected failure of a check that there is not."""
    names = [check.name for check in checks_of(kind if kind in KINDS else None)]
    for name in expected:
        if name not in names:
            raise unknown("expected failure of an unknown check", name, names)


def host_with(
    plugins: Sequence[str],
    *more: str | None,
    known: Host | None = None,
    trust_cache: Path | None = None,
) -> Host:
    """All plugins, those of ``-p``, the kit's workload, and what is given as ``-p`` takes it or by name.

    What a ``known`` host has asked of a plugin is not asked again. Raises ``UsageError``.
    """
    host = Host.discover([*plugins, TESTBENCH], known=known, trust_cache=trust_cache)
    names = {entry.name for entry in host.entries}
    given = [one for one in more if one is not None and one not in names]
    if not given:
        return host
    return Host.discover([*plugins, TESTBENCH, *given], known=host, trust_cache=trust_cache)


def host_with_workload(plugins: Sequence[str], given: str | None, trust_cache: Path | None = None) -> Host:
    """All plugins, with the workload that the user gives to ``--workload``.

    Raises ``UsageError``, which names ``--workload`` and the choices where it is that.
    """
    host = host_with(plugins, trust_cache=trust_cache)
    if given is None:
        return host
    choices = [entry.name for entry in host.ready("workload")]
    try:
        host = host_with(plugins, given, known=host, trust_cache=trust_cache)
        named(host, "workload", given)
    except UsageError as error:
        if _is_no_module(error, given):
            raise unknown("--workload: no workload, nor a module,", given, choices) from error
        told = str(error).removeprefix(f"-p {given}").lstrip(": ")
        raise UsageError(f"--workload {given}: {told} (choose from {', '.join(choices)})") from error
    return host


def _is_no_module(error: UsageError, name: str) -> bool:
    """Whether there is nothing of that name to import, in place of something that does not work."""
    return isinstance(error, NotImported) and error.missing_module == name


def open_bench(
    plugins: Sequence[str],
    choose: str | Entry,
    folder: Path,
    conformance: Conformance | None = None,
    workload: str | None = None,
    shared: dict[str, Any] | None = None,
    known: Host | None = None,
    trust_cache: Path | None = None,
) -> Bench:
    """A bench for one plugin: that of a name, or an entry found before. Raises ``UsageError``.

    What a ``known`` host has asked of a plugin is not asked again.
    """
    host = host_with(plugins, workload, known=known, trust_cache=trust_cache)
    entry = _chosen(host, choose)
    told = conformance_of(entry) if entry.usable else Conformance()
    if conformance is not None:
        told = merged(told, conformance)
    if workload is not None:
        told = evolve(told, workload=workload)
    if any((told.workload, told.worse, told.subject)):
        more = told.workload, told.worse, told.subject
        host = host_with(plugins, *more, known=host, trust_cache=trust_cache)
        entry = _chosen(host, choose)
    return Bench(host, entry, folder, told, shared=shared, trust_cache=trust_cache)


def _chosen(host: Host, choose: str | Entry) -> Entry:
    if isinstance(choose, Entry):
        # Of a distribution that cannot be read there is nothing to import, only its name.
        wanted = choose.name, choose.reference
        entry = next(one for one in host.entries if (one.name, one.reference) == wanted)
    else:
        entry = host.named(choose)[0]
    if entry.state == "left_out":
        raise UsageError(entry.complaint)
    if entry.kind == "wrapper":
        raise UsageError(f"{entry.name!r} only wraps the hooks of others: there is no check of that")
    return entry


def merged(ours: Conformance, more: Conformance) -> Conformance:
    """What the plugin tells, and over it what its test tells."""
    return Conformance(
        expected_failures={**ours.expected_failures, **more.expected_failures},
        worse=more.worse or ours.worse,
        subject=more.subject or ours.subject,
        workload=more.workload or ours.workload,
        bad_options={**ours.bad_options, **more.bad_options},
    )
