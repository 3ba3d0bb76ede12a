"""The command line, with a file for each command.

A command is a module of the package ``qx.cli.commands`` with a function ``register(commands)``. It adds a
parser to ``commands`` and sets ``func`` to a function that takes the parsed arguments and returns the exit
code. To add a command, add its file and its name to ``COMMANDS``. ``qx --help`` imports all commands, so
heavy modules are imported inside ``func``.

Exit codes: 0; 1 a cell that should have figures has none, or a gate failed; 2 usage; 3 a bug in qx; 130
interrupted (Ctrl-C); 143 terminated (SIGTERM), both also where results of a part were written.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from qx.cli.streams import OutputError, discard, say, say_lines, say_printed, usable_streams
from qx.errors import DataError, QxError, UsageError
from qx.foreign import to_line, to_terminal

if TYPE_CHECKING:
    from qx.host.host import Host

    Commands: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]

#: Names of the commands, in the order in which the help lists them.
COMMANDS = (
    *("run", "report", "compare", "gate", "history", "search", "layers", "quantize", "profile"),
    *("list", "show", "train", "check", "new", "doctor", "cache"),
)

#: States of plugins that a mistake causes, in the plugin or in the installation.
UNUSABLE_STATES = ("broken", "conflict", "incompatible")
#: Error numbers that point to the machine, or to a path that the user named, and not to the program.
MACHINE_ERRORS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ESTALE),
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN),
)
#: Longest path, in characters, that an error quotes in full.
MAX_PATH = 300

#: Exit codes.
OK, NOT_WELL, USAGE, BUG, INTERRUPTED, PIPE_CLOSED, TERMINATED = 0, 1, 2, 3, 130, 141, 143


def main(argv: Sequence[str] | None = None) -> int:
    """Run qx with these arguments, by default those of the process, and return its exit code."""
    with usable_streams():
        return _main(argv)


def _main(argv: Sequence[str] | None) -> int:
    try:
        with _unwind_on_termination():
            code = _run(argv)
        sys.stdout.flush()
        return code
    except (UsageError, DataError) as error:
        hint = " (--debug shows the traceback)" if error.traceback else ""
        say(f"qx: error: {error}{hint}")
        return USAGE
    except QxError as error:
        say(f"qx: error: {error}")
        return NOT_WELL
    except _Terminated:
        say("qx: terminated")
        return TERMINATED
    except KeyboardInterrupt:
        say("qx: interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of standard output has gone (`qx list | head`).
        discard(sys.stdout)
        return PIPE_CLOSED
    except OutputError as error:
        discard(sys.stdout)
        say(f"qx: error: cannot write to standard output: {error}")
        return USAGE
    except OSError as error:
        if (message := _machine_error(error)) is None:
            return _report_bug()
        say(f"qx: error: {message}")
        return USAGE
    except MemoryError:
        say("qx: error: there is not enough memory for this")
        return USAGE
    except Exception:
        return _report_bug()


def _machine_error(error: OSError) -> str | None:
    """Say in a line what is wrong with the machine or a path. None where the program may be at fault."""
    path = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else None
    if error.errno in MACHINE_ERRORS:
        line = f"{error.strerror}: {to_line(path, MAX_PATH) if path else 'no file named'}"
        advice = to_terminal(_advice(line))
        return f"{line}; {advice}" if advice else line
    if error.errno != errno.ENOENT:
        return None
    if path is None and not _has_current_folder():
        return "the current folder no longer exists: change to another one"
    # The message is `tempfile`'s, which names the folders that it tried.
    return error.strerror if path is None else None


def _advice(line: str) -> str:
    """Say what to do where qx writes to a full disk or ``line`` is about one; else empty."""
    from qx.files import full_disk_advice

    try:
        return full_disk_advice(line)
    except (UsageError, OSError):
        return ""


def _has_current_folder() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _report_bug() -> int:
    import traceback

    say_lines(traceback.format_exc().rstrip())
    say("qx: this is a bug in qx; please report it with the lines above")
    return BUG


class _Terminated(KeyboardInterrupt):
    """Raised when SIGTERM arrives."""


@contextmanager
def _unwind_on_termination() -> Iterator[None]:
    """Have SIGTERM unwind the program as Ctrl-C does, so that no worker and no unfinished file is left."""

    def terminate(*_: object) -> None:
        raise _Terminated

    try:
        former = signal.signal(signal.SIGTERM, terminate)
    except ValueError:  # not in the main thread, so signals are the caller's affair
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if former is None else former)


def warn_of_broken(host: Host, *, debug: bool = False) -> None:
    """Print a line for each plugin that cannot be used, and with ``debug`` the traceback of its error.

    Every command but ``list`` and ``cache`` does so.
    """
    complaints = {
        entry.complaint: entry.traceback for entry in host.entries if entry.state in UNUSABLE_STATES
    }
    for complaint, traceback in sorted(complaints.items()):
        say(f"qx: warning: {complaint}")
        if debug and traceback:
            say_printed(traceback)


def _run(argv: Sequence[str] | None) -> int:
    words = sys.argv[1:] if argv is None else argv
    if nul := next((word for word in words if "\0" in word), None):
        raise UsageError(f"the argument {to_line(nul, MAX_PATH)} has a NUL character in it")
    try:
        arguments = parse([*words])
    except SystemExit as exit_request:  # --help, --version
        return int(exit_request.code or 0)
    try:
        code: int = arguments.func(arguments)
    except UsageError as error:
        if arguments.debug and error.traceback:
            say_printed(error.traceback)
            error.traceback = ""
        raise
    return code


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Return the arguments that words of a command line stand for, and these ``words`` among them.

    Raises ``UsageError``, and ``SystemExit`` where help was asked for.
    """
    arguments = _parser(words).parse_args([*words])
    arguments.plugins = [*arguments.plugins_first, *arguments.plugins]
    arguments.debug = arguments.debug_first or arguments.debug
    arguments.words = tuple(words)
    return arguments


