"""The rows and the picks of a result, as objects that print themselves, in a notebook as a table."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TypeAlias, overload

from attrs import evolve, field, frozen

from qx.contract.figures import Figure
from qx.foreign import to_terminal
from qx.report import folded, screen
from qx.report import picks as sentences
from qx.report.styled import to_text
from qx.report.wording import Markup
from qx.results.columns import View, with_units
from qx.results.records import PickResult, Results, UndecidedResult

#: One row of a table: names, numbers, and what became of the cell.
Row: TypeAlias = dict[str, str | float | None]

#: Marks of cells on the front, by the word that says whether they are.
FRONT_MARKS = {"yes": screen.FRONT, "perhaps": screen.PERHAPS, "no": ""}
LEGEND = "* on the front, + perhaps; differences are from the baseline; ±: half of the 95 % interval"
#: Width in characters of the lines about cells without figures.
LINE_WIDTH = 160


def escape(text: str) -> str:
    """Return foreign text as HTML that shows it and does nothing else."""
    return html.escape(to_terminal(text))


PLAIN = Markup(name=to_terminal, strong=str, text=to_terminal)
HTML = Markup(
    name=lambda text: f"<code>{escape(text)}</code>", strong=lambda text: f"<b>{text}</b>", text=escape
)


@frozen(eq=False, repr=False, slots=False)
class Table(Sequence[Row]):
    """The cells of a result, a row for each, those on the front first and the fastest first among them.

    A row is a dict: ``workload``, ``config``, ``front`` (``"yes"``, ``"perhaps"`` or ``"no"``), ``outcome``,
    ``cause``, then the value of each figure under its title (``"latency (batch 1)"``), and under the title
    followed by `` vs baseline`` how it compares. Missing values are None. Printed, it has the axes of the
    front only, with intervals, and a line for each reason why cells have no figures.
    """

    _view: View
    _cells: tuple[str, ...]

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._cells)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    @cached_property
    def names(self) -> list[str]:
        """The names of the rows: config and options, with the workload where the run has several."""
        return [self._view.name(cell) for cell in self._cells]

    @cached_property
    def _rows(self) -> list[Row]:
        return list(map(self._row, self._cells))

    def _row(self, cell: str) -> Row:
        view, ended = self._view, self._view.ended(cell)
        row: Row = {
            "workload": ended.workload,
            "config": view.name(cell),
            "front": view.on_front(cell),
            "outcome": ended.outcome,
            "cause": ended.cause,
        }
        for figure in view.figures:
            measured = view.measurement(cell, figure)
            compared = None if measured is None else measured.vs_baseline
            row[str(figure)] = None if measured is None else measured.value
            row[f"{figure} vs baseline"] = None if compared is None else compared.value
        return row

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        from tabulate import tabulate

        # With `disable_numparse` off, tabulate reads figures as numbers and drops digits of them.
        table = tabulate(self._texts(to_terminal), self._header(to_terminal), disable_numparse=True)
        return "\n\n".join([table, LEGEND, *self._without_figures()]) if self else "no rows"

    def _repr_html_(self) -> str:
        return self.to_html()

    def to_html(self) -> str:
        """Return the table as HTML without styles and scripts; all text of the results is escaped."""
        head = "".join(f'<th style="text-align: left">{title}</th>' for title in self._header(escape))
        rows = "".join(
            "<tr>" + "".join(f'<td style="text-align: left">{text}</td>' for text in row) + "</tr>"
            for row in self._texts(escape)
        )
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        lines = "".join(f"<br>{escape(text)}" for text in self._without_figures())
        return f"{table}<p><small>{escape(LEGEND)}{lines}</small></p>"

    def _header(self, write: Callable[[str], str]) -> list[str]:
        return ["", "config", *(write(str(figure)) for figure in self._figures)]

    @property
    def _figures(self) -> list[Figure]:
        return self._view.axes or self._view.columns

    def _texts(self, write: Callable[[str], str]) -> Iterator[list[str]]:
        """Yield the texts of each row that has figures, with foreign text made safe by ``write``."""
        view = self._view
        for cell in self._cells:
            if view.ended(cell).outcome == "ok":
                name = " ".join([view.name(cell), *(f"({remark})" for remark in view.remarks(cell))])
                texts = [name, *(self._text(cell, figure) for figure in self._figures)]
                yield [FRONT_MARKS[view.on_front(cell)], *map(write, texts)]

    def _without_figures(self) -> list[str]:
        """Return a line for each reason why cells of this table have no figures."""
        view = self._view
        if all(view.ended(cell).outcome == "ok" for cell in self._cells):
            return []
        names = {cell: to_terminal(view.name(cell)) for cell in view.rows}
        return [to_text([spans]) for spans in folded.lines(view, names, LINE_WIDTH)]

    def _text(self, cell: str, figure: Figure) -> str:
        text = self._view.figure(cell, figure)
        compared = " ".join(filter(None, (text.delta, text.interval)))
        return f"{text.value}, {compared}" if compared else text.value


def table_of(results: Results, *, only_front: bool = False) -> Table:
    """Return the table of all cells, or of those on the front."""
    view = View(results)
    ranks = {"yes": 0, "perhaps": 1, "no": 2}
    cells = [cell for cell in view.rows if not only_front or view.on_front(cell) != "no"]

    def order(cell: str) -> tuple[bool, int, float]:
        is_ok = view.ended(cell).outcome == "ok"
        return not is_ok, ranks[view.on_front(cell)], -_speedup(view, cell)

    return Table(view, tuple(sorted(cells, key=order)))


def _speedup(view: View, cell: str) -> float:
    """Return the speedup of a cell on the first axis that is compared by speedup; 0 where it has none."""
    for figure in view.axes:
        if view.results.metrics[figure.metric].compare == "speedup":
            measured = view.measurement(cell, figure)
            compared = None if measured is None else measured.vs_baseline
            return 0.0 if compared is None else compared.value
    return 0.0


@frozen(kw_only=True)
class Pick:
    """The best config for one aim, or the reason why this run allows no choice. As text, a sentence.

    ``config`` is its name, and None without a pick. Others that are as good are in ``tied_with``, those that
    may be as good in ``not_told_apart``.
    """

    #: Aim in words, such as ``"the smallest artifact"``.
    aim: str
    metric: str
    #: Batch size of the figure; None where it has none.
    batch_size: int | None
    workload: str
    #: Name of the config that is picked, with its options; None where the noise allows no pick.
    config: str | None
    #: Other configs that are as good within the metric's margin.
    tied_with: tuple[str, ...] = ()
    #: Configs that may be as good; without a pick, those between which the noise does not decide.
    not_told_apart: tuple[str, ...] = ()
    _sentence: str = field(repr=False)

    def __str__(self) -> str:
        return self._sentence


def picks_of(results: Results) -> tuple[Pick, ...]:
    """Return the picks of each workload, and after them the aims without a pick."""
    picks: list[Pick] = []
    for view in View(results).parts:
        (workload,) = view.results.run.workloads
        aims: list[PickResult | UndecidedResult] = [*view.results.picks, *view.results.undecided]
        for pick in aims:
            decided = pick if isinstance(pick, PickResult) else None
            unsure = pick.not_told_apart if isinstance(pick, PickResult) else pick.contenders
            picks.append(
                Pick(
                    aim=pick.aim,
                    metric=pick.metric,
                    batch_size=None if pick.point is None else pick.point.batch_size,
                    workload=workload,
                    config=None if decided is None else view.name(decided.cell),
                    tied_with=() if decided is None else tuple(map(view.name, decided.tied_with)),
                    not_told_apart=tuple(map(view.name, unsure)),
                    sentence=_sentence(view, pick, PLAIN),
                )
            )
    return tuple(picks)


def pick_sentences(results: Results, markup: Markup) -> list[str]:
    """Return what holds for all picks, the aims without a pick and the picks, as sentences."""
    write = markup.text
    safe = evolve(results, metrics=with_units(results.metrics, write))
    parts = View(safe).parts
    return [
        (f"{markup.name(next(iter(part.results.run.workloads)))}: " if len(parts) > 1 else "") + sentence
        for part in parts
        for sentence in sentences.sentences(part, markup)
    ]


def _sentence(view: View, pick: PickResult | UndecidedResult, markup: Markup) -> str:
    metrics = with_units(view.results.metrics, markup.text)
    return sentences.sentence(View(evolve(view.results, metrics=metrics)), pick, markup)
