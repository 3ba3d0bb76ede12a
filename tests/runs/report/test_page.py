"""The page in a real browser: what a reader can do with it, with 4, 26 and 500 configs."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from attrs import Factory, evolve, frozen

from qx.report.html import page as html
from qx.results import results_file
from qx.results.records import Results

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
#: Names under which the system's Chromium may be on the PATH.
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
COUNTS = (4, 26, 500)
#: Seconds within which sorting and hovering answer.
SOON = 0.2
HOSTILE = (
    " <img src=x onerror=window.hacked=1> </script><script>window.hacked=1</script> <b>bold</b> &lt; \" ' `"
    " \x1b[31m \u202e \u2028 http://x.y/z javascript:window.hacked=1"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Start the system's Chromium; skip where there is none."""
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.skip(f"no Chromium on the PATH (looked for {', '.join(BROWSERS)})")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=executable)
        yield started
        started.close()


@frozen
class Opened:
    """A page that is open in the browser, with what it has asked for and complained of."""

    page: Any
    results: Results | None
    requests: list[str] = Factory(list)
    complaints: list[str] = Factory(list)

    def view(self, name: str) -> Any:
        """Return the part of the page that the script draws under this name."""
        return self.page.locator(f'[data-view="{name}"]').first

    def names(self) -> list[str]:
        """Return the configs of the table, in order, all of them."""
        rest = self.view("table").locator("button.rest")
        if rest.is_visible():
            rest.click()
        names: list[str] = self.view("table").locator("tbody th button").all_inner_texts()
        return names

    def control(self, view: str, label: str) -> Any:
        """Return the control of a part with this label."""
        return self.view(view).get_by_label(label, exact=True)

    def rows(self) -> list[str]:
        """Return the names of the configs of the run."""
        assert self.results is not None
        return [cell.row for cell in self.results.cells.values() if not cell.control]

    def copied(self, button: str) -> str:
        """Press a button of the table that copies it, and return what was copied."""
        says = self.page.locator("#says")
        says.evaluate("node => { node.textContent = ''; }")
        self.view("table").get_by_role("button", name=button).click()
        playwright.expect(says).to_contain_text("copied")
        text: str = self.page.evaluate("navigator.clipboard.readText()")
        return text

    def quiet(self) -> None:
        """Assert that nothing was asked for besides the file, and that the console is empty."""
        assert [request for request in self.requests if not request.startswith("data:")] == self.requests[:1]
        assert self.complaints == []


@pytest.fixture(scope="module")
def written(builders: ModuleType) -> Callable[[int], tuple[Results, str]]:
    """Return a function that writes the page of a run of so many configs, each size once."""
    pages: dict[int, tuple[Results, str]] = {}

    def write(count: int) -> tuple[Results, str]:
        if count not in pages:
            results, recording = builders.many(count)
            pages[count] = results, html.render(results, recording)
        return pages[count]

    return write


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Opened]]:
    """Return a function that opens the text of a page from the disk, without a network."""
    contexts = []

    def open_text(text: str, results: Results | None = None, **options: Any) -> Opened:
        place = tmp_path / "report.html"
        place.write_text(text, encoding="utf-8")
        context = browser.new_context(offline=True, **{"viewport": {"width": 1200, "height": 900}, **options})
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        opened = Opened(page, results)
        page.on("request", lambda request: opened.requests.append(request.url))
        page.on("console", lambda message: opened.complaints.append(message.text))
        page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        page.on("dialog", lambda dialog: opened.complaints.append(dialog.message))
        page.goto(place.as_uri())
        page.wait_for_selector("html[data-ready=yes]")
        return opened

    yield open_text
    for context in contexts:
        context.close()


@pytest.fixture(params=COUNTS)
def opened(request: Any, written: Callable[..., Any], show: Callable[..., Opened]) -> Opened:
    """Return the open page of a run of so many configs."""
    results, text = written(request.param)
    return show(text, results)


# What a reader sees and does -----------------------------------------------------------------------


