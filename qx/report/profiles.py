"""Profiles in words: where the time of a call goes, by operator and by module, configs side by side."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

from attrs import asdict, frozen

from qx.foreign import to_markdown, to_markdown_cell, to_terminal
from qx.processes.job_answers import OperatorRow, ProfileAnswer
from qx.report import markdown, terminal
from qx.results.numbers import NOTHING, quantity
from qx.runner.profiling import ConfigProfile, Profiles

#: What rows of a table are gathered by.
Key: TypeAlias = Callable[[OperatorRow], str]
#: Modules below the whole model whose operators are in none.
NO_MODULE = "(in no module)"
#: Version of the JSON.
SCHEMA_VERSION = 1


@frozen
class Share:
    """What a group of operators takes of a call."""

    #: Time in one call, in seconds.
    seconds: float
    #: Share of the call while it was watched.
    share: float
    #: Number of runs in one call.
    count: float
    #: What they compute in, in words.
    precision: str


@frozen
class Table:
    """A table with a sentence above it."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


# What a profile says ------------------------------------------------------------------------------


def shares(answer: ProfileAnswer, key: Key) -> dict[str, Share]:
    """Return what the operators of each group take, those that take longest first."""
    groups: dict[str, list[OperatorRow]] = defaultdict(list)
    for operator in answer.operators:
        groups[key(operator)].append(operator)
    result = {
        name: Share(
            seconds=(seconds := sum(operator.seconds for operator in operators)),
            share=seconds / answer.profiled_seconds,
            count=sum(operator.count for operator in operators),
            precision=_precision(operators),
        )
        for name, operators in groups.items()
    }
    return dict(sorted(result.items(), key=lambda pair: -pair[1].seconds))


def accounted(answer: ProfileAnswer) -> float:
    """Return the share of the watched call that is in operators."""
    return sum(operator.seconds for operator in answer.operators) / answer.profiled_seconds


def _precision(operators: Iterable[OperatorRow]) -> str:
    """Return what operators compute in: what most of their time is spent in first."""
    times: dict[str, float] = defaultdict(float)
    for operator in operators:
        times["converts" if operator.converts else operator.precision] += operator.seconds
    total = sum(times.values())
    names = sorted((name for name in times if name), key=lambda name: -times[name])
    # What takes less than a hundredth of the group is of no account.
    return ", ".join(name for name in names if times[name] >= 0.01 * total)


def _sum_up(profile: ConfigProfile, answer: ProfileAnswer) -> Iterator[str]:
    times = (
        f"A call takes {_milliseconds(answer.seconds)}, and {_milliseconds(answer.profiled_seconds)} while "
        f"it is watched ({answer.calls} calls)"
    )
    if profile.built_for_it:
        times += "; the artifact was built anew to be watched, and is not the one that is deployed"
    yield f"{times}."
    kinds = shares(answer, lambda row: "converts" if row.converts else row.precision or "not known")
    words = {
        "converts": "conversions between types and layouts",
        "int8": "8 bits",
        "float": "float",
        "not known": "what they compute in is not known",
    }
    parts = [f"{words.get(name, name)} {_percent(share.share)}" for name, share in kinds.items()]
    total = accounted(answer)
    yield (
        f"Operators: {_percent(total)} of the watched call ({', '.join(parts)}). In no operator: "
        f"{_percent(max(0.0, 1 - total))}."
    )
    if total > 1.02:
        yield (
            "The operators add up to more than the call: the profiler's clock is coarse, or it counts the "
            "time of some operators twice."
        )
    yield from (_sentence(note) for note in answer.notes)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _milliseconds(seconds: float) -> str:
    return quantity(1e3 * seconds, "ms")


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.095 else f"{100 * share:.1f} %"


# Tables -------------------------------------------------------------------------------------------


def _tables(answer: ProfileAnswer, top: int) -> Iterator[Table]:
    yield _table(answer, "By type of operator", "operator", lambda row: row.type, top)
    if any(row.name != row.type for row in answer.operators):
        yield _table(answer, "The slowest operators", "operator", _full_name, top)
    if any(row.module for row in answer.operators):
        yield _table(answer, "By module", "module", lambda row: row.module or NO_MODULE, top)


def _full_name(row: OperatorRow) -> str:
    return row.name if row.type in row.name else f"{row.name} ({row.type})"


