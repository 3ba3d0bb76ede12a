"""``qx new``: create a distribution with plugins of the user's own, to start from."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qx.cli import Commands
    from qx.host.host import Host

#: Kinds of plugins that can be made.
KINDS = ("config", "metric", "workload", "loader")


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "new",
        help="make a file with a model of your own, or a distribution with a plugin",
        description="Make a small distribution with one plugin that does something, its entry point, tests "
        "that use the conformance kit, a README and a tox.ini. It installs and passes as it is. A loader "
        "comes with a config, whose artifacts it serves. A model is no plugin but one file, NAME.py, which "
        "runs as it is.",
    )
    parser.add_argument(
        "kind",
        choices=("model", *KINDS),
        metavar="KIND",
        help="model, config, metric, workload or loader",
    )
    parser.add_argument("name", metavar="NAME", help="what the plugin or the file is to be called: my_recipe")
    parser.add_argument(
        "--dir",
        type=Path,
        metavar="DIR",
        help="the folder, to be made (default: qx-NAME in the current one; for a model the current one)",
    )
    parser.add_argument(
        "--config", metavar="NAME", help="for a loader: what its config is to be called (default: NAME_int8)"
    )
    parser.set_defaults(func=run)


def run(arguments: argparse.Namespace) -> int:
    """Create the folder, whole or not at all, and print what to do next."""
    from qx.cli import OK, warn_of_broken
    from qx.cli.places import check_writable
    from qx.errors import UsageError
    from qx.files import new_folder
    from qx.foreign import path_to_terminal
    from qx.host.host import Host
    from qx.scaffold.writing import check_name, contents, package_of, run_command, write

    host = Host.discover(arguments.plugins)
    warn_of_broken(host, debug=arguments.debug)
    kind, name = arguments.kind, arguments.name
    check_name(host, name)
    config = _config_of(host, arguments)
    if kind == "model":
        return _write_model(name, arguments.dir or Path())
    target = arguments.dir if arguments.dir is not None else Path(f"qx-{name.replace('_', '-')}")
    if target.exists() or target.is_symlink():
        raise UsageError(f"{target} exists already: give --dir a folder that does not exist yet")
    check_writable(target)
    with new_folder(target.absolute()) as folder:
        write(folder, contents(kind, name, config))
        if kind == "workload":
            source = folder / "src" / package_of(name)
            _train(name, source / f"{name}.py", source / "weights.pt")
    place = path_to_terminal(target)
    companion = f" and the config {config}" if config else ""
    print(f"made the {kind} {name}{companion} in {place}; next:")
    print(f"    cd {place}\n    pip install -e '.[test]'\n    pytest\n    qx check {name} {config}".rstrip())
    print(f"    {run_command(kind, name, config)}")
    return OK


def _config_of(host: Host, arguments: argparse.Namespace) -> str:
    """Return the name of the config that comes with a loader; empty for other kinds.

    Raises ``UsageError``.
    """
    from qx.errors import UsageError
    from qx.scaffold.writing import check_name

    kind, name, config = arguments.kind, arguments.name, arguments.config
    if kind != "loader":
        if config is not None:
            raise UsageError(f"--config {config}: only a loader comes with a config, not a {kind}")
        return ""
    if config is None:
        config = f"{name}_int8"
    check_name(host, config)
    if config == name:
        raise UsageError(
            f"--config {config}: the loader has this name, and no two plugins may: choose another"
        )
    return str(config)


def _write_model(name: str, folder: Path) -> int:
    """Write the file of a model into a folder and print what to do next."""
    from qx.cli import OK
    from qx.cli.places import check_writable
    from qx.errors import UsageError
    from qx.files import write_whole
    from qx.foreign import path_to_terminal
    from qx.scaffold.writing import model_file, run_command

    target = folder / f"{name}.py"
    if target.exists() or target.is_symlink():
        raise UsageError(f"{target} exists already: choose another name, or another folder with --dir")
    check_writable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(target, model_file(name).encode())
    place = path_to_terminal(target)
    print(f"made the model {name} in {place}; next:")
    print(f"    {run_command('model', place)}")
    return OK


def _train(name: str, plugin: Path, weights: Path) -> None:
    from qx.cli.display import display
    from qx.host.host import Host
    from qx.runner.one import train
    from qx.runner.request import Request

    host = Host.discover([str(plugin)])
    with display() as reporter:
        train(host, host.get("workload", name), Request(workload=name), weights, None, reporter)
    for cached in plugin.parent.glob("__pycache__/*"):
        cached.unlink()
    for folder in plugin.parent.glob("__pycache__"):
        folder.rmdir()
