"""``qx gate`` as its user meets it: a recipe that became worse fails it, the same recipe passes."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from qx.contract.records import OUTPUT
from qx.report import markdown
from qx.results import results_file as results

Qx = Callable[..., Any]

RULES = """
    [[rule]]
    metric = "accuracy"
    largest_drop = 0.01
    against = "base"

    [[rule]]
    metric = "file_size"
    largest_increase = 0
    against = "base"

    [[rule]]
    config = "recipe"
    metric = "accuracy"
    largest_drop = 0.02
"""

RECIPE = """
    from qx import Config, hookimpl
    from qx_plugins.configs import static_int8_per_channel as good

    @hookimpl
    def describe():
        return Config(name="recipe", summary="Static int8.", calibration=True, quantizable=True)

    prepare_model, calibrate = good.prepare_model, good.calibrate

    @hookimpl
    def convert(model):
        import torch
        model = good.convert(model)
        if {worse}:
            hidden = [layer for layer in model.modules() if "Conv" in type(layer).__name__][1]
            weight = hidden.weight()
            doubled = torch._make_per_channel_quantized_tensor(
                weight.int_repr(), 2 * weight.q_per_channel_scales(), weight.q_per_channel_zero_points(), 0
            )
            hidden.set_weight_bias(doubled, hidden.bias())
        return model
"""


@pytest.fixture(scope="module")
def recipes(
    qx: Qx, write_plugin: Callable[[str, str], str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Run a recipe as ``base`` and ``same``, and as ``worse`` with the scale of one convolution doubled."""
    home = tmp_path_factory.mktemp("gate")
    for name in ("base", "same", "worse"):
        plugin = write_plugin("recipe", RECIPE.format(worse=name == "worse"))
        done = qx(
            *("run", "--workload", "digits_cnn", "-p", plugin, "-c", "recipe", "-m", "accuracy"),
            *("-m", "file_size", "--budget", 0.01, "--batch-size", 1, "--out", home / name),
        )
        assert done.code == 0, done.err
    (home / "rules.toml").write_text("\n".join(line.strip() for line in RULES.splitlines()))
    return home


def test_a_recipe_made_worse_on_purpose_fails(qx: Qx, recipes: Path) -> None:
    """A doubled weight scale ends with exit code 1 and a line per breach, in JUnit and in Markdown."""
    done = qx(
        *("gate", recipes / "worse", "--against", recipes / "base", "--rules", recipes / "rules.toml"),
        *("--junit", "j.xml", "--markdown", "g.md"),
    )
    assert (done.code, done.err) == (1, "")
    breaches = [line for line in done.out.splitlines() if line.startswith("breach: ")]
    assert breaches and all("digits_cnn/recipe: accuracy: -" in line for line in breaches)
    assert "gate failed" in done.out
    suites = ET.parse("j.xml").getroot()
    assert suites.get("failures") == str(len(suites.findall(".//failure"))) == str(len(breaches))
    page = Path("g.md").read_text()
    assert page.startswith("# Gate failed") and page.count("**breach**") == len(breaches)


def test_the_same_recipe_passes(qx: Qx, recipes: Path) -> None:
    """A run of the same recipe keeps the rules."""
    asked = ("gate", recipes / "same", "--against", recipes / "base", "--rules", recipes / "rules.toml")
    done = qx(*asked, "--junit", "j.xml")
    assert (done.code, done.err) == (0, "")
    assert "gate passed" in done.out
    assert ET.parse("j.xml").getroot().get("failures") == "0"


@pytest.fixture
def toy(builders: ModuleType) -> None:
    """Write a run into the folder ``run``, and rules that it cannot decide."""
    run = builders.small()
    results.write(Path("run"), run.results(), markdown.render(run.results()), run.recording())
    Path("qx-gate.toml").write_text('[[rule]]\nconfig = "quick"\nmetric = "hits"\nlargest_drop = 0.015\n')


