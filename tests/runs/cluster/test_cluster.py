"""A run on a cluster: the same results as here, and nothing is lost where machines and processes are.

The cluster is one of threads of this process, in which tasks run as on a machine of their own: what they are
sent is pickled, and their files come through a store. So nothing but qx needs to be installed.
"""

from __future__ import annotations

import json
import pickle
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve, field

from qx.cluster import ray
from qx.cluster.node import Facts, job_servers
from qx.cluster.transport import ClusterGone, Lost, Node, Reply, Work, do_on_node
from qx.processes.fork_servers import ForkServers, shared_servers

Qx = Callable[..., Any]
#: What keeps these runs short.
SHORT = ("--quick", "--budget", "0.01", "--batch-size", "1")


@define
class PretendCluster:
    """A cluster of threads. ``faults`` says which tasks are lost, by name and number from 1, and how."""

    machines: list[Node]
    #: ``killed``: the process of the task; ``gone``: its machine; ``head``: the cluster.
    faults: Mapping[tuple[str, int], str] = field(factory=dict)
    #: Machines that join as soon as one is gone.
    joining: list[Node] = field(factory=list)
    #: Changes of what a machine says of itself, by its id.
    facts: Mapping[str, Mapping[str, Any]] = field(factory=dict)
    counts: Counter[str] = field(factory=Counter)
    #: Number of times that each part was fetched by a machine, by both.
    fetched: Counter[tuple[str, int]] = field(factory=Counter)
    parts: list[bytes] = field(factory=list)
    pool: ThreadPoolExecutor = field(factory=lambda: ThreadPoolExecutor(4))
    is_closed: bool = False
    is_gone: bool = False
    #: Id of the machine of the last task.
    last: str = ""

    name = "ray"

    def connect(self, executor: str) -> PretendCluster:
        """Begin to take tasks, after a run that has left the cluster too."""
        assert executor == "ray"
        self.pool, self.is_closed, self.is_gone = ThreadPoolExecutor(4), False, False
        return self

    def nodes(self) -> list[Node]:
        """Return the machines that are alive."""
        if self.is_gone:
            raise ClusterGone("its head has died")
        return list(self.machines)

    def put(self, content: bytes) -> object:
        """Keep a part."""
        self.parts.append(content)
        return len(self.parts) - 1

    def submit(
        self,
        work: Work,
        argument: object,
        parcels: Mapping[str, Sequence[object]],
        nodes: Sequence[str],
        cpus: int,
    ) -> object:
        """Begin a task on the machine that had the fewest so far."""
        alive = [node.identity for node in self.machines if node.identity in nodes]
        node = min(alive, key=lambda identity: self.counts[identity])
        name = work.__name__
        self.counts[node] += 1
        self.counts[name] += 1
        self.last = node
        fault = self.faults.get((name, self.counts[name]))
        sent = pickle.dumps((work, argument, dict(parcels)))
        return self.pool.submit(self._do, sent, node, fault)

    def _do(self, sent: bytes, node: str, fault: str | None) -> bytes:
        if fault == "gone":
            # As with Ray, it may take a while until the cluster has noticed.
            self.machines += self.joining
            self.joining = []
            raise Lost("its machine is gone", node, is_machine_gone=True)
        self.is_gone |= fault == "head"
        if fault in ("killed", "head"):
            raise Lost("its process was killed", node)

        def fetch(number: Any) -> bytes:
            self.fetched[node, number] += 1
            return self.parts[number]

        work, argument, parcels = pickle.loads(sent)
        reply = do_on_node(work, argument, parcels, fetch, node)
        if isinstance(reply.value, Facts):
            environment = {**reply.value.environment, "fingerprint": node, **self.facts.get(node, {})}
            reply = Reply(node, evolve(reply.value, environment=environment))
        return pickle.dumps(reply)

    def wait(self, task: Any, seconds: float) -> Reply | None:
        """Return the result of a task."""
        future: Future[bytes] = task
        try:
            reply: Reply = pickle.loads(future.result(timeout=seconds))
        except futures.TimeoutError:
            return None
        return reply

    def cancel(self, task: Any) -> None:
        """Leave a thread to end by itself."""

    def close(self) -> None:
        """Wait for the threads."""
        self.pool.shutdown()
        self.is_closed = True


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[PretendCluster]:
    """Have ``--executor ray`` mean a cluster of two machines of one kind, and a third of another."""
    machines = [
        Node(identity=f"{name:0<20}", address=name, cpus=2, names=frozenset({kind}))
        for name, kind in (("first", "amx"), ("second", "amx"), ("third", "small"))
    ]
    pretend = PretendCluster(machines)
    pretend.facts = {machines[2].identity: {"cpu": "A small CPU"}}
    monkeypatch.setattr(ray, "connect", pretend.connect)
    yield pretend
    pretend.pool.shutdown()


