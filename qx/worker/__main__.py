"""The program of a worker: read a job from standard input, run it, and tell the host how it ended."""

from __future__ import annotations

import os
import sys
from contextlib import suppress


def main() -> None:
    """Run the job. The host gets an error of it in one line, and its traceback."""
    from qx.worker.channel import Channel

    channel = Channel()
    # Looked up before any plugin can replace them.
    end, streams = os._exit, (sys.stdout, sys.stderr)
    from qx.processes.failures import failure_of
    from qx.processes.jobs import to_job
    from qx.tracebacks import traceback_of

    _show_stacks_on_request(streams[1].fileno())

    job = to_job(channel.job())
    if job.cpus is not None:
        os.sched_setaffinity(0, job.cpus)
    status = 1
    try:
        from importlib import import_module

        import_module(job.module).run(job, channel)
        status = 0
    except BaseException as error:
        traceback = traceback_of(error)
        try:
            channel.fail(*failure_of(error, job.stage), traceback)
            status = 0
        except OSError:
            # A plugin has closed the channel: the host shows the last line of the log.
            with suppress(OSError, ValueError):
                streams[1].write(f"{traceback.full}\n")
    finally:
        for stream in streams:
            # A plugin may have closed it.
            with suppress(OSError, ValueError):
                stream.flush()
        # A plugin's threads and exit handlers must neither keep a finished worker alive nor crash it.
        end(status)


def _show_stacks_on_request(log: int) -> None:
    """Have the signal of a host whose patience has ended write the stacks of all threads into the log."""
    import faulthandler

    from qx.processes.failures import STACKS_SIGNAL

    faulthandler.register(STACKS_SIGNAL, file=log, all_threads=True)


if __name__ == "__main__":
    main()
