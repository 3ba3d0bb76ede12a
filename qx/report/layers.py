"""Show which layers cost a config quality: on a terminal, as Markdown, and as JSON."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence

from attrs import asdict

from qx.contract.records import FLOAT_LAYERS, Metric
from qx.contract.rounding import Rounding
from qx.foreign import to_terminal
from qx.processes.job_answers import LayerFigures
from qx.results import numbers
from qx.runner.layers import Gain, LayersReport

#: Ratio of the largest channel of weights to the median, and of the largest output to the root of the mean
#: square, from which on it is pointed out.
WIDE, PEAKED = 8.0, 16.0
#: Ratio of the largest weight to the median from which on it is pointed out.
LARGE = 100.0
#: Share of outputs out of range from which on it is pointed out.
CLIPPED = 0.001


def to_json(report: LayersReport) -> str:
    """Return everything as JSON."""
    fields = asdict(report)
    fields["metric"] = None if report.metric is None else report.metric.name
    fields["recipe"] = report.recipe
    return json.dumps(fields, indent=2) + "\n"


def to_terminal_text(report: LayersReport, command: Sequence[str]) -> str:
    """Return the tables and sentences in plain text; ``command`` is the
    command line of a run of the same model, without the config.
    """
    return "\n".join(_lines(report, command, "simple"))


def to_markdown(report: LayersReport, command: Sequence[str]) -> str:
    """Return the same as Markdown."""
    return "\n".join(_lines(report, command, "github")) + "\n"


def _lines(report: LayersReport, command: Sequence[str], style: str) -> Iterator[str]:
    is_markdown = style == "github"
    title = f"{report.workload}: layers of {to_terminal(report.row)}"
    yield f"# {title}" if is_markdown else title
    yield ""
    if not report.layers:
        yield "This config quantizes no layer of the model that it can leave in float."
        return
    if report.gains:
        yield from _gain_lines(report, style)
        yield ""
    yield from _error_lines(report, style)
    yield ""
    yield from map(to_terminal, conclusion(report))
    if report.recipe:
        yield ""
        yield f"    {to_terminal(command_of(report, command))}"


def command_of(report: LayersReport, command: Sequence[str]) -> str:
    """Return the command that runs the config with the layers of the recipe in float."""
    setting = f"{report.config}.{FLOAT_LAYERS.name}={_as_value(report.recipe)}"
    return shlex.join([*command, "-c", report.config, "--set", setting])


def _as_value(text: str) -> str:
    """Return a text as one value of ``--set``, in which commas stand between values."""
    if not any(sign in text for sign in ',"'):
        return text
    return '"{}"'.format(text.replace('"', '""'))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], style: str) -> str:
    from tabulate import tabulate

    return tabulate(
        [list(map(to_terminal, row)) for row in rows], list(header), tablefmt=style, disable_numparse=True
    )


# What was tried -----------------------------------------------------------------------------------


def _gain_lines(report: LayersReport, style: str) -> Iterator[str]:
    metric = report.metric
    if metric is None:
        yield next(iter(report.gains.values())).cause
        return
    yield from map(to_terminal, qualities(report, metric))
    yield ""
    yield _table(*gain_table(report, metric), style)
    yield ""
    yield gains_explained(report)


def qualities(report: LayersReport, metric: Metric) -> list[str]:
    """Return the quality of the fp32 model and of the config, a line each."""
    values = (("fp32", report.baseline), (report.row, report.quantized))
    return [
        f"{name}: {metric.name} {numbers.value(value, metric)}" for name, value in values if value is not None
    ]


def gain_table(report: LayersReport, metric: Metric) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of the table of what each layer in float gives back."""
    rows = [[name, *_gain_cells(report.gains[name], metric)] for name in report.tried]
    return ["layer in float", metric.name, "gives back", "95 %, corrected", "p"], rows


def gains_explained(report: LayersReport) -> str:
    """Return what the differences of that table rest on."""
    return (
        f"The layers with the largest errors, each alone in float. Differences are paired on the same "
        f"{report.evaluated:,} items; intervals and p hold for all {len(report.gains)} together."
    )


def _gain_cells(gain: Gain, metric: Metric) -> list[str]:
    value = numbers.NOTHING if gain.value is None else numbers.value(gain.value, metric)
    if gain.difference is None:
        return [value, gain.cause, numbers.NOTHING, numbers.NOTHING]
    interval = numbers.NOTHING
    if gain.ci is not None:
        interval = " to ".join(_difference(end, metric, unit=False) for end in gain.ci)
    return [
        value,
        _difference(gain.difference, metric),
        interval,
        numbers.NOTHING if gain.p is None else f"{gain.p:.2g}",
    ]


def _difference(value: float, metric: Metric, *, unit: bool = True) -> str:
    """Return a difference: of fractions in percentage points."""
    if metric.unit == "fraction":
        return f"{100 * value:+.2f}{' points' if unit else ''}"
    return f"{value:+.3g}{f' {metric.unit}' if unit else ''}"


