"""Runs built by hand: recordings whose true ratios are chosen, and the results computed from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from attrs import Factory, evolve, frozen

from qx.analysis.measurements import analyse
from qx.contract.figures import Figure, Point
from qx.contract.records import OUTPUT, LayerRow, Metric, Option, Outcome
from qx.contract.tasks import CLASSIFICATION
from qx.processes.answers import PlainSamples
from qx.results.constraints import Constraint
from qx.results.recording import Recording, Resampled, Series
from qx.results.records import CellResult, ConfigResult, FurtherBuild, Measurement, Results
from qx.results.run_record import (
    Death,
    Environment,
    Measuring,
    RunRecord,
    Unsteady,
    WorkloadRecord,
)

BASELINE, CONTROL = "toy/base", "toy/control"

#: Metrics that qx itself does not have.
HITS = Metric(
    name="hits",
    summary="Share of right answers.",
    unit="fraction",
    better="higher",
    samples="per_item",
    compare="difference",
    phase="predictions",
    margin=0.005,
    axis=True,
    pick="the most hits",
)
WEIGHT = Metric(
    name="weight",
    summary="Bytes.",
    unit="bytes",
    better="lower",
    samples="exact",
    compare="ratio",
    phase="artifact",
    margin=0.01,
    axis=True,
    pick="the lightest",
)
DELAY = Metric(
    name="delay",
    summary="Time of a call.",
    unit="ms",
    better="lower",
    samples="per_block",
    compare="speedup",
    phase="block",
    margin=0.02,
    per_point=True,
    axis=True,
    pick="the quickest",
)
HEAP = Metric(
    name="heap",
    summary="Memory of a launch.",
    unit="MiB",
    better="lower",
    samples="per_launch",
    compare="ratio",
    phase="fresh",
    margin=0.02,
    axis=True,
    pick="the least memory",
)
METRICS = (HITS, WEIGHT, DELAY, HEAP)
#: Only ``everything`` has these two. ``SCORE`` is of the whole set; neither has an interval.
SCORE = Metric(
    name="score",
    summary="Points for the answers as a whole.",
    unit="points",
    better="higher",
    samples="per_set",
    compare="difference",
    phase="predictions",
    margin=0.01,
    pick="the most points",
)
RATE = Metric(
    name="rate",
    summary="Hits for a byte.",
    unit="1/byte",
    better="higher",
    samples="exact",
    compare="ratio",
    phase="derived",
    derived_from=("hits", "weight"),
)


@frozen(kw_only=True)
class Cell:
    """The true values of a simulated cell, and how the cell ended."""

    #: Number of right items; they are the first ones.
    hits: int = 860
    weight: float = 1_000_000
    #: Milliseconds of a call at batch size 1.
    delay: float = 2.0
    #: Factor on the calls of every other round.
    held_up: float = 1.0
    heap: float = 500.0
    waves: Iterable[int] = range(6)
    outcome: Outcome = "ok"
    stage: str | None = None
    cause: str | None = None
    runtime_baseline: str | None = None
    counterpart: str | None = None
    notes: tuple[str, ...] = ()
    layers: tuple[LayerRow, ...] = ()
    cached: bool = False
    #: Number of calls in a round.
    calls: int = 3
    #: Names of the metrics that the cell has no samples of.
    without: tuple[str, ...] = ()


@frozen(kw_only=True)
class Run:
    """A run of cells on the workload ``toy``, the baseline and its control among them."""

    cells: Mapping[str, Cell]
    base: Cell = Cell()
    control: Cell | None = Cell()
    metrics: tuple[Metric, ...] = METRICS
    batch_sizes: tuple[int, ...] = (1,)
    items: int = 1000
    rounds: int = 4
    #: Standard deviation of a block and of a launch, as a share of the value.
    noise: float = 0.002
    seed: int = 0
    failures: Mapping[tuple[str, str], tuple[str, str]] = Factory(dict)
    #: Fields of the record of the run, of its workload and of its measuring, that replace the usual ones.
    run: Mapping[str, Any] = Factory(dict)
    workload: Mapping[str, Any] = Factory(dict)
    measuring: Mapping[str, Any] = Factory(dict)
    environment: Mapping[str, Any] = Factory(dict)

    @property
    def all_cells(self) -> dict[str, Cell]:
        """Return all cells by id, the control last."""
        control = {} if self.control is None else {CONTROL: self.control}
        return {BASELINE: self.base} | {f"toy/{name}": cell for name, cell in self.cells.items()} | control

    def recording(self) -> Recording:
        """Return raw samples; the machine drifts by a tenth from round to round, the same for all cells."""
        generator = np.random.default_rng(self.seed)
        drift: dict[tuple[int, int], float] = {}
        recording = Recording()
        for name, cell in self.all_cells.items():
            if cell.outcome != "ok":
                continue
            metrics = {metric.name: metric for metric in self.metrics if metric.name not in cell.without}
            if "hits" in metrics and name != CONTROL:
                hits = np.arange(self.items) < cell.hits * self.items / 1000
                recording.add(
                    name,
                    Figure("hits"),
                    Series.plain(PlainSamples(values=hits.astype(float), details={"config": name})),
                )
                scores = np.stack([hits, ~hits], axis=1).astype(np.float32)
                recording.outputs[name] = {OUTPUT: scores}
            if "weight" in metrics and name != CONTROL:
                recording.add(name, Figure("weight"), Series.plain(PlainSamples(values=[cell.weight])))
            waves = np.array(list(cell.waves))
            if "heap" in metrics:
                values = cell.heap * np.exp(self.noise * generator.standard_normal(len(waves)))
                absent = np.full(len(waves), -1)
                recording.add(
                    name, Figure("heap"), Series(values=values, wave=waves, round=absent, position=absent)
                )
            for size in self.batch_sizes if "delay" in metrics else ():
                rows = []
                for wave in waves:
                    for round_ in range(self.rounds):
                        shared = drift.setdefault((wave, round_), float(np.exp(generator.normal(0, 0.1))))
                        own = np.exp(generator.normal(0, self.noise)) * (cell.held_up if round_ % 2 else 1)
                        block = cell.delay * size * shared * own
                        factors = (0.99, 1.0, 1.05)[: cell.calls]
                        rows += [(block * call, wave, round_, 0) for call in factors]
                values, *places = np.array(rows).T
                series = Series(
                    values=values, **dict(zip(("wave", "round", "position"), places, strict=True))
                )
                recording.add(name, Figure("delay", Point(size)), series)
        return recording

    def __hash__(self) -> int:
        """Return a hash of all fields, of which some are mappings."""
        return hash(repr(self))

    def results(self, recording: Recording | None = None) -> Results:
        """Return the results that qx computes from the recording, by default from the run's own."""
        return _own_results(self) if recording is None else self.analysed(recording)

    def analysed(self, recording: Recording) -> Results:
        """Return the results that qx computes from a recording."""
        cells = {
            name: CellResult(
                workload="toy",
                config="base" if name == CONTROL else name.partition("/")[2],
                options={},
                threads=1,
                control=name == CONTROL,
                outcome=cell.outcome,
                stage=cell.stage,
                cause=cell.cause,
                build_seconds=None if cell.outcome == "unavailable" else 9.13,
                build_cached=cell.cached,
                build="0123",
                artifact={"model.bin": int(cell.weight)},
                loader="toy_loader",
                launches=len(list(cell.waves)),
                notes=cell.notes,
                layers=cell.layers,
            )
            for name, cell in self.all_cells.items()
        }
        configs = {
            name.partition("/")[2]: ConfigResult(
                summary="A toy.",
                outcome=cell.outcome,
                stage=cell.stage,
                cause=cell.cause,
                runtime_baseline=cell.runtime_baseline,
                reference=name == BASELINE,
                counterpart=cell.counterpart,
            )
            for name, cell in self.all_cells.items()
            if name != CONTROL
        }
        return analyse(
            run=_run(self),
            environment=evolve(ENVIRONMENT, **self.environment),
            metrics={metric.name: metric for metric in self.metrics},
            configs=configs,
            cells=cells,
            recording=recording,
            failures=self.failures,
        )


