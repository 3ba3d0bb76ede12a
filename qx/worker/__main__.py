"""Do one job: read it from standard input, do it in the module of its name, tell how it ended."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TextIO


def main() -> None:
    """Run the job; whatever it raises is told to the host in one line and in full on standard error."""
    from qx.worker.channel import Channel

    channel = Channel()
    # Looked up before any plugin can put something else in their places.
    end, streams, print_traceback = os._exit, (sys.stdout, sys.stderr), _print_traceback
    from qx.processes.failures import failure_of
    from qx.processes.jobs import from_json

    job = from_json(channel.job())
    if job.cpus is not None:
        os.sched_setaffinity(0, job.cpus)
    status = 1
    try:
        from importlib import import_module

        import_module(job.module).run(job, channel)
        status = 0
    except BaseException as error:
        print_traceback(error, streams[1])
        channel.fail(*failure_of(error, job.stage))
        status = 0
    finally:
        for stream in streams:
            # A plugin may have closed it.
            with suppress(OSError, ValueError):
                stream.flush()
        # A plugin's threads and exit handlers must not keep a finished worker alive, nor end it by a crash.
        end(status)


def _print_traceback(error: BaseException, log: TextIO) -> None:
    # The host is to be told in any case; what a plugin has done to the log, or to `print`, is its own loss.
    with suppress(Exception):
        import traceback

        traceback.print_exception(error, file=log)


if __name__ == "__main__":
    main()