class _Parser(argparse.ArgumentParser):
    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments, allow_abbrev=False)

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Take models between and after options too, where argparse takes those at one place only."""
        parsed, extras = super().parse_known_args(args, namespace)
        assert parsed is not None
        takes_models = isinstance(getattr(parsed, "models", None), list)
        if takes_models and not any(word.startswith("-") for word in extras):
            parsed.models += extras
            extras = []
        return parsed, extras

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"qx {version('quant-explorer')}")
        except PackageNotFoundError:
            print("qx, not installed")
        parser.exit()


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="qx",
        description="Run every way to quantize a model side by side, and see which are worth having.",
        epilog="exit codes: 0 success; 1 a cell failed, or a gate did; 2 wrong usage; 3 a bug in qx",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    _add_plugins(parser, "plugins_first")
    _add_debug(parser, "debug_first")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, dest="command")
    # A command named first needs no other parser: to build all takes a tenth of the time of `qx list`.
    for name in words[:1] if words and words[0] in COMMANDS else COMMANDS:
        importlib.import_module(f"qx.cli.commands.{name}").register(commands)
    for command in commands.choices.values():
        # A name of its own, because a command's parser overwrites what was parsed before it.
        _add_plugins(command, "plugins")
        _add_debug(command, "debug")
    return parser


def _add_debug(parser: argparse.ArgumentParser, destination: str) -> None:
    parser.add_argument(
        "--debug",
        action="store_true",
        dest=destination,
        help="show what plugins print, and the tracebacks of their errors, at once",
    )


def _add_plugins(parser: argparse.ArgumentParser, destination: str) -> None:
    parser.add_argument(
        "-p",
        "--plugin",
        action="append",
        default=[],
        dest=destination,
        metavar="MODULE",
        help="load a plugin from a module or a .py file, optionally with :ATTRIBUTE; no:NAME leaves a plugin "
        "out (repeatable)",
    )