@lru_cache(maxsize=100)
def _own_results(run: Run) -> Results:
    """Compute the results of a run once, however many tests ask for them: they cannot be changed."""
    return run.analysed(run.recording())


def _run(run: Run) -> RunRecord:
    sha = "d0a5e0ad"
    measuring = Measuring(
        precision=0.01,
        budget=60.0,
        ended_by="precision",
        waves=6,
        rounds={"latency": {"1": run.rounds}},
        pinned_to=1,
        calls_per_block={cell: {"1": 3} for cell in run.all_cells},
        seconds=41.5,
        deaths=(),
        unsteady=(),
    )
    workload = WorkloadRecord(
        source="toy points",
        items=run.items,
        classes=("x", "y"),
        parameters=15,
        weights_sha256=sha,
        task=CLASSIFICATION,
        evaluation_sha256=sha,
        calibrations={"256": sha},
    )
    record = RunRecord(
        id="20260102T030405-abcdef",
        command=("qx", "run", "--data", "here"),
        started="2026-01-02T03:04:05+00:00",
        seconds={"total": 75.25},
        seed=run.seed,
        baseline=BASELINE,
        points=tuple(map(Point, run.batch_sizes)),
        threads=1,
        calibration_n=256,
        engine="x86",
        samples="samples-20260102T030405-abcdef.npz",
        workloads={"toy": evolve(workload, **run.workload)},
        measuring=evolve(measuring, **run.measuring),
        failures=(),
    )
    return evolve(record, **run.run)


