"""Decide which machine of a cluster takes which work next."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from attrs import frozen


@frozen(kw_only=True)
class Work:
    """A piece of work that waits for a machine."""

    name: str
    #: Time that it is expected to take, in seconds.
    seconds: float
    #: Whether it needs a machine with nothing else at work there; else one of its CPUs.
    is_alone: bool = False
    #: Kind of machine that it is for; None: any.
    kind: str | None = None
    #: Machine that has begun it before, which takes it again where it is free.
    preferred: str | None = None


@frozen(kw_only=True)
class Room:
    """A machine as a plan sees it."""

    name: str
    cpus: int
    #: Number of CPUs without work.
    free: int
    kind: str | None = None

    def has_room_for(self, work: Work) -> bool:
        """Return whether it can take a piece of work now."""
        is_free = self.free == self.cpus if work.is_alone else self.free >= 1
        return self.cpus > 0 and is_free and work.kind in (None, self.kind)


def choose(waiting: Collection[Work], rooms: Collection[Room]) -> tuple[Work, Room] | None:
    """Return the work that begins next, and the machine that takes it; None where none has room.

    The longest work begins first, so that the last to end are short ones: with that rule of Graham (1969) all
    is done within 4/3 of the shortest time possible on machines of one kind. Work that shares a machine goes
    where most CPUs are free; work that needs one alone goes to the smallest that is free.
    """
    for work in sorted(waiting, key=lambda work: (-work.seconds, work.name)):
        free = [room for room in rooms if room.has_room_for(work)]
        if not free:
            continue
        if again := [room for room in free if room.name == work.preferred]:
            return work, again[0]
        size = 1 if work.is_alone else -1
        return work, min(free, key=lambda room: (size * room.free, room.name))
    return None


def shortest_time(works: Collection[Work], rooms: Collection[Room]) -> float:
    """Return a time in seconds that no plan can undercut, whatever machine takes what.

    Of each kind of machine: all its work spread evenly over its CPUs, and its longest piece.
    """
    cpus: Mapping[str | None, int] = {
        kind: sum(room.cpus for room in rooms if kind in (None, room.kind))
        for kind in {work.kind for work in works}
    }
    machines = {kind: sum(kind in (None, room.kind) for room in rooms) for kind in cpus}
    bounds = [0.0]
    for kind, count in cpus.items():
        own = [work for work in works if work.kind == kind]
        # Work that has a machine alone keeps all of its CPUs busy.
        busy = sum(work.seconds * (count / machines[kind] if work.is_alone else 1) for work in own)
        bounds += [busy / count, max(work.seconds for work in own)]
    return max(bounds)