# What was seen ------------------------------------------------------------------------------------


def _error_lines(report: LayersReport, style: str) -> Iterator[str]:
    yield _table(*error_table(report), style)
    yield ""
    yield from errors_explained(report)


def error_table(report: LayersReport) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of the table of the errors and ranges of all layers, the largest error first."""
    unknown = [layer for layer in report.layers if layer not in report.worst()]
    header = ["layer", "weights", "alone", "made here"]
    if report.has_arrived:
        header.append("so far")
    rows = []
    for layer in (*report.worst(), *unknown):
        row = [layer.name, f"{layer.elements:,}", _decibels(layer.alone), _decibels(layer.made)]
        if report.has_arrived:
            row.append(_decibels(layer.arrived))
        rows.append([*row, *_range_cells(layer), ", ".join(_remarks(layer))])
    return [*header, "weights from", "outputs from", "remarks"], rows


def errors_explained(report: LayersReport) -> Iterator[str]:
    """Yield what the errors are of, and whether they are simulated."""
    alone = "of the outputs where this layer alone is quantized"
    made = "of the layer's outputs with fp32 inputs"
    arrived = "; so far: at its place in the quantized network" if report.has_arrived else ""
    if report.items_alone < report.items:
        alone = f"{alone}, on {report.items_alone} of them"
    yield f"Signal over noise, on {report.items:,} items. alone: {alone}; made here: {made}{arrived}."
    if report.is_simulated:
        yield (
            "The artifact is no module whose layers can be called, so that they are simulated in torch, with "
            f"{rounding_words(report.rounding)}{_inside(report)}."
        )
        if report.refusal:
            yield f"What has arrived at layers inside of the artifact is not known: {report.refusal}."


def rounding_words(rounding: Rounding) -> str:
    """Return in words to how many bits weights and inputs of a layer are rounded, and what shares a scale."""
    shared = "output channel" if rounding.per_channel else "layer"
    if rounding.group_size is not None:
        shared = f"group of {rounding.group_size}"
    weights, inputs = "weights in float", "inputs in float"
    if rounding.weight_bits is not None:
        weights = f"weights of {rounding.weight_bits} bits and a scale for each {shared}"
    if rounding.activation_bits is not None:
        inputs = f"inputs of {rounding.activation_bits} bits by their range"
    return f"{weights}, {inputs}"


def _inside(report: LayersReport) -> str:
    """Return the exception from a simulation: what was seen inside of the artifact itself."""
    if not report.has_arrived:
        return ""
    return f"; but 'so far' is of the served artifact, beside {report.reference}"


def _decibels(value: float | None) -> str:
    return numbers.NOTHING if value is None else f"{value:.1f} dB"


def _range_cells(layer: LayerFigures) -> list[str]:
    cells = []
    for values in (layer.weights, layer.outputs):
        if values is None or values.low is None or values.high is None:
            cells.append(numbers.NOTHING)
        else:
            cells.append(f"{values.low:.3g} to {values.high:.3g}")
    return cells


def _remarks(layer: LayerFigures) -> Iterator[str]:
    """Yield what is unusual of a layer."""
    weights, outputs = layer.weights, layer.outputs
    if weights is not None:
        if weights.low is None:
            yield "weights are not finite"
        if weights.spread is not None and weights.spread >= WIDE:
            yield f"a channel of weights {weights.spread:.0f} times the median"
        if weights.peak is not None and weights.peak >= LARGE:
            yield f"largest weight {weights.peak:,.0f} times the median"
        if weights.dead_channels:
            yield f"{weights.dead_channels} of {weights.channels} channels of weights are 0"
    if outputs is None:
        yield "never called"
        return
    if not outputs.is_finite:
        yield "outputs are not finite"
    if outputs.peak is not None and outputs.peak >= PEAKED:
        yield f"largest output {outputs.peak:.0f} times the root mean square"
    if outputs.constant_channels:
        yield f"{outputs.constant_channels} of {outputs.channels} channels of outputs are constant"
    if outputs.clipped is not None and outputs.clipped >= CLIPPED:
        yield f"{outputs.clipped:.1%} of the outputs are clipped"


def conclusion(report: LayersReport) -> Iterator[str]:
    """Yield what was found, in a sentence before the command that acts on it."""
    if not report.gains:
        worst = report.worst(1)
        if worst:
            name = worst[0].name
            yield f"{name} has the largest error. Without --quick qx finds what it costs; in float it is by:"
        else:
            yield "No layer has an error that is known, so none was tried in float."
        return
    if report.metric is None:
        return
    helpful = report.helpful
    if helpful:
        names = ", ".join(helpful)
        these = "each of these layers" if len(helpful) > 1 else "this layer"
        yield f"Quality comes back with {these} in float: {names}."
    elif report.recipe:
        yield (
            f"On {report.evaluated:,} items no layer alone is shown to give quality back. Two may have to be "
            f"in float together, which was not tried; those with the largest errors are by:"
        )
    else:
        yield f"On {report.evaluated:,} items no layer alone gives quality back, and none is lost."
