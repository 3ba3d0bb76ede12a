"""Find the devices of this machine without importing torch, and say why there is none."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

from attrs import frozen

from qx.contract.devices import CPU, index_of, kind_of, to_capability
from qx.contract.records import Record
from qx.devices import driver
from qx.errors import UsageError
from qx.foreign import to_line

#: What Linux shows where NVIDIA's driver is loaded; the last one is that of WSL.
DRIVER_FILES = ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/nvgpu", "/dev/dxg")
#: Most seconds that the driver may take to name its devices.
PATIENCE = 60.0
#: What the driver says where ``CUDA_VISIBLE_DEVICES`` hides all devices, or there is none.
NO_DEVICE = "CUDA_ERROR_NO_DEVICE"


@frozen(kw_only=True)
class FoundDevice:
    """A device that the driver names."""

    #: Name as cells have it: ``cuda:0``.
    name: str
    #: Identifier by which the driver knows it, whatever other devices are hidden.
    uuid: str
    product: str
    capability: tuple[int, int]
    #: Memory in bytes.
    memory: int


@frozen(kw_only=True)
class Found:
    """The devices of a kind, in the order of their numbers, or why there is none."""

    devices: tuple[FoundDevice, ...] = ()
    #: What is missing; empty where there are devices.
    reason: str = ""


@cache
def find_cuda() -> Found:
    """Return the devices that NVIDIA's driver has and torch can use, or why there is none."""
    if not any(Path(file).exists() for file in DRIVER_FILES):
        return Found(reason="no NVIDIA driver is loaded on this machine")
    if (build := _torch_without_cuda()) is not None:
        return Found(reason=f"this torch ({build}) was built without CUDA")
    return _ask_driver()


def _ask_driver() -> Found:
    """Have a process ask the driver for its devices."""
    command = [sys.executable, "-I", "-S", driver.__file__]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        answer = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return Found(reason=f"NVIDIA's driver did not name its devices within {PATIENCE:.0f} s")
    except json.JSONDecodeError:
        return Found(reason=f"NVIDIA's driver ended its process: {to_line(done.stderr, 200)}")
    if error := answer.get("error"):
        if error == NO_DEVICE:
            error = f"it has no device, or CUDA_VISIBLE_DEVICES hides them ({NO_DEVICE})"
        return Found(reason=f"NVIDIA's driver cannot be used: {to_line(str(error), 300)}")
    return Found(
        devices=tuple(
            FoundDevice(
                name=f"cuda:{index}",
                uuid=fields["uuid"],
                product=fields["product"],
                capability=(fields["capability"][0], fields["capability"][1]),
                memory=fields["memory"],
            )
            for index, fields in enumerate(answer["devices"])
        ),
        reason="" if answer["devices"] else "NVIDIA's driver has no device",
    )


def _torch_without_cuda() -> str | None:
    """Return the version of an installed torch that was built without CUDA; None for one with it.

    It is read from torch's file, since importing torch takes seconds.
    """
    spec = importlib.util.find_spec("torch")
    file = Path(spec.origin).with_name("version.py") if spec is not None and spec.origin else None
    if file is None or not file.is_file():
        return None
    text = file.read_text(encoding="utf-8")
    cuda = re.search(r"^cuda\b[^=\n]*=\s*(\S+)", text, re.MULTILINE)
    version = re.search(r"^__version__\s*=\s*['\"]([^'\"]+)", text, re.MULTILINE)
    return (version[1] if version else "?") if cuda is not None and cuda[1] == "None" else None


#: How devices are found, by their kind.
FINDERS: dict[str, Callable[[], Found]] = {"cuda": lambda: find_cuda()}


def require_device(device: str) -> None:
    """Raise ``UsageError`` with what is missing where this machine has no such device."""
    if device == CPU:
        return
    found = FINDERS[kind_of(device)]()
    if found.reason:
        raise UsageError(f"--device {device}: {found.reason}")
    if index_of(device) >= len(found.devices):
        names = ", ".join(f"{other.name} ({other.product})" for other in found.devices)
        raise UsageError(f"--device {device}: there is no such device; this machine has {names}")


def missing_device(record: Record) -> str:
    """Return which device a plugin needs that this machine lacks; empty where none is missing."""
    kinds: tuple[str, ...] = getattr(record, "devices", ())
    if not kinds or CPU in kinds:
        return ""
    reasons = []
    for kind in kinds:
        found = FINDERS[kind]()
        reason = f"needs a {kind.upper()} device: {found.reason}" if found.reason else ""
        reasons.append(reason or _lacking_capability(record, found))
    return "" if "" in reasons else "; ".join(reasons)


def _lacking_capability(record: Record, found: Found) -> str:
    """Return which compute capability a config needs and no device has; empty where one has it."""
    needed: str | None = getattr(record, "compute_capability", None)
    if needed is None or any(device.capability >= to_capability(needed) for device in found.devices):
        return ""
    best = max(found.devices, key=lambda device: device.capability)
    own = ".".join(map(str, best.capability))
    return f"needs a device of compute capability {needed} or higher: {best.product} has {own}"