@pytest.mark.parametrize(("count", "most"), [(4, 2e6), (26, 2e6), (500, 5e6)])
def test_the_page_is_one_small_file(written: Callable[..., Any], count: int, most: float) -> None:
    """A page of 26 configs has less than 2 MB, one of 500 less than 5 MB."""
    _, text = written(count)
    assert len(text.encode()) < most


def test_it_opens_from_a_disk_whole_and_asks_for_nothing(opened: Opened) -> None:
    """Every part is drawn, no request is made, and the console is empty."""
    views = opened.page.locator("[data-view]")
    drawn = {
        view.get_attribute("data-view"): view.locator("svg, table, input").count() > 0 for view in views.all()
    }
    names = ("scatter", "limits", "table", "waves", "rounds", "groups", "answers", "stages", "layers")
    assert drawn == dict.fromkeys(names, True)
    assert sorted(opened.names()) == sorted(opened.rows())
    opened.quiet()


def test_a_long_front_is_counted_and_not_listed(written: Callable[..., Any]) -> None:
    """Of hundreds of configs the first sentence says how many are on the front; their names are folded."""
    sentence = re.compile(r"<p>By [^<]* are on the front, and [\d,]+ perhaps.</p>")
    assert sentence.search(written(500)[1])
    assert not sentence.search(written(4)[1])


def test_any_two_figures_can_be_plotted(opened: Opened) -> None:
    """Each point has both intervals, the axes name what was chosen, and ratios have a logarithmic scale."""
    scatter, results = opened.view("scatter"), opened.results
    assert results is not None
    ok = [cell for cell in results.cells.values() if not cell.control and cell.outcome == "ok"]
    assert scatter.locator(".points path").count() == scatter.locator(".interval").count() == len(ok)
    assert scatter.locator("svg .front").count() == scatter.locator("svg .band").count() == 2
    for label, choice in (("Across", "heap"), ("Up", "weight: ratio to base")):
        opened.control("scatter", label).select_option(label=choice)
    labels = scatter.locator(".axis .label").all_text_contents()
    assert labels == [
        "heap [MiB], less is better",
        "weight: ratio to base [x], less is better",
    ]
    assert opened.control("scatter", "log up").is_checked()
    points, places = (
        scatter.locator(".points path"),
        "nodes => nodes.map(node => node.getAttribute('transform'))",
    )
    logarithmic = points.evaluate_all(places)
    opened.control("scatter", "log up").uncheck()
    assert points.evaluate_all(places) != logarithmic
    opened.quiet()


def test_runtimes_have_a_colour_and_a_shape(opened: Opened) -> None:
    """Two runtimes differ in both."""
    points = opened.view("scatter").locator(".points path")
    marks = points.evaluate_all(
        "nodes => nodes.map(node => [getComputedStyle(node).stroke, node.getAttribute('d')])"
    )
    pairs = {tuple(mark) for mark in marks}
    assert len(pairs) == len({colour for colour, _ in pairs}) == len({shape for _, shape in pairs}) > 1


def test_hovering_shows_the_row_and_a_click_marks_it(opened: Opened) -> None:
    """The box beside a point has the figures of its row; a click marks that row in the table."""
    page = opened.page
    points = opened.view("scatter").locator(".points path")
    point = points.nth(points.count() - 1)
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(*middle)
    name = page.locator("#tip strong").inner_text()
    assert name in opened.rows()
    assert {"hits", "weight", "delay (batch 1)", "heap"} <= set(page.locator("#tip dt").all_inner_texts())
    page.mouse.click(*middle)
    marked = opened.view("table").locator("tr.marked")
    assert marked.locator("th button").inner_text() == name
    assert marked.locator("th button").get_attribute("aria-pressed") == "true"
    line, place = marked.bounding_box(), opened.view("table").locator(".scrolls").bounding_box()
    assert place["y"] <= line["y"] < place["y"] + place["height"]
    page.mouse.move(5, 5)
    assert page.locator("#tip").is_hidden()
    opened.quiet()


