"""Have a plugin describe itself in a fresh process, and tell what that took."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from time import perf_counter
from typing import TYPE_CHECKING

from qx.catalogue import load
from qx.contract import Breach, new_manager

if TYPE_CHECKING:
    from qx.jobs import DescribeJob
    from qx.worker.channel import Channel


def run(job: DescribeJob, channel: Channel) -> None:
    """Answer with the seconds, the modules that came with it, what it printed, and why it is broken."""
    channel.stage("describe")
    specs = new_manager().hook
    before, said = set(sys.modules), io.StringIO()
    began = perf_counter()
    breach, record = "", None
    with redirect_stdout(said), redirect_stderr(said):
        try:
            record = load(job.plugin, specs, named=False).entry.record
        except Breach as error:
            breach = error.reason
    seconds = perf_counter() - began
    came = {name.partition(".")[0] for name in set(sys.modules) - before}
    again = record
    if record is not None:
        again = load(job.plugin, specs, named=False).entry.record
    channel.answer(
        seconds=seconds, modules=sorted(came), said=said.getvalue(), breach=breach, same=again == record
    )
