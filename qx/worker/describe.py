"""Have plugins describe themselves, one after another, and say what that took."""

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

from qx.contract.checks import cause, new_manager
from qx.contract.description import Description, describe
from qx.contract.references import to_reference

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qx.processes.jobs import DescribeJob
    from qx.worker.channel import Channel

#: Letters that are kept of what a plugin prints.
KEPT = 500
#: The folder of qx.
QX = Path(__file__).parents[1]
#: Folders that distributions are installed into.
SITES = frozenset({"site-packages", "dist-packages"})


def run(job: DescribeJob, channel: Channel) -> None:
    """Answer when the process has started, and then for each plugin that the host names."""
    specs, process, at_start = new_manager().hook, os.getpid(), set(sys.modules)
    channel.answer()
    for command in channel.commands():
        reference = to_reference(command["plugin"])
        channel.stage(f"describe {reference.name}")
        modules, printed = set(sys.modules), _Printed(sys.stderr)
        began = perf_counter()
        with redirect_stdout(printed), redirect_stderr(printed):
            try:
                description = describe(reference, specs, named=command["named"])
            except BaseException as error:  # KeyboardInterrupt and its like: here only a plugin raises them
                description = Description(outcome="broken", reason=f"cannot be described: {cause(error)}")
        seconds = perf_counter() - began
        if os.getpid() != process:
            # The plugin has forked, and this is the child: it must not speak for its parent.
            os._exit(0)
        channel.answer(
            description=_with_last_words(description, printed).to_json(),
            files=_own_files(set(sys.modules) - at_start),
            seconds=seconds,
            modules=sorted({name.partition(".")[0] for name in set(sys.modules) - modules}),
            printed=printed.text,
        )


class _Printed(io.TextIOBase):
    """Passes on what a plugin prints, and keeps the end of it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.text = ""

    def write(self, text: str) -> int:
        """Pass it on to the log."""
        self.text = (self.text + text)[-KEPT:]
        return int(self._stream.write(text))

    def flush(self) -> None:
        """Pass that on, too."""
        self._stream.flush()


def _with_last_words(description: Description, printed: _Printed) -> Description:
    """Of a plugin that is not ready, the last line that it printed may say more than what it raised."""
    lines = printed.text.split("\n")
    said = next((line for line in map(str.strip, reversed(lines)) if line), "")
    if description.outcome == "ready" or not said:
        return description
    return evolve(description, reason=f"{description.reason}; it last said: {said}")


def _own_files(modules: Iterable[str]) -> list[str]:
    """The files of those modules that are not of Python, of qx, or installed: what lies beside a plugin.

    Of the others the version, or when they were installed, tells whether they are what they were.
    """
    # Statically: some objects among the modules import things when they are asked for an attribute.
    files = (inspect.getattr_static(sys.modules.get(name), "__file__", None) for name in modules)
    return sorted({file for file in files if isinstance(file, str) and _is_own(Path(file))})


def _is_own(file: Path) -> bool:
    places = sysconfig.get_paths()
    is_known = any(file.is_relative_to(place) for place in (places["stdlib"], places["platstdlib"], QX))
    # torch has modules whose files are names without a place.
    return file.is_absolute() and file.is_file() and not is_known and not SITES.intersection(file.parts)
