"""Describe plugins without importing them into this process, and keep their descriptions.

The plugins of a distribution, and each plugin named with ``-p``, are imported into a process of their own.
The descriptions of working plugins are kept in the cache until something changes that they depend on: the
files of the plugin's package, files beside it that it imports, the installed distributions, Python, or qx.
A plugin that does not work is described again by every command, so that a repair is seen at once.
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
from qx.host.description_cache import DescriptionCache

if TYPE_CHECKING:
    from qx.host.installed import Installation
    from qx.processes.workers import Processes, Worker

#: Seconds that a plugin may take to be imported and to describe itself.
LIMIT = 10.0
#: Size of the end of the output of a process that died that is kept, in bytes.
MOST_PRINTED = 4096
#: Seconds that the process may take to start; a busy machine is not the plugin's fault.
START_LIMIT = 120.0


def describe_all(
    groups: Sequence[Group], installation: Installation, trust_cache: Path | None = None
) -> dict[Reference, Description]:
    """Return the description of each plugin of the groups, from the cache or from the plugin."""
    cache = DescriptionCache(installation, trust_cache)
    cached = [cache.read(group) for group in groups]
    missing = [group.without(answers.descriptions) for group, answers in zip(groups, cached, strict=True)]
    descriptions: dict[Reference, Description] = {}
    for group, cached_answers, new_answers in zip(groups, cached, _ask(missing), strict=True):
        answers = cached_answers | new_answers
        if new_answers.descriptions:
            cache.write(group, answers)
        descriptions.update(answers.descriptions)
    return descriptions


def _ask(groups: Sequence[Group]) -> list[Answers]:
    """Ask qx's own plugins in this process, and all others in processes of their own."""
    foreign = [group for group in groups if not group.is_own]
    answers = dict(zip(foreign, _ask_processes(foreign), strict=True)) if foreign else {}
    return [_ask_here(group) if group.is_own else answers[group] for group in groups]


def _ask_here(group: Group) -> Answers:
    if not group.plugins:
        return Answers()
    from qx.contract.checks import new_manager

    specs = new_manager().hook
    return Answers({plugin: describe(plugin, specs, named=group.is_named) for plugin in group.plugins})


def _ask_processes(groups: Sequence[Group]) -> list[Answers]:
    """Ask each group in a process of its own, then each plugin without an answer in one of its own."""
    from qx.environment import usable_cpus
    from qx.leftovers import temporary_folder
    from qx.processes.workers import Processes

    with temporary_folder() as logs, Processes(logs) as processes:
        # No more processes than processors at a time, since the limit is in seconds.
        answers = _ask_side_by_side(processes, groups, usable_cpus())
        single_groups = [
            [Group((plugin,), group.is_named) for plugin in group.without(group_answers.descriptions).plugins]
            for group, group_answers in zip(groups, answers, strict=True)
        ]
        # These are likely to hang without using a processor.
        all_singles = [single for singles in single_groups for single in singles]
        single_answers = iter(_ask_side_by_side(processes, all_singles, 4 * usable_cpus()))
        return [
            reduce(or_, [next(single_answers) for _ in singles], group_answers)
            for group_answers, singles in zip(answers, single_groups, strict=True)
        ]


def _ask_side_by_side(processes: Processes, groups: Sequence[Group], count: int) -> list[Answers]:
    from qx.processes.fork_servers import shared_servers

    # A server that imports what all processes need takes as long to start as one of them.
    fresh = len(groups) <= count and shared_servers() is None
    with processes.side_by_side(min(count, len(groups))) as pool:
        return list(pool.map(partial(_ask_process, processes, fresh), groups))


def _ask_process(processes: Processes, fresh: bool, group: Group) -> Answers:
    """Ask one plugin after another until the process ends, which is forked unless it is to be ``fresh``."""
    from qx.processes.job_answers import DescribeAnswer, Started
    from qx.processes.jobs import DescribeJob
    from qx.processes.workers import Failure

    answers = Answers()
    worker = processes.start(DescribeJob(), f"describe-{group.plugins[0].name}", fresh=fresh)
    try:
        plugin = group.plugins[0]
        worker.answer(Started, timeout=START_LIMIT)
        for plugin in group.plugins:
            question = {"plugin": asdict(plugin), "named": group.is_named}
            answer = worker.ask("describe", DescribeAnswer, timeout=LIMIT, **question)
            try:
                answers |= Answers.about(plugin, answer.description, answer.files, is_named=group.is_named)
            except ValueError as error:
                answers |= _broken(plugin, f"cannot be described: {error}")
    except Failure as failure:
        if failure.outcome == "timeout" and failure.stage != "start":
            advice = f"; -p no:{plugin.name} leaves it out" if group.is_named else ""
            reason = f"describe did not return within {LIMIT:g} s{advice}"
            answers |= _broken(plugin, reason, _end_of_output(worker))
        elif not answers.descriptions:
            answers |= _broken(plugin, f"cannot be described: {failure.cause}", _end_of_output(worker))
        # Else a plugin that was asked before this one may have ended the process.
    finally:
        worker.close()
    return answers


def _broken(plugin: Reference, reason: str, traceback: str = "") -> Answers:
    return Answers({plugin: Description(outcome="broken", reason=reason, traceback=traceback)})


def _end_of_output(worker: Worker) -> str:
    """Return the end of what a process that has ended printed: the stacks of its threads, if it died."""
    from qx.processes.logs import printed_text

    return printed_text(worker.printed()[-MOST_PRINTED:])
