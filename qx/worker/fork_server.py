"""The program of a fork server: it imports what many workers need, and forks a worker for each request.

A worker that is forked has numpy, and torch where the server imports it, without the second or two that an
import takes. The server runs nothing of a plugin, and of a runtime no more than the import of torch. Each
worker is a process of its own, with a keeper that ends it, as if it had been started as a program.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Collection, Iterable
from importlib import import_module
from typing import NoReturn

from qx.processes import supervisor

#: Modules of qx that all workers import, and those that workers with numpy do.
_OWN_MODULES = ("qx.worker.__main__", "qx.processes.jobs", "qx.processes.job_answers")
_NUMERIC_MODULES = (
    "qx.worker.build",
    "qx.worker.data",
    "qx.worker.evaluate",
    "qx.worker.launch",
)


def main(modules: Collection[str]) -> None:
    """Import modules, and fork a worker for each request from standard input, until the host hangs up.

    If one of the modules has started a thread, a fork would lose it, and perhaps what it holds: the server
    ends without being ready.
    """
    control = supervisor.control_of_standard_input()
    for module in (*modules, *_OWN_MODULES, *(_NUMERIC_MODULES if "numpy" in modules else ())):
        import_module(module)
    if len(os.listdir("/proc/self/task")) > 1:
        sys.exit(f"{', '.join(modules)}: a thread runs after the import, so the process cannot be forked")
    import gc

    # Collections in workers need not look at these objects, which would also copy their pages.
    gc.collect()
    gc.freeze()
    inherited = frozenset(_descriptors()) - {control.fileno()}

    def fork(request: supervisor.Request, pipes: supervisor.Pipes, error_stream: int) -> int:
        process = os.fork()
        if not process:
            _be_worker(request, (pipes.commands, pipes.answers, error_stream), inherited)
        return process

    supervisor.serve(control, fork)


def _descriptors() -> list[int]:
    """Return the open descriptors, without that of the folder that is listed."""
    return [number for name in os.listdir("/proc/self/fd") if _is_open(number := int(name))]


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _be_worker(
    request: supervisor.Request, streams: tuple[int, int, int], inherited: Collection[int]
) -> NoReturn:
    """Run a worker in this process, which a keeper has just forked.

    ``inherited`` are the descriptors that the server's imports have opened: it keeps these, and its streams.
    """
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        for descriptor in _descriptors():
            if descriptor > 2 and descriptor not in inherited:
                os.close(descriptor)
        _set_environment(request.environment)
        import_module("qx.worker.__main__").main()
    finally:
        # Its parent's code must not go on here.
        os._exit(1)


def _set_environment(entries: Iterable[bytes]) -> None:
    wanted = dict(entry.split(b"=", 1) for entry in entries)
    for name in os.environb.keys() - wanted.keys():
        del os.environb[name]
    for name, value in wanted.items():
        if os.environb.get(name) != value:
            os.environb[name] = value
    # It keeps the folder that ``TMPDIR`` named when it was first asked.
    tempfile.tempdir = None
