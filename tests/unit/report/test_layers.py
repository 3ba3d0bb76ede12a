"""What ``qx layers`` prints: the order of layers, what is called sure, and the command that acts on it."""

from __future__ import annotations

import argparse
import json
import shlex

from attrs import evolve

from qx.cli.arguments import shared_words
from qx.cli.commands.layers import register
from qx.contract.options import Setting
from qx.contract.records import Metric
from qx.processes.job_answers import LayerFigures, OutputRange, WeightRange
from qx.report.html.layers import to_html
from qx.report.layers import to_json, to_markdown, to_terminal_text
from qx.runner.layers import Gain, LayersReport, Value

ACCURACY = Metric(
    name="accuracy",
    summary="Share of right answers.",
    unit="fraction",
    better="higher",
    samples="per_item",
    compare="difference",
    phase="predictions",
    axis=True,
    quality=2,
)
WEIGHTS = WeightRange(low=-1.0, high=2.0, channels=8, dead_channels=2, spread=40.0, peak=1500.0)
OUTPUTS = OutputRange(
    low=0.0, high=9.0, channels=8, constant_channels=3, peak=20.0, is_finite=True, clipped=0.25
)


def layer(name: str, alone: float | None, **fields: object) -> LayerFigures:
    """Return the figures of a layer with this error."""
    made = None if alone is None else alone - 1
    figures = LayerFigures(name=name, elements=1200, made=made, arrived=alone, alone=alone)
    return evolve(figures, **fields)


REPORT = LayersReport(
    workload="digits",
    config="mine",
    row="mine",
    float_layers="",
    items=64,
    items_alone=16,
    is_simulated=False,
    layers=(layer("a", 40.0), layer("b", 2.0, weights=WEIGHTS, outputs=OUTPUTS), layer("c", None)),
    gains={},
)
GAINS = {
    "a": Gain(value=Value(value=0.81, ci=(0.78, 0.84)), difference=0.01, ci=(-0.01, 0.03), p=0.4),
    "b": Gain(value=Value(value=0.9, ci=(0.88, 0.92)), difference=0.1, ci=(0.07, 0.13), p=1e-9),
    "c": Gain(cause="failed in convert: no kernel"),
}
TRIED = evolve(
    REPORT,
    metric=ACCURACY,
    evaluated=800,
    baseline=Value(value=0.92, ci=(0.9, 0.94)),
    quantized=Value(value=0.8, ci=(0.77, 0.83)),
    gains=GAINS,
)
COMMAND = ["qx", "run", "net.py"]


def test_layers_come_by_what_they_cost() -> None:
    """Those that give back most come first, those without a result last; errors in their order below."""
    assert TRIED.tried == ["b", "a", "c"]
    assert [figures.name for figures in TRIED.worst()] == ["b", "a"]
    worse = evolve(TRIED, metric=evolve(ACCURACY, better="lower"))
    assert worse.tried == ["a", "b", "c"]
    assert worse.helpful == []


def test_only_what_is_shown_to_help_is_recommended() -> None:
    """The command names the layers whose interval excludes 0, beside those that were in float before."""
    assert (TRIED.helpful, TRIED.recipe) == (["b"], "b")
    assert evolve(TRIED, float_layers="x.*").recipe == "x.*+b"
    text = to_terminal_text(TRIED, COMMAND)
    assert text.endswith("\n    qx run net.py -c mine --set mine.float_layers=b")
    assert "Quality comes back with this layer in float: b." in text
    assert "+10.00 points" in text
    assert "+7.00 to +13.00" in text


def test_what_is_not_shown_is_not_called_sure() -> None:
    """Where no interval excludes 0 that is said, and the command has the two with the largest errors."""
    unsure = evolve(TRIED, gains={"a": GAINS["a"], "c": GAINS["c"]})
    text = to_terminal_text(unsure, COMMAND)
    assert unsure.helpful == []
    assert "On 800 items no layer alone is shown to give quality back." in text
    assert "Two may have to be in float together, which was not tried" in text
    assert text.endswith("mine.float_layers=b+a")
    assert "failed in convert: no kernel" in text


def test_where_nothing_is_lost_no_command_follows() -> None:
    """A config that answers as the fp32 model does needs no layer in float, whichever way is better."""
    gain = Gain(value=GAINS["a"].value, difference=-0.01, ci=(-0.03, 0.01), p=0.4)
    nothing = evolve(TRIED, gains={"a": gain}, quantized=TRIED.baseline)
    assert nothing.recipe == ""
    text = to_terminal_text(nothing, COMMAND)
    assert text.endswith("On 800 items no layer alone gives quality back, and none is lost.")
    lower = evolve(TRIED, metric=evolve(ACCURACY, better="lower"), gains={"a": gain, "b": GAINS["b"]})
    assert (lower.helpful, lower.has_lost, lower.recipe) == ([], False, "")


def test_without_a_metric_that_is_all_that_is_said() -> None:
    """Where no quality is known the errors are shown all the same, with the reason and no command."""
    cause = "no metric of quality has a value for this config"
    unknown = evolve(REPORT, gains={name: Gain(cause=cause) for name in "ab"})
    text = to_terminal_text(unknown, COMMAND)
    assert cause in text
    assert "qx run" not in text
    assert json.loads(to_json(unknown))["recipe"] == ""


