"""Checks of loaders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from qx.contract.records import Config, Loader
from qx.host.host import Entry
from qx.processes.workers import Failure
from qx.testing.answers import LayerValuesAnswer
from qx.testing.bench import Bench, Built, Served, find_plugin
from qx.testing.check import Check
from qx.testing.distributions import modules_of
from qx.testing.for_all import needs_only
from qx.testing.verdicts import Failed, NotApplicable

#: Share of the busiest thread's CPU time above which another thread counts as busy.
BUSY = 0.2
#: Items of the batch for which values inside of artifacts are asked for.
ITEMS = 3
#: Largest difference between what the last layer gives and the answer, as a share of the largest answer: in
#: few bits, where a value that is rounded the other way is a whole step off, and in float.
LIMITS, WHOSE = (0.02, 1e-4), ("the artifact's", "the reference's")
#: What to do about calls that differ.
STATE = "if calls change a state, such as a cache, give the subject a reset(native, kind) that brings it back"
#: Least signal-to-noise ratio of outputs against the fp32 model's, in dB. A network with other weights has
#: about 0 dB or less, since its outputs are as far from these as zeros are.
LEAST_DB = 3.0


def _record(bench: Bench) -> Loader:
    assert isinstance(bench.record, Loader)
    return bench.record


def _built(bench: Bench) -> Built:
    """Return an artifact that names this loader. Raises ``NotApplicable`` where no config makes any."""

    def build() -> Built:
        attempts = []
        for config in _candidates(bench):
            try:
                built = bench.build(config)
            except Failure as failure:
                attempts.append(f"{config.name}: {failure}")
                continue
            if built.manifest.loader == bench.entry.name:
                return built
            attempts.append(f"{config.name} names {built.manifest.loader}")
        raise NotApplicable(
            f"no config makes an artifact for it ({'; '.join(attempts)}): name a config as "
            "Conformance(subject=...)"
        )

    built: Built = bench.cached("built", build)
    return built


def _candidates(bench: Bench) -> list[Entry]:
    """Return the configs to try: the one its author names, else the baseline, else fp32 configs first."""
    if bench.conformance.subject is not None:
        return [find_plugin(bench.host, "config", bench.conformance.subject)]
    if _record(bench).rebuilds:
        return [bench.baseline]
    configs = [entry for entry in bench.host.ready("config") if isinstance(entry.record, Config)]
    baselines = {getattr(entry.record, "runtime_baseline", None) for entry in configs}

    def order(entry: Entry) -> tuple[bool, bool]:
        return entry.distribution != bench.entry.distribution, entry.name not in baselines

    others = [entry for entry in configs if not getattr(entry.record, "reference", False)]
    suitable = (entry for entry in others if entry.record and _has_requirements(bench, entry))
    return sorted(suitable, key=order)


def _has_requirements(bench: Bench, config: Entry) -> bool:
    """Return whether a config requires all that the loader does; else it cannot be served by the loader."""
    from packaging.requirements import Requirement

    def names(requires: Iterable[str]) -> set[str]:
        return {Requirement(text).name.lower() for text in requires}

    assert config.record is not None
    return names(_record(bench).requires) <= names(config.record.requires)


def _served(bench: Bench) -> Served:
    built = _built(bench)

    def serve() -> Served:
        try:
            return bench.serve(built)
        except Failure as failure:
            raise Failed(str(failure)) from failure

    served: Served = bench.cached("served", serve)
    return served


def serves_batches(bench: Bench) -> str:
    """It loads an artifact in a fresh process and serves batches of 1, 3 and 64: finite numpy arrays by name.

    The names are the same at every call.
    """
    if bench.entry.state == "unavailable":
        raise NotApplicable(bench.entry.reason)
    batches = _served(bench).answer.served
    expected = batches[0].names[0]
    for batch in batches:
        size = batch.batch_size
        for name, kind in batch.types.items():
            if kind != "ndarray":
                raise Failed(f"outputs gives {name!r} as a {kind}, expected a numpy array")
        for names in batch.names:
            if names != expected:
                raise Failed(
                    f"outputs gives {', '.join(expected)} in one call and {', '.join(names)} in another"
                )
        if not batch.finite:
            raise Failed(f"at batch size {size} it gives values that are not finite")
    return f"artifacts of {_built(bench).stored.config.name}"


def leaves_inputs(bench: Bench) -> str:
    """The arrays that are prepared and served are not changed in place."""
    for batch in _served(bench).answer.served:
        if not batch.inputs_kept:
            raise Failed(f"at batch size {batch.batch_size} it changes the arrays that it was given")
    return "unchanged"


def deterministic(bench: Bench) -> str:
    """The same inputs give the same outputs: the same prepared ones called twice, and prepared anew.

    So do calls of each further kind. Where calls change a state, the subject's ``reset`` brings it back.
    """
    for batch in _served(bench).answer.served:
        if not batch.repeats:
            raise Failed(
                f"the same prepared inputs give different outputs when they are called again: {STATE}"
            )
        if not batch.repeats_anew:
            raise Failed("the same inputs give different outputs when they are prepared again")
    repeated_kinds = _served(bench).answer.repeated_kinds
    for kind, repeats in repeated_kinds.items():
        if not repeats:
            raise Failed(f"calls of kind {kind!r} give different outputs for the same inputs: {STATE}")
    return ", ".join(["the same again", *repeated_kinds])


def serves_the_model(bench: Bench) -> str:
    """Its outputs are the fp32 model's, with an error that is clearly smaller than they are (3 dB).

    A loader that loads no weights, or puts them in the wrong place, serves another network.
    """
    import numpy as np

    from qx.statistics.output_error import output_error

    served, fp32 = _served(bench).outputs, _built(bench).fp32
    texts = []
    for name, expected in fp32.items():
        if name not in served:
            raise Failed(f"it gives {', '.join(served)}, the fp32 model {', '.join(fp32)}")
        count = min(len(expected), len(served[name]))
        error = output_error(np.asarray(served[name][:count]), np.asarray(expected[:count]))
        ratio = "" if error.sqnr_db is None else f", {error.sqnr_db:.1f} dB"
        if error.is_below_0_db or (error.sqnr_db is not None and error.sqnr_db < LEAST_DB):
            raise Failed(
                f"output {name!r} is another network's: against the fp32 model the error is as large as its "
                f"outputs{ratio}; are the artifact's weights loaded, each in its place?"
            )
        texts.append(f"{name}{ratio or ', no error'}")
    return f"{'; '.join(texts)} against the fp32 model"


def honours_threads(bench: Bench) -> str:
    """With one thread allowed, one thread computes."""
    by_thread = _served(bench).answer.busy_threads
    busy = [seconds for seconds in by_thread if seconds > BUSY * by_thread[0] and seconds > 0.05]
    if len(busy) > 1:
        times = ", ".join(f"{seconds:.2f}" for seconds in busy[:4])
        raise Failed(f"{len(busy)} threads compute where 1 is allowed (CPU seconds: {times})")
    return f"1 thread, {by_thread[0]:.2f} s of CPU"


def names_its_imports(bench: Bench) -> str:
    """The modules of what it requires are named in ``imports``: their cost is told apart from loading."""
    late = [
        (module, text)
        for text in _record(bench).requires
        for module in modules_of(_distribution(text)) & set(_served(bench).answer.during_load)
    ]
    if late:
        names = ", ".join(sorted(module for module, _ in late))
        raise Failed(f"imports {names} while it loads: name it in the record's imports")
    return ", ".join(_record(bench).imports) or "nothing to import"


def serves_without_qx(bench: Bench) -> str:
    """Its serving code, if it has any, gives the same outputs bit for bit where qx cannot be imported."""
    if "serving_code" not in bench.entry.hooks:
        raise NotApplicable("it implements no serving_code: qx alone serves its artifacts")
    try:
        answer = bench.ship(_built(bench))
    except Failure as failure:
        raise Failed(str(failure)) from failure
    if answer.refusal:
        raise Failed(answer.refusal)
    return f"serve.py with {', '.join(answer.requires)}"


def gives_layer_outputs(bench: Bench) -> str:
    """Where it has ``layer_outputs``: the values are those of layers, and of the last they are the answer.

    Layers have the names of the fp32 model's modules, and a finite value for each item. A layer behind which
    nothing comes gives what the artifact answers. Asking changes no file and no later answer.
    """
    if "layer_outputs" not in bench.entry.hooks:
        raise NotApplicable("it implements no layer_outputs: nobody sees inside of its artifacts")
    config, answer = _values_inside(bench)
    if answer.changed:
        raise Failed(f"layer_outputs changes {' and '.join(answer.changed)}")
    if not answer.values:
        raise Failed(
            f"layer_outputs gives no layer of an artifact of {config}; where it knows none, None says so"
        )
    if unknown := sorted({value.name for value in answer.values} - {*answer.modules}):
        raise Failed(f"layer_outputs names {', '.join(unknown[:5])}, and the fp32 model has no such module")
    for value in answer.values:
        if value.shape[:1] != (ITEMS,):
            raise Failed(
                f"layer_outputs gives shape {list(value.shape)} for {value.name} and {ITEMS} items; expected "
                f"[{ITEMS}, ...]"
            )
        if not value.finite:
            raise Failed(f"layer_outputs gives values for {value.name} that are not finite")
        for distance, limit, whose in zip(value.distances, LIMITS, WHOSE, strict=False):
            if distance > limit:
                raise Failed(
                    f"layer_outputs gives values for {value.name}, the last layer, that differ from {whose} "
                    f"answers by up to {distance:.2g} of the largest"
                )
    last = [value.name for value in answer.values if value.distances]
    return f"{len(answer.values)} layers of {config}; the last: {', '.join(last) or 'not among them'}"


def _values_inside(bench: Bench) -> tuple[str, LayerValuesAnswer]:
    """Return what layers of an artifact give, beside one in float, and the config that made it.

    The artifact is that of a config with a runtime baseline whose values are known, else one that is its own
    reference.
    """
    refusals = []
    for config, built, reference in _pairs(bench):
        try:
            answer = bench.look_inside(built, reference, ITEMS)
        except Failure as failure:
            raise Failed(str(failure)) from failure
        if not answer.refusal:
            return config.name, answer
        refusals.append(f"{config.name}: {answer.refusal}")
    raise NotApplicable(f"it gives no values of layers: {'; '.join(refusals)}")


def _pairs(bench: Bench) -> Iterator[tuple[Entry, Built, Built]]:
    """Yield configs with an artifact for this loader, and with that of their runtime baseline."""
    built = _built(bench)
    config = bench.host.get("config", built.stored.config.name)
    ready = [entry for entry in bench.host.ready("config") if isinstance(entry.record, Config)]
    baseline = [entry for entry in ready if entry.name == getattr(config.record, "runtime_baseline", None)]
    for entry in baseline:
        yield config, built, bench.build(entry)
    # Those first that round what layers give, by ranges that they calibrate.
    for entry in sorted(ready, key=lambda entry: not getattr(entry.record, "calibration", False)):
        if getattr(entry.record, "runtime_baseline", None) == config.name:
            try:
                yield entry, bench.build(entry), built
            except Failure:
                # It does not apply to this model, or is broken, which its own checks say.
                continue
    yield config, built, built


def needs_what_it_says(bench: Bench) -> str:
    """It serves with what its record requires, uses that, and imports no other distribution."""
    config = bench.host.get("config", _built(bench).stored.config.name).record
    companions = [*(config.requires if config else ())]
    return needs_only(
        bench,
        _served(bench).observations.modules,
        lambda absent: bench.serve(_built(bench), absent=absent),
        companions=companions,
    )


def _distribution(requirement: str) -> str:
    from packaging.requirements import Requirement

    return Requirement(requirement).name


#: The checks of a loader, in the order in which they are run.
CHECKS = (
    Check(serves_batches, after=("valid_record", "unique_name")),
    Check(leaves_inputs, after=("serves_batches",)),
    Check(deterministic, after=("serves_batches",)),
    Check(serves_the_model, after=("leaves_inputs", "deterministic")),
    Check(honours_threads, after=("serves_batches",)),
    Check(names_its_imports, after=("serves_batches",)),
    Check(needs_what_it_says, after=("serves_batches",)),
    Check(serves_without_qx, after=("serves_batches",)),
    Check(gives_layer_outputs, after=("deterministic",)),
)