MEASURE = """async (node, kind) => {
    const act = {
        sort: () => node.click(),
        hover: () => {
            const box = node.getBoundingClientRect();
            const [x, y] = [box.x + 1 + box.width / 2, box.y + box.height / 2];
            const place = {clientX: x, clientY: y, bubbles: true};
            node.dispatchEvent(new PointerEvent("pointermove", place));
        },
    }[kind];
    const start = performance.now();
    act();
    document.body.getBoundingClientRect();
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    return (performance.now() - start) / 1000;
}"""


# What else the machine does decides about it.
@pytest.mark.slow
def test_sorting_and_hovering_answer_soon(opened: Opened) -> None:
    """Both take less than 0.2 s until they are painted, with 500 configs too."""
    head = opened.view("table").locator("thead button").nth(3)
    points = opened.view("scatter").locator(".points path")
    # The best of three: other tests share the processor.
    assert min(head.evaluate(MEASURE, "sort") for _ in range(3)) < SOON
    assert min(points.nth(0).evaluate(MEASURE, "hover") for _ in range(3)) < SOON


def test_the_table_is_sorted_by_any_column(opened: Opened) -> None:
    """A first click sorts, a second turns the order round, and what has no figure comes last."""
    results = opened.results
    assert results is not None
    values = {
        results.cells[own.cell].row: own.value
        for own in results.measurements
        if own.metric == "delay" and own.value is not None and not results.cells[own.cell].control
    }
    head = opened.view("table").locator("thead th").nth(4)
    for _, is_descending in ((1, False), (2, True)):
        head.locator("button").click()
        names = opened.names()
        expected = sorted(values.values(), reverse=is_descending)
        assert [values[name] for name in names[: len(values)]] == expected
        assert not set(names[len(values) :]) & set(values)
        assert head.get_attribute("aria-sort") == ("descending" if is_descending else "ascending")
    opened.quiet()


def test_the_table_is_filtered(opened: Opened) -> None:
    """Name, runtime, outcome and front leave the rows for which they hold, and their number is told."""
    results = opened.results
    assert results is not None
    cells = {cell.row: cell for cell in results.cells.values() if not cell.control}
    runtime, table = "compiled", opened.view("table")
    opened.control("table", "Runtime").select_option(label=runtime)
    assert set(opened.names()) == {name for name, cell in cells.items() if cell.loader == runtime}
    opened.control("table", "Runtime").select_option(label="all")
    if len(cells) > 4:
        opened.control("table", "Outcome").select_option(label="unavailable")
        assert set(opened.names()) == {name for name, cell in cells.items() if cell.outcome != "ok"}
        opened.control("table", "Outcome").select_option(label="all")
    opened.control("table", "Front").select_option(label="yes")
    assert set(table.locator("tbody tr td:nth-child(2)").all_inner_texts()) == {"yes"}
    opened.control("table", "Front").select_option(label="all")
    opened.control("table", "Name").fill("BASE")
    assert opened.names() == ["base"]
    assert table.locator(".count").inner_text() == f"1 of {len(cells)} rows"
    opened.quiet()


def test_columns_are_chosen_and_the_table_is_copied(opened: Opened) -> None:
    """What is copied has the columns and rows that are shown, as Markdown or with numbers as CSV."""
    table = opened.view("table")
    table.locator("details.chooser summary").click()
    opened.control("table", "heap").uncheck()
    assert table.locator("thead th", has_text="heap").is_hidden()
    opened.control("table", "Name").fill("base")
    markdown = opened.copied("Copy as Markdown").splitlines()
    assert markdown[0] == "| config | front | hits | weight | delay (batch 1) | runtime | outcome |"
    assert markdown[2].startswith("| `base, baseline` | ")
    assert len(markdown) == 3
    lines = list(csv.DictReader(io.StringIO(opened.copied("Copy as CSV"))))
    assert [line["config"] for line in lines] == ["base"]
    assert float(lines[0]["weight [bytes]"]) == 1_000_000
    assert "heap [MiB]" not in lines[0]
    opened.quiet()


