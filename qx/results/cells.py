"""Which cell is meant: its id, and how cells of one run or of two correspond."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TypeAlias

from attrs import Factory, frozen

from qx.contract.devices import CPU
from qx.contract.records import CONTROL
from qx.values import OptionValues

#: Name of the machine that a run was started on, for cells that were measured there.
THIS_MACHINE = "local"

#: Where a cell was measured: workload, threads, device, machine. Only cells of one place are compared.
Place: TypeAlias = tuple[str, int, str, str]
#: What identifies a cell in every run: its place, its config, and all options as JSON.
Identity: TypeAlias = tuple[Place, str, str]


def part_name(workload: str, threads: int) -> str:
    """Return the name of the part of a run that measures a workload at one of several numbers of threads."""
    return f"{workload}@{threads}thread{'s' * (threads > 1)}"


@frozen(kw_only=True)
class CellId:
    """One config with its options on one workload, at one thread count, on one device of one machine.

    As text, which is its key in ``full_results.json``, it is ``WORKLOAD/ROW``. The text is made here and is
    never taken apart: the fields say what it is made of.
    """

    #: Name of the workload, in a run at several numbers of threads that of the part, see ``part_name``.
    workload: str
    config: str
    #: Values of all options of the config.
    options: OptionValues = Factory(dict)
    #: The options that the user set, as text: ``[bits=4]``.
    label: str = ""
    threads: int = 1
    device: str = CPU
    machine: str = THIS_MACHINE
    #: Whether the cell is the baseline, measured a second time.
    control: bool = False

    @property
    def row(self) -> str:
        """The name of the cell among those of its workload."""
        device = "" if self.device == CPU else f"@{self.device}"
        machine = "" if self.machine == THIS_MACHINE else f"@{self.machine}"
        return (CONTROL if self.control else self.config + self.label) + device + machine

    def __str__(self) -> str:
        return f"{self.workload}/{self.row}"

    @property
    def workload_name(self) -> str:
        """The name of the workload, whatever numbers of threads its run had."""
        return self.workload.removesuffix(part_name("", self.threads))

    @property
    def place(self) -> Place:
        """Where the cell was measured."""
        return self.workload_name, self.threads, self.device, self.machine

    @property
    def identity(self) -> Identity:
        """What identifies the cell in every run: its place, its config, and all options as JSON."""
        return self.place, self.config, json.dumps(dict(self.options), sort_keys=True)


def most_similar(
    cells: Mapping[str, CellId], cell: CellId, config: str | None, *, same_options: bool = False
) -> str | None:
    """Return the key of another config's cell in the same place, with the most similar options.

    Only options that both configs have are compared. With ``same_options`` none of them may differ. None
    where there is no such cell, and for the control.
    """

    def count_differing_options(name: str) -> int:
        theirs = cells[name].options
        return sum(theirs[option] != value for option, value in cell.options.items() if option in theirs)

    if config is None or cell.control:
        return None
    # The config is compared first: places are made of other fields, which takes long in a run of many cells.
    matches = [
        name
        for name, other in cells.items()
        if other.config == config and not other.control and other.place == cell.place
    ]
    if not matches:
        return None
    best = min(matches, key=count_differing_options)
    return None if same_options and count_differing_options(best) else best