def test_the_command_names_a_layer_with_a_comma_as_one_value() -> None:
    """What is printed, split as a shell and ``--set`` do, is the recipe again."""
    named = evolve(REPORT, layers=(layer('a,b "c" $(d)', 2.0),))
    words = shlex.split(to_terminal_text(named, COMMAND).splitlines()[-1])
    assert Setting.of(words[-1]).values == (named.recipe,) == ('a,b "c" $(d)',)


def test_the_items_of_each_column_are_said() -> None:
    """Layers alone in 8 bits are looked at on fewer items, which the sentence below the table says."""
    assert "is quantized, on 16 of them; made here" in to_terminal_text(REPORT, COMMAND)
    assert "of them" not in to_terminal_text(evolve(REPORT, items=16), COMMAND)


def test_errors_that_are_all_unknown_are_said_to_be() -> None:
    """A report never ends without a word on what follows."""
    text = to_terminal_text(evolve(REPORT, layers=(layer("c", None),)), COMMAND)
    assert text.endswith("No layer has an error that is known, so none was tried in float.")


def test_without_tries_the_layer_with_the_largest_error_is_named() -> None:
    """``--quick`` ends with a command too, and says what it does not know."""
    text = to_terminal_text(REPORT, COMMAND)
    assert "b has the largest error. Without --quick qx finds what it costs" in text
    assert text.endswith("--set mine.float_layers=b")


def test_what_is_unusual_is_said_in_words() -> None:
    """Wide weights, dead and constant channels, peaks and clipping each have a remark."""
    text = to_terminal_text(REPORT, COMMAND)
    for remark in (
        "a channel of weights 40 times the median",
        "largest weight 1,500 times the median",
        "2 of 8 channels of weights are 0",
        "3 of 8 channels of outputs are constant",
        "largest output 20 times the root mean square",
        "25.0% of the outputs are clipped",
        "never called",
    ):
        assert remark in text


def test_a_simulation_is_called_one() -> None:
    """Where the artifact's own layers cannot be called, that is said, and no error at their place shown."""
    layers = [evolve(layer, arrived=None) for layer in REPORT.layers]
    report = evolve(REPORT, is_simulated=True, layers=layers, refusal="it is sealed")
    text = to_terminal_text(report, COMMAND)
    assert (
        "so that they are simulated in torch, with weights of 8 bits and a scale for each output channel, "
        "inputs of 8 bits by their range." in text
    )
    assert "so far" not in text
    assert "inside of the artifact is not known: it is sealed." in text


def test_what_was_seen_inside_of_an_artifact_is_no_simulation() -> None:
    """Where values inside of the artifact are known they are shown, with what they are beside."""
    text = to_terminal_text(evolve(REPORT, is_simulated=True, reference="acme_fp32"), COMMAND)
    (head,) = (line for line in text.splitlines() if "made here  " in line)
    assert "so far" in head
    assert "'so far' is of the served artifact, beside acme_fp32." in text
    assert "is not known" not in text


def test_nothing_to_leave_in_float_is_one_sentence() -> None:
    """A model without a layer that the config quantizes gives no empty tables."""
    text = to_terminal_text(evolve(REPORT, layers=()), COMMAND)
    assert text.endswith("quantizes no layer of the model that it can leave in float.")


def test_markdown_and_json_say_the_same() -> None:
    """Markdown has tables, and JSON all figures with the recipe."""
    assert "| b " in to_markdown(TRIED, COMMAND)
    fields = json.loads(to_json(TRIED))
    assert fields["recipe"] == "b"
    assert fields["metric"] == "accuracy"
    assert fields["gains"]["b"]["ci"] == [0.07, 0.13]
    assert fields["layers"][1]["outputs"]["clipped"] == 0.25


def test_foreign_names_cannot_reach_the_terminal() -> None:
    """Names of layers come from the user's model: control characters are shown as text."""
    text = to_terminal_text(evolve(REPORT, layers=(layer("a\x1b[31m", 2.0),)), COMMAND)
    assert "\x1b" not in text


def test_the_page_has_both_tables_and_the_command() -> None:
    """``--out FILE.html`` has what each layer gives back, a bar for each error, and the command to copy."""
    page = to_html(TRIED, COMMAND)
    assert page.count("<svg width=") == len(TRIED.layers)
    assert "What a layer in float gives back" in page
    assert 'id="copy-command"' in page
    assert "float_layers=b" in page


def test_foreign_names_are_text_on_the_page() -> None:
    """A layer whose name is markup is shown as its name."""
    page = to_html(evolve(REPORT, layers=(layer("<svg onload=x>", 2.0),)), COMMAND)
    assert "<svg onload" not in page
    assert "&lt;svg onload=x&gt;" in page


def test_the_command_asks_for_the_same_model() -> None:
    """Options of this command go, all others stay, but for the config's own ``float_layers``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-p", "--plugin", action="append", dest="plugins")
    register(parser.add_subparsers())
    words = ["-p", "mine.py", "layers", "net.py", "--weights", "w.pt", "-c", "mine", "--top", "3", "--quick"]
    words += ["--out=x.md", "--format", "json", "--set", "mine.float_layers=a", "--set", "mine.bits=4,8"]
    words += ["--model-args", "width=2", "--eval-n", "0", "--trained"]
    expected = ["qx", "--plugin=mine.py", "run", "net.py", "--model-args=width=2", "--weights=w.pt"]
    expected += ["--trained", "--eval-n=0", "--set=mine.bits=4,8"]
    assert shared_words(parser.parse_args(words), but="mine") == expected
