"""The static picture: what it draws, in which form, and that nothing in it acts."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from types import ModuleType

import pytest
from attrs import evolve

from qx.report import picture

SVG = "{http://www.w3.org/2000/svg}"


def elements(text: str, kind: str) -> list[ET.Element]:
    """Return the elements with this class."""
    return [element for element in ET.fromstring(text).iter() if kind in element.get("class", "").split()]


def test_each_config_has_a_point_with_both_intervals(builders: ModuleType) -> None:
    """Configs with figures on both axes are drawn, those on the front filled; others are not."""
    results = builders.small().results()
    text = picture.render(results)
    points = elements(text, "point")
    names = [title.text for point in points for title in point.findall(f"{SVG}title")]
    assert names == ["base", "quick", "alike"]
    assert len(elements(text, "interval")) == len(names)
    assert len(elements(text, "front")) == len(elements(text, "band")) == 1
    assert "lost" not in text


def test_it_follows_light_and_dark_without_a_script(builders: ModuleType) -> None:
    """One file serves both, names its content for readers of screens, and refers to nothing."""
    text = picture.render(builders.small().results())
    root = ET.fromstring(text)
    assert "@media(prefers-color-scheme:dark)" in text
    assert root.get("role") == "img"
    assert root.findtext(f"{SVG}desc").startswith("On the front, by hits, weight, delay (batch 1) and heap")
    assert not [element for element in root.iter() if "script" in element.tag or "image" in element.tag]
    assert "url(" not in text and "href" not in text


def test_each_workload_has_its_part(builders: ModuleType) -> None:
    """The parts of several workloads stand below each other."""
    results, _ = builders.everything()
    root = ET.fromstring(picture.render(results))
    assert int(root.get("height", 0)) == 2 * picture.HEIGHT
    assert len(root.findall(f"{SVG}g")) == 2


def test_a_run_without_two_axes_says_so(builders: ModuleType) -> None:
    """There is a picture even where there is nothing to draw."""
    results = builders.small(metrics=(builders.WEIGHT,), control=None).results()
    assert "nothing to draw" in picture.render(results)


def test_names_do_not_become_markup(builders: ModuleType) -> None:
    """Text of plugins is escaped, and cut where the picture ends."""
    results = builders.small(workload={"source": "<script>x</script>" * 20}).results()
    units = {name: evolve(metric, unit="<b>&\x1b[1m") for name, metric in results.metrics.items()}
    text = picture.render(evolve(results, metrics=units))
    assert not ET.fromstring(text).findall(f".//{SVG}script")
    assert "\x1b" not in text
    assert max(len(element.text or "") for element in elements(text, "title")) <= max(picture.MOST)


@pytest.mark.parametrize("count", [4, 26])
def test_no_two_names_overlap(builders: ModuleType, count: int) -> None:
    """A name is left out rather than written over another or over a point."""
    boxes = []
    for element in elements(picture.render(builders.many(count)[0]), "name"):
        width = picture.CHARACTER * len(element.text or "")
        shift = {"start": 0.0, "middle": width / 2, "end": width}[element.get("text-anchor", "start")]
        x, y = float(element.get("x", 0)) - shift, float(element.get("y", 0))
        boxes.append((x, y - 11, x + width, y + 3))
    assert len(boxes) >= 4
    for index, (left, top, right, bottom) in enumerate(boxes):
        for other in boxes[:index]:
            assert right <= other[0] or left >= other[2] or bottom <= other[1] or top >= other[3]


def test_the_front_goes_through_what_nothing_beats() -> None:
    """The line has the points that no other beats on both axes, and ends at the worse ends of the axes."""
    points = [(1.0, 5.0), (2.0, 4.0), (1.5, 3.0), (3.0, 1.0)]
    line = picture.staircase(points, (1, 1), (0.0, 0.0))
    assert line == [(3.0, 0.0), (3.0, 1.0), (2.0, 1.0), (2.0, 4.0), (1.0, 4.0), (1.0, 5.0), (0.0, 5.0)]
    # Where less is better on the first axis, the order turns round.
    line = picture.staircase(points, (-1, 1), (4.0, 0.0))
    assert line == [(1.0, 0.0), (1.0, 5.0), (4.0, 5.0)]
    assert picture.staircase([], (1, 1), (0.0, 0.0)) == []
