"""One table across machines: the results of one run on each kind of machine of a cluster."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import evolve

from qx.contract.figures import Figure
from qx.foreign import to_markdown
from qx.report import markdown
from qx.results.columns import View, with_units
from qx.results.records import Results

#: Name of the file with the table, beside the folders of the machines.
FILE = "machines.md"
EXPLAINED = (
    "Each machine has results, a baseline and a front of its own. Under each value: how it compares with the "
    "baseline on the same machine, with 95 % intervals. Values of two machines are compared by `qx compare`."
)


def render(results: Mapping[str, Results]) -> str:
    """Return the content of ``machines.md``, of the results by the name of the machine."""
    views = {
        name: View(evolve(one, metrics=with_units(one.metrics, markdown.escape)))
        for name, one in results.items()
    }
    axes = list(dict.fromkeys(axis for view in views.values() for axis in _axes(view)))
    cells = dict.fromkeys(cell for view in views.values() for cell in view.rows)
    header = ["config", "machine", *(markdown.code(str(axis)) for axis in axes), "on the front"]
    rows = [
        [
            *(markdown.code(view.name(cell)), markdown.code(name)),
            *(markdown.figure(view, cell, axis) for axis in axes),
            view.on_front(cell),
        ]
        for cell in cells
        for name, view in views.items()
        if cell in view.rows
    ]
    machines = markdown.bullets(
        f"{markdown.code(name)}: {to_markdown(view.results.environment.cpu)}, {_cpus(view.results)}, results "
        f"in [{to_markdown(name)}]({name}/pareto.md)"
        for name, view in views.items()
    )
    blocks = ("# One run on several machines", EXPLAINED, machines, markdown.table(header, rows))
    return "\n\n".join(blocks) + "\n"


def _axes(view: View) -> list[Figure]:
    return [axis for part in view.parts for axis in part.axes]


def _cpus(results: Results) -> str:
    count = results.environment.cpus
    return "CPUs unknown" if count is None else f"{count} CPU{'s' * (count != 1)}"