ENVIRONMENT = Environment(
    python="3.11.7",
    implementation="cpython",
    system="Linux 6.1",
    machine="x86_64",
    cpu="A CPU",
    cpus=2,
    cpu_flags=("avx2", "avx512_vnni"),
    hypervisor=True,
    governor=None,
    memory_bytes=8 * 2**30,
    load_before=0.25,
    distributions={"torch": "2.14.1"},
    runtime={"engines": ["x86", "qnnpack"]},
)


def small(**changes: Any) -> Run:
    """Return a run with one cell of each kind.

    ``quick`` beats all but in hits, ``alike`` is the baseline under another name, and ``lost`` failed.
    """
    run = Run(
        cells={
            "quick": Cell(hits=850, weight=260_000, delay=0.5, heap=400),
            "alike": Cell(cached=True),
            "lost": Cell(outcome="failed", stage="convert", cause="ValueError: no | pipe"),
        },
        batch_sizes=(1, 32),
    )
    return evolve(run, **changes)


def with_builds(
    hits: Iterable[int] = (855, 838, 861, 846), failed: int = 0, **changes: Any
) -> tuple[Results, Recording]:
    """Return ``small`` with further builds, and its raw samples.

    The further builds of ``quick`` have so many hits each, and after them so many failed. Those of the other
    cells are equal to their first builds.
    """
    run = small(**changes)
    recording = run.recording()
    further = [FurtherBuild(seed=run.seed + 1, outcome="ok", same_as=run.seed)]
    own = [FurtherBuild(seed=run.seed + 1 + place, outcome="ok") for place, _ in enumerate(hits)]
    for build, count in zip(own, hits, strict=True):
        row = PlainSamples(values=(np.arange(run.items) < count * run.items / 1000).astype(float))
        recording.add_further("toy/quick", build.seed, Figure("hits"), Series.plain(row))
        weight = PlainSamples(values=[run.cells["quick"].weight])
        recording.add_further("toy/quick", build.seed, Figure("weight"), Series.plain(weight))
    own += [
        FurtherBuild(seed=own[-1].seed + 1 + place, outcome="crashed", stage="convert", cause="SIGSEGV")
        for place in range(failed)
    ]
    results = run.results(recording)
    builds = {"toy/quick": tuple(own), CONTROL: (), "toy/lost": ()}
    cells = {
        name: evolve(cell, further_builds=builds.get(name, tuple(further)))
        for name, cell in results.cells.items()
    }
    return analyse(
        run=evolve(results.run, build_seeds=1 + len(own)),
        environment=results.environment,
        metrics=results.metrics,
        configs=results.configs,
        cells=cells,
        recording=recording,
        failures=run.failures,
    ), recording


