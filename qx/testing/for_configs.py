"""Checks of configs."""

from __future__ import annotations

from collections import Counter

from qx.contract.records import Loader
from qx.host.host import Entry
from qx.runner.request import recipes_of
from qx.testing.bench import Bench, Built, Served
from qx.testing.check import Check
from qx.testing.for_all import needs_only, try_bad_options
from qx.testing.for_weights import (
    are_equal,
    leaves_layers_in_float,
    reads_its_weights,
    require_success,
    takes_activation_bits,
    takes_weight_bits,
)
from qx.testing.onlooker import onlookers
from qx.testing.verdicts import Failed, NotApplicable

#: Largest difference from the fp32 model's outputs that counts as rounding, as a share of the largest output.
ROUNDING = 1e-4
#: An artifact smaller than this share of the fp32 state dict counts as changed, whatever its outputs.
SMALLER = 0.9


def builds(bench: Bench) -> str:
    """It makes an artifact of the workload's model: prepare, calibrate, convert and save end well."""
    _require_workload(bench)
    built: Built = require_success(bench, lambda: bench.built)
    sizes = built.manifest.sizes
    return f"{', '.join(sizes)}: {sum(sizes.values()):,} bytes for {built.manifest.loader}"


def _require_workload(bench: Bench) -> None:
    if bench.entry.state == "unavailable":
        raise NotApplicable(bench.entry.reason)
    bench.prepared  # noqa: B018 - raises where the workload is not available


def serves_on_its_devices(bench: Bench) -> str:
    """The loader that its artifact names serves on every kind of device that its record names."""
    loader = bench.host.get("loader", bench.built.manifest.loader)
    assert isinstance(loader.record, Loader)
    if missing := [kind for kind in bench.config.devices if kind not in loader.record.devices]:
        raise Failed(
            f"its record says devices {', '.join(bench.config.devices)}, and its artifact is for loader "
            f"{loader.name}, which does not serve on {', '.join(missing)}"
        )
    return ", ".join(bench.config.devices)


def leaves_fp32_model(bench: Bench) -> str:
    """The workload's fp32 model and its weights file are after the build what they were.

    The model that a config is given is its private copy. An instance that was made before, and one made
    afterwards in the same process, must answer as before, bit for bit: its class and torch are everybody's.
    """
    if changed := bench.built.build_observations.fp32:
        raise Failed(f"changes the fp32 model: {' and '.join(changed)}")
    return "the same answers before and after"


def leaves_shared_model(bench: Bench) -> str:
    """``check_model`` leaves the model and the example inputs as they are: all configs are shown the same."""
    _require_workload(bench)
    if not bench.host.implements(bench.entry.name, "check_model"):
        raise NotApplicable("has no check_model")
    before, after = onlookers(quantizable=bench.config.quantizable)
    refusals = bench.run(bench.inspect_job(before, bench.reference, after), "inspect").refusals
    if before.name in refusals:
        reason = refusals[before.name].cause
        raise NotApplicable(f"does not apply to the model of {bench.request.workload}: {reason}")
    if after.name in refusals:
        changed = refusals[after.name].cause
        raise Failed(f"check_model changes the model that all configs share: {changed}")
    return "check_model changes nothing"


def leaves_process_state(bench: Bench) -> str:
    """Settings of the whole process (torch's default dtype, threads, engine...) stay as they were."""
    if changed := bench.built.build_observations.state:
        raise Failed(
            "; ".join(
                f"leaves {name} at {change.now}, it was {change.before}" for name, change in changed.items()
            )
        )
    return "unchanged"


def leaves_inputs(bench: Bench) -> str:
    """The batches of calibration or training and the example inputs are not changed in place."""
    if changed := bench.built.observations.changed:
        raise Failed("; ".join(changed))
    return "unchanged"


def writes_only_into_its_folder(bench: Bench) -> str:
    """Nothing is written to the current folder: the files of an artifact belong into ``context.folder``."""
    if strays := bench.built.observations.strays:
        raise Failed(f"writes {', '.join(strays[:5])} into the current folder")
    return "nothing in the current folder"


