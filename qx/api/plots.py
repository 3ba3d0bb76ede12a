"""Plots of a result with matplotlib: the front, and what each wave of launches showed."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import frozen

from qx.analysis.quantity import Quantity
from qx.contract.figures import Figure
from qx.contract.installation import extra_command
from qx.contract.records import Metric
from qx.errors import UsageError
from qx.foreign import to_terminal
from qx.results.columns import View
from qx.results.recording import Floats
from qx.results.records import Measurement, Results
from qx.values import JsonObject

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from matplotlib.axes import Axes

    from qx.results.recording import Recording

#: Markers of runtimes, so that none is known by its colour alone.
MARKERS = "osD^vPX*<>hp"
#: Factors that turn units into those of a plot.
SCALES = {"bytes": (1e-6, "MB"), "fraction": (100.0, "%")}


@frozen(eq=False)
class Plots:
    """The plots of a result. Each draws into ``ax``, or into a new figure, and returns the axes.

    Needs matplotlib, which the extra ``plot`` installs; raises ``UsageError`` without it, and for a name that
    the result does not have.
    """

    _results: Results
    _samples: Callable[[], Recording]

    def pareto(
        self,
        x: str | None = None,
        y: str | None = None,
        *,
        workload: str | None = None,
        ax: Axes | None = None,
    ) -> Axes:
        """Plot two figures of all cells against each other, with 95 % intervals and the front.

        Parameters
        ----------
        x, y : str, optional
            Figures, by title (``"latency (batch 1)"``) or by the name of the metric, which means its first
            batch size. By default the first axis of the front that is compared by speedup, and the first
            that is compared by difference.
        workload : str, optional
            The workload, where the result has several; by default the first.
        ax : matplotlib.axes.Axes, optional
            Axes to draw into.

        Returns
        -------
        matplotlib.axes.Axes
            Runtimes differ by colour and marker. Cells on the front are filled and joined by a line. Axes of
            metrics that are compared by ratio are logarithmic.
        """
        view = self._view(workload)
        horizontal, vertical = self._figure(view, x, "speedup", 0), self._figure(view, y, "difference", 1)
        ax = ax or _new_axes()
        runtimes = list(dict.fromkeys(view.ended(cell).loader for cell in view.rows))
        styles = dict(zip(runtimes, cycle(enumerate(MARKERS)), strict=False))
        places: dict[str, tuple[float, float]] = {}
        labelled: set[str | None] = set()
        for cell in view.rows:
            across, along = view.measurement(cell, horizontal), view.measurement(cell, vertical)
            if across is None or along is None or across.value is None or along.value is None:
                continue
            runtime = view.ended(cell).loader
            color, marker = styles[runtime]
            is_on_front = view.on_front(cell) != "no"
            places[cell] = _scaled(across), _scaled(along)
            ax.errorbar(
                *places[cell],
                xerr=_half_widths(across),
                yerr=_half_widths(along),
                color=f"C{color % 10}",
                marker=marker,
                markersize=8,
                markerfacecolor=f"C{color % 10}" if is_on_front else "none",
                elinewidth=1,
                linestyle="none",
                label=None if runtime in labelled else _plain(str(runtime)),
            )
            labelled.add(runtime)
        members = sorted(place for cell, place in places.items() if view.on_front(cell) != "no")
        if len(members) > 1:
            ax.plot(*zip(*members, strict=True), color="0.6", linewidth=1, zorder=0, label="front")
        for figure, axis, write in (
            (horizontal, "x", ax.set_xlabel),
            (vertical, "y", ax.set_ylabel),
        ):
            metric = view.results.metrics[figure.metric]
            if _is_relative(metric) and places:
                _make_logarithmic(ax, axis)
            unit = SCALES.get(metric.unit, (1.0, metric.unit))[1]
            better = "" if metric.better == "neither" else f", {metric.better} is better"
            write(_plain(f"{figure}, {unit}{better}"))
        ax.margins(x=0.15, y=0.1)
        _write_names(ax, {view.name(cell): place for cell, place in places.items()})
        if places:
            ax.legend(fontsize="small")
        return ax

    def waves(
        self,
        metric: str | None = None,
        batch_size: int | None = None,
        *,
        workload: str | None = None,
        ax: Axes | None = None,
    ) -> Axes:
        """Plot how each cell compares with the baseline in every wave of launches, with the control beside.

        What the control shows is noise: a cell whose points lie no further from 1 is not told from the
        baseline. A line that rises or falls over the waves means that the machine changed.

        Parameters
        ----------
        metric : str, optional
            A metric that is measured in launches; by default the first axis of the front that is one.
        batch_size : int, optional
            By default the first one.
        workload : str, optional
            The workload, where the result has several; by default the first.
        ax : matplotlib.axes.Axes, optional
            Axes to draw into.

        Returns
        -------
        matplotlib.axes.Axes
            One line for each cell: its speedup or ratio, or for a metric that is compared by difference the
            difference, by wave.
        """
        view = self._view(workload)
        quantity = self._quantity(view, metric, batch_size)
        record, figure = quantity.metric, quantity.figure
        ax = ax or _new_axes()
        colors = cycle(range(10))
        for cell, marker in zip(view.results.cells, cycle(MARKERS), strict=False):
            is_control = view.ended(cell).control
            if cell == view.baseline or not quantity.are_comparable(cell, view.baseline):
                continue
            style: JsonObject = {"color": f"C{next(colors)}", "marker": marker}
            if is_control:
                style = {"color": "0.4", "marker": "x", "linestyle": "--"}
            values = _compared(quantity, cell, view.baseline)
            name = view.ended(cell).row if is_control else view.name(cell)
            ax.plot(np.arange(len(values)), values, label=_plain(name), **style)
        ax.axhline(1.0 if quantity.is_relative else 0.0, color="0.7", linewidth=1, zorder=0)
        if quantity.is_relative:
            _make_logarithmic(ax, "y")
        _count_on(ax)
        ax.set_xlabel("wave")
        ax.set_ylabel(_plain(f"{record.compare} in {figure}"))
        ax.legend(fontsize="small")
        return ax

    def _view(self, workload: str | None) -> View:
        parts = dict(zip(self._results.run.workloads, View(self._results).parts, strict=True))
        name = next(iter(parts)) if workload is None else workload
        if name not in parts:
            raise UsageError(f"workload {name!r} is not in this result, which has {', '.join(parts)}")
        return parts[name]

    def _figure(self, view: View, title: str | None, compare: str, position: int) -> Figure:
        """Return the figure of a title or a metric; without one, the first axis that is compared like this.

        Where no axis is, it is the axis at ``position``.
        """
        if title is None:
            axes = view.axes or view.columns
            if len(axes) < 2:
                raise UsageError("this result has fewer than two figures, and a plot of the front needs two")
            wanted = [figure for figure in axes if view.results.metrics[figure.metric].compare == compare]
            return wanted[0] if wanted else axes[position]
        for figure in view.columns:
            if title in (str(figure), figure.metric):
                return figure
        raise UsageError(
            f"figure {title!r} is not in this result; it has {', '.join(map(str, view.columns))}"
        )

    def _quantity(self, view: View, metric: str | None, batch_size: int | None) -> Quantity:
        """Return the samples of a figure that is measured in launches, over the cells of a workload."""
        results = view.results
        failed = {cell for cell, result in results.cells.items() if result.outcome != "ok"}
        recording = self._samples().select(results.cells)
        quantities = [
            Quantity(results.metrics[figure.metric], figure.point, recording, view.baseline, failed)
            for figure in dict.fromkeys([*view.axes, *view.columns])
        ]
        in_launches = [quantity for quantity in quantities if quantity.is_from_launches and quantity.measured]
        for quantity in in_launches:
            size = None if quantity.point is None else quantity.point.batch_size
            if metric in (None, quantity.metric.name) and batch_size in (None, size):
                return quantity
        wanted = "a metric" if metric is None else f"{metric!r}"
        at = "" if batch_size is None else f" at batch size {batch_size}"
        names = ", ".join(str(quantity.figure) for quantity in in_launches) or "nothing"
        raise UsageError(f"{wanted}{at} was not measured in launches of this result; {names} was")


def _is_relative(metric: Metric) -> bool:
    return metric.compare != "difference"


def _compared(quantity: Quantity, cell: str, baseline: str) -> Floats:
    """Return how a cell compares with the baseline in every wave, ``[waves]``; NaN where it does not."""
    advantage = quantity.by_wave.advantage(cell, baseline)
    if not quantity.is_relative:
        return advantage
    ratios: Floats = np.exp(-advantage if quantity.metric.compare == "speedup" else advantage)
    return ratios


def _scaled(measurement: Measurement, value: float | None = None) -> float:
    number = measurement.value if value is None else value
    assert number is not None
    return number * SCALES.get(measurement.unit, (1.0, ""))[0]


def _half_widths(measurement: Measurement) -> Any:
    """Return the distances from a value to the ends of its interval, ``[2, 1]``, as matplotlib takes them."""
    if measurement.ci is None:
        return None
    value = _scaled(measurement)
    low, high = (_scaled(measurement, end) for end in measurement.ci)
    return [[max(0.0, value - low)], [max(0.0, high - value)]]


def _count_on(ax: Axes) -> None:
    """Put the ticks of the x axis at whole numbers."""
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def _make_logarithmic(ax: Axes, axis: str) -> None:
    """Make an axis logarithmic, with ticks at plain numbers where it spans less than two decades."""
    from matplotlib.ticker import MaxNLocator, NullFormatter, NullLocator, StrMethodFormatter

    getattr(ax, f"set_{axis}scale")("log")
    low, high = getattr(ax, f"get_{axis}lim")()
    if high < 100 * low:
        ruler = ax.xaxis if axis == "x" else ax.yaxis
        ruler.set_major_locator(MaxNLocator(6))
        ruler.set_major_formatter(StrMethodFormatter("{x:g}"))
        ruler.set_minor_locator(NullLocator())
        ruler.set_minor_formatter(NullFormatter())


#: Room that a name takes in a plot, in points: of a character across, and of a line.
_CHARACTER, _LINE = 5.0, 11.0


def _write_names(ax: Axes, places: Mapping[str, tuple[float, float]]) -> None:
    """Write a name beside each point, further up where another name would be in its way."""
    scale = 72 / ax.figure.dpi
    written: list[tuple[float, float, float]] = []
    for name, place in sorted(places.items(), key=lambda item: item[1][1]):
        across, up = (float(position) * scale for position in ax.transData.transform(place))
        width, rise = _CHARACTER * len(name), 5.0
        while any(
            start < across + width and across < start + length and abs(up + rise - height) < _LINE
            for start, height, length in written
        ):
            rise += _LINE / 2
        written.append((across, up + rise, width))
        ax.annotate(_plain(name), place, xytext=(6, rise), textcoords="offset points", fontsize="small")


def _plain(text: str) -> str:
    """Return text in which matplotlib sees no formula."""
    return to_terminal(text).replace("$", r"\$")


def _new_axes() -> Axes:
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise UsageError(f"plots need matplotlib, which is not installed: {extra_command('plot')}") from error
    axes: Axes = pyplot.subplots(figsize=(8, 5), layout="constrained")[1]
    return axes
