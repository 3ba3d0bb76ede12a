"""Running the checks of one plugin, in the order in which they depend on each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve

from qx.contract.conformance import Conformance
from qx.contract.records import Kind
from qx.errors import DataError, UsageError
from qx.foreign import to_printed
from qx.host.catalogue import unknown
from qx.host.discovery import NotImported
from qx.host.host import Entry, Host
from qx.processes.logs import Logs, printed_text
from qx.processes.workers import Failure, traceback_behind
from qx.testing.bench import TESTBENCH, Bench, conformance_of, find_plugin
from qx.testing.check import Check
from qx.testing.checks import checks_of
from qx.testing.verdicts import KINDS, Failed, NotApplicable, Verdict
from qx.tracebacks import Traceback


class Checking:
    """The checks of one plugin. Each is run once, when it is first asked for."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        kind = bench.entry.kind
        self.checks = checks_of(kind if kind in KINDS else None)
        self._verdicts: dict[str, Verdict] = {}
        require_existing_checks(bench.conformance.expected_failures, kind)

    def verdict(self, name: str) -> Verdict:
        """Return the verdict of a check, after running those it depends on. Raises ``UsageError``."""
        if name not in self._verdicts:
            checks = {check.name: check for check in self.checks}
            if name not in checks:
                raise unknown(f"unknown check of a {self.bench.entry.kind}", name, list(checks))
            self._verdicts[name] = self._apply_expectation(self._run(checks[name]))
        return self._verdicts[name]

    def verdicts(self) -> Iterator[Verdict]:
        """Yield the verdicts of all checks, in their order."""
        return (self.verdict(check.name) for check in self.checks)

    def _run(self, check: Check) -> Verdict:
        for name in check.after:
            required = self.verdict(name)
            if required.state == "not_applicable":
                return Verdict(check.name, "not_applicable", required.text)
            if required.state != "passed":
                return Verdict(check.name, "not_run", f"{name} did not pass")
        logs = self.bench.logs
        logs.last_printed = b""
        try:
            return Verdict(check.name, "passed", check.run(self.bench) or "")
        except NotApplicable as error:
            return Verdict(check.name, "not_applicable", str(error))
        except (Failed, Failure, UsageError, DataError) as error:
            return self._failed(check.name, error)
        finally:
            logs.flush()

    def _failed(self, check: str, error: Exception) -> Verdict:
        """Return the verdict of a check that failed, with the plugin's traceback and what it printed."""
        bench, traceback = self.bench, traceback_behind(error)
        if not traceback.full and bench.entry.state in ("broken", "incompatible"):
            traceback = Traceback(full=bench.entry.traceback, shown=bench.entry.traceback)
        file = bench.logs.failed(bench.subject, f"{check}: {error}", traceback, is_shown=False)
        return Verdict(
            check,
            "failed",
            str(error),
            traceback=to_printed(traceback.shown),
            printed=printed_text(bench.logs.last_printed),
            log=None if file is None else str(file),
        )

    def _apply_expectation(self, verdict: Verdict) -> Verdict:
        reason = self.bench.conformance.expected_failures.get(verdict.check)
        if reason is None:
            return verdict
        if verdict.state == "failed":
            return evolve(verdict, state="expected", text=f"{reason} ({verdict.text})")
        if verdict.state == "passed":
            text = f"it passes, but was expected to fail ({reason}): remove this expectation"
            return evolve(verdict, state="failed", text=text)
        return verdict


def require_existing_checks(expected: Mapping[str, str], kind: Kind | None) -> None:
    """Raise ``UsageError`` for an expected failure that names no check of the kind."""
    names = [check.name for check in checks_of(kind if kind in KINDS else None)]
    for name in expected:
        if name not in names:
            raise unknown("expected failure of an unknown check", name, names)


def host_with(
    plugins: Sequence[str],
    *targets: str | None,
    known: Host | None = None,
    trust_cache: Path | None = None,
) -> Host:
    """Return a host with all plugins, those of ``-p``, the kit's workload and the ``targets``.

    A target is a name, or a module or file as ``-p`` takes it. A plugin that the ``known`` host has described
    is not asked again. Raises ``UsageError``.
    """
    host = Host.discover([*plugins, TESTBENCH], known=known, trust_cache=trust_cache)
    names = {entry.name for entry in host.entries}
    modules = [target for target in targets if target is not None and target not in names]
    if not modules:
        return host
    return Host.discover([*plugins, TESTBENCH, *modules], known=host, trust_cache=trust_cache)


def host_with_workload(plugins: Sequence[str], target: str | None, trust_cache: Path | None = None) -> Host:
    """Return a host with all plugins and the workload that the user names with ``--workload``.

    Raises ``UsageError``, which names ``--workload`` and the choices where no workload is meant.
    """
    host = host_with(plugins, trust_cache=trust_cache)
    if target is None:
        return host
    choices = [entry.name for entry in host.ready("workload")]
    try:
        host = host_with(plugins, target, known=host, trust_cache=trust_cache)
        find_plugin(host, "workload", target)
    except UsageError as error:
        if _is_no_module(error, target):
            raise unknown("--workload: there is no workload or module", target, choices) from error
        message = str(error).removeprefix(f"-p {target}").lstrip(": ")
        raise UsageError(f"--workload {target}: {message} (choose from {', '.join(choices)})") from error
    return host


def _is_no_module(error: UsageError, name: str) -> bool:
    """Return whether no module of that name exists, as opposed to one whose import fails."""
    return isinstance(error, NotImported) and error.missing_module == name


def open_bench(
    plugins: Sequence[str],
    plugin: str | Entry,
    folder: Path,
    conformance: Conformance | None = None,
    workload: str | None = None,
    shared: dict[str, Any] | None = None,
    known: Host | None = None,
    trust_cache: Path | None = None,
    logs: Logs | None = None,
) -> Bench:
    """Return a bench for one plugin, which is a name or an entry. Raises ``UsageError``.

    A plugin that the ``known`` host has described is not asked again.
    """
    host = host_with(plugins, workload, known=known, trust_cache=trust_cache)
    entry = _select(host, plugin)
    declared = conformance_of(entry) if entry.usable else Conformance()
    if conformance is not None:
        declared = merge(declared, conformance)
    if workload is not None:
        declared = evolve(declared, workload=workload)
    targets = declared.workload, declared.worse, declared.subject
    if any(targets):
        host = host_with(plugins, *targets, known=host, trust_cache=trust_cache)
        entry = _select(host, plugin)
    return Bench(host, entry, folder, declared, shared=shared, trust_cache=trust_cache, logs=logs)


def _select(host: Host, plugin: str | Entry) -> Entry:
    if isinstance(plugin, Entry):
        # A distribution that cannot be read has a name, and no reference.
        key = plugin.name, plugin.reference
        entry = next(entry for entry in host.entries if (entry.name, entry.reference) == key)
    else:
        entry = host.named(plugin)[0]
    if entry.state == "left_out":
        raise UsageError(entry.complaint)
    if entry.kind == "wrapper":
        raise UsageError(f"{entry.name!r} only wraps hooks of other plugins, for which there are no checks")
    return entry


def merge(declared: Conformance, override: Conformance) -> Conformance:
    """Return what the plugin declares, with what its test says in its place or in addition."""
    return Conformance(
        expected_failures={**declared.expected_failures, **override.expected_failures},
        worse=override.worse or declared.worse,
        subject=override.subject or declared.subject,
        workload=override.workload or declared.workload,
        bad_options={**declared.bad_options, **override.bad_options},
    )
