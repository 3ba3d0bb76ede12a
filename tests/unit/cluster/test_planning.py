"""Which machine takes which work next, and what no plan can undercut."""

from __future__ import annotations

import random

import pytest

from qx.cluster.planning import Room, Work, choose, shortest_time


def machine(name: str, cpus: int = 4, free: int | None = None, kind: str | None = None) -> Room:
    """Return a machine, all of whose CPUs are free unless ``free`` says otherwise."""
    return Room(name=name, cpus=cpus, free=cpus if free is None else free, kind=kind)


def names(choice: tuple[Work, Room] | None) -> tuple[str, str] | None:
    """Return the names of what was chosen."""
    return None if choice is None else (choice[0].name, choice[1].name)


def test_the_longest_work_begins_first() -> None:
    """Of what waits, the longest work begins."""
    waiting = [Work(name="short", seconds=1), Work(name="long", seconds=9), Work(name="middle", seconds=5)]
    assert names(choose(waiting, [machine("a")])) == ("long", "a")


def test_waves_have_a_machine_alone() -> None:
    """Work that must be alone does not go to a machine with one busy CPU; work that need not does."""
    rooms = [machine("a", free=3)]
    assert choose([Work(name="waves", seconds=9, is_alone=True)], rooms) is None
    assert names(choose([Work(name="build", seconds=9)], rooms)) == ("build", "a")


def test_shorter_work_does_not_wait_for_longer() -> None:
    """Where no machine has room for the longest work, what fits begins."""
    waiting = [Work(name="waves", seconds=9, is_alone=True), Work(name="build", seconds=1)]
    assert names(choose(waiting, [machine("a", free=1)])) == ("build", "a")


def test_work_goes_to_its_kind_of_machine() -> None:
    """Work for one kind of machine never goes to another."""
    rooms = [machine("a", kind="amx"), machine("b", kind="arm")]
    assert names(choose([Work(name="build", seconds=1, kind="arm")], rooms)) == ("build", "b")
    assert choose([Work(name="build", seconds=1, kind="small")], rooms) is None


def test_work_goes_to_the_emptiest_machine_or_back_to_its_own() -> None:
    """A build goes where most CPUs are free, unless the machine that had begun it has room."""
    rooms = [machine("a", free=1), machine("b", free=3)]
    assert names(choose([Work(name="build", seconds=1)], rooms)) == ("build", "b")
    assert names(choose([Work(name="build", seconds=1, preferred="a")], rooms)) == ("build", "a")


def simulate(works: list[Work], rooms: list[Room]) -> float:
    """Return the time in seconds that works take where each begins as ``choose`` says."""
    free, running, waiting, now = {room.name: room.cpus for room in rooms}, [], list(works), 0.0
    sizes = {room.name: room.cpus for room in rooms}
    while waiting or running:
        state = [Room(name=room.name, cpus=room.cpus, free=free[room.name], kind=room.kind) for room in rooms]
        choice = choose(waiting, state)
        if choice is not None:
            work, room = choice
            waiting.remove(work)
            taken = sizes[room.name] if work.is_alone else 1
            free[room.name] -= taken
            running.append((now + work.seconds, room.name, taken))
            continue
        now, name, taken = min(running)
        running.remove((now, name, taken))
        free[name] += taken
    return now


@pytest.mark.parametrize("seed", range(20))
def test_a_plan_is_close_to_the_bound(seed: int) -> None:
    """On equal machines all is done within Graham's 4/3 of the bound, and never before it."""
    order = random.Random(seed)
    works = [Work(name=str(number), seconds=order.uniform(1, 60), is_alone=True) for number in range(40)]
    rooms = [machine(str(number)) for number in range(6)]
    bound = shortest_time(works, rooms)
    assert bound <= simulate(works, rooms) <= 4 / 3 * bound + 1e-9


def test_the_bound_counts_whole_machines_and_the_longest_piece() -> None:
    """Work that is alone counts with all CPUs of its machine, and so does the longest piece."""
    alone = [Work(name=str(number), seconds=10, is_alone=True) for number in range(4)]
    assert shortest_time(alone, [machine("a"), machine("b")]) == pytest.approx(20)
    shared = [Work(name=str(number), seconds=10) for number in range(4)]
    assert shortest_time(shared, [machine("a"), machine("b")]) == pytest.approx(10)
