"""Energy, by counters of a pretended machine whose power is known at every moment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from attrs import define, evolve
from qx_plugins.metrics import energy

from qx import Block, Context, Point, Unsupported
from qx.contract import requirements
from qx.contract.requirements import missing_on_machine

#: Watts of a package while the model is called and while its counter is read, and its step in microjoules.
CALLING, WAITING, STEP = 40, 25, 61
#: Nanoseconds between updates of a counter; seconds of a call, and of a reading.
UPDATE = 1_000_000
CALL, READING = 2.1e-3, 5e-6


@define
class Machine:
    """A machine with a clock of its own, whose packages all take the same power."""

    #: Time in nanoseconds, and the nanojoules that each package has taken.
    nanoseconds: int = 0
    nanojoules: int = 0
    #: Nanojoules at the last update of the counters.
    shown: int = 0
    #: Microjoules of the counters at the beginning, and their highest value.
    start: int = 0
    highest: int = 262_143_328_850
    is_counting: bool = True

    @property
    def now(self) -> float:
        """The time in seconds."""
        return self.nanoseconds / 1e9

    def spend(self, seconds: float, watts: int = WAITING) -> None:
        """Let time pass at some power."""
        left = round(1e9 * seconds)
        while (step := UPDATE - self.nanoseconds % UPDATE) <= left:
            self.nanoseconds += step
            self.nanojoules += step * watts
            self.shown = self.nanojoules
            left -= step
        self.nanoseconds += left
        self.nanojoules += left * watts

    def read(self) -> int:
        """Return what a counter shows, in microjoules."""
        self.spend(READING)
        microjoules = self.shown // 1000 // STEP * STEP if self.is_counting else 0
        return (self.start + microjoules) % (self.highest + 1)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the counters of two packages, a part of one, and the whole platform."""
    for name, label in {
        "intel-rapl:0": "package-0",
        "intel-rapl:0:0": "core",
        "intel-rapl:1": "package-1",
        "intel-rapl:2": "psys",
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "name").write_text(f"{label}\n")
        (tmp_path / name / "energy_uj").write_text("12\n")
        (tmp_path / name / "max_energy_range_uj").write_text("262143328850\n")
    monkeypatch.setenv(energy.VARIABLE, str(tmp_path))
    return tmp_path


@pytest.fixture
def machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Return the machine that the metric finds."""
    machine = Machine()
    monkeypatch.setattr(energy, "reader", lambda descriptor: machine.read)
    monkeypatch.setattr(energy, "perf_counter", lambda: machine.now)
    return machine


def _block(machine: Machine, calls: int, batch_size: int = 1, seconds: float = CALL) -> Block:
    def call(native: object) -> object:
        machine.spend(seconds, CALLING)
        return native

    return Block(native=None, point=Point(batch_size), calls=calls, call=call)


def _context(folder: Path, seconds: float = 0.02) -> Context:
    return Context(folder=folder, options={"seconds": seconds})


@pytest.mark.parametrize("calls", [1, 6, 25])
def test_energy_is_that_of_the_calls(machine: Machine, folder: Path, calls: int) -> None:
    """At every moment of the counters' updates the value is within 2 % of what the calls of a block take."""
    (folder / "intel-rapl:1" / "name").write_text("dram\n")
    expected = CALLING * CALL / 8
    for phase in range(20):
        machine.spend(phase * 0.37e-3)
        samples = energy.measure(_block(machine, calls, batch_size=8), _context(folder))
        assert samples.values == pytest.approx(expected, rel=0.02)
        assert samples.details["packages"] == 1


def test_a_block_lasts_for_as_many_updates_as_it_needs(machine: Machine, folder: Path) -> None:
    """Calls of a short block are made again, whole blocks of them; those of a long one are not."""
    context = _context(folder)
    assert energy.measure(_block(machine, 3), context).details["calls"] == 12
    assert energy.measure(_block(machine, 10), context).details["calls"] == 10
    assert energy.measure(_block(machine, 3), _context(folder, 0.1)).details["calls"] == 48


def test_half_the_work_takes_half_the_energy(machine: Machine, folder: Path) -> None:
    """What waiting takes beside calling cancels in the ratio of two models."""
    whole, half = (
        float(energy.measure(_block(machine, 6, seconds=seconds), _context(folder)).values)
        for seconds in (CALL, CALL / 2)
    )
    assert half / whole == pytest.approx(0.5, rel=0.01)


def test_packages_are_added_and_their_parts_are_not(machine: Machine, folder: Path) -> None:
    """Two packages take twice as much; cores are in a package, and the platform has packages in it."""
    samples = energy.measure(_block(machine, 10), _context(folder))
    assert samples.details["packages"] == 2
    assert samples.values == pytest.approx(2 * CALLING * CALL, rel=0.02)