def test_limits_leave_what_surely_meets_them(opened: Opened) -> None:
    """A config meets a limit surely with its whole interval, and perhaps with a part of it."""
    results = opened.results
    assert results is not None
    limits = {"delay": 1.2, "hits": 0.05}
    opened.control("limits", "delay (batch 1): at most").fill(str(limits["delay"]))
    opened.control("limits", "hits: a loss of at most").fill(str(100 * limits["hits"]))
    surely, perhaps = set(), set()
    for name, cell in results.cells.items():
        own = {measured.metric: measured for measured in results.measurements if measured.cell == name}
        if cell.control or cell.outcome != "ok":
            continue
        low, high = own["delay"].ci
        loss_low, loss_high = own["hits"].vs_baseline.ci
        if high <= limits["delay"] and loss_low >= -limits["hits"]:
            surely.add(cell.row)
        elif low <= limits["delay"] and loss_high >= -limits["hits"]:
            perhaps.add(cell.row)
    for verdict, members in (("surely", surely), ("perhaps", perhaps)):
        heading = opened.view("limits").locator(f'[data-verdict="{verdict}"] h3').inner_text()
        assert heading.endswith(f"({len(members)})")
    faint = opened.view("scatter").locator(".points .limit-no").count()
    ok = [cell for cell in results.cells.values() if not cell.control and cell.outcome == "ok"]
    assert faint == len(ok) - len(surely) - len(perhaps)
    opened.control("table", "Limits").select_option(label="surely")
    assert set(opened.names()) == surely
    opened.view("limits").get_by_role("button", name="No limits").click()
    assert opened.view("scatter").locator(".points .limit-no").count() == 0
    opened.quiet()


def test_a_slider_sets_a_limit(opened: Opened) -> None:
    """Moving a slider by keys sets a limit, and its end is none."""
    slider = opened.view("limits").locator('input[type="range"]').nth(2)
    slider.focus()
    for _ in range(5):
        opened.page.keyboard.press("ArrowLeft")
    assert float(opened.control("limits", "delay (batch 1): at most").input_value()) > 0
    opened.page.keyboard.press("End")
    assert opened.control("limits", "delay (batch 1): at most").input_value() == ""
    assert slider.get_attribute("aria-valuetext") == "no limit"


def test_every_launch_is_shown_beside_the_control(opened: Opened) -> None:
    """Each wave of each row has a dot, the control's row comes first, and rounds have their lines."""
    waves, results = opened.view("waves"), opened.results
    assert results is not None
    ok = [cell for cell in results.cells.values() if not cell.control and cell.outcome == "ok"]
    shown = min(40, len(ok)) + 1
    assert waves.locator("circle.wave").count() == 6 * shown
    assert (
        waves.locator(".rows text").first.evaluate("node => node.textContent.replace(/(.+)\\1/, '$1')")
        == "control"
    )
    waves.get_by_label("all rows of the table").check()
    assert waves.locator("circle.wave").count() == 6 * (len(ok) + 1)
    opened.control("waves", "Metric").select_option(label="heap")
    assert waves.locator("circle.wave").count() == 6 * (len(ok) + 1)
    assert opened.view("rounds").locator("path.line").count() == 2 * 3
    opened.quiet()


def test_answers_that_moved_are_counted(opened: Opened) -> None:
    """The matrix holds every answer that differs from the baseline's."""
    answers = opened.view("answers")
    sentence = answers.locator("p").first.inner_text()
    changed = int(re.search(r"answers ([\d,]+) items?", sentence).group(1).replace(",", ""))
    counts = answers.locator("svg text.count").all_text_contents()
    assert sum(map(int, counts)) == changed > 0
    assert "became wrong" in sentence
    assert opened.view("groups").locator("figure").count() == 2
    assert opened.view("groups").locator("figure").first.locator("circle").count() == 10