def loads_in_fresh_process(bench: Bench) -> str:
    """A fresh process serves a copy of the files that it names, and gives the converted module's outputs.

    Outputs of a converted module are compared bit for bit with those that it gave in the build; an artifact
    of files has none to compare with, and is to give the same twice.
    """
    served: Served = require_success(bench, lambda: bench.served)
    if not served.answer.probed:
        again = bench.serve(bench.built)
        if not are_equal(again, served):
            raise Failed("two launches of the same artifact give different outputs")
        return "the same outputs in two launches"
    return "the outputs of the converted module, bit for bit"


def keeps_shape_and_type(bench: Bench) -> str:
    """Outputs have the fp32 model's names, shapes and types, and are finite, at every batch size."""
    fp32, batches = bench.built.fp32, bench.served.answer.served
    for batch in batches:
        size = batch.batch_size
        if list(batch.shapes) != list(fp32):
            raise Failed(f"it gives {', '.join(batch.shapes)}, the fp32 model {', '.join(fp32)}")
        for name, expected in fp32.items():
            shape, dtype = list(batch.shapes[name]), _dtype_name(batch.dtypes[name])
            if shape != [size, *expected.shape[1:]]:
                raise Failed(
                    f"at batch size {size} it gives shape {shape}, the fp32 model "
                    f"{[size, *expected.shape[1:]]}"
                )
            if dtype != expected.dtype.name:
                raise Failed(f"it gives {dtype}, the fp32 model {expected.dtype.name}")
        if not batch.finite:
            raise Failed(f"at batch size {size} it gives values that are not finite")
    kinds = ", ".join(f"{array.dtype.name} {['n', *array.shape[1:]]}" for array in fp32.values())
    sizes = ", ".join(str(batch.batch_size) for batch in batches)
    return f"{kinds} at batch sizes {sizes}".replace("'", "")


def deterministic(bench: Bench) -> str:
    """Built twice with the same seed, and served twice, it gives the same outputs, bit for bit."""
    for batch in bench.served.answer.served:
        if not (batch.repeats and batch.repeats_anew):
            raise Failed("one launch gives different outputs for the same inputs")
    served = bench.serve(bench.build(bench.entry))
    if not are_equal(served, bench.served):
        raise Failed(
            f"two builds with seed {bench.request.seed} differ by up to {_distance(bench, served):.2g}"
        )
    return f"two builds with seed {bench.request.seed} are equal"


def names_layers_of_the_model(bench: Bench) -> str:
    """Each row of its table by layer has the name of a module or parameter of the fp32 model, and once.

    Not asked of a config that gives no table.
    """
    names = [row.name for row in bench.built.manifest.layers]
    if not names:
        raise NotApplicable("gives no table by layer")
    if unknown := sorted({*names} - {*bench.built.build_observations.names}):
        raise Failed(f"its table by layer names {', '.join(unknown[:5])}, and the fp32 model has none such")
    if repeated := [name for name, number in Counter(names).items() if number > 1]:
        raise Failed(f"its table by layer has {', '.join(repeated[:5])} more than once")
    return f"{len(names)} layers"


def changes_something(bench: Bench) -> str:
    """Its outputs differ from the fp32 model's by more than rounding, or its artifact is smaller.

    Not asked of the baseline, of the fp32 config of a runtime, nor where the record says ``keeps_outputs``.
    """
    if reason := _reason_to_keep_outputs(bench):
        raise NotApplicable(reason)
    distance, share = _distance(bench, bench.served, fp32=True), _share_of_bytes(bench)
    if distance <= ROUNDING and share >= SMALLER:
        raise Failed(
            f"its outputs differ from the fp32 model's by {distance:.1g} at most, and its files are "
            f"{share:.0%} of the fp32 weights: it changes nothing, or its record must say keeps_outputs"
        )
    return f"outputs differ by up to {distance:.2g} of the largest, files are {share:.0%} of the fp32 weights"


def keeps_outputs(bench: Bench) -> str:
    """Where it says that it keeps the fp32 model's outputs, as baselines do, it does, but for rounding."""
    if not (reason := _reason_to_keep_outputs(bench)):
        raise NotApplicable("does not say keeps_outputs")
    distance = _distance(bench, bench.served, fp32=True)
    if distance > ROUNDING:
        raise Failed(f"{reason}, but its outputs differ by up to {distance:.2g} of the largest")
    return f"{reason}; outputs differ by up to {distance:.1g} of the largest"