@pytest.mark.usefixtures("toy")
def test_strict_fails_what_cannot_be_told(qx: Qx) -> None:
    """What cannot be decided is always shown; with ``--strict`` it is a failure in exit code and JUnit."""
    lax, strict = (
        qx("gate", "run", "--junit", "lax.xml"),
        qx("gate", "run", "--strict", "--junit", "strict.xml"),
    )
    assert (lax.code, strict.code) == (0, 1)
    assert lax.out.startswith("too wide to tell: toy/quick: hits: -1.00 pt")
    counts = [ET.parse(f"{name}.xml").getroot()[0] for name in ("lax", "strict")]
    assert [(suite.get("failures"), suite.get("skipped")) for suite in counts] == [("0", "1"), ("1", "0")]


def test_another_network_is_never_silent(qx: Qx, builders: ModuleType) -> None:
    """A cell whose outputs are below 0 dB is named in a note, whatever the rules say of it."""
    run = builders.small()
    recording = run.recording()
    recording.outputs["toy/quick"] = {OUTPUT: -recording.outputs["toy/quick"][OUTPUT]}
    results.write(Path("run"), run.results(recording), "", recording)
    Path("qx-gate.toml").write_text('[[rule]]\nconfig = "quick"\nmetric = "weight"\nlargest = 300_000\n')
    done = qx("gate", "run")
    assert done.code == 0
    assert (
        done.err
        == "qx: note: toy/quick is not the same network any more: the SQNR of its outputs is below 0 dB\n"
    )


@pytest.mark.usefixtures("toy")
def test_a_base_that_decides_nothing_is_told(qx: Qx) -> None:
    """With ``--against`` and no rule against base a note says so; the exit code stays what it is."""
    done = qx("gate", "run", "--against", "run")
    assert (done.code, done.err.count("\n")) == (0, 1)
    assert 'qx: note: no rule of qx-gate.toml has a limit with against = "base": run is not used' in done.err


def assert_valid_junit(file: Path, decisions: int) -> ET.Element:
    """Check a JUnit file against what its readers rely on, and return its only suite."""
    allowed = {
        "testsuites": {"name", "tests", "failures", "errors", "time"},
        "testsuite": {"name", "tests", "failures", "errors", "skipped", "time", "timestamp", "hostname"},
        "properties": set(),
        "property": {"name", "value"},
        "testcase": {"name", "classname", "time"},
        "failure": {"message", "type"},
        "skipped": {"message"},
        "system-out": set(),
    }
    root = ET.parse(file).getroot()
    (suite,) = root
    assert (root.tag, suite.tag) == ("testsuites", "testsuite")
    for element in root.iter():
        assert set(element.attrib) <= allowed[element.tag], element.tag
    order = [child.tag for child in suite]
    parts = ["properties", "testcase", "system-out"]
    assert order == sorted(order, key=parts.index)
    assert order.count("properties") <= 1
    cases = suite.findall("testcase")
    counts = [len(cases), *(len(suite.findall(f"testcase/{tag}")) for tag in ("failure", "error", "skipped"))]
    names = ("tests", "failures", "errors", "skipped")
    assert [suite.get(name) for name in names] == [str(count) for count in counts]
    assert [root.get(name) for name in names[:3]] == [str(count) for count in counts[:3]]
    assert len(cases) == decisions
    return suite