def test_stages_and_layers_are_shown(opened: Opened) -> None:
    """Each stage and each layer of a row has a mark; the box beside it names it."""
    results = opened.results
    assert results is not None
    rows = min(
        40, len([cell for cell in results.cells.values() if not cell.control and cell.outcome == "ok"])
    )
    assert opened.view("stages").locator("svg.plot circle.stage").count() == 3 * rows
    layers = opened.view("layers").locator("rect.layer")
    assert layers.count() == 4 * rows
    layers.last.scroll_into_view_if_needed()
    layers.last.hover()
    assert opened.page.locator("#tip strong").inner_text() == "layer.4"


def test_the_plot_is_walked_by_keys(opened: Opened) -> None:
    """The arrows go from point to point, Enter marks the row, and the focus shows its box."""
    page, points = opened.page, opened.view("scatter").locator(".points path")
    opened.control("scatter", "names").focus()
    page.keyboard.press("Tab")
    assert points.nth(0).evaluate("node => node === document.activeElement")
    page.keyboard.press("ArrowRight")
    label = points.nth(1).get_attribute("aria-label")
    assert page.locator("#tip").is_visible()
    page.keyboard.press("Enter")
    name = opened.view("table").locator("tr.marked th button").inner_text()
    assert label.startswith(f"{name}: ")
    assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"