def needs_what_it_says(bench: Bench) -> str:
    """It is built and served with what its record requires, uses that, and imports no other distribution."""

    def work_without(absent: tuple[str, ...]) -> None:
        bench.serve(bench.build(bench.entry, absent=absent), absent=absent)

    imported = {*bench.built.observations.modules, *bench.served.observations.modules}
    return needs_only(bench, imported, work_without, companions=_companions(bench))


def refuses_bad_options(bench: Bench) -> str:
    """A value that an option cannot have is refused in words that name the option."""
    return try_bad_options(bench, lambda options: bench.build(bench.entry, options=options))


def _companions(bench: Bench) -> tuple[str, ...]:
    """Return the requirements of the workload, and of the configs that it is composed of."""
    beside = (bench.prepared.workload, *recipes_of(bench.host, bench.entry))
    return tuple(text for entry in beside for text in _requirements(entry))


def _requirements(entry: Entry) -> tuple[str, ...]:
    own = (entry.distribution,) if entry.distribution else ()
    return (*own, *(entry.record.requires if entry.record else ()))


def _reason_to_keep_outputs(bench: Bench) -> str:
    """Return why the config's outputs must be the fp32 model's; empty where they need not be."""
    if bench.config.reference:
        return "it is the baseline"
    if bench.config.keeps_outputs:
        return "its record says keeps_outputs"
    dependents = [
        entry.name
        for entry in bench.host.entries
        if getattr(entry.record, "runtime_baseline", None) == bench.entry.name
    ]
    return f"it is the runtime baseline of {dependents[0]}" if dependents else ""


def _share_of_bytes(bench: Bench) -> float:
    """Return the bytes of the artifact's files, as a share of those of the fp32 weights."""
    prepared = bench.prepared
    # A workload without a file of weights keeps those that its model was made with, four bytes each.
    fp32 = 4 * prepared.parameters if prepared.weights is None else prepared.weights.stat().st_size
    return sum(bench.built.manifest.sizes.values()) / fp32


def _distance(bench: Bench, served: Served, *, fp32: bool = False) -> float:
    """Return the largest difference of outputs, as a share of the fp32 model's largest value of that output.

    ``served`` is compared with the fp32 model if ``fp32``, else with the first launch of the config.
    """
    import numpy as np

    expected = bench.built.fp32 if fp32 else bench.served.outputs
    shares = []
    for name, right in expected.items():
        own = served.outputs[name]
        count = min(len(right), len(own))
        scale = float(np.abs(bench.built.fp32[name]).max()) or 1.0
        shares.append(float(np.abs(np.asarray(own[:count], dtype=float) - right[:count]).max()) / scale)
    return max(shares)


def _dtype_name(dtype: str) -> str:
    import numpy as np

    return np.dtype(dtype).name


#: The checks of a config, in the order in which they are run.
CHECKS = (
    Check(builds, after=("valid_record", "unique_name")),
    Check(serves_on_its_devices, after=("builds",)),
    Check(leaves_fp32_model, after=("builds",)),
    Check(leaves_shared_model, after=("valid_record", "unique_name")),
    Check(leaves_process_state, after=("builds",)),
    Check(leaves_inputs, after=("builds",)),
    Check(writes_only_into_its_folder, after=("builds",)),
    Check(loads_in_fresh_process, after=("builds",)),
    Check(keeps_shape_and_type, after=("loads_in_fresh_process",)),
    Check(deterministic, after=("keeps_shape_and_type",)),
    Check(names_layers_of_the_model, after=("builds",)),
    Check(reads_its_weights, after=("loads_in_fresh_process",)),
    Check(leaves_layers_in_float, after=("loads_in_fresh_process",)),
    Check(takes_weight_bits, after=("loads_in_fresh_process",)),
    Check(takes_activation_bits, after=("keeps_shape_and_type",)),
    Check(changes_something, after=("keeps_shape_and_type",)),
    Check(keeps_outputs, after=("keeps_shape_and_type",)),
    Check(needs_what_it_says, after=("loads_in_fresh_process",)),
    Check(refuses_bad_options, after=("builds",)),
)
