"""Draw ``pareto.svg``: two axes of each workload, with intervals and the front between the configs.

A picture that Markdown shows: without a script, in light and dark, and written without a plotting library.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TypeAlias

from attrs import frozen

from qx.contract.figures import Figure
from qx.foreign import to_html, to_terminal
from qx.report import wording
from qx.report.wording import Markup
from qx.results.columns import View
from qx.results.records import Measurement, Results

Point: TypeAlias = tuple[float, float]

#: Width of the picture, and height of the part of one workload, in pixels.
WIDTH, HEIGHT = 880, 440
#: Space between the plot of a workload and the edges of its part.
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 92, 52
#: Width of a character of a name, in pixels.
CHARACTER = 6.4
#: Longest name beside a point, in characters.
LONGEST = 36
#: Most characters of any other text, and of a title.
MOST = (130, 96)
#: Largest number of configs of which all have a name: of more only the front and the baseline.
MANY = 30
#: Places of a name beside its point: offsets in pixels, and the end at which the text is anchored.
NAME_PLACES = (
    (10, -8, "start"),
    (-10, -8, "end"),
    (10, 16, "start"),
    (-10, 16, "end"),
    (10, 4, "start"),
    (-10, 4, "end"),
    (0, -14, "middle"),
    (0, 22, "middle"),
)
#: Shapes of runtimes around (0, 0), as paths: colour alone would not tell them apart for everybody.
SHAPES = (
    "M-5,0A5,5 0 1 0 5,0A5,5 0 1 0 -5,0Z",
    "M-4.6,-4.6H4.6V4.6H-4.6Z",
    "M0,-6L5.6,4.4H-5.6Z",
    "M0,-6.4L6.4,0L0,6.4L-6.4,0Z",
    "M-6,-2H-2V-6H2V-2H6V2H2V6H-2V2H-6Z",
    "M0,6L-5.6,-4.4H5.6Z",
    "M-6,0L-3,-5.2H3L6,0L3,5.2H-3Z",
    "M0,-6.5L1.9,-1.9L6.5,-1.9L2.8,1.2L4,6L0,3.2L-4,6L-2.8,1.2L-6.5,-1.9L-1.9,-1.9Z",
)
LIGHT = ("#0b62b5", "#c04a00", "#0f7a3d", "#8a2bc2", "#b30f62", "#6d5a00", "#077a84", "#5a4a3a")
DARK = ("#5fa8f0", "#f08a45", "#57c27f", "#c48bf0", "#f078ac", "#d6bf55", "#4fc4cf", "#c2ab94")
PLAIN = Markup(name=str, strong=str, text=str)


def _style() -> str:
    def colours(palette: Sequence[str]) -> str:
        return "".join(f".r{index}{{stroke:{colour};fill:{colour}}}" for index, colour in enumerate(palette))

    return (
        "text{font:12px system-ui,'Segoe UI',Roboto,'Helvetica Neue',sans-serif;fill:#1b1f24}"
        ".paper{fill:#fff}.title{font-size:15px;font-weight:600}.quiet{fill:#525b66}"
        ".grid{stroke:#d3d9e0}.band{fill:#0b5cad;fill-opacity:.13}"
        ".front{fill:none;stroke:#0b5cad;stroke-width:2}"
        ".interval{fill:none;stroke-opacity:.65;stroke-width:1.4}.point{stroke-width:1.8}"
        ".half{fill-opacity:.4}.name{font-size:11.5px}"
        + colours(LIGHT)
        + ".rx{stroke:#66707b;fill:#66707b}.point.hollow{fill:#fff}"
        + "@media(prefers-color-scheme:dark){text{fill:#e6ebf0}.paper{fill:#0f1419}.quiet{fill:#a3afbb}"
        ".grid{stroke:#38424d}.band{fill:#7db8f5}.front{stroke:#7db8f5}"
        + colours(DARK)
        + ".rx{stroke:#9aa5b1;fill:#9aa5b1}.point.hollow{fill:#0f1419}}"
    )


@frozen(kw_only=True)
class Axis:
    """One axis of the picture: a figure of each cell, or how it compares with the baseline."""

    title: str
    #: Value and ends of the interval of each cell that has them, as they are shown.
    ends: dict[str, tuple[float, float, float]]
    #: 1 where more is better, -1 where less is.
    direction: int
    is_log: bool


@frozen(kw_only=True)
class Scale:
    """Where a value of an axis lies in the picture, in pixels."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool

    def __call__(self, value: float) -> float:
        """Return the place of a value."""
        low, high, own = (
            (math.log(number) if self.is_log else number) for number in (self.low, self.high, value)
        )
        return round(self.start + (own - low) / (high - low) * (self.end - self.start), 1)

    def ticks(self, count: int) -> list[float]:
        """Return round values at which the axis has lines."""
        if self.is_log and self.high / self.low > 8:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            candidates = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
        else:
            step = _nice_step((self.high - self.low) / count)
            candidates = [
                step * number for number in range(math.ceil(self.low / step), math.ceil(self.high / step) + 1)
            ]
        return [tick for tick in candidates if self.low <= tick <= self.high]


