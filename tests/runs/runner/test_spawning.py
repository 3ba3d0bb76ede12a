"""The supervisor reports how processes ended, ends all that they started, and bounds what they print."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from textwrap import dedent

import psutil
import pytest

from qx.errors import QxError
from qx.processes import supervisor
from qx.processes.spawning import Ending, Process, Supervisor

#: Statements that start an orphan in a session of its own, and write its process id to a file.
DAEMON = """
    import os, sys, time
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            with open({file!r} + "_", "w") as file:
                file.write(str(os.getpid()))
            os.rename({file!r} + "_", {file!r})
            time.sleep(1000)
        os._exit(0)
    os.wait()
    while not os.path.exists({file!r}):
        time.sleep(0.01)
"""
#: Seconds after which a wait fails, more than anything takes on any machine.
LONG = 120.0


def command(source: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", dedent(source)]


def has_ended(process: int) -> bool:
    """Return whether a process has ended, be it as a zombie that its new parent has not waited for."""
    try:
        return psutil.Process(process).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds, and fail after ``LONG`` seconds."""
    until = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < until, "it did not come to pass"
        time.sleep(0.01)


@pytest.fixture
def supervising(tmp_path: Path) -> Iterator[Supervisor]:
    """A running supervisor, which must leave no line in its log."""
    running = Supervisor(tmp_path / "supervisor.log")
    yield running
    running.close()
    assert (tmp_path / "supervisor.log").read_text() == ""


def spawn(supervising: Supervisor, words: Sequence[str], log: Path = Path("process.log")) -> Process:
    return supervising.spawn(words, os.environ, log.absolute())


def end_of(supervising: Supervisor, words: Sequence[str], log: Path = Path("process.log")) -> Ending:
    """Start a process, and return how it ended by itself."""
    process = spawn(supervising, words, log)
    ending = process.wait(LONG)
    assert ending is not None
    assert process.close() == ending
    return ending


@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("pass", 0),
        ("raise SystemExit(7)", 7),
        ("import os; os.kill(os.getpid(), 11)", -signal.SIGSEGV),
        ("import os; os.kill(os.getpid(), 36)", -36),
        ("import signal, os; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    ],
)
def test_how_a_process_ended_is_reported(supervising: Supervisor, source: str, status: int) -> None:
    """The host gets a process's exit status, or the signal that killed it as a negative number."""
    assert end_of(supervising, command(source)).status == status


def test_a_program_that_does_not_exist_is_reported(tmp_path: Path) -> None:
    """Where the program cannot be run there is no ending, and the supervisor's log says why."""
    supervising = Supervisor(tmp_path / "supervisor.log")
    assert spawn(supervising, ["/no/such/program"]).close() is None
    supervising.close()
    assert "No such file or directory: b'/no/such/program'" in (tmp_path / "supervisor.log").read_text()


@pytest.mark.parametrize("end", ["pass", "os._exit(3)", "os.kill(os.getpid(), 11)", "time.sleep(1000)"])
def test_a_process_ends_with_what_left_its_session(supervising: Supervisor, tmp_path: Path, end: str) -> None:
    """A child with a session of its own, whose parent is gone, ends with the process, however that ends."""
    file = tmp_path / "daemon"
    process = spawn(supervising, command(dedent(DAEMON.format(file=str(file))) + end))
    wait_for(file.exists)
    if "sleep" not in end:
        assert process.wait(LONG) is not None
    process.close()
    assert has_ended(int(file.read_text()))


def test_what_others_started_goes_on(supervising: Supervisor, tmp_path: Path) -> None:
    """The end of one process leaves another, and what that has started, alone."""
    files = [tmp_path / name for name in ("first", "second")]
    processes = [
        spawn(supervising, command(dedent(DAEMON.format(file=str(file))) + "time.sleep(1000)"))
        for file in files
    ]
    for file in files:
        wait_for(file.exists)
    first, second = (int(file.read_text()) for file in files)
    processes[0].close()
    assert has_ended(first) and has_ended(processes[0].pid)
    assert not has_ended(second) and not has_ended(processes[1].pid)
    processes[1].close()
    assert has_ended(second)


def test_all_ends_when_the_host_is_killed(tmp_path: Path) -> None:
    """After SIGKILL of the host its process, a child of another session and the supervisor are gone."""
    file = tmp_path / "daemon"
    host = f"""
        import os, time
        from pathlib import Path
        from qx.processes.spawning import Supervisor

        supervising = Supervisor(Path("supervisor.log"))
        process = supervising.spawn({command(DAEMON.format(file=str(file)) + "    time.sleep(1000)")!r},
                                    os.environ, Path("process.log").absolute())
        time.sleep(1000)
    """
    with subprocess.Popen([sys.executable, "-c", dedent(host)]) as running:
        wait_for(file.exists)
        started = psutil.Process(running.pid).children(recursive=True)
        assert len(started) >= 3
        running.kill()
    wait_for(
        lambda: all(has_ended(process) for process in (*(p.pid for p in started), int(file.read_text())))
    )


def test_a_process_has_no_descriptor_but_its_own(supervising: Supervisor) -> None:
    """A process inherits its three streams, and no descriptor of the host, supervisor or another process."""
    other = spawn(supervising, command("import time; time.sleep(1000)"))
    end_of(supervising, command("import os; print(sorted(os.listdir('/proc/self/fd')))"))
    other.close()
    # Reading the folder takes the fourth; standard output is the pipe of answers.
    process = spawn(supervising, command("import os; os.write(2, str(os.listdir('/proc/self/fd')).encode())"))
    process.wait(LONG)
    process.close()
    assert Path("process.log").read_text() == "['0', '1', '2', '3']"