@pytest.fixture
def words(toy: Any) -> list[str]:
    """Return the words of a run with two builds, on the two machines of one kind."""
    arguments = ["run", *toy.arguments(toy.config("other")), *SHORT, "--out", "out"]
    metrics = ["-m", "accuracy", "-m", "latency", "-m", "rss"]
    return [*arguments, *metrics, "--rebuild", "--executor", "ray", "--on", "amx"]


def of_cluster(done: Any) -> dict[str, Any]:
    """Return what the results say of the machines."""
    record: dict[str, Any] = done.results["run"]["cluster"]
    return record


def waves_of(done: Any) -> list[dict[str, int]]:
    """Return the numbers of waves of the machines that measured any."""
    return [node["waves"] for node in of_cluster(done)["nodes"] if node["waves"]]


def test_a_cluster_gives_the_same_kind_of_results(qx: Qx, words: list[str], cluster: PretendCluster) -> None:
    """Builds, evaluations and waves are carried out on the cluster, and give what a run here gives."""
    there = qx(*words)
    here = qx(*words[: words.index("--executor")], "--out", "here", "--rebuild")
    assert (there.code, here.code) == (0, 0), there.err
    local = json.loads(Path("here/full_results.json").read_text())
    assert there.results["cells"].keys() == local["cells"].keys()
    pairs = [
        {(m["cell"], m["metric"], str(m["point"])) for m in results["measurements"]}
        for results in (there.results, local)
    ]
    assert pairs[0] == pairs[1]
    accuracies = [
        [m["value"] for m in results["measurements"] if m["metric"] == "accuracy"]
        for results in (there.results, local)
    ]
    assert accuracies[0] == accuracies[1]
    assert (cluster.counts["do_job"], cluster.counts["do_wave"]) == (4, 3)
    assert sum(node["jobs"] for node in of_cluster(there)["nodes"]) == 4
    assert waves_of(there) == [{"toy": 3}]
    assert of_cluster(there)["lost"] == []
    assert local["run"]["cluster"] is None
    assert cluster.is_closed
    assert max(cluster.fetched.values()) == 1


@pytest.mark.parametrize(
    ("task", "number", "what"),
    [
        ("do_job", 1, "build-"),
        pytest.param("do_job", 4, "evaluate-", marks=pytest.mark.slow),
        pytest.param("do_wave", 2, "wave 2 of toy", marks=pytest.mark.slow),
    ],
)
def test_a_killed_process_costs_one_task(
    qx: Qx, words: list[str], cluster: PretendCluster, task: str, number: int, what: str
) -> None:
    """A build, an evaluation or a wave whose process is killed is carried out again, and results say so."""
    cluster.faults = {(task, number): "killed"}
    done = qx(*words)
    assert done.code == 0, done.err
    (lost,) = of_cluster(done)["lost"]
    assert lost["task"].startswith(what)
    assert lost["cause"] == "its process was killed"
    assert waves_of(done) == [{"toy": 3}]
    assert {cell["outcome"] for cell in done.results["cells"].values()} == {"ok"}
    assert "was lost on " in done.table


