"""What must be the same for a run to be gone on with: machine, versions, sources, and what is prepared."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from qx.contract.references import Reference
from qx.environment import distribution_version
from qx.errors import UsageError
from qx.host.host import Entry, Host
from qx.host.sources import fingerprint, rooms_fingerprint
from qx.runner.journal import Identity, Journal, PreparedRecord
from qx.runner.preparation import Prepared
from qx.runner.request import Chosen, Request, recipes_of, references
from qx.values import JsonObject

#: Folders of qx whose sources decide figures; those of reports and of other commands do not.
DECIDING = (
    "analysis",
    "contract",
    "host",
    "processes",
    "results",
    "runner",
    "statistics",
    "storage",
    "worker",
)
#: Properties of the environment that say which machine it is.
MACHINE = ("fingerprint", "cpu", "cpus", "memory_bytes", "machine", "system")
#: Most differences that a message names.
MOST_NAMED = 4


def identity(host: Host, request: Request, chosen: Chosen, environment: JsonObject) -> Identity:
    """Return what decides the figures of a run besides its request and its data."""
    entries = [*chosen.configs, *recipes_of(host, *chosen.configs), *chosen.metrics, *chosen.workloads]
    entries += host.ready("loader")
    distributions = {entry.distribution for entry in entries} - {None}
    versions = {
        "python": str(environment["python"]),
        **{name: str(version) for name, version in environment["distributions"].items()},
        **{name: version for name in distributions if name and (version := distribution_version(name))},
    }
    return Identity(
        machine={name: str(environment[name]) for name in MACHINE},
        versions=dict(sorted(versions.items())),
        sources={
            "qx": rooms_fingerprint(*DECIDING),
            **{f"{entry.kind} {entry.name}": fingerprint(_references(entry)) for entry in entries},
            **{
                f"wrapper {reference.name}": fingerprint([reference])
                for reference in references(host.wrappers)
            },
            **dict(_files(request)),
        },
    )


def _references(entry: Entry) -> list[Reference]:
    return [] if entry.reference is None else [entry.reference]


def _files(request: Request) -> Iterator[tuple[str, str]]:
    """Yield the files of functions that the request names, each with its SHA-256."""
    for option, value in (("--score", request.score), ("--data", request.data)):
        file = Path(str(value or "").rpartition(":")[0])
        if file.suffix == ".py" and file.is_file():
            yield f"the file of {option}", hashlib.sha256(file.read_bytes()).hexdigest()


def check_identity(journal: Journal, current: Identity) -> None:
    """Note the identity of a run, or hold it against that of earlier sittings. Raises ``UsageError``."""
    earlier = journal.of(Identity)
    if not earlier:
        journal.write(current)
        return
    former = earlier[0]
    if former.machine != current.machine:
        raise UsageError(
            f"--resume: the run was begun on another machine, and another machine is another run: "
            f"{_differences(former.machine, current.machine)}"
        )
    if former.versions != current.versions:
        raise UsageError(
            f"--resume: the run was begun with other versions, and another version is another run: "
            f"{_differences(former.versions, current.versions)}"
        )
    changed = [
        name
        for name in dict.fromkeys([*former.sources, *current.sources])
        if former.sources.get(name) != current.sources.get(name)
    ]
    if changed:
        names = ", ".join(changed[:MOST_NAMED]) + (", ..." if len(changed) > MOST_NAMED else "")
        raise UsageError(f"--resume: sources have changed since the run was begun: {names}")


def check_prepared(journal: Journal, prepared: Prepared) -> None:
    """Note what a workload was prepared from, or hold it against earlier sittings. Raises ``UsageError``."""
    current = PreparedRecord(workload=prepared.workload.name, digests=dict(_digests(prepared)))
    earlier = [record for record in journal.of(PreparedRecord) if record.workload == current.workload]
    if not earlier:
        journal.write(current)
        return
    if earlier[0].digests != current.digests:
        raise UsageError(
            f"--resume: workload {current.workload} is not what it was when the run was begun: "
            f"{_differences(earlier[0].digests, current.digests)}"
        )


def _digests(prepared: Prepared) -> Iterator[tuple[str, str]]:
    yield "weights", prepared.weights_sha256
    yield "model's files", prepared.sources_sha256
    yield "engine", prepared.engine
    for name, version in prepared.model_versions.items():
        yield f"{name} (of the model)", version
    yield "evaluation data", prepared.evaluation.name
    for count, place in prepared.calibrations.items():
        yield f"calibration data ({count})", place.name
    for seed, places in prepared.further.items():
        for count, place in places.items():
            yield f"calibration data ({count}, seed {seed})", place.name
    for length, place in prepared.lengths.items():
        yield f"inputs of length {length}", place.name
    if prepared.training is not None:
        yield "training data", prepared.training.name


def _differences(former: Mapping[str, str], current: Mapping[str, str]) -> str:
    """Return in words what differs between two mappings, the first few of it."""
    names = [name for name in dict.fromkeys([*former, *current]) if former.get(name) != current.get(name)]
    words = [
        f"{name} was {_short(former.get(name))} and is {_short(current.get(name))}"
        for name in names[:MOST_NAMED]
    ]
    more = f", and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(words) + more


def _short(value: str | None) -> str:
    return "not there" if value is None else value[:40]
