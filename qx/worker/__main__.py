"""Do one job: read it from standard input, do it in the module of its name, tell how it ended."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the job; whatever it raises is told to the host in one line and in full on standard error."""
    from qx.worker.channel import Channel

    channel = Channel()
    from qx.jobs import WatchJob, from_json
    from qx.worker.failures import failure_of

    job = from_json(channel.job())
    if job.cpus is not None:
        os.sched_setaffinity(0, job.cpus)
    try:
        from importlib import import_module

        import_module(f"qx.worker.{job.do}").run(job, channel)
    except BaseException as error:
        import traceback

        traceback.print_exc()
        channel.fail(*failure_of(error, job.job.do if isinstance(job, WatchJob) else job.do))
        if isinstance(error, KeyboardInterrupt):
            raise
    finally:
        # A plugin's threads and exit handlers must not keep a finished worker alive, nor end it by a crash.
        sys.stderr.flush()
        os._exit(0)


if __name__ == "__main__":
    main()
