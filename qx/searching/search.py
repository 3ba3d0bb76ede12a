"""Search for a recipe: race candidates on items and waves, then measure the best of them afresh."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import numpy as np
from attrs import define, field

from qx.contract.records import FLOAT_LAYERS, Metric
from qx.errors import QxError, UsageError
from qx.foreign import to_line
from qx.host.host import Host
from qx.processes.job_answers import LayerFigures
from qx.processes.workers import Failure, processes_of_a_run
from qx.results.constraints import (
    AIMS,
    Constraint,
    bound_of,
    check_constraints,
    metric_of,
)
from qx.results.recording import Recording
from qx.runner.judging import judges_of
from qx.runner.layers import compare_layers, with_layers_in_float, worst_layers
from qx.runner.one import logs_of_command
from qx.runner.preparation import Prepared, prepare
from qx.runner.request import Reporter, Request, metric
from qx.runner.run import outputs_folder
from qx.runner.settings import Variant
from qx.runner.workload_run import Run
from qx.searching.figures import Figures, Limit
from qx.searching.looks import Looks
from qx.searching.outcome import finalist, gate_rules
from qx.searching.race import (
    CHOICE,
    ERROR,
    FAILED,
    LOOKS,
    WAVES,
    Design,
    Exit,
    Race,
    choose_recipe,
    excess,
    is_over,
    meets_all,
)
from qx.searching.recipe import Recipe
from qx.searching.report import Departure, Finalist, SearchReport, Step
from qx.searching.space import STEPS, Sampler, Space, make_space, set_options, with_options
from qx.searching.task import Task, check_judges, what_is_judged_late, what_items_show

#: Smallest number of items of a look.
LEAST_ITEMS = 8
#: Number of items on which layers are compared.
LAYER_ITEMS = 64
#: Longest text in characters that names why no candidate could be built.
MAX_CAUSES = 500
#: What is added to the score of a candidate that seems to break a constraint: it comes behind all others.
PENALTY = 100.0


class TimeOver(Exception):
    """The time that the race may take is over."""


def search(host: Host, request: Request, task: Task, reporter: Reporter, report: SearchReport) -> None:
    """Carry out a search, and write down in the report how far it has come.

    Raises ``UsageError`` before anything is built where it cannot succeed, and ``Failure`` where the baseline
    cannot be built or evaluated.
    """
    task.check()
    request.check()
    began = time.monotonic()
    space = make_space(host, request, task.ranges, task.trials, has_layers=task.has_layers)
    records = [metric(entry) for entry in space.chosen.metrics]
    aim = _aim(task.minimize, records)
    check_constraints(task.constraints, records)
    report.metric, report.planned = aim.name, space.size
    if len(space.chosen.workloads) != 1:
        raise UsageError(f"one MODEL is expected here, not {len(space.chosen.workloads)}")
    (workload,) = space.chosen.workloads
    logs = logs_of_command(request, reporter)
    with processes_of_a_run(request.session, logs) as processes, outputs_folder(request) as outputs:
        options = space.chosen.workload_options[workload.name]
        variants = [space.baseline, *space.candidates, *_ends_of_ranges(space)]
        prepared = prepare(host, request, workload, processes, reporter, options, variants)
        run = Run(host, request, space.chosen, processes, reporter, Recording(), None, outputs)
        order = np.random.default_rng(request.seed).permutation(prepared.items)
        half = prepared.items // 2
        report.workload, report.baseline = prepared.workload.name, space.baseline.row
        report.choosing_items, report.held_out_items = half, prepared.items - half
        looks = Looks(
            run=run,
            prepared=prepared,
            logs=logs,
            baseline=space.baseline,
            quality=None,
            files=_needed(task, records, aim, is_file=True),
            launches=_needed(task, records, aim, is_file=False),
            choosing=order[:half],
            held_out=order[half:],
        )
        _Search(task, space, looks, report, aim, began).run()
    report.seconds = time.monotonic() - began


def _aim(minimize: str, records: Sequence[Metric]) -> Metric:
    wanted = Constraint(aim=AIMS[minimize], amount=1.0, unit="x", text="1x")
    record = metric_of(wanted, records)
    if record is None:
        raise UsageError(f"--minimize {minimize}: no metric of this run measures it")
    return record


def _needed(task: Task, records: Sequence[Metric], aim: Metric, *, is_file: bool) -> list[Metric]:
    """Return the metrics of files, or of launches, that the constraints and the aim need."""
    limited = [metric_of(one, records) for one in task.constraints if one.aim != "drop"]
    needed = {record.name: record for record in (aim, *limited) if record is not None}
    return [record for record in needed.values() if (record.phase == "artifact") == is_file]


def _ends_of_ranges(space: Space) -> list[Variant]:
    """Return variants at the ends of the ranges, so that data for the largest of them are laid down."""
    return [
        with_options(
            space.sampled[name],
            {
                span.option.name: int(end) if span.is_whole else end
                for span in spans
                for end in [getattr(span, side)]
            },
        )
        for name, spans in space.ranges.items()
        for side in ("low", "high")
    ]


@define
class _Search:
    """A search in progress."""

    task: Task
    space: Space
    looks: Looks
    report: SearchReport
    aim: Metric
    began: float
    limits: list[Limit] = field(factory=list)
    race: Race = field(init=False)

    @property
    def reporter(self) -> Reporter:
        return self.looks.run.reporter

    @property
    def prepared(self) -> Prepared:
        return self.looks.prepared

    def run(self) -> None:
        """Race, then verify."""
        check_judges(self.task, self._judges(), self.prepared.workload.name, self.prepared.items)
        self.looks.enter([])
        self._choose_quality()
        drop = next(limit for limit in self.limits if limit.constraint.aim == "drop")
        (base,) = self.looks.base_items.values()
        self._say(what_items_show(self.task, drop, base, self.prepared.items))
        in_race = [limit for limit in self.limits if limit.constraint.is_paired]
        uncertain = [limit for limit in in_race if limit.metric.phase != "artifact"]
        self.race = Race(Design.of(self.space.size, len(uncertain)), in_race, self.aim)
        self._say(what_is_judged_late(self.limits))
        try:
            self._race()
        except TimeOver as error:
            self.report.stopped = str(error)
            return
        self._final()

    # What can be shown ----------------------------------------------------------------------------

    def _say(self, notes: Iterable[str]) -> None:
        for note in notes:
            self.report.notes.append(note)
            self.reporter.say(note)

    def _judges(self) -> list[Metric]:
        """Return the axes that can judge the answers of this workload."""
        return judges_of(self.looks.run, self.prepared)

    def _choose_quality(self) -> None:
        """Find the metric that judges the answers here, and make the limits."""
        records = self._judges()
        drop = next(one for one in self.task.constraints if one.aim == "drop")
        chosen = next((record for record in records if self._has_values(record)), None)
        if chosen is None:
            raise UsageError(f"{drop.words}: no metric judges the answers of {self.prepared.workload.name}")
        self.looks.quality = chosen
        metrics = [metric(entry) for entry in self.looks.run.chosen.metrics]
        for constraint in self.task.constraints:
            record = chosen if constraint.aim == "drop" else metric_of(constraint, metrics)
            assert record is not None
            bound = bound_of(constraint, record)
            self.limits.append(Limit(constraint=constraint, metric=record, bound=bound))

    def _has_values(self, record: Metric) -> bool:
        """Return whether a metric has values of the baseline on the first items."""
        self.looks.quality = record
        self.looks.base_items.clear()
        self.looks.evaluate([], 0, self._items(0))
        return bool(self.looks.base_items)

    # The race -------------------------------------------------------------------------------------

    def _items(self, look: int) -> int:
        """Return the number of choosing items that a candidate has been seen on after a look."""
        total = self.report.choosing_items
        return min(total, max(LEAST_ITEMS, round(total * (look + 1) / LOOKS)))

    def _race(self) -> None:
        figures, race = self.looks.figures, self.race
        self._first_look()
        for look in range(1, LOOKS):
            if is_over(race, figures) or not race.alive(figures):
                return
            self._check_time()
            rows = race.alive(figures)
            self.looks.evaluate(rows, self._items(look - 1), self._items(look))
            self._note_failures(look)
            race.drop_breaking(look, figures)
            if self.looks.launches:
                self._check_time()
                self.looks.launch(race.alive(figures), WAVES)
                self._note_failures(look)
                race.drop_breaking(look, figures)
            race.drop_dominated(look, figures)
            self._end_look(look, len(rows))

    def _first_look(self) -> None:
        """Let candidates enter in rounds: those of grids, those that are sampled, those with float layers."""
        figures, race = self.looks.figures, self.race
        self._enter(self.space.candidates)
        seed = self.looks.run.request.seed
        for name, variant in self.space.sampled.items():
            sampler = Sampler(variant, self.space.ranges[name], self.space.trials, seed)
            while proposed := list(sampler.propose()):
                self._check_time()
                rows = self._enter(proposed)
                if self.aim in self.looks.launches:
                    self._launch_new(rows)
                for row in rows:
                    sampler.learn(row, self._score(row))
        for name in self.space.with_layers:
            self._check_time()
            self._enter(self._with_float_layers(name))
        if self.looks.launches:
            self._launch_new(race.alive(figures))
            race.drop_breaking(0, figures)
        race.drop_dominated(0, figures)
        if not self.report.candidates:
            causes = "; ".join(f"{row}: {failure}" for row, failure in self.looks.failures.items())
            raise QxError(f"no candidate could be built and evaluated: {to_line(causes, MAX_CAUSES)}")
        self._end_look(0, self.report.candidates)

    def _enter(self, variants: Iterable[Variant]) -> list[str]:
        """Build candidates, look at them for the first time, and return the rows of those that entered."""
        rows = self.looks.enter(variants)
        self.report.candidates += len(rows)
        if rows:
            self.looks.evaluate(rows, 0, self._items(0))
        self._note_failures(0)
        self.race.drop_breaking(0, self.looks.figures)
        self._note_best()
        return rows

    def _launch_new(self, rows: Sequence[str]) -> None:
        new = [row for row in self.race.alive(rows) if not self.looks.figures[row].launches]
        if new:
            self._check_time()
            self.looks.launch(new, WAVES)
            self._note_failures(0)

    def _with_float_layers(self, name: str) -> list[Variant]:
        """Return the candidate of a config that loses least, with its worst layers in float."""
        figures = self.looks.figures
        drop = next(limit for limit in self.limits if limit.constraint.aim == "drop")
        rows = [
            row
            for row, variant in self.looks.variants.items()
            if variant.entry.name == name and row in figures and figures[row].items is not None
        ]
        row = min(rows, key=lambda one: excess(figures[one], [drop]), default=None)
        if row is None or meets_all(figures[row], [drop], CHOICE[-1]) or excess(figures[row], [drop]) <= 0:
            return []
        variant = self.looks.variants[row]
        try:
            layers = self._compared_layers(row)
        except Failure as failure:
            self.report.notes.append(f"{row}: its layers were not compared: {failure}")
            return []
        names = [layer.name for layer in worst_layers(layers)]
        steps = [step for step in STEPS if step < len(names)]
        return [
            with_options(variant, {FLOAT_LAYERS.name: str(changed.options[FLOAT_LAYERS.name])})
            for changed in (with_layers_in_float(variant, names[:step]) for step in steps)
        ]

    def _compared_layers(self, row: str) -> Sequence[LayerFigures]:
        """Compare the layers of a candidate on the items of the first look, which hold no held-out item."""
        looks = self.looks
        workload_run = looks.on_choosing_items(row, self._items(0))
        return compare_layers(looks.run, workload_run, looks.cell_id(row), LAYER_ITEMS).layers

    def _score(self, row: str) -> float:
        """Return the score of a candidate for the sampler; the smaller, the better."""
        figures = self.looks.figures[row]
        missed = excess(figures, self.limits_with_values(figures))
        objective = figures.objective(self.aim)
        return PENALTY + missed if missed > 0 else objective

    def limits_with_values(self, figures: Figures) -> list[Limit]:
        """Return the limits of which something has been seen."""
        return [limit for limit in self.limits if figures.seen(limit, ERROR) is not None]

    def _note_failures(self, look: int) -> None:
        for row, failure in self.looks.failures.items():
            if row in self.race.exits:
                continue
            self.race.exits[row] = Exit(look=look + 1, reason=FAILED, by=str(failure))
            self.report.notes.append(f"{row}: {failure}")

    def _end_look(self, look: int, entered: int) -> None:
        left = tuple(
            Departure(row=row, reason=exit_.reason, by=exit_.by)
            for row, exit_ in self.race.exits.items()
            if exit_.look == look + 1 and row in self.looks.figures
        )
        self._note_best()
        waves = WAVES * (look + 1) if self.looks.launches else 0
        self.report.path.append(
            Step(
                look=look + 1,
                items=self._items(look),
                waves=waves,
                entered=entered,
                left=left,
                best=self._best(),
            )
        )
        self.reporter.say(
            f"look {look + 1} of {LOOKS}: {entered - len(left)} of {entered} candidates are left"
        )

    def _best(self) -> str | None:
        figures = self.looks.figures
        alive = [row for row in self.race.alive(figures) if figures[row].items is not None]
        ranked = self.race.finalists({row: figures[row] for row in alive}, self.limits)
        return ranked[0] if ranked else None

    def _note_best(self) -> None:
        if (row := self._best()) is not None:
            self.report.best_so_far = self._recipe(row)

    def _check_time(self) -> None:
        limit = self.task.max_time
        if limit is None or time.monotonic() - self.began < limit:
            return
        if not self.report.path:
            raise UsageError(
                f"--max-time {limit:g}: it was over before the first look at all candidates; give more time, "
                f"or fewer candidates (what was built is in the cache)"
            )
        raise TimeOver(f"--max-time {limit:g} was over, so nothing was verified")

    # The final ------------------------------------------------------------------------------------

    def _final(self) -> None:
        figures = self.looks.figures
        rows = self.race.finalists(figures, self.limits)
        if rows:
            self.reporter.say(f"final: {', '.join(rows)}")
            fresh = self.looks.verify(rows)
            error = ERROR / len(rows)
            self.report.finalists = [self._finalist(row, fresh[row], error) for row in rows if row in fresh]
            chosen = self._chosen(fresh, len(rows))
            if chosen is not None:
                self.report.row, self.report.recipe = chosen, self._recipe(chosen)
                config_name = self.looks.variants[chosen].entry.name
                self.report.rules = gate_rules(config_name, self.limits, fresh[chosen])
                return
        self.report.nearest = self._nearest()

    def _chosen(self, fresh: dict[str, Figures], shared_by: int) -> str | None:
        """Return the recipe. A finalist that failed has had its share of the error."""
        padded = {**fresh, **{f"failed {index}": Figures() for index in range(shared_by - len(fresh))}}
        return choose_recipe(padded, self.limits, self.aim)

    def _nearest(self) -> Finalist | None:
        """Return the candidate that misses the constraints by least, by the final where it took part."""
        if self.report.finalists:
            return self.report.finalists[0]
        figures = {row: own for row, own in self.looks.figures.items() if own.items is not None}
        row = min(
            figures, key=lambda one: excess(figures[one], self.limits_with_values(figures[one])), default=None
        )
        return None if row is None else self._finalist(row, figures[row], ERROR / 2)

    def _finalist(self, row: str, figures: Figures, error: float) -> Finalist:
        files = self.looks.builds[row].manifest.files
        digests = {name: digest.sha256 for name, digest in files.items()}
        return finalist(row, figures, self.limits, self.aim, error, digests)

    def _recipe(self, row: str) -> Recipe:
        variant = self.looks.variants[row]
        return Recipe(config=variant.entry.name, options=set_options(variant))