def everything(seed: int = 0, items: int = 200) -> tuple[Results, Recording]:
    """Return a run of two workloads in which no field of the results is empty, and its raw samples."""
    mode = Option(name="mode", default="fast", choices=("fast", "slow"), help="How.")
    cells = {
        "quick": Cell(
            hits=850,
            weight=260_000,
            delay=0.5,
            heap=400,
            runtime_baseline="own",
            notes=("a note",),
            layers=(LayerRow(name="fc", bits=8.0, error=0.01),),
        ),
        "own": Cell(delay=1.5, counterpart="alike"),
        "alike": Cell(cached=True, held_up=1.5, counterpart="own"),
        "few": Cell(without=("heap",)),
        "slow": Cell(hits=700, weight=2_000_000, delay=9.0, heap=900),
        "lost": Cell(outcome="failed", stage="convert", cause="ValueError: no | pipe"),
    }
    run = Run(
        cells=cells,
        batch_sizes=(1, 2),
        items=items,
        rounds=2,
        seed=seed,
        metrics=(
            evolve(HITS, tasks=("guessing",)),
            WEIGHT,
            evolve(DELAY, options=(mode,), requires=("numpy",), extra="all"),
            HEAP,
            SCORE,
            RATE,
        ),
    )
    recorded = run.recording()
    for cell, outputs in recorded.outputs.items():
        scores = outputs[OUTPUT]
        recorded.add(cell, Figure("score"), _score(scores))
        rates = PlainSamples(values=[scores[:, 0].mean() / 1e6])
        recorded.add(cell, Figure("rate"), Series.plain(rates))
    recording, simulated = Recording(), run.results(recorded)
    for workload in ("toy", "other"):
        for cell in recorded.series:
            recording.series[_moved(cell, workload)] = recorded.series[cell]
            if cell in recorded.outputs:
                recording.outputs[_moved(cell, workload)] = recorded.outputs[cell]
    death = Death(cell="toy/quick", wave=2, outcome="crashed", stage="launch", cause="SIGSEGV")
    assert simulated.run.measuring is not None
    measuring = evolve(
        simulated.run.measuring,
        deaths=(death,),
        unsteady=(Unsteady(cell="toy/quick", point=Point(2)),),
        quick=True,
        allocator={"MALLOC_TRIM_THRESHOLD_": "1"},
        garbage_collection="on",
        fresh_waves=3,
        fewer_rounds={"toy/quick": 2},
        forked=("toy_loader",),
        not_forked={"other_loader": "crashed in load: no"},
    )
    record = evolve(
        simulated.run.workloads["toy"], measuring=measuring, options={"depth": 3}, task="guessing"
    )
    results = analyse(
        run=evolve(
            simulated.run,
            workloads={
                "toy": evolve(record, baseline="toy/base"),
                "other": evolve(record, baseline="other/base", trained=False),
            },
            measuring=measuring,
            metric_options={"delay": {"mode": "fast"}},
            failures=("lost: failed",),
            constraints=(
                Constraint(aim="drop", amount=1.0, unit="pt", text="1pt"),
                Constraint(aim="size", amount=0.3, unit="x", text="0.3x"),
            ),
        ),
        environment=evolve(simulated.environment, governor="powersave", fingerprint="0123"),
        metrics=simulated.metrics,
        configs=simulated.configs,
        cells={
            _moved(name, workload): evolve(cell, workload=workload, options={"bits": 8})
            for workload in ("toy", "other")
            for name, cell in simulated.cells.items()
        },
        recording=recording,
        failures={("toy/few", "hits"): ("crashed", "the process was killed")},
    )
    return results, recording


#: Runtimes, stages and classes of the runs that ``many`` returns.
RUNTIMES = ("eager", "compiled", "graph", "portable")
STAGES = ("spawn", "imports", "load")
CLASSES = tuple(f"class {number}" for number in range(10))


