"""Describe plugins, one after another, and say which files and how much time that took."""

from __future__ import annotations

import inspect
import io
import os
import sys
import sysconfig
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, TextIO

from attrs import evolve

from qx.contract.checks import new_manager
from qx.contract.description import Description, describe
from qx.contract.references import to_reference
from qx.foreign import one_line
from qx.processes.job_answers import DescribeAnswer, Started
from qx.tracebacks import traceback_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qx.processes.jobs import DescribeJob
    from qx.worker.channel import Channel

#: Number of characters that are kept of a plugin's output.
KEPT_OUTPUT = 500
#: The folder of qx.
QX = Path(__file__).parents[1]
#: Names of the folders that distributions are installed into.
SITES = frozenset({"site-packages", "dist-packages"})


def run(job: DescribeJob, channel: Channel) -> None:
    """Answer once when the process has started, and then with the description of each plugin asked for."""
    specs, process, at_start = new_manager().hook, os.getpid(), set(sys.modules)
    channel.answer(Started())
    for command in channel.commands():
        reference = to_reference(command["plugin"])
        channel.stage(f"describe {reference.name}")
        modules, printed = set(sys.modules), _Printed(sys.stderr)
        began = perf_counter()
        with redirect_stdout(printed), redirect_stderr(printed):
            try:
                description = describe(reference, specs, named=command["named"])
            except BaseException as error:  # KeyboardInterrupt too: here only a plugin raises it
                description = Description(
                    outcome="broken",
                    reason=f"cannot be described: {one_line(error)}",
                    traceback=traceback_of(error).shown,
                )
        seconds = perf_counter() - began
        if os.getpid() != process:
            # The plugin has forked, and this is the child: it must not speak for its parent.
            os._exit(0)
        channel.answer(
            DescribeAnswer(
                description=_with_last_line(description, printed),
                files=tuple(_own_files(set(sys.modules) - at_start)),
                seconds=seconds,
                modules=tuple(sorted({name.partition(".")[0] for name in set(sys.modules) - modules})),
                printed=printed.text,
            )
        )


class _Printed(io.TextIOBase):
    """A stream that passes a plugin's output on, and keeps the end of it in ``text``."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.text = ""

    def write(self, text: str) -> int:
        """Pass text on to the log."""
        self.text = (self.text + text)[-KEPT_OUTPUT:]
        return int(self._stream.write(text))

    def flush(self) -> None:
        """Flush the log."""
        self._stream.flush()


def _with_last_line(description: Description, printed: _Printed) -> Description:
    """Add the last line that a plugin printed to its description, unless the plugin is ready.

    That line may say more than the error that the plugin raised.
    """
    lines = printed.text.split("\n")
    last_line = next((line for line in map(str.strip, reversed(lines)) if line), "")
    if description.outcome == "ready" or not last_line:
        return description
    return evolve(description, reason=f"{description.reason}; its last line of output: {last_line}")


def _own_files(modules: Iterable[str]) -> list[str]:
    """Return the files of these modules that belong to neither Python, qx nor an installed distribution.

    Changes of the others show in their versions, or in the times of their installation.
    """
    # Without `getattr`, since some modules import others when an attribute is looked up.
    files = (inspect.getattr_static(sys.modules.get(name), "__file__", None) for name in modules)
    return sorted({file for file in files if isinstance(file, str) and _is_own(Path(file))})


def _is_own(file: Path) -> bool:
    """Return whether a file belongs to neither Python, qx nor an installed distribution."""
    paths = sysconfig.get_paths()
    folders = (paths["stdlib"], paths["platstdlib"], QX)
    is_of_python_or_qx = any(file.is_relative_to(folder) for folder in folders)
    is_installed = not SITES.isdisjoint(file.parts)
    # torch has modules whose files are names without a folder.
    return file.is_absolute() and file.is_file() and not is_of_python_or_qx and not is_installed
