"""The fault matrix: every fault in every hook and phase, and what else is lost by it.

``python tests/runs/faults/matrix.py --out docs/faults.md`` makes the tables of that page anew; ``--hook`` and
``--fault`` choose a part of it. ``--keep`` writes what came of a part to a file, ``--join`` makes the tables
of such files.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from attrs import Factory, define, frozen

from qx import import_file

FILE = Path(__file__).with_name("plugins.py")
#: The environment variable by which a process of a run is recognized, whatever became of its parents.
MARK = "QX_FAULT_MATRIX"
#: Seconds that a step may take; most of them are an interpreter's that imports torch on a busy machine.
TIMEOUT = float(os.environ.get("QX_FAULT_TIMEOUT", "20"))
#: Seconds in which leftovers of a run must be gone, and after which an endless training is interrupted.
GRACE, PATIENCE = 5.0, 15.0
#: The outcome of a combination whose run ended without results.
MISSING = "missing"
#: The text by which a complaint is assigned to its kind.
PROCESS_LEFT, FOLDER_LEFT, LOST = "a process is left by ", "a folder is left by ", ": no figure of "

Combination = tuple[str, str]


faulty = import_file("qx_faulty_plugins", FILE)

# What is expected ---------------------------------------------------------------------------------

FAILED, CRASHED, TIMEOUT_, OK = {"failed"}, {"crashed"}, {"timeout"}, {"ok"}
#: The outcomes that each fault may have, unless ``expected`` says otherwise.
EXPECTED: dict[str, set[str]] = {
    "raises": FAILED,
    "raises_base_exception": FAILED,
    "raises_keyboard_interrupt": FAILED,
    "raises_system_exit": FAILED,
    "raises_without_text": FAILED,
    "gives_none": FAILED,
    "gives_rubbish": FAILED,
    "gives_hostile": FAILED,
    "exits": CRASHED,
    "segfaults": CRASHED,
    # The kernel kills with the same signal for want of memory.
    "kills_itself": {"crashed", "out_of_memory"},
    "terminates_itself": CRASHED,
    "sleeps": TIMEOUT_,
    "spins": TIMEOUT_,
    "prints_without_end": {"timeout", "crashed", "failed"},
    "writes_to_descriptors": {"crashed", "ok"},
    "closes_descriptors": CRASHED,
    "leaves_a_child": OK,
    "patches_modules": {"ok", "failed", "crashed"},
    "fills_memory": {"out_of_memory"},
    "finds_the_disk_full": FAILED,
}


def expected(hook: str, fault: str) -> set[str]:
    """Return the outcomes that a fault may have in a hook."""
    harmless = {"writes_to_descriptors", "leaves_a_child", "patches_modules"}
    if hook == "describe":
        # Damage to the channel may be noticed or not.
        return {"ready", "broken"} if fault in harmless else {"broken"}
    if hook == "train":
        return (
            {"interrupted"}
            if fault in ("sleeps", "spins", "prints_without_end")
            else EXPECTED[fault] | FAILED
        )
    if hook == "check_model":
        # The build decides, whatever happens here.
        return OK
    if (hook, fault) == ("measure_artifact", "closes_descriptors"):
        # In a process that is started anew the value may be there already.
        return {"crashed", "ok", "crashed and ok"}
    if fault == "gives_none" and hook in ("input_lengths", "postprocess"):
        # The workload has nothing of the kind.
        return OK
    if fault == "gives_none" and hook == "score":
        return {"unsupported"}
    if hook == "postprocess":
        # It is first called where the model is looked at, before there are cells.
        return EXPECTED[fault] | FAILED
    if hook in faulty.WORKLOAD_HOOKS:
        # The run says in one line what was wrong.
        return OK | FAILED if fault in harmless else FAILED
    if fault == "gives_none" and hook in faulty.METRIC_HOOKS and hook != "combine":
        return {"unsupported"}
    if fault.startswith("gives") and hook == "call_in_launch":
        # The result of a call is timed, and not looked at.
        return OK
    return EXPECTED[fault]


# Running qx ---------------------------------------------------------------------------------------


@frozen
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str


@define
class Matrix:
    """The outcomes of combinations, and complaints about side effects."""

    home: Path
    outcomes: dict[Combination, str] = Factory(dict)
    complaints: list[str] = Factory(list)
    seconds: float = 0.0

    def to_json(self) -> str:
        """Return the outcomes of a part as JSON, for ``take_in``."""
        outcomes = [[*combination, outcome] for combination, outcome in self.outcomes.items()]
        kept = {"outcomes": outcomes, "complaints": self.complaints, "seconds": self.seconds}
        return json.dumps(kept, indent=1)

    def take_in(self, text: str) -> None:
        """Add the outcomes of a part; raise ``ValueError`` where a combination has one already."""
        part = json.loads(text)
        for hook, fault, outcome in part["outcomes"]:
            if (hook, fault) in self.outcomes:
                raise ValueError(f"{hook}__{fault} is in two parts")
            self.outcomes[hook, fault] = outcome
        self.complaints += part["complaints"]
        self.seconds += part["seconds"]

    def qx(self, *arguments: object, patience: float | None = None) -> Ended:
        """Run a command in a process of its own and note what it leaves; press Ctrl-C after ``patience``."""
        temporary, cache = self.home / "temporary", self.home / "cache"
        for folder in (temporary, cache):
            folder.mkdir(parents=True, exist_ok=True)
        mark = uuid.uuid4().hex
        surroundings = {"TMPDIR": str(temporary), "QX_CACHE": str(cache), "QX_OFFLINE": "1", MARK: mark}
        process = subprocess.Popen(
            [sys.executable, "-m", "qx", *map(str, arguments)],
            cwd=self.home,
            env=os.environ | surroundings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        try:
            out, err = process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            out, err = process.communicate()
        self._note_leftovers(str(arguments[0]), mark, temporary, cache)
        return Ended(process.returncode, out, err)

    def _note_leftovers(self, command: str, mark: str, temporary: Path, cache: Path) -> None:
        deadline = time.monotonic() + GRACE
        while (leftovers := list(_marked(mark))) and time.monotonic() < deadline:
            time.sleep(0.1)
        for process, words in leftovers:
            self.complaints.append(f"{PROCESS_LEFT}{command}: {words[:200]}")
            os.kill(process, signal.SIGKILL)
        folders = [*temporary.iterdir(), *cache.glob("*/.*")]
        for folder in folders:
            self.complaints.append(f"{FOLDER_LEFT}{command}: {folder.relative_to(self.home)}")
            shutil.rmtree(folder, ignore_errors=True)

    # Parts of the matrix --------------------------------------------------------------------------

    def describe(self, combinations: Sequence[Combination]) -> None:
        """List plugins that go wrong when they describe themselves, and run sound ones beside them."""
        if not combinations:
            return
        arguments = _plugin_arguments(f"{hook}__{fault}" for hook, fault in combinations)
        listed = self.qx("list", "--json", *arguments)
        self._expect_code("list", listed, {0})
        states = {entry["attribute"]: entry["state"] for entry in json.loads(listed.out or "[]")}
        for hook, fault in combinations:
            self._note((hook, fault), states.get(f"{hook}__{fault}", "not listed"))
        self.cells([], ["file_size"], beside=arguments)

    def workloads(self, combinations: Sequence[Combination]) -> None:
        """Run all workloads as one grid, a sound one among them."""
        if not combinations:
            return
        names = [f"{hook}__{fault}" for hook, fault in combinations]
        results = self._run(
            [*names, faulty.WORKLOAD],
            *(word for name in (*names, faulty.WORKLOAD) for word in ("--workload", name)),
            *("-m", "file_size"),
        )
        cells = results.get("cells", {})
        for combination, name in zip(combinations, names, strict=True):
            cell = cells.get(f"{name}/{faulty.BASELINE}", {"outcome": MISSING})
            self._note(combination, cell["outcome"])
        self._expect_figures(results, faulty.WORKLOAD, [faulty.BASELINE, faulty.SOUND], ["file_size"])

    def answers(self, combinations: Sequence[Combination]) -> None:
        """Run workloads that go wrong where their answers are judged, beside a sound one."""
        if not combinations:
            return
        names = [f"{hook}__{fault}" for hook, fault in combinations]
        results = self._run(
            [*names, faulty.WORKLOAD],
            *(word for name in (*names, faulty.WORKLOAD) for word in ("--workload", name)),
            *("-m", "file_size", "-m", "score", "-m", "agreement"),
        )
        cells = results.get("cells", {})
        scores = {
            entry["workload"]: entry["outcome"]
            for entry in results.get("measurements", ())
            if (entry["config"], entry["metric"]) == (faulty.BASELINE, "score")
        }
        for (hook, fault), name in zip(combinations, names, strict=True):
            cell = cells.get(f"{name}/{faulty.BASELINE}", {"outcome": MISSING})
            self._note((hook, fault), scores.get(name, MISSING) if hook == "score" else cell["outcome"])
        rows = [faulty.BASELINE, faulty.SOUND]
        self._expect_figures(results, faulty.WORKLOAD, rows, ["file_size", "agreement"])
        for (hook, _), name in zip(combinations, names, strict=True):
            if hook == "score":
                self._expect_figures(results, name, rows, ["file_size"])

    def train(self, combinations: Sequence[Combination]) -> None:
        """Train each workload by itself, and interrupt a training that hangs, as its user would."""
        words = {0: "ok", 1: "failed", 130: "interrupted"}
        for hook, fault in combinations:
            name, weights = f"{hook}__{fault}", self.home / f"{fault}.pt"
            ended = self.qx(
                *("train", *_plugin_arguments([name]), "--workload", name, "--out", weights),
                patience=PATIENCE if expected(hook, fault) == {"interrupted"} else None,
            )
            self._expect_code(f"train {name}", ended, set(words))
            outcome = words.get(ended.code, f"exit code {ended.code}")
            self._note((hook, fault), outcome)
            if weights.exists() != (outcome == "ok"):
                self.complaints.append(f"{name}: {outcome}, and its weights are {weights.exists()}")

    def cells(
        self, combinations: Sequence[Combination], metrics: Sequence[str], beside: Sequence[str] = ()
    ) -> None:
        """Run all configs and metrics of these combinations at once, with sound ones and ``metrics``."""
        names = {combination: "__".join(combination) for combination in combinations}
        bad_metrics = [name for (hook, _), name in names.items() if hook in faulty.METRIC_HOOKS]
        configs = [name for name in names.values() if name not in bad_metrics]
        sound_metrics = faulty.METRICS if bad_metrics else ()
        # Sound metrics are measured before the faulty ones, and ``metrics`` after them.
        order = [*sound_metrics, *bad_metrics, *metrics]
        results = self._run(
            [faulty.WORKLOAD, faulty.SOUND, *names.values(), *sound_metrics],
            *("--workload", faulty.WORKLOAD, *beside),
            *(word for name in (faulty.SOUND, *configs) for word in ("-c", name)),
            *(word for name in order for word in ("-m", name)),
        )
        rows = [faulty.BASELINE, faulty.SOUND]
        for combination, name in names.items():
            if name in bad_metrics:
                measured = [entry for entry in results.get("measurements", ()) if entry["metric"] == name]
                outcomes = {entry["outcome"] for entry in measured if entry["config"] in rows} or {MISSING}
                self._note(combination, " and ".join(sorted(outcomes)))
            else:
                cell = results.get("cells", {}).get(f"{faulty.WORKLOAD}/{name}", {"outcome": MISSING})
                self._note(combination, cell["outcome"])
                if cell["outcome"] == "ok":
                    rows.append(name)
        self._expect_figures(results, faulty.WORKLOAD, rows, [*sound_metrics, *metrics])

    # ----------------------------------------------------------------------------------------------

    def _run(self, plugins: Iterable[str], *arguments: object) -> dict[str, Any]:
        out = self.home / f"results-{uuid.uuid4().hex[:8]}"
        ended = self.qx(
            *("run", *_plugin_arguments([faulty.BASELINE, faulty.SOUND, faulty.LOADER, *plugins])),
            *arguments,
            *("-p", "no:fp32_baseline", "-c", faulty.SOUND, "--timeout", TIMEOUT, "--batch-size", 1),
            *("--quick", "--budget", 0.01, "--yes", "--out", out),
        )
        (self.home / f"{out.name}.log").write_text(ended.err, encoding="utf-8")
        if not (out / "full_results.json").is_file():
            last = (ended.err.splitlines() or [""])[-1]
            self.complaints.append(f"run: exit code {ended.code} and no results: {last}")
            return {}
        results: dict[str, Any] = json.loads((out / "full_results.json").read_text(encoding="utf-8"))
        self._expect_code("run", ended, {1 if results["run"]["failures"] else 0})
        return results

    def _note(self, combination: Combination, outcome: str) -> None:
        self.outcomes[combination] = outcome
        # A run without any results has one complaint of its own.
        if outcome != MISSING and outcome not in (allowed := expected(*combination)):
            words = " or ".join(sorted(allowed))
            self.complaints.append(f"{'__'.join(combination)}: {outcome}, and {words} is expected")

    def _expect_code(self, command: str, ended: Ended, codes: set[int]) -> None:
        if ended.code not in codes:
            last = (ended.err.splitlines() or [""])[-1]
            self.complaints.append(f"{command}: exit code {ended.code}, and {codes} is expected: {last}")

    def _expect_figures(
        self, results: Any, workload: str, configs: Sequence[str], metrics: Sequence[str]
    ) -> None:
        if not results:
            return
        values = {
            (entry["workload"], entry["config"], entry["metric"]): entry["value"]
            for entry in results.get("measurements", ())
            if not results["cells"][entry["cell"]]["control"]
        }
        self.complaints += [
            f"{config}{LOST}{metric}"
            for config, metric in product(configs, metrics)
            if values.get((workload, config, metric)) is None
        ]


def _plugin_arguments(names: Iterable[str]) -> list[str]:
    return [word for name in dict.fromkeys(names) for word in ("-p", f"{FILE}:{name}")]


def _marked(mark: str) -> Iterator[tuple[int, str]]:
    """Yield the numbers and the command lines of the processes of a run that are alive."""
    variable = f"{MARK}={mark}".encode()
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if variable in (place / "environ").read_bytes().split(b"\0"):
                words = (place / "cmdline").read_bytes().replace(b"\0", b" ")
                yield int(place.name), words.decode(errors="replace")
        except OSError:
            continue  # it has ended, or is somebody else's


# All of it ----------------------------------------------------------------------------------------


def fill(matrix: Matrix, combinations: Iterable[Combination]) -> None:
    """Try all these combinations, in as few runs as keep them apart."""
    chosen = list(combinations)

    def combinations_of(*hooks: str) -> list[Combination]:
        return [combination for combination in chosen if combination[0] in hooks]

    matrix.describe(combinations_of("describe"))
    matrix.workloads(combinations_of(*faulty.WORKLOAD_HOOKS))
    matrix.answers(combinations_of(*faulty.ANSWER_HOOKS))
    matrix.train(combinations_of("train"))
    for hooks, metrics in (
        (faulty.CONFIG_HOOKS, ["file_size", "agreement"]),
        (faulty.LOADER_HOOKS, ["file_size", "agreement", "latency"]),
        (faulty.METRIC_HOOKS, ["file_size", "agreement", "rss", "latency"]),
    ):
        if combinations_of(*hooks):
            matrix.cells(combinations_of(*hooks), metrics)


def every(hooks: Sequence[str] = (), faults: Sequence[str] = ()) -> list[Combination]:
    """Return the combinations of these hooks and faults; without names, of all."""
    return list(product(hooks or faulty.HOOKS, faults or faulty.FAULTS))


def tables(matrix: Matrix) -> str:
    """Return the tables of ``docs/faults.md``, with the outcomes that are known."""
    kinds = {
        "Workloads, and every plugin's description": (
            "describe",
            *faulty.WORKLOAD_HOOKS,
            *faulty.ANSWER_HOOKS,
            "train",
        ),
        "Configs": faulty.CONFIG_HOOKS,
        "Loaders, and the steps of what they load": faulty.LOADER_HOOKS,
        "Metrics, by phase": faulty.METRIC_HOOKS,
    }
    lost = sum(LOST in complaint for complaint in matrix.complaints)
    processes, folders = (
        sum(complaint.startswith(start) for complaint in matrix.complaints)
        for start in (PROCESS_LEFT, FOLDER_LEFT)
    )
    other = len(matrix.complaints) - lost - processes - folders
    lines = [
        f"{len(matrix.outcomes)} combinations in {matrix.seconds / 60:.0f} minutes. Figures of other rows or "
        f"metrics that were lost: {lost}; processes left: {processes}; folders left: {folders}; other than "
        f"expected: {other}."
    ]
    tried = {fault for _, fault in matrix.outcomes}
    for title, hooks in kinds.items():
        places = [hook for hook in hooks if any(hook == other for other, _ in matrix.outcomes)]
        if not places:
            continue
        names = [hook.removeprefix("measure_").replace("_", " ") for hook in places]
        lines += [
            "",
            f"### {title}",
            "",
            f"| fault | {' | '.join(names)} |",
            "| --- " * (1 + len(names)) + "|",
        ]
        for fault in (fault for fault in faulty.FAULTS if fault in tried):
            outcomes = [matrix.outcomes.get((hook, fault), "") for hook in places]
            lines.append(f"| {' | '.join([fault, *outcomes])} |".replace("_", " "))
    return "\n".join(lines)


def main() -> int:
    """Fill the matrix, write or print its tables, and return 1 if there is a complaint."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hook", action="append", choices=faulty.HOOKS, default=[])
    parser.add_argument("--fault", action="append", choices=list(faulty.FAULTS), default=[])
    parser.add_argument("--out", type=Path, help="a page with the marks of the tables, which are replaced")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="write what came of it, for --join")
    parser.add_argument(
        "--join", type=Path, nargs="+", metavar="FILE", help="run nothing: show these parts as a whole"
    )
    arguments = parser.parse_args()
    matrix = Matrix(Path())
    if arguments.join:
        for part in arguments.join:
            matrix.take_in(part.read_text(encoding="utf-8"))
    else:
        with tempfile.TemporaryDirectory(prefix="qx-fault-matrix-") as home:
            matrix = Matrix(Path(home))
            start = time.monotonic()
            fill(matrix, every(arguments.hook, arguments.fault))
            matrix.seconds = time.monotonic() - start
    for complaint in matrix.complaints:
        print(complaint, file=sys.stderr)
    if arguments.keep is not None:
        arguments.keep.write_text(matrix.to_json(), encoding="utf-8")
    figures = tables(matrix)
    if arguments.out is None:
        print(figures)
    else:
        page = arguments.out.read_text(encoding="utf-8")
        marked = re.compile(r"(<!-- figures -->\n).*(?=<!-- end of figures -->)", re.DOTALL)
        arguments.out.write_text(marked.sub(lambda match: f"{match[1]}{figures}\n", page), encoding="utf-8")
    return 1 if matrix.complaints else 0


if __name__ == "__main__":
    sys.exit(main())