def many(count: int, items: int = 200, text: str = "") -> tuple[Results, Recording]:
    """Return a run of so many configs in which a page has all its parts, and its raw samples.

    Configs differ in every metric; each eighth of them, from the fourth on, could not be built. ``text`` is
    appended to names of runtimes, stages, layers, groups and classes. Of a hundred configs or more only the
    first 25 are analysed, and the others are copies of these.
    """
    if count >= 100:
        return _copied(*many(26, items, text), count)
    cells = {
        f"config_{number:03}": Cell(
            hits=860 - 7 * (number % 13),
            weight=1_000_000 / (1 + number % 4),
            delay=2.0 / (1 + 0.13 * (number % 29)),
            heap=500.0 - number % 17,
            outcome="unavailable" if number % 8 == 3 else "ok",
            stage="plan" if number % 8 == 3 else None,
            cause=f"its packages are not installed{text}" if number % 8 == 3 else None,
            calls=2,
        )
        for number in range(count - 1)
    }
    run = Run(
        cells=cells, items=items, rounds=2, workload={"classes": tuple(name + text for name in CLASSES)}
    )
    recording, generator = run.recording(), np.random.default_rng(1)
    expected = generator.integers(0, len(CLASSES), items)
    for cell, series in recording.series.items():
        series[Figure("heap")] = evolve(series[Figure("heap")], details=({"stages": _levels(text)},))
        if cell == CONTROL:
            continue
        hits = series[Figure("hits")]
        names = tuple(f"group {number}{text}" for number in range(len(CLASSES)))
        series[Figure("hits")] = evolve(hits, groups=expected.astype(np.int32), group_names=names)
        series[Figure("weight")] = evolve(
            series[Figure("weight")], details=({"layers": _layers(cell, text)},)
        )
        answers = np.where(hits.values > 0, expected, (expected + 1) % len(CLASSES))
        recording.outputs[cell] = {OUTPUT: np.eye(len(CLASSES), dtype=np.float32)[answers]}
    results = run.results(recording)
    loaders = {
        name: RUNTIMES[index % len(RUNTIMES)] + text
        for index, (name, cell) in enumerate(results.cells.items())
        if cell.outcome == "ok"
    }
    cells_with_runtimes = {
        name: evolve(cell, loader=loaders.get(name)) for name, cell in results.cells.items()
    }
    return evolve(results, cells=cells_with_runtimes), recording


def _copied(results: Results, recording: Recording, count: int) -> tuple[Results, Recording]:
    """Return a run in which the configs are copied, under other names, until there are so many."""
    firsts = [name for name in results.cells if name not in (BASELINE, CONTROL)]
    copies = {
        f"toy/copy_{number:03}": firsts[number % len(firsts)] for number in range(count - len(firsts) - 1)
    }
    cells = {
        name: evolve(results.cells[first], config=name.partition("/")[2]) for name, first in copies.items()
    }
    figures: dict[str, list[Measurement]] = {}
    for measurement in results.measurements:
        figures.setdefault(measurement.cell, []).append(measurement)
    for name, first in copies.items():
        if first in recording.series:
            recording.series[name], recording.outputs[name] = (
                recording.series[first],
                recording.outputs[first],
            )
    return (
        evolve(
            results,
            cells=results.cells | cells,
            configs=results.configs
            | {
                cell.config: results.configs[results.cells[copies[name]].config]
                for name, cell in cells.items()
            },
            measurements=results.measurements
            + tuple(
                evolve(measurement, cell=name, config=cells[name].config)
                for name, first in copies.items()
                for measurement in figures[first]
            ),
            front=results.front
            | {name: results.front[first] for name, first in copies.items() if first in results.front},
        ),
        recording,
    )


def _levels(text: str) -> dict[str, dict[str, float]]:
    return {f"{name}{text}": {"rss": 40.0 * place, "own": 30.0} for place, name in enumerate(STAGES, 1)}


def _layers(cell: str, text: str) -> dict[str, dict[str, Any]]:
    bits = 32 if cell == BASELINE else 8
    return {
        f"layer.{number}{text}": {
            "elements": 100 * number,
            "bits": bits if number > 1 else 32,
            "type": f"int{text}",
        }
        for number in range(1, 5)
    }


def _score(outputs: Any) -> Series:
    hits = outputs[:, 0].astype(float)
    whole = Resampled(
        value=hits.mean(),
        items=len(hits),
        influence=hits.mean() - hits,
        draws=[hits.mean()] * 10,
        step=1 / len(hits),
        reason="points are not additive",
    )
    return evolve(Series.plain(PlainSamples(values=[whole.value])), resampled=(whole,))


def _moved(cell: str, workload: str) -> str:
    return f"{workload}/{cell.partition('/')[2]}"