def test_a_counter_may_begin_again_during_a_block(machine: Machine, folder: Path) -> None:
    """A counter that passes its highest value within a block gives the same value as one that does not."""
    plain = energy.measure(_block(machine, 10), _context(folder))
    machine.start = machine.highest - int(1e6 * (machine.nanojoules / 1e9 + CALLING * CALL * 5))
    before = machine.read()
    wrapped = energy.measure(_block(machine, 10), _context(folder))
    assert machine.read() < before
    assert wrapped.values == pytest.approx(plain.values, rel=0.01)


def test_each_call_begins_from_its_state(machine: Machine, folder: Path) -> None:
    """Where calls have a state, it is brought back before each of them."""
    resets: list[float] = []
    data = evolve(_block(machine, 10), reset=lambda: resets.append(machine.now))
    assert energy.measure(data, _context(folder)).details["calls"] == len(resets) == 10


def test_a_counter_that_stands_still_is_no_energy(machine: Machine, folder: Path) -> None:
    """A counter that never changes, as some virtual machines have, gives the reason and no value."""
    machine.is_counting = False
    with pytest.raises(Unsupported, match=r"intel-rapl:0/energy_uj stands still: the processor does not"):
        energy.measure(_block(machine, 3), _context(folder))


def test_files_are_read_as_the_kernel_writes_them(folder: Path) -> None:
    """A counter is read anew each time from its open file."""
    with energy.open_counters(energy.packages()) as counters:
        assert [counter.path.parent.name for counter in counters] == ["intel-rapl:0", "intel-rapl:1"]
        assert [counter.read() for counter in counters] == [12, 12]
        (folder / "intel-rapl:1" / "energy_uj").write_text("1345\n")
        assert [counter.read() for counter in counters] == [12, 1345]
        assert counters[0].highest == 262_143_328_850


def test_without_packages_there_is_a_reason(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counters of parts alone are no package."""
    monkeypatch.setattr(energy, "POWERCAP", str(folder / "none"))
    for name in ("intel-rapl:0", "intel-rapl:1"):
        (folder / name / "name").write_text("dram\n")
    with pytest.raises(Unsupported, match=r"no counter of a package \(intel-rapl:N\) in "):
        energy.measure(Block(native=None, point=Point(1), calls=1, call=str), _context(folder))


@pytest.mark.parametrize(
    ("has_files", "flags", "reason"),
    [
        (True, (), "needs to read {folder}/intel-rapl:0/energy_uj, which this user may not: "
         "sudo chmod a+r {folder}/intel-rapl:*/energy_uj"),
        (False, ("hypervisor",), "needs a file {folder}/intel-rapl:*/energy_uj, and there is none: "
         "this is a virtual machine, and few of them have any"),
        (False, (), "needs a file {folder}/intel-rapl:*/energy_uj, and there is none"),
    ],
)  # fmt: skip
def test_a_machine_without_counters_says_why(
    folder: Path, monkeypatch: pytest.MonkeyPatch, has_files: bool, flags: tuple[str, ...], reason: str
) -> None:
    """Counters that only root may read come with the command that opens them; where none are, it says so."""
    record = evolve(energy.describe(), files=(f"${energy.VARIABLE}/{energy.COUNTERS}",))
    assert missing_on_machine(record) == ""
    assert missing_on_machine(evolve(record, files=())) == ""

    def access(path: object, mode: int) -> bool:
        assert mode == os.R_OK
        return False

    monkeypatch.setattr(requirements.os, "access", access)
    monkeypatch.setattr(requirements, "cpu_flags", lambda: frozenset(flags))
    if not has_files:
        for path in folder.glob(energy.COUNTERS):
            path.unlink()
    assert missing_on_machine(record) == reason.format(folder=folder)


def test_a_variable_that_is_not_set_names_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the variable, the reason names the folder of Linux alone."""
    monkeypatch.delenv(energy.VARIABLE, raising=False)
    monkeypatch.setattr(requirements, "cpu_flags", frozenset)
    record = evolve(energy.describe(), files=(f"${energy.VARIABLE}/x", "/nowhere/energy_uj"))
    assert missing_on_machine(record) == "needs a file /nowhere/energy_uj, and there is none"


def test_samples_are_one_value_for_a_block() -> None:
    """The record says what the scheduler and the comparison rest on."""
    record = energy.describe()
    assert (record.phase, record.samples, record.compare) == ("block", "per_round", "ratio")
    assert record.on_request and record.per_point and record.devices == ("cpu",)