def _table(answer: ProfileAnswer, title: str, name: str, key: Key, top: int) -> Table:
    groups = shares(answer, key)
    rows = [
        (
            group,
            _percent(share.share),
            _milliseconds(share.seconds),
            f"{share.count:g}",
            share.precision or NOTHING,
        )
        for group, share in list(groups.items())[:top]
    ]
    if len(groups) > top:
        rest = list(groups.values())[top:]
        seconds = sum(share.seconds for share in rest)
        rows.append(
            (
                f"({len(rest)} others)",
                _percent(seconds / answer.profiled_seconds),
                _milliseconds(seconds),
                f"{sum(share.count for share in rest):g}",
                NOTHING,
            )
        )
    return Table(title, (name, "share", "time", "runs", "computes in"), rows)


def _side_by_side(profiles: Profiles, top: int) -> Table | None:
    """Return the modules of several configs beside each other; None where fewer than two name modules."""
    answers = {
        profile.row: profile.answer
        for profile in profiles.configs
        if profile.answer is not None and any(row.module for row in profile.answer.operators)
    }
    if len(answers) < 2:
        return None
    columns = {name: shares(answer, lambda row: row.module or NO_MODULE) for name, answer in answers.items()}
    longest: dict[str, float] = {}
    for column in columns.values():
        for module, share in column.items():
            longest[module] = max(share.seconds, longest.get(module, 0.0))
    modules = sorted(longest, key=lambda module: -longest[module])[:top]
    rows = [
        (
            module,
            *(
                _milliseconds(column[module].seconds) if module in column else NOTHING
                for column in columns.values()
            ),
        )
        for module in modules
    ]
    return Table("Side by side, by module", ("module", *columns), rows)


# Media --------------------------------------------------------------------------------------------


def to_screen(profiles: Profiles, top: int, style: str) -> str:
    """Return the profiles as text, in one of tabulate's formats."""
    drawing = terminal.Drawing(style)
    blocks = []
    for profile in profiles.configs:
        blocks.append(_heading(profile, to_terminal))
        blocks += [drawing.sentence(to_terminal(sentence)) for sentence in _sentences(profile)]
        if profile.answer is not None and profile.answer.operators:
            blocks += [_drawn(table, style) for table in _tables(profile.answer, top)]
    if (table := _side_by_side(profiles, top)) is not None:
        blocks.append(_drawn(table, style))
    return "\n\n".join(blocks)


def to_page(profiles: Profiles, top: int) -> str:
    """Return the profiles as a page of Markdown."""
    blocks = [f"# Where the time of a call goes: {to_markdown(profiles.workload)}", _provenance(profiles)]
    for profile in profiles.configs:
        blocks.append(f"## {_heading(profile, to_markdown)}")
        blocks.append("\n".join(map(to_markdown, _sentences(profile))))
        if profile.answer is not None and profile.answer.operators:
            blocks += [_written(table) for table in _tables(profile.answer, top)]
    if (table := _side_by_side(profiles, top)) is not None:
        blocks.append(_written(table))
    return "\n\n".join(blocks) + "\n"


def to_json(profiles: Profiles) -> str:
    """Return the profiles as JSON, with every operator."""
    return json.dumps({"schema_version": SCHEMA_VERSION, **asdict(profiles)}, indent=2) + "\n"


def _provenance(profiles: Profiles) -> str:
    threads = "1 thread" if profiles.threads == 1 else f"{profiles.threads} threads"
    return f"Calls with a batch of {profiles.batch_size}, on {threads}, by the profilers of the runtimes."


def _heading(profile: ConfigProfile, write: Callable[[str], str]) -> str:
    return write(f"{profile.row} ({profile.loader})" if profile.loader else profile.row)


def _sentences(profile: ConfigProfile) -> list[str]:
    answer = profile.answer
    if answer is None:
        return [f"No profile: {profile.failure}"]
    if answer.refusal:
        return [f"A call takes {_milliseconds(answer.seconds)}.", f"No profile: {_sentence(answer.refusal)}"]
    return list(_sum_up(profile, answer))


def _drawn(table: Table, style: str) -> str:
    from tabulate import tabulate

    write = terminal.FOREIGN.get(style, to_terminal)
    rows = [tuple(map(write, row)) for row in table.rows]
    align = ("left", *("right" for _ in table.header[1:4]), *("left" for _ in table.header[4:]))
    header = tuple(map(write, table.header))
    drawn = tabulate(rows, header, tablefmt=style, disable_numparse=True, colalign=align[: len(header)])
    return f"{table.title}:\n\n{drawn}"


def _written(table: Table) -> str:
    rows = [list(map(to_markdown_cell, row)) for row in table.rows]
    return f"{table.title}:\n\n{markdown.table(list(map(to_markdown_cell, table.header)), rows)}"