def test_a_retrained_model_is_held_against_its_predecessor(qx: Qx, builders: ModuleType) -> None:
    """Other weights are refused with the option that allows them; with it they are named in every file."""
    cells = {**builders.small().cells, "quick": builders.Cell(hits=700, weight=260_000, delay=0.5, heap=400)}
    runs = {
        "old": builders.small(),
        "new": builders.small(seed=1, workload={"weights_sha256": "ffff0000"}),
        "bad": builders.small(cells=cells, workload={"weights_sha256": "ffff0000"}),
    }
    for name, run in runs.items():
        results.write(Path(name), run.results(), markdown.render(run.results()), run.recording())
    rule = 'metric = "hits"\nconfig = ["base", "quick"]\nagainst = "base"\nlargest_drop = 0.01'
    Path("qx-gate.toml").write_text(f"[[rule]]\n{rule}\n")
    refused = qx("gate", "new", "--against", "old")
    assert (refused.code, refused.out) == (2, "") and refused.err.count("\n") == 1
    assert "different weights of toy (SHA-256 ffff0000 against d0a5e0ad); give --other-weights" in refused.err
    for name, code, verdict in (("new", 0, "gate passed: 2 met"), ("bad", 1, "gate failed: 1 breach, 1 met")):
        done = qx(
            *("gate", name, "--against", "old", "--other-weights"),
            *("--junit", "gate.xml", "--markdown", "gate.md"),
        )
        assert (done.code, done.err) == (code, "")
        assert verdict in done.out
        suite = assert_valid_junit(Path("gate.xml"), decisions=2)
        words = "other weights than old of toy (SHA-256 ffff0000 against d0a5e0ad)"
        values = [entry.get("value") or "" for entry in suite.iter("property")]
        assert any(value.startswith(words) for value in values)
        assert done.out.startswith(f"note: {words}") and words in Path("gate.md").read_text()
    assert qx("compare", "old", "new").code == 2
    compared = qx("compare", "old", "new", "--other-weights", "--out", "m.md", "--out", "m.html")
    assert (compared.code, compared.err) == (0, "")
    assert all("other weights than" in text for text in (compared.out, Path("m.html").read_text()))


@pytest.mark.slow
def test_digits_trained_again_are_gated(qx: Qx, tmp_path: Path) -> None:
    """``digits_cnn`` trained with another seed passes against the committed one; one epoch alone fails."""
    rules = """
        [[rule]]
        metric = "accuracy"
        config = ["fp32_baseline", "static_int8_per_channel"]
        against = "base"
        largest_drop = 0.03

        [[rule]]
        metric = "file_size"
        against = "base"
        largest_increase = 0.01
    """
    (tmp_path / "rules.toml").write_text("\n".join(line.strip() for line in rules.splitlines()))
    workload = ("--workload", "digits_cnn", "--offline")
    for name, arguments in (("again", ()), ("hasty", ("--epochs", 1))):
        trained = qx("train", *workload, "--seed", 1, *arguments, "--out", tmp_path / f"{name}.pt")
        assert trained.code == 0, trained.err
    for name in ("committed", "again", "hasty"):
        weights = () if name == "committed" else ("--weights", tmp_path / f"{name}.pt")
        done = qx(
            *("run", *workload, *weights, "-c", "static_int8_per_channel", "-m", "accuracy"),
            *("-m", "sqnr", "-m", "file_size", "--out", tmp_path / name),
        )
        assert done.code == 0, done.err
    for name, code in (("again", 0), ("hasty", 1)):
        done = qx(
            *("gate", tmp_path / name, "--against", tmp_path / "committed", "--other-weights"),
            *("--rules", tmp_path / "rules.toml", "--junit", tmp_path / "gate.xml"),
        )
        assert done.code == code, done.out + done.err
        suite = assert_valid_junit(tmp_path / "gate.xml", decisions=3)
        assert suite.get("failures") == str(2 * code)


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "there are no results in nowhere"),
        (["run", "--rules", "lost.toml"], "there is no rules file lost.toml"),
        (["run", "--rules", "run"], "the rules file run cannot be read"),
        (["run", "--against", "nowhere"], "there are no results in nowhere"),
        (["run", "--junit", "run"], "cannot write run: it is a folder"),
    ],
)
def test_mistakes_are_told(qx: Qx, arguments: list[str], words: str) -> None:
    """A mistake ends with exit code 2 and one line, and nothing is decided."""
    done = qx("gate", *arguments)
    assert (done.code, done.out) == (2, "")
    assert words in done.err and done.err.count("\n") == 1
