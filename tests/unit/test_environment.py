"""What the machine is: on x86 and on Arm, whose ``/proc/cpuinfo`` has other fields."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from qx import UsageError, environment
from qx.contract.records import Config
from qx.contract.requirements import missing_on_machine
from qx.doctor import checks
from qx.runner import preparation

X86 = """\
processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Some Processor @ 2.00GHz
flags\t\t: fpu avx2 avx512_vnni hypervisor

processor\t: 1
model name\t: Some Other
flags\t\t: fpu
"""
ARM = """\
processor\t: 0
BogoMIPS\t: 243.75
Features\t: fp asimd evtstrm aes asimddp i8mm bf16
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: {part}
CPU revision\t: 1

processor\t: 1
BogoMIPS\t: 243.75
"""
#: On 32 bits, and on some boards, the name comes first, and what the board is at the end.
BOARD = """\
processor\t: 0
model name\t: ARMv7 Processor rev 3 (v7l)
Features\t: half thumb neon

Hardware\t: BCM2711
"""
Machine = Callable[[str | None, str], None]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """Return a function that lets Linux describe another processor: the text of cpuinfo, and the machine."""

    def forget() -> None:
        environment.cpu_flags.cache_clear()
        environment._cpu_fields.cache_clear()

    def pretend(text: str | None, name: str) -> None:
        path = tmp_path / "cpuinfo"
        if text is not None:
            path.write_text(text)
        monkeypatch.setattr(environment, "CPUINFO", path)
        monkeypatch.setattr("platform.machine", lambda: name)
        monkeypatch.setattr("platform.processor", lambda: "")
        forget()

    yield pretend
    monkeypatch.undo()
    forget()


@pytest.mark.parametrize(
    ("text", "name", "model", "flag"),
    [
        (X86, "x86_64", "Some Processor @ 2.00GHz", "avx512_vnni"),
        (ARM.format(part="0xd0c"), "aarch64", "Arm Neoverse-N1", "asimddp"),
        (ARM.format(part="0xfff"), "aarch64", "Arm, implementer 0x41, part 0xfff", "bf16"),
        (BOARD, "armv7l", "ARMv7 Processor rev 3 (v7l)", "neon"),
        ("", "aarch64", "aarch64", None),
        (None, "riscv64", "riscv64", None),
        (":\n::\nFeatures\n", "aarch64", "aarch64", None),
    ],
)
def test_a_processor_is_named(
    machine: Machine, text: str | None, name: str, model: str, flag: str | None
) -> None:
    """The processor has a name and its flags, whatever form Linux describes it in."""
    machine(text, name)
    assert environment.cpu_model() == model
    assert (flag in environment.cpu_flags()) if flag else not environment.cpu_flags()
    described = environment.describe_environment()
    assert (described["cpu"], described["machine"]) == (model, name)
    assert isinstance(described["hypervisor"], bool)
    assert len(environment.fingerprint()) == 16


def test_arm_has_its_own_engine_and_flags(machine: Machine) -> None:
    """On Arm the engine is qnnpack, a config that wants x86 instructions says so, and nothing saturates."""
    from qx_plugins.recipes.saturation import saturates

    machine(ARM.format(part="0xd4f"), "aarch64")
    assert preparation.default_engine() == "qnnpack"
    wants = Config(name="it", summary="It.", instruction_sets=["avx512_vnni"])
    assert missing_on_machine(wants) == "needs a CPU with avx512_vnni"
    assert missing_on_machine(Config(name="it", summary="It.", instruction_sets=["bf16"])) == ""
    assert not saturates()


def test_a_hypervisor_that_cannot_be_seen_is_unknown(machine: Machine) -> None:
    """An Arm processor does not report a hypervisor, so the doctor does not say that there is none."""
    machine(ARM.format(part="0xd0c"), "aarch64")
    assert checks._stolen().state == "unknown"
    machine("flags\t: fpu avx2\n", "x86_64")
    assert checks._stolen().state == "good"


def test_a_machine_without_a_known_engine_asks_for_one(machine: Machine) -> None:
    """On a machine for which no engine is known the message says which option names one."""
    machine(None, "riscv64")
    with pytest.raises(UsageError, match="no quantized engine is known for riscv64: name one with --engine"):
        preparation.default_engine()


def test_distributions_are_found_by_what_they_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package leads to its distributions, by ``top_level.txt`` or else by the files that are recorded."""
    for name, file, content in (
        ("declares", "top_level.txt", "shared\nother\n"),
        ("records", "RECORD", 'shared/more.py,sha256=1,2\n"alone.py",,\nalone/data.bin,,\n../bin/tool,,\n'),
    ):
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / file).write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    assert environment.distributions_of({"shared"}) == ["declares", "records"]
    assert environment.distributions_of({"other", "no_such_package"}) == ["declares"]
    assert environment.distributions_of({"alone"}) == ["records"]
    assert environment.distributions_of({"no_such_package", "..", "tool"}) == []
    for package in ("torch", "numpy", "typing_extensions"):
        assert set(environment.distributions_of({package})) == {*packages_distributions()[package]}