def _nice_step(step: float) -> float:
    """Return the smallest of 1, 2 and 5 times a power of ten that is no less than ``step``."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(digit * power for digit in (1, 2, 5, 10) if digit * power >= step * (1 - 1e-9))


def render(results: Results) -> str:
    """Return the text of ``pareto.svg``."""
    views = View(results).parts
    height = HEIGHT * len(views)
    title = to_html(wording.title(View(results), PLAIN))
    description = to_html(" ".join(wording.front(view, PLAIN) for view in views))
    parts = [part for index, view in enumerate(views) for part in _part(view, HEIGHT * index)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
            f'viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="title description">',
            f'<title id="title">{title}</title>',
            f'<desc id="description">{description}</desc>',
            f"<style>{_style()}</style>",
            f'<rect class="paper" width="{WIDTH}" height="{height}"/>',
            *parts,
            "</svg>",
            "",
        ]
    )


def _part(view: View, top: int) -> Iterator[str]:
    """Yield the elements of one workload's part, which begins at ``top``."""
    yield f'<g transform="translate(0,{top})">'
    yield _text(LEFT - 44, 26, wording.title(view, PLAIN), "title")
    axes = _axes(view)
    cells = [cell for cell in view.rows if all(cell in axis.ends for axis in axes)]
    if len(axes) < 2 or not cells:
        yield _text(LEFT - 44, 52, "No config has figures on two axes, so there is nothing to draw.", "quiet")
    else:
        yield from _plot(view, cells, *axes)
    yield "</g>"


def _plot(view: View, cells: Sequence[str], across: Axis, up: Axis) -> Iterator[str]:
    x = _scale(across, cells, LEFT, WIDTH - RIGHT)
    y = _scale(up, cells, HEIGHT - BOTTOM, TOP)
    runtimes = list(dict.fromkeys(filter(None, (view.ended(cell).loader for cell in view.rows))))
    yield from _legend(runtimes)
    yield from _grid(across, up, x, y)
    line = list(_front_line(view, cells, across, up, x, y))
    yield from (element for element, _ in line)
    for cell in cells:
        yield _interval(across.ends[cell], up.ends[cell], x, y, _colour(view, cell, runtimes))
    for cell in cells:
        place = f"{x(across.ends[cell][0])},{y(up.ends[cell][0])}"
        kind = {"yes": "full", "perhaps": "half"}.get(view.on_front(cell), "hollow")
        shape = SHAPES[_number(view, cell, runtimes)]
        yield (
            f'<path class="point {_colour(view, cell, runtimes)} {kind}" transform="translate({place})" '
            f'd="{shape}"><title>{to_html(view.name(cell))}</title></path>'
        )
    corners = [corner for _, points in line for corner in points]
    yield from _names(
        view, cells, {cell: (x(across.ends[cell][0]), y(up.ends[cell][0])) for cell in cells}, corners
    )


def _number(view: View, cell: str, runtimes: Sequence[str]) -> int:
    loader = view.ended(cell).loader
    return runtimes.index(loader) % len(SHAPES) if loader in runtimes else 0


def _colour(view: View, cell: str, runtimes: Sequence[str]) -> str:
    return f"r{_number(view, cell, runtimes)}"


# Axes ---------------------------------------------------------------------------------------------


def _axes(view: View) -> list[Axis]:
    """Return the axes across and up: a speedup, or another cost, and what is compared by difference."""
    figures = [*view.axes, *(figure for figure in view.columns if figure not in view.axes)]
    metrics = view.results.metrics
    figures = [figure for figure in figures if metrics[figure.metric].better != "neither"]
    upright = next((figure for figure in figures if metrics[figure.metric].compare == "difference"), None)
    upright = upright or (figures[0] if figures else None)
    others = [figure for figure in figures if figure != upright]
    across = next((figure for figure in others if metrics[figure.metric].compare == "speedup"), None)
    across = across or (others[0] if others else None)
    return [_axis(view, figure) for figure in (across, upright) if figure is not None]


