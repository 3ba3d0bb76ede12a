"""Groups: the cells that share waves, if memory does not hold the launches of all cells at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def grouped(
    baseline: str, control: str, others: Sequence[str], runtime: Mapping[str, str], room: int
) -> tuple[tuple[str, ...], ...]:
    """Divide cells into groups of the baseline, the control and at most ``room`` other cells (at least one).

    ``runtime`` names the runtime baseline of a cell. Both are in the same group, since cells that take turns
    in the same rounds are compared with the smallest error. A runtime baseline with more cells than a group
    has room for is in several groups.
    """
    room = max(1, room)
    parts: list[list[str]] = [[] for _ in range(max(1, -(-len(others) // room)))]
    families = _families([cell for cell in others if cell != baseline], runtime, room)
    for family in sorted(families, key=len, reverse=True):
        emptiest = min(parts, key=len)
        if emptiest and len(emptiest) + len(family) > room:
            parts.append(list(family))
        else:
            emptiest.extend(family)
    # In the order of `others`, and no cell twice.
    ordered = ([cell for cell in others if cell in part] for part in parts)
    return tuple((baseline, control, *part) for part in ordered if part or not others)


def _families(others: Sequence[str], runtime: Mapping[str, str], room: int) -> list[list[str]]:
    """Return each runtime baseline with the cells that are compared with it, and every other cell alone."""
    members: dict[str, list[str]] = {}
    for cell in others:
        head = runtime.get(cell)
        members.setdefault(head if head in others and head is not None else cell, []).append(cell)
    families = []
    for head, cells in members.items():
        rest = [cell for cell in cells if cell != head]
        share = max(1, room - 1)
        chunks = [rest[start : start + share] for start in range(0, len(rest), share)] or [[]]
        families += [[head, *chunk] for chunk in chunks]
    return families