def test_what_is_printed_is_kept_from_both_ends(supervising: Supervisor) -> None:
    """The log of an endless output has its beginning, its end, and how many bytes are left out between."""
    count = 3_000_000
    source = f"import os; [os.write(2, b'%08d\\n' % number) for number in range({count})]"
    ending = end_of(supervising, command(source))
    assert (ending.status, ending.printed, ending.log_error) == (0, 9 * count, 0)
    head, note, tail = Path("process.log").read_bytes().partition(b"\n[26868928 bytes are left out here]\n")
    assert note
    assert (len(head), len(tail)) == (supervisor.HEAD, supervisor.TAIL)
    assert head.startswith(b"00000000\n00000001\n")
    assert tail.endswith(b"%08d\n" % (count - 1))


def test_little_that_is_printed_is_kept_whole(supervising: Supervisor) -> None:
    """A log that is shorter than both ends together has everything, to the last byte."""
    for size in (0, 1, supervisor.HEAD, supervisor.HEAD + supervisor.TAIL):
        source = f"import os; os.write(2, b'a' * {size}); os.kill(os.getpid(), 9)"
        assert end_of(supervising, command(source)).printed == size
        assert Path("process.log").read_bytes() == b"a" * size


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_log_that_cannot_be_written_costs_nothing_else(supervising: Supervisor) -> None:
    """A process whose log cannot be written goes on, and its ending says why the log is incomplete."""
    source = "import os; [os.write(2, b'a' * 4096) for _ in range(1000)]"
    ending = end_of(supervising, command(source), Path("/dev/full"))
    assert ending == Ending(0, 4_096_000, errno.ENOSPC)


def test_without_its_supervisor_a_host_starts_nothing_more(tmp_path: Path) -> None:
    """After the supervisor was killed, starting a process is an error of one line that says so."""
    # Not that of the fork servers which tests share.
    others = set(psutil.Process().children())
    supervising = Supervisor(tmp_path / "supervisor.log")
    (program,) = (child for child in psutil.Process().children() if child not in others)
    try:
        program.kill()
        # The keeper that was forked beforehand may still take one process.
        with suppress(QxError):
            spawn(supervising, command("pass")).close()
        with pytest.raises(QxError, match="supervisor of the workers was killed by SIGKILL"):
            spawn(supervising, command("pass"))
    finally:
        supervising.close()


def test_a_process_whose_keeper_was_killed_is_ended_by_the_host(supervising: Supervisor) -> None:
    """The host ends a process whose keeper was killed, and has no ending to report."""
    process = spawn(supervising, command("import time; time.sleep(1000)"))
    psutil.Process(process.pid).parent().kill()
    assert process.close() is None
    wait_for(lambda: has_ended(process.pid))


#: The supervisor's program on a system that lacks something.
BARE = """
    import importlib.util, sys
    spec = importlib.util.spec_from_file_location("supervisor", {path!r})
    supervisor = importlib.util.module_from_spec(spec)
    sys.modules["supervisor"] = supervisor
    spec.loader.exec_module(supervisor)
    {lack}
    supervisor.main()
"""


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Supervisor]]:
    """Start a supervisor whose system lacks something, which it must not complain about."""
    running = []

    def start(lack: str) -> Supervisor:
        program = tmp_path / "bare.py"
        program.write_text(dedent(BARE.format(path=supervisor.__file__, lack=lack)))
        monkeypatch.setattr(supervisor, "__file__", str(program))
        running.append(Supervisor(tmp_path / "supervisor.log"))
        return running[-1]

    yield start
    for supervising in running:
        supervising.close()
    assert (tmp_path / "supervisor.log").read_text() == ""


@pytest.mark.parametrize(
    "lack",
    [
        "supervisor._library = lambda: None",
        "supervisor.PROCESSES = supervisor.CHILDREN = '/nowhere'",
    ],
    ids=["prctl", "proc"],
)
def test_on_other_systems_a_process_ends_with_its_group(
    bare: Callable[[str], Supervisor], tmp_path: Path, lack: str
) -> None:
    """Without prctl(2), or without /proc, the process and its group are ended, and nothing goes wrong."""
    supervising, file = bare(lack), tmp_path / "child"
    source = f"""
        import os, time
        if os.fork() == 0:
            open({str(file)!r}, "w").write(str(os.getpid()))
            time.sleep(1000)
        time.sleep(1000)
    """
    process = spawn(supervising, command(source))
    wait_for(lambda: file.exists() and file.read_text() != "")
    ending = process.close()
    assert ending is not None and ending.status == -signal.SIGKILL
    wait_for(lambda: has_ended(int(file.read_text())))


def test_children_are_found_where_the_kernel_does_not_list_them(
    bare: Callable[[str], Supervisor], tmp_path: Path
) -> None:
    """Where /proc does not list a process's children, they are looked up among all processes."""
    supervising, file = bare("supervisor.CHILDREN = '/nowhere'"), tmp_path / "daemon"
    process = spawn(supervising, command(dedent(DAEMON.format(file=str(file))) + "time.sleep(1000)"))
    wait_for(file.exists)
    process.close()
    assert has_ended(int(file.read_text()))