def _axis(view: View, figure: Figure) -> Axis:
    """Return how the cells compare with the baseline by a figure, or its values where they do not."""
    metric = view.results.metrics[figure.metric]
    measured = {cell: view.measurement(cell, figure) for cell in view.rows}
    compared = {
        cell: (comparison.value, *(comparison.ci or (comparison.value,) * 2))
        for cell, measurement in measured.items()
        if measurement is not None and (comparison := measurement.vs_baseline) is not None
    }
    is_change = len(compared) > 1
    ends = compared if is_change else _values(measured)
    sign = 1 if metric.better == "higher" else -1
    factor = 100.0 if metric.unit == "fraction" and (metric.compare == "difference" or not is_change) else 1.0
    if is_change:
        how = {"speedup": "speedup over", "ratio": "ratio to"}.get(metric.compare, "difference from")
        unit = (
            "x" if metric.compare != "difference" else "points" if metric.unit == "fraction" else metric.unit
        )
        title = f"{figure}: {how} {view.name(view.baseline)} [{unit}]"
    else:
        title = f"{figure} [{'%' if metric.unit == 'fraction' else metric.unit}]"
    direction = -sign if is_change and metric.compare == "speedup" else sign
    return Axis(
        title=f"{title}, {'more' if direction > 0 else 'less'} is better",
        ends={cell: (factor * own[0], factor * own[1], factor * own[2]) for cell, own in ends.items()},
        direction=direction,
        is_log=metric.compare != "difference" and all(min(own) > 0 for own in ends.values()),
    )


def _values(measured: dict[str, Measurement | None]) -> dict[str, tuple[float, float, float]]:
    return {
        cell: (measurement.value, *(measurement.ci or (measurement.value,) * 2))
        for cell, measurement in measured.items()
        if measurement is not None and measurement.value is not None
    }


def _scale(axis: Axis, cells: Sequence[str], start: float, end: float) -> Scale:
    """Return the scale of an axis, with some room at its ends."""
    numbers = [number for cell in cells for number in axis.ends[cell]]
    low, high = min(numbers), max(numbers)
    if axis.is_log:
        room = max((high / low) ** 0.07, 1.01)
        return Scale(low=low / room, high=high * room, start=start, end=end, is_log=True)
    span = 0.07 * ((high - low) or abs(high) or 1.0)
    return Scale(low=low - span, high=high + span, start=start, end=end, is_log=False)


def _grid(across: Axis, up: Axis, x: Scale, y: Scale) -> Iterator[str]:
    for tick in x.ticks(9):
        yield f'<path class="grid" d="M{x(tick)},{TOP}V{HEIGHT - BOTTOM}"/>'
        yield _text(x(tick), HEIGHT - BOTTOM + 18, f"{tick:.4g}", "quiet", "middle")
    for tick in y.ticks(6):
        yield f'<path class="grid" d="M{LEFT},{y(tick)}H{WIDTH - RIGHT}"/>'
        yield _text(LEFT - 8, y(tick) + 4, f"{tick:.4g}", "quiet", "end")
    yield _text(WIDTH - RIGHT, HEIGHT - BOTTOM + 38, across.title, "", "end")
    yield _text(LEFT - 44, TOP - 14, up.title)


# The front ----------------------------------------------------------------------------------------


def _front_line(
    view: View, cells: Sequence[str], across: Axis, up: Axis, x: Scale, y: Scale
) -> Iterator[tuple[str, list[Point]]]:
    """Yield the band of the front and its line, each as an element, the line with its corners in pixels."""
    judged = [cell for cell in cells if view.front(cell) is not None]
    if not judged:
        return
    worst = tuple(scale.low if axis.direction > 0 else scale.high for axis, scale in ((across, x), (up, y)))

    def corners(choose: Callable[[Axis, str], float]) -> list[Point]:
        points = [(choose(across, cell), choose(up, cell)) for cell in judged]
        line = staircase(points, (across.direction, up.direction), (worst[0], worst[1]))
        return [(x(first), y(second)) for first, second in line]

    best = corners(lambda axis, cell: axis.ends[cell][2 if axis.direction > 0 else 1])
    least = corners(lambda axis, cell: axis.ends[cell][1 if axis.direction > 0 else 2])
    middle = corners(lambda axis, cell: axis.ends[cell][0])
    yield f'<path class="band" d="{_path([*best, *reversed(least)])}Z"/>', []
    yield f'<path class="front" d="{_path(middle)}"/>', middle


