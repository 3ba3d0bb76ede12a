"""Writing a new distribution, with one plugin or with a loader and its config, from the templates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from string import Template

from qx.contract.conformance import ATTRIBUTE, TESTBENCH
from qx.contract.fields import NAME
from qx.contract.records import CONTROL
from qx.errors import UsageError
from qx.host.host import Host

#: Path of the file that each template becomes; plugins and their tests have templates for each kind.
COMMON = {
    "setup.cfg": "setup.cfg",
    "pyproject.toml": "pyproject.toml",
    "tox.ini": "tox.ini",
    "MANIFEST.in": "MANIFEST.in",
    "README.md": "README.md",
    "gitignore": ".gitignore",
    "init.py": "src/$package/__init__.py",
    "test_conformance.py": "tests/test_conformance.py",
}
#: Names that qx uses itself, although no installed plugin has them.
RESERVED = (CONTROL, ATTRIBUTE, TESTBENCH)


def contents(kind: str, name: str, config: str = "") -> dict[str, str]:
    """Return the text of every file, by its path in the new folder.

    A loader comes with the config of the name ``config``, which makes the artifacts that it serves.
    """
    package = package_of(name)
    plugins = {name: kind, **({config: "config"} if config else {})}
    words = {
        "kind": kind,
        "name": name,
        "config": config,
        "package": package,
        "distribution": f"qx-{name.replace('_', '-')}",
        "what": " and ".join(plugins.values()),
        "names": " ".join(plugins),
        "title": "The " + " and the ".join(f"{kind} `{plugin}`" for plugin, kind in plugins.items()),
        "entry_points": "\n".join(f"    {plugin} = {package}.{plugin}" for plugin in plugins),
        "rows": "\n".join(
            f"| `src/{package}/{plugin}.py` | the {kind} |" for plugin, kind in plugins.items()
        ),
        # The weights of a workload; the others bring nothing but code.
        "package_data": f"\n[options.package_data]\n{package} = *.pt\n" if kind == "workload" else "",
    }
    words["run"] = run_command(kind, name, config)
    paths = {
        **COMMON,
        f"{kind}.py": "src/$package/$name.py",
        f"test_{kind}.py": "tests/test_$name.py",
    }
    if config:
        del paths["test_conformance.py"]
        paths |= {
            "loader_config.py": "src/$package/$config.py",
            "test_conformance_loader.py": COMMON["test_conformance.py"],
        }
    return {Template(path).substitute(words): _fill(template, words) for template, path in paths.items()}


def model_file(name: str) -> str:
    """Return the text of a file with a model of the user's own, which ``qx run NAME.py`` runs as it is."""
    return _fill("model.py", {"name": name})


def run_command(kind: str, name: str, config: str = "") -> str:
    """Return the command of a run that uses the new plugin, or the new file of a model."""
    return _fill(f"run_{kind}", {"name": name, "config": config}).strip()


def _fill(template: str, words: Mapping[str, str]) -> str:
    text = (files("qx.scaffold.templates") / f"{template}.txt").read_text(encoding="utf-8")
    return Template(text).substitute(words)


def package_of(name: str) -> str:
    """Return the name of the new plugin's import package."""
    return f"qx_{name}"


def check_name(host: Host, name: str) -> None:
    """Raise ``UsageError`` for a name that a plugin cannot have, or that is taken."""
    import keyword

    # The distribution is named after the plugin, and its name cannot end with a dash.
    if not re.fullmatch(NAME, name) or name.endswith("_") or keyword.iskeyword(name):
        raise UsageError(
            f"{name!r} cannot be the name of a plugin; expected lower-case letters, digits and _, with a "
            f"letter first and no _ last (such as my_recipe), and no keyword of Python"
        )
    if name in RESERVED:
        raise UsageError(f"the name {name!r} is taken by qx itself: choose another")
    for entry in host.entries:
        if entry.name == name:
            raise UsageError(f"the name {name!r} is taken by {entry.provider}: choose another")
    if find_spec(package_of(name)) is not None:
        raise UsageError(
            f"the name {name!r} is taken by the installed package {package_of(name)!r}: choose another"
        )


def write(folder: Path, texts: dict[str, str]) -> None:
    """Write files into a folder: ``texts`` has the text of each by its path."""
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
