"""A program that asks NVIDIA's driver for its devices, and prints them as JSON.

It is a process of its own, since a process that has asked the driver can fork no other that uses a device. It
uses nothing but the standard library, and imports nothing of qx.
"""

from __future__ import annotations

import ctypes
import json
from typing import Any
from uuid import UUID

#: File of the driver's library.
LIBRARY = "libcuda.so.1"
#: Attributes of a device, by their number in the driver (``CUdevice_attribute``).
MULTIPROCESSORS, MAJOR, MINOR = 16, 75, 76


class DriverError(Exception):
    """The driver reports an error, or cannot be loaded."""


def devices() -> dict[str, Any]:
    """Return the driver's version of CUDA, and its devices in CUDA's order. Raises ``DriverError``."""
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise DriverError(f"{LIBRARY} cannot be loaded ({error})") from error
    _check(library, library.cuInit(0))
    version = _integer(library, library.cuDriverGetVersion)
    count = _integer(library, library.cuDeviceGetCount)
    return {
        "cuda": f"{version // 1000}.{version % 1000 // 10}",
        "devices": [_device(library, index) for index in range(count)],
    }


def _device(library: Any, index: int) -> dict[str, Any]:
    handle = _integer(library, library.cuDeviceGet, index)
    name = ctypes.create_string_buffer(256)
    _check(library, library.cuDeviceGetName(name, len(name), handle))
    memory = ctypes.c_size_t()
    _check(library, library.cuDeviceTotalMem_v2(ctypes.byref(memory), handle))
    attribute = library.cuDeviceGetAttribute
    uuid = (ctypes.c_ubyte * 16)()
    _check(library, library.cuDeviceGetUuid(ctypes.byref(uuid), handle))
    return {
        "uuid": f"GPU-{UUID(bytes=bytes(uuid))}",
        "product": name.value.decode(errors="replace"),
        "capability": [_integer(library, attribute, number, handle) for number in (MAJOR, MINOR)],
        "multiprocessors": _integer(library, attribute, MULTIPROCESSORS, handle),
        "memory": memory.value,
    }


def _integer(library: Any, function: Any, *arguments: int) -> int:
    """Return the integer that a function of the driver writes. Raises ``DriverError``."""
    value = ctypes.c_int()
    _check(library, function(ctypes.byref(value), *arguments))
    return value.value


def _check(library: Any, status: int) -> None:
    if status:
        name = ctypes.c_char_p()
        library.cuGetErrorName(status, ctypes.byref(name))
        raise DriverError((name.value or b"").decode() or f"error {status}")


def main() -> None:
    """Print the devices, or the error, as a line of JSON."""
    try:
        answer = devices()
    except DriverError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer))  # noqa: T201 - the answer


if __name__ == "__main__":
    main()