def staircase(points: Sequence[Point], directions: Point, worst: Point) -> list[Point]:
    """Return the corners of the line between what some point is as good as on both axes, and what none is.

    ``directions`` are 1 where more is better on an axis, else -1. The line begins and ends at the ``worst``
    values of the axes.
    """
    ahead = sorted(
        ((first * directions[0], second * directions[1]) for first, second in points), reverse=True
    )
    line: list[Point] = []
    best = worst[1] * directions[1]
    for first, second in ahead:
        if second > best or not line:
            line += [(first, best), (first, max(second, best))]
            best = max(second, best)
    line += [(worst[0] * directions[0], best)] if line else []
    return [(first * directions[0], second * directions[1]) for first, second in line]


def _path(points: Sequence[Point]) -> str:
    return "M" + "L".join(f"{x},{y}" for x, y in points)


def _interval(
    across: tuple[float, float, float], up: tuple[float, float, float], x: Scale, y: Scale, colour: str
) -> str:
    middle = x(across[0]), y(up[0])
    return (
        f'<path class="interval {colour}" d="M{x(across[1])},{middle[1]}H{x(across[2])}'
        f'M{middle[0]},{y(up[1])}V{y(up[2])}"/>'
    )


# Texts --------------------------------------------------------------------------------------------


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    """Return a text, cut where the picture ends; it may be foreign."""
    name = f' class="{kind}"' if kind else ""
    written = to_html(shortened(text, MOST[kind == "title"]))
    return f'<text{name} x="{x}" y="{y}" text-anchor="{anchor}">{written}</text>'


def _legend(runtimes: Sequence[str]) -> Iterator[str]:
    """Yield the runtimes with their shapes, and what a filled shape means."""
    x = LEFT - 38.0
    entries = [
        *(
            (f"r{index % len(SHAPES)} full", SHAPES[index % len(SHAPES)], name)
            for index, name in enumerate(runtimes)
        ),
        ("rx full", SHAPES[0], "filled: on the front"),
        ("rx hollow", SHAPES[0], "hollow: not on it"),
    ]
    for kind, shape, name in entries:
        if x + CHARACTER * len(name) < WIDTH - RIGHT:
            yield f'<path class="point {kind}" transform="translate({x:.0f},50)" d="{shape}"/>'
            yield _text(x + 11, 54, name, "quiet")
            x += 32 + CHARACTER * len(name)


def _names(
    view: View, cells: Sequence[str], places: dict[str, Point], corners: Sequence[Point]
) -> Iterator[str]:
    """Yield the names of cells beside their points where there is room, those on the front first."""
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in places.values()]
    for (ax, ay), (bx, by) in pairwise(corners):
        taken.append((min(ax, bx) - 2, min(ay, by) - 2, max(ax, bx) + 2, max(ay, by) + 2))
    ranks = {"yes": 0, "perhaps": 2}
    order = sorted(cells, key=lambda cell: 1 if cell == view.baseline else ranks.get(view.on_front(cell), 3))
    if len(order) > MANY:
        order = [cell for cell in order if cell == view.baseline or view.on_front(cell) != "no"]
    for cell in order:
        name = shortened(view.name(cell), LONGEST)
        width, (x, y) = CHARACTER * len(name), places[cell]
        for dx, dy, anchor in NAME_PLACES:
            left = x + dx - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
            box = (left, y + dy - 11, left + width, y + dy + 3)
            is_inside = box[0] > 4 and box[2] < WIDTH - 4 and box[1] > TOP - 10 and box[3] < HEIGHT - BOTTOM
            if is_inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                yield _text(round(x + dx, 1), round(y + dy, 1), name, "name", anchor)
                break


def shortened(text: str, most: int) -> str:
    """Cut a text in its middle, since names of one family differ at their ends."""
    line = to_terminal(text)
    half = most // 2
    return line if len(line) <= most else f"{line[: most - half - 1]}…{line[-half:]}"


def _overlap(box: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return box[0] < other[2] and box[2] > other[0] and box[1] < other[3] and box[3] > other[1]
