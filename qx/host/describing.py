"""Having plugins described without importing them into this process, and keeping what they said.

The plugins of a distribution, and each one given with ``-p``, are imported into a process of their own. What
that says of plugins that are in order is kept in the cache until something changes that it follows from: the
files of the plugin's package, what it imports from beside it, the installed distributions, Python, or qx. A
plugin that is not in order is asked again by every command, so that whatever mends it is seen at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial, reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import asdict

from qx.contract.description import Answers, Description, Group, describe
from qx.contract.references import Reference
from qx.host.description_cache import Memory

if TYPE_CHECKING:
    from qx.host.installed import Installation
    from qx.processes.workers import Processes

#: Seconds within which a plugin must have been imported and have described itself.
LIMIT = 10.0
#: Seconds within which the process must have started; a busy machine is not the plugin's fault.
START_LIMIT = 120.0


def describe_all(
    groups: Sequence[Group], installation: Installation, trust_cache: Path | None = None
) -> dict[Reference, Description]:
    """Return what each plugin of the groups says of itself, kept from an earlier time or asked now."""
    memory = Memory(installation, trust_cache)
    kept = [memory.read(group) for group in groups]
    fresh = _ask([group.without(answers.descriptions) for group, answers in zip(groups, kept, strict=True)])
    descriptions: dict[Reference, Description] = {}
    for group, before, now in zip(groups, kept, fresh, strict=True):
        answers = before | now
        if now.descriptions:
            memory.write(group, answers)
        descriptions.update(answers.descriptions)
    return descriptions


def _ask(groups: Sequence[Group]) -> list[Answers]:
    """Ask qx's own plugins here, and all others in processes."""
    strangers = [group for group in groups if not group.is_own]
    answers = dict(zip(strangers, _ask_processes(strangers), strict=True)) if strangers else {}
    return [_ask_here(group) if group.is_own else answers[group] for group in groups]


def _ask_here(group: Group) -> Answers:
    if not group.plugins:
        return Answers()
    from qx.contract.checks import new_manager

    specs = new_manager().hook
    return Answers({one: describe(one, specs, named=group.is_named) for one in group.plugins})


def _ask_processes(groups: Sequence[Group]) -> list[Answers]:
    """Ask each group in a process of its own; plugins that this leaves open in one for each of them."""
    from qx.environment import usable_cpus
    from qx.leftovers import temporary_folder
    from qx.processes.workers import Processes

    with temporary_folder() as logs, Processes(logs) as processes:
        # As many side by side as there are processors, since the limit is in seconds.
        answers = _side_by_side(processes, groups, usable_cpus())
        alone = [
            [Group((one,), group.is_named) for one in group.without(given.descriptions).plugins]
            for group, given in zip(groups, answers, strict=True)
        ]
        # These are likely to hang, and wait for nothing.
        rest = iter(_side_by_side(processes, [one for ones in alone for one in ones], 4 * usable_cpus()))
        return [
            reduce(or_, [next(rest) for _ in ones], given) for given, ones in zip(answers, alone, strict=True)
        ]


def _side_by_side(processes: Processes, groups: Sequence[Group], count: int) -> list[Answers]:
    with processes.side_by_side(min(count, len(groups))) as pool:
        return list(pool.map(partial(_ask_process, processes), groups))


def _ask_process(processes: Processes, group: Group) -> Answers:
    """Ask one plugin after another until the process is gone."""
    from qx.processes.jobs import DescribeJob
    from qx.processes.workers import Failure

    answers = Answers()
    worker = processes.start(DescribeJob(), f"describe-{group.plugins[0].name}")
    try:
        plugin = group.plugins[0]
        worker.answer(timeout=START_LIMIT)
        for plugin in group.plugins:
            message = worker.ask("describe", timeout=LIMIT, plugin=asdict(plugin), named=group.is_named)
            try:
                answers |= Answers.from_message(plugin, message, is_named=group.is_named)
            except ValueError as error:
                answers |= _broken(plugin, f"cannot be described: {error}")
    except Failure as failure:
        if failure.outcome == "timeout" and failure.stage != "start":
            way_out = f"; -p no:{plugin.name} leaves it out" if group.is_named else ""
            answers |= _broken(plugin, f"describe did not end within {LIMIT:g} s{way_out}")
        elif not answers.descriptions:
            answers |= _broken(plugin, f"cannot be described: {failure.cause}")
        # Else the process may have died of a plugin that was asked before this one.
    finally:
        worker.close()
    return answers


def _broken(plugin: Reference, reason: str) -> Answers:
    return Answers({plugin: Description(outcome="broken", reason=reason)})