# Legible by everybody -----------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("count", [4, pytest.param(26, marks=pytest.mark.slow)])
def test_nothing_bars_anybody(
    written: Callable[..., Any], show: Callable[..., Opened], count: int, scheme: str
) -> None:
    """Axe-core finds nothing serious, in light and in dark."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-core is not installed")
    results, text = written(count)
    # Axe-core is run in a copy whose policy lets it in.
    opened = show(
        text.replace("require-trusted-types-for 'script'; trusted-types 'none'", ""),
        results,
        color_scheme=scheme,
    )
    for summary in opened.page.locator("summary").all():
        summary.click()
    opened.control("limits", "delay (batch 1): at most").fill("1.2")
    violations = axe.Axe().run(opened.page).response["violations"]
    serious = [
        (flaw["id"], node["html"][:200], node["failureSummary"][:300])
        for flaw in violations
        if flaw["impact"] in ("serious", "critical")
        for node in flaw["nodes"][:3]
    ]
    assert serious == []


def test_the_theme_follows_the_system_and_a_button(
    written: Callable[..., Any], show: Callable[..., Opened]
) -> None:
    """The page is dark where the system is, and light or dark where the reader says so."""
    results, text = written(4)
    opened = show(text, results, color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    dark = opened.page.evaluate(background)
    button = opened.page.locator("#theme")
    button.click()
    assert button.inner_text() == "Theme: light"
    assert opened.page.evaluate(background) == "rgb(255, 255, 255)" != dark
    button.click()
    assert opened.page.evaluate(background) == dark


@pytest.mark.parametrize("count", COUNTS)
def test_a_phone_is_wide_enough(written: Callable[..., Any], show: Callable[..., Opened], count: int) -> None:
    """At 390 pixels nothing but tables and the navigation scrolls sideways."""
    results, text = written(count)
    opened = show(text, results, viewport={"width": 390, "height": 844})
    widths = opened.page.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert widths[0] <= widths[1]
    opened.quiet()


def test_paper_has_no_controls(written: Callable[..., Any], show: Callable[..., Opened]) -> None:
    """What only works on a screen is not printed; figures and plots are."""
    results, text = written(4)
    opened = show(text, results)
    opened.page.emulate_media(media="print")
    assert opened.page.locator("select:visible, input:visible, nav:visible").count() == 0
    assert opened.page.locator("svg.plot:visible").count() > 5
    assert opened.page.locator("tbody tr:visible").count() >= 4


# Text that would act ------------------------------------------------------------------------------


def _hover(mark: Any) -> None:
    """Hover over a mark of a view that may be drawn anew meanwhile, since it has just got its width."""
    from playwright.sync_api import Error

    for attempt in range(5):
        try:
            mark.wait_for(state="visible")
            mark.scroll_into_view_if_needed()
            mark.hover(force=True)
            return
        except Error:
            if attempt == 4:
                raise


def test_hostile_text_is_only_shown(show: Callable[..., Opened], builders: ModuleType) -> None:
    """Markup and scripts in names, causes, classes and units do nothing, not in boxes and copies either."""
    results, recording = builders.many(26, text=HOSTILE)
    metrics = {
        name: evolve(metric, summary=metric.summary + HOSTILE, unit=metric.unit + HOSTILE * (name == "heap"))
        for name, metric in results.metrics.items()
    }
    opened = show(html.render(evolve(results, metrics=metrics), recording), results)
    page = opened.page
    page.locator(".points path").nth(5).scroll_into_view_if_needed()
    page.locator(".points path").nth(5).click(force=True)
    # Clicks would toggle those that another click has opened by then.
    page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
    for mark in ("circle.stage", "rect.layer", "circle.wave", "[data-view=answers] svg g"):
        _hover(page.locator(mark).first)
    assert "<img src=x" in page.locator("body").inner_text()
    assert page.evaluate("window.hacked") is None
    assert page.locator("img, b, iframe, a[href^='http']").count() == 0
    assert page.locator("script").count() == 2
    assert "\\<img src=x onerror" in opened.copied("Copy as Markdown")
    opened.quiet()


def test_a_script_that_gets_in_is_not_run(written: Callable[..., Any], show: Callable[..., Opened]) -> None:
    """The policy of the page refuses every script but its own, and every request."""
    _, text = written(4)
    added = (
        "<script>window.hacked = 1</script><img src='http://127.0.0.1:9/x.png' onerror='window.hacked = 2'>"
    )
    opened = show(text.replace("</main>", f"{added}</main>"))
    assert opened.page.evaluate("window.hacked") is None
    assert len(opened.complaints) >= 2
    assert all("Content Security Policy" in complaint for complaint in opened.complaints)


def test_no_formula_is_copied(show: Callable[..., Opened], builders: ModuleType) -> None:
    """A name that a spreadsheet would take for a formula is copied as text."""
    results, recording = builders.many(4)
    cells = {
        name: evolve(cell, loader="=HYPERLINK(1)" if cell.loader else None)
        for name, cell in results.cells.items()
    }
    opened = show(html.render(evolve(results, cells=cells), recording), results)
    lines = csv.DictReader(io.StringIO(opened.copied("Copy as CSV")))
    assert {line["runtime"] for line in lines} == {"'=HYPERLINK(1)"}


# Other pages --------------------------------------------------------------------------------------


def test_several_workloads_are_shown_one_at_a_time(show: Callable[..., Opened], builders: ModuleType) -> None:
    """The summary comes first; a choice shows the workload, which is drawn when it is first shown."""
    results, recording = builders.everything()
    opened = show(html.render(results, recording), results)
    page = opened.page
    assert page.locator("#summary table tbody tr").count() == 7
    shown = page.locator(".workload:visible")
    assert shown.count() == 1
    page.locator("#workload").select_option(label="other")
    assert shown.get_attribute("data-workload") == "1"
    assert shown.locator('[data-view="scatter"] .points path').count() > 2
    opened.quiet()


def test_without_samples_the_page_says_so(show: Callable[..., Opened], builders: ModuleType) -> None:
    """Where the raw samples are gone there are no plots of them, and the rest is there."""
    results, _ = builders.many(4)
    opened = show(html.render(results, None), results)
    assert opened.page.get_by_text("The raw samples are not there").count() == 1
    assert opened.view("scatter").locator(".points path").count() == 4
    assert opened.page.locator('[data-view="waves"]').count() == 0
    opened.quiet()


def test_a_comparison_has_a_page(
    qx: Callable[..., Any], show: Callable[..., Opened], builders: ModuleType
) -> None:
    """``qx compare --out FILE.html`` plots the changes, and its table is sorted, filtered and copied."""
    for folder, seed, quick in (("a", 0, 0.5), ("b", 1, 0.9)):
        run = builders.small(seed=seed)
        run = evolve(run, cells={**run.cells, "quick": evolve(run.cells["quick"], delay=quick)})
        results_file.write(Path(folder), run.results(), "", run.recording())
    done = qx("compare", "before <b>=a", "after=b", "--out", "changes.html")
    assert done.code == 0, done.err
    opened = show(Path("changes.html").read_text(encoding="utf-8"))
    page, changes = opened.page, opened.view("changes")
    rows = changes.locator("tbody tr").count()
    assert opened.view("forest").locator("circle").count() > 1
    opened.control("changes", "Verdict").select_option(label="worse")
    assert 0 < changes.locator("tbody tr").count() < rows
    assert set(changes.locator("tbody th button").all_inner_texts()) == {"quick"}
    changes.locator("tbody th button").first.click()
    assert changes.locator("tr.marked").count() == 1
    changes.locator("thead button").first.click()
    assert changes.locator("thead th").first.get_attribute("aria-sort") == "ascending"
    assert page.locator("b").count() == 0
    opened.quiet()


def test_a_history_has_a_page(
    qx: Callable[..., Any], show: Callable[..., Opened], builders: ModuleType
) -> None:
    """``qx history --out FILE.html`` plots each series, those with a step first, and hovering shows a run."""
    for number in range(12):
        run = builders.small(seed=number)
        quick = evolve(run.cells["quick"], weight=200_000 if number < 6 else 300_000)
        started = f"2026-01-{number + 1:02d}T03:04:05+00:00"
        fields = {"id": f"20260102T0304{number:02d}-abcdef", "started": started, "samples": f"{number}.npz"}
        run = evolve(run, cells={**run.cells, "quick": quick}, run=fields)
        results_file.write(Path(f"nightly/{number}"), run.results(), "", run.recording())
    done = qx("history", "nightly", "--out", "history.html")
    assert done.code == 0, done.err
    opened = show(Path("history.html").read_text(encoding="utf-8"))
    view = opened.view("history")
    titles = view.locator("svg.plot").evaluate_all("nodes => nodes.map((node) => node.ariaLabel)")
    assert titles == ["toy/quick: weight [kB], 12 runs"]
    assert "+50.0 %, worse" in view.locator("svg.plot").first.text_content()
    _hover(view.locator("circle").nth(7))
    tip = opened.page.locator("#tip").inner_text()
    assert "2026-01-08" in tip
    assert "300" in tip
    opened.control("history", "only series with a step").uncheck()
    every = view.locator("svg.plot").count()
    assert every > 5
    opened.control("history", "Metric").select_option(label="delay")
    opened.control("history", "Name").fill("QUICK")
    assert 0 < view.locator("svg.plot").count() < every
    opened.quiet()


def test_the_page_of_a_run_says_what_its_results_say(qx: Callable[..., Any], builders: ModuleType) -> None:
    """``qx report`` writes the page, whose data are the figures of ``full_results.json``."""
    results, recording = builders.many(26)
    results_file.write(Path("run"), results, "", recording)
    done = qx("report", "run")
    assert done.code == 0, done.err
    text = Path("run/report.html").read_text(encoding="utf-8")
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text).group(1))
    (workload,) = data["workloads"]
    names = [cell["name"] for cell in workload["cells"]]
    for measured in json.loads(Path("run/full_results.json").read_text())["measurements"]:
        row = measured["cell"].partition("/")[2]
        if row in names:
            column = next(own for own in workload["columns"] if own["metric"] == measured["metric"])
            value = column["value"]["middle"][names.index(row)]
            assert (
                value == pytest.approx(measured["value"], rel=1e-5)
                if measured["value"] is not None
                else value is None
            )