def test_jobs_of_one_process_share_imports(
    qx: Qx, words: list[str], cluster: PretendCluster, own_fork_servers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process of the cluster imports torch once for all jobs, and not for each of them."""
    started: list[tuple[str, ...]] = []
    start = ForkServers._start

    def counted(servers: ForkServers, slot: Any, modules: tuple[str, ...], environment: Any) -> None:
        started.append(modules)
        start(servers, slot, modules, environment)

    monkeypatch.setattr(ForkServers, "_start", counted)
    try:
        done = qx(*words[: words.index("-m")], "-m", "accuracy", *words[words.index("--rebuild") :])
    finally:
        job_servers.end()
    assert done.code == 0, done.err
    assert cluster.counts["do_job"] == 4
    # The process that did the jobs is this one here, whose own jobs come from the same server.
    assert started.count(("numpy", "torch")) == 1
    assert shared_servers() is None


def test_waves_begin_anew_on_another_machine(qx: Qx, words: list[str], cluster: PretendCluster) -> None:
    """Where the machine that measures is gone, another one measures all waves: a result is of one machine."""
    cluster.faults = {("do_wave", 2): "gone"}
    done = qx(*words)
    assert done.code == 0, done.err
    assert "it is measured anew on another machine" in done.err
    assert len(of_cluster(done)["lost"]) == 1
    assert waves_of(done) == [{"toy": 3}]
    assert done.results["environment"]["fingerprint"] == cluster.last
    assert done.results["run"]["measuring"]["waves"] == 3
    launches = [m["n"] for m in done.results["measurements"] if m["metric"] == "latency"]
    assert set(launches) == {3}


@pytest.mark.parametrize("fault", [("do_job", 1), pytest.param(("do_wave", 2), marks=pytest.mark.slow)])
def test_a_machine_that_joins_takes_the_place_of_one_that_is_gone(
    qx: Qx, words: list[str], cluster: PretendCluster, fault: tuple[str, int]
) -> None:
    """If it suits the run; the results say why one that does not takes no part."""
    cluster.machines[:] = cluster.machines[:1]
    cluster.faults = {fault: "gone"}
    cluster.joining = [
        Node(identity=f"{name:0<20}", address=name, cpus=2, names=frozenset({kind}))
        for name, kind in (("other", "amx"), ("fourth", "amx"), ("fifth", "small"))
    ]
    cluster.facts = {cluster.joining[0].identity: {"python": "3.9.1"}}
    done = qx(*words)
    assert done.code == 0, done.err
    assert [node["name"] for node in of_cluster(done)["nodes"]] == ["first (first000)", "fourth (fourth00)"]
    assert of_cluster(done)["nodes"][1]["waves"] == {"toy": 3}
    # Others may keep the CPUs busy, which is a note too.
    (note,) = (note for note in of_cluster(done)["notes"] if "joined" in note)
    assert note.startswith("other (other000) has joined, and takes no part: other (other000) has Python")
    assert "other (other000) has joined" in done.table


def test_a_task_is_tried_three_times(qx: Qx, words: list[str], cluster: PretendCluster) -> None:
    """A build that is lost three times has failed, with the cause; the other cells go on."""
    cluster.faults = {("do_job", number): "killed" for number in (1, 2, 3)}
    cluster.machines[:] = cluster.machines[:1]
    for machine in cluster.machines:
        cluster.machines[:] = [evolve(machine, cpus=1)]
    done = qx(*words)
    causes = [cell["cause"] for cell in done.results["cells"].values() if cell["outcome"] != "ok"]
    assert causes == ["lost on the cluster: its process was killed"]
    assert len(of_cluster(done)["lost"]) == 3


def test_a_cluster_without_machines_ends_in_words(qx: Qx, words: list[str], cluster: PretendCluster) -> None:
    """Where all machines are gone, cells fail with that cause, and the run ends in order."""
    cluster.machines[:] = cluster.machines[:1]
    cluster.faults = {("do_job", 1): "gone"}
    done = qx(*words)
    assert done.code == 1, done.err
    assert "no machine of the run is left" in done.err


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--on", "arm"], "--on arm: no machine of the cluster has this name (there are: amx, small)"),
        (["--cpus", "0"], "--cpus: the CPUs of other machines cannot be named"),
        (["--quality-precision", "1pt"], "--quality-precision: a cluster evaluates all items at once"),
        (["--threads", "3"], "--threads 3: first (first000) gives tasks 2 CPUs"),
        (["--executor", "slurm"], "--executor slurm: expected one of local, ray, auto, ray://HOST:PORT"),
    ],
)
def test_what_a_cluster_cannot_do_is_refused(
    qx: Qx, words: list[str], cluster: PretendCluster, changed: list[str], message: str
) -> None:
    """A wrong option is one line with what was expected, before anything is built."""
    name = changed[0]
    kept = words[: words.index(name)] + words[words.index(name) + 2 :] if name in words else words
    done = qx(*kept, *changed)
    assert done.code == 2
    assert message in done.err
    assert cluster.counts["do_job"] == 0


def test_machines_of_several_kinds_are_refused(qx: Qx, words: list[str], cluster: PretendCluster) -> None:
    """Without ``--on``, machines of two kinds are not mixed in one result."""
    assert len(cluster.machines) == 3
    done = qx(*words[: words.index("--on")])
    assert done.code == 2
    assert "the machines of the cluster are of 2 kinds" in done.err


def test_a_machine_with_other_software_is_refused(qx: Qx, words: list[str], cluster: PretendCluster) -> None:
    """A machine with another Python or without a package is named, with what differs."""
    cluster.facts = {cluster.machines[1].identity: {"python": "3.9.1", "distributions": {"torch": "2.0"}}}
    done = qx(*words)
    assert done.code == 2
    assert "second (second00) has Python 3.9.1 (here " in done.err
    assert "install there what is installed here" in done.err


def test_without_ray_one_line_says_what_to_install(
    qx: Qx, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without Ray the run ends with what to install."""

    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(import_module("qx.cluster.ray"), "import_module", missing)
    done = qx(*words)
    assert done.code == 2
    assert "Ray is not installed here: pip install 'quant-explorer[ray]'" in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_a_wave_that_is_lost_three_times_ends_the_measurement(
    qx: Qx, words: list[str], cluster: PretendCluster
) -> None:
    """Where the process of one wave is killed three times, nothing is timed, and the results say why."""
    cluster.faults = {("do_wave", number): "killed" for number in (2, 3, 4)}
    done = qx(*words)
    assert done.code == 1
    assert cluster.counts["do_wave"] == 4
    assert done.results["run"]["measuring"]["ended_by"] == "the machines were lost"
    causes = {m["cause"] for m in done.results["measurements"] if m["metric"] == "latency"}
    (cause,) = causes
    assert cause.startswith("not measured: wave 2 of toy was lost on ")


def test_a_run_goes_on_where_its_cluster_was_gone(qx: Qx, words: list[str], cluster: PretendCluster) -> None:
    """Where the head of the cluster dies, the run ends in one line, and resumed it makes nothing twice."""
    cluster.faults = {("do_wave", 3): "head"}
    done = qx(*words)
    assert done.code == 2
    assert "the cluster is gone (its head has died); what was finished is kept" in done.err
    cluster.counts.clear()
    cluster.faults = {}
    measuring = next(machine for machine in cluster.machines if machine.identity == cluster.last)
    cluster.machines[:] = [measuring]
    resumed = qx("run", "--resume", "--out", "out", "--executor", "ray")
    assert resumed.code == 0, resumed.err
    assert (cluster.counts["do_job"], cluster.counts["do_wave"]) == (0, 1)
    assert resumed.results["run"]["measuring"]["waves"] == 3


@pytest.mark.slow
def test_waves_of_another_machine_do_not_count(qx: Qx, words: list[str], cluster: PretendCluster) -> None:
    """Where a run is resumed on another machine of the kind, that one measures all waves."""
    cluster.faults = {("do_wave", 3): "head"}
    assert qx(*words).code == 2
    cluster.counts.clear()
    cluster.faults = {}
    cluster.machines[:] = [machine for machine in cluster.machines[:2] if machine.identity != cluster.last]
    resumed = qx("run", "--resume", "--out", "out")
    assert resumed.code == 0, resumed.err
    assert cluster.counts["do_wave"] == 3
    assert waves_of(resumed) == [{"toy": 3}]


def test_each_kind_of_machine_has_results(qx: Qx, words: list[str], cluster: PretendCluster) -> None:
    """With several ``--on`` each kind has results and a front of its own, and a table shows both."""
    done = qx(*words, "--on", "small")
    assert done.code == 0, done.err
    results = {
        name: json.loads(Path(f"out/{name}/full_results.json").read_text()) for name in ("amx", "small")
    }
    assert {name: one["run"]["cluster"]["on"] for name, one in results.items()} == {
        "amx": "amx",
        "small": "small",
    }
    assert results["small"]["environment"]["cpu"] == "A small CPU"
    assert all(any(front["on_front"] for front in one["front"].values()) for one in results.values())
    rows = [line for line in Path("out/machines.md").read_text().splitlines() if line.startswith("| `")]
    assert [[part.strip(" `") for part in row.split("|")[1:3]] for row in rows] == [
        ["toy_fp32", "amx"],
        ["toy_fp32", "small"],
        ["other", "amx"],
        ["other", "small"],
    ]


def test_on_needs_a_cluster(qx: Qx, words: list[str]) -> None:
    """``--on`` without ``--executor`` is refused, since this machine has no name."""
    done = qx(*words[: words.index("--executor")], "--on", "amx")
    assert done.code == 2
    assert "--on amx is for a cluster: give --executor too" in done.err
