"""The program of a worker: read a job from standard input, run it, and tell the host how it ended."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TextIO


def main() -> None:
    """Run the job. The host gets an error of it in one line, and standard error gets the traceback."""
    from qx.worker.channel import Channel

    channel = Channel()
    # Looked up before any plugin can replace them.
    end, streams, print_traceback = os._exit, (sys.stdout, sys.stderr), _print_traceback
    from qx.processes.failures import failure_of
    from qx.processes.jobs import to_job

    job = to_job(channel.job())
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
        # A plugin's threads and exit handlers must neither keep a finished worker alive nor crash it.
        end(status)


def _print_traceback(error: BaseException, log: TextIO) -> None:
    # The failure must reach the host even if a plugin has broken the log or `print`.
    with suppress(Exception):
        import traceback

        traceback.print_exception(error, file=log)


if __name__ == "__main__":
    main()
