"""Checks of what a config does to its weights and activations: their bits, and layers in float."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from qx.contract.records import FLOAT_LAYERS
from qx.processes.answers import PlainSamples
from qx.processes.jobs import EvaluateJob
from qx.processes.workers import Failure
from qx.testing import weighing
from qx.testing.bench import Bench, Built, Served
from qx.testing.verdicts import Failed, NotApplicable

T = TypeVar("T")

#: Fewest bits of a weight in float.
LEAST_FLOAT_BITS = 16
#: Options of widths: bits of a weight in the files, and of an activation between layers.
WEIGHT_BITS, ACTIVATION_BITS = "weight_bits", "activation_bits"
#: Numbers of bits that are tried of an option without choices.
WIDTHS = (4, 8, 16)
#: How many times the error may grow where activations get more bits: weights may have most of it.
LARGER = 1.25


def require_success(bench: Bench, work: Callable[[], T]) -> T:
    """Return the result of a step. Raises ``NotApplicable`` for an unsupported model, else ``Failed``."""
    try:
        return work()
    except Failure as failure:
        if failure.outcome == "unsupported":
            raise NotApplicable(
                f"does not apply to the model of {bench.request.workload}: {failure.cause}"
            ) from failure
        raise Failed(str(failure)) from failure


def reads_its_weights(bench: Bench) -> str:
    """Where it has ``read_weights``: the weights fit into its files, and all of the model are among them.

    None from the hook leaves the answer to the loader, and that is checked in its place.
    """
    if not bench.host.implements(bench.entry.name, "read_weights"):
        raise NotApplicable("has no read_weights")
    samples = _weigh(bench, bench.built)
    if samples is None:
        return "the weights are not known"
    (size,), details = samples.values, samples.details
    if wrong := details["wrong"]:
        raise Failed(f"it reads weights of less than one element or bit: {', '.join(wrong[:5])}")
    files, model = sum(bench.built.manifest.sizes.values()), bench.built.manifest.weight_elements or 0
    if size > files:
        raise Failed(f"the weights that it reads take {size:,.0f} bytes, and its files have {files:,}")
    if details["elements"] < model:
        raise Failed(f"it reads {details['elements']:,} elements, and the fp32 model has {model:,}")
    return f"{details['weights']} weights take {size:,.0f} of {files:,} bytes"


def leaves_layers_in_float(bench: Bench) -> str:
    """With ``float_layers``: the weights of the layer that is named are in float, and all others as before.

    It is built once more, with the last of the layers that it quantizes in float. Weights are distinguished
    by their numbers of elements, since runtimes give them names of their own.
    """
    if not bench.config.float_layers:
        raise NotApplicable("has no option float_layers")
    layers = bench.run(bench.inspect_job(bench.reference), "layers").layers.get(bench.entry.name)
    if not layers:
        raise NotApplicable("quantizes no layer of the model that it can leave in float")
    before, (name, elements) = _stored(bench, bench.built), list(layers.items())[-1]
    if before is None:
        raise NotApplicable("its weights are not known")
    built = require_success(bench, lambda: bench.build(bench.entry, options={FLOAT_LAYERS.name: name}))
    require_success(bench, lambda: bench.serve(built))
    after = _stored(bench, built)
    assert after is not None
    removed, added = before - after, after - before
    if not removed and not added:
        raise Failed(f"with float_layers={name} its weights are in the same numbers of bits as without")
    if narrow := [bits for _, bits in added if bits < LEAST_FLOAT_BITS]:
        raise Failed(f"with float_layers={name} it stores other weights in {min(narrow)} bits than without")
    counts = [_elements(weights) for weights in (removed, added)]
    if counts != [elements, elements]:
        raise Failed(
            f"with float_layers={name}, which has {elements:,} weights, {counts[0]:,} are no longer in few "
            f"bits, and {counts[1]:,} are in float instead"
        )
    return f"the {elements:,} weights of {name} are in float, all others as without"


def takes_weight_bits(bench: Bench) -> str:
    """With another value of ``weight_bits`` weights of the default width are in so many bits, and no others.

    Files get smaller with fewer bits, and larger with more.
    """
    widths = _other_widths(bench, WEIGHT_BITS)
    default = int(bench.defaults[WEIGHT_BITS])
    before, words = _stored(bench, bench.built), []
    for bits in widths:
        built = _built_with(bench, WEIGHT_BITS, bits)
        if built is None:
            continue
        where = f"with {WEIGHT_BITS}={bits}"
        sizes = [sum(one.manifest.sizes.values()) for one in (bench.built, built)]
        if (sizes[1] < sizes[0]) != (bits < default) or sizes[0] == sizes[1]:
            raise Failed(f"{where} its files have {sizes[1]:,} bytes, and {sizes[0]:,} with {default}")
        after = _stored(bench, built)
        if before is None or after is None:
            words.append(f"{bits} bits: {sizes[1]:,} bytes in place of {sizes[0]:,}")
            continue
        removed, added = before - after, after - before
        if not added:
            raise Failed(f"{where} its weights are in the same numbers of bits as with {default}")
        if other := sorted({width for _, width in added} - {bits}):
            raise Failed(f"{where} it stores weights in {other[0]} bits that are not so with {default}")
        if other := sorted({width for _, width in removed} - {default}):
            raise Failed(f"{where} it changes weights that are in {other[0]} bits with {default}")
        if _elements(removed) != _elements(added):
            raise Failed(
                f"{where} {_elements(added):,} more weights are in {bits} bits, and {_elements(removed):,} "
                f"fewer in {default}"
            )
        words.append(f"{bits} bits: {_elements(added):,} weights")
    return _list_widths(WEIGHT_BITS, words)


def takes_activation_bits(bench: Bench) -> str:
    """With another value of ``activation_bits`` its outputs change, and the bits of its weights do not.

    The error against the fp32 model grows by no more than a quarter where activations get more bits, nor does
    it shrink by more where they get fewer.
    """
    widths = _other_widths(bench, ACTIVATION_BITS)
    default = int(bench.defaults[ACTIVATION_BITS])
    before, words = _stored(bench, bench.built), []
    for bits in widths:
        built = _built_with(bench, ACTIVATION_BITS, bits)
        if built is None:
            continue
        where = f"with {ACTIVATION_BITS}={bits}"
        served: Served = require_success(bench, partial(bench.serve, built))
        if are_equal(served, bench.served):
            raise Failed(
                f"{where} its outputs are bit for bit those with {default}: nothing is rounded otherwise"
            )
        if before != _stored(bench, built):
            raise Failed(f"{where} its weights are in other numbers of bits than with {default}")
        errors = [_error(bench, one) for one in (bench.served, served)]
        wide, narrow = (errors[1], errors[0]) if bits > default else (errors[0], errors[1])
        if wide > LARGER * narrow:
            raise Failed(
                f"{where} its outputs have an error of {errors[1]:.2g}, and of {errors[0]:.2g} with {default}"
            )
        words.append(f"{bits} bits: an error of {errors[1]:.2g} in place of {errors[0]:.2g}")
    return _list_widths(ACTIVATION_BITS, words)


def _other_widths(bench: Bench, name: str) -> list[int]:
    """Return the values that an option of a width takes beside its default.

    Raises ``NotApplicable`` where there is no such option, and ``Failed`` where it is no number of bits.
    """
    option = next((option for option in bench.record.options if option.name == name), None)
    if option is None:
        raise NotApplicable(f"has no option {name}")
    if option.type is not int:
        raise Failed(f"{name} is to be a number of bits, and its default is {option.default!r}")
    values = [int(value) for value in option.choices or WIDTHS if not option.flaw(value)]
    return [value for value in values if value != option.default]


def _built_with(bench: Bench, name: str, bits: int) -> Built | None:
    """Return the artifact with a value of an option; None where it refuses it, for this model or at all."""
    try:
        return bench.build(bench.entry, options={name: bits})
    except Failure as failure:
        if failure.outcome == "unsupported" or name in failure.cause:
            return None
        raise Failed(f"with {name}={bits}: {failure}") from failure


def _list_widths(name: str, words: list[str]) -> str:
    """Return what was seen at each width. Raises ``NotApplicable`` where no other width was built."""
    if not words:
        raise NotApplicable(f"takes no other {name} for this model than the default")
    return "; ".join(words)


def _stored(bench: Bench, built: Built) -> Counter[tuple[int, int]] | None:
    """Return how many weights have these numbers of elements and bits; None where they are not known."""
    samples = _weigh(bench, built)
    return None if samples is None else Counter(tuple(pair) for pair in samples.details["stored"])


def _weigh(bench: Bench, built: Built) -> PlainSamples | None:
    """Return the bytes of the weights that the config reads; None where they are not known."""
    job = EvaluateJob(
        engine=bench.prepared.engine,
        artifact=built.stored,
        inputs=str(bench.prepared.evaluation),
        batch_size=50,
        artifact_metrics=(weighing.REFERENCE,),
        outputs=str(bench.new_folder("weighed")),
        **bench.device_fields(),
    )
    measurement = bench.run(job, "weigh").metrics[weighing.REFERENCE.name]
    if measurement.failure is not None:
        raise Failed(measurement.failure.cause)
    return measurement.samples


def _elements(weights: Counter[tuple[int, int]]) -> int:
    return sum(elements for elements, _ in weights.elements())


def _error(bench: Bench, served: Served) -> float:
    """Return the root mean square of the outputs' error, as a share of that of the fp32 model's outputs."""
    import numpy as np

    squares = np.zeros(2)
    for name, right in bench.built.fp32.items():
        count = min(len(right), len(served.outputs[name]))
        expected = np.asarray(right[:count], dtype=float)
        squares += np.square(served.outputs[name][:count] - expected).sum(), np.square(expected).sum()
    return float(np.sqrt(squares[0] / (squares[1] or 1.0)))


def are_equal(first: Served, second: Served) -> bool:
    """Return whether two launches gave the same outputs, bit for bit."""
    from qx.worker.outputs import equal_arrays

    return equal_arrays(first.outputs, second.outputs)
