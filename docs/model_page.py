"""Fill ``docs/bring-your-model.md``: ``python docs/model_page.py NAME ...`` runs the commands of these files.

Each section's block of code becomes the file in ``examples/models/``. The commands of the named files are run
in a folder of their own, and what they show on a terminal of 100 columns takes the place of what stood there.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from qx.report import screen
from qx.results import results_file

DOCS = Path(__file__).parent
FILES = DOCS.parent / "examples" / "models"
PAGE = DOCS / "bring-your-model.md"
WIDTH = 100
SECTION = re.compile(r"\[(\w+)\.py\]\(\.\./examples/models/\1\.py\).*?(?=\n##+ |\Z)", re.DOTALL)
CODE = re.compile(r"(?<=```python\n).*?(?=```)", re.DOTALL)
SHOWN = re.compile(r"(    \$ qx run .*\n)(?:(?:    .*)?\n)*")


def run(name: str, commands: Sequence[str]) -> str:
    """Return what the screen shows after the commands, indented."""
    with TemporaryDirectory() as folder:
        shutil.copy(FILES / f"{name}.py", folder)
        for command in commands:
            words = command.split()[2:]
            out = ["--out", "out"] if words[0] == "run" else []
            subprocess.run([Path(sys.executable).with_name("qx"), *words, *out], cwd=folder, check=True)
        results = results_file.read(Path(folder) / "out")
    lines = screen.render(results, (), WIDTH).splitlines()
    return "".join(f"    {line}".rstrip() + "\n" for line in lines)


def fill(section: str, name: str, shown: str | None) -> str:
    """Return a section with its file as it is, and with what its commands show where they were run anew."""
    source = (FILES / f"{name}.py").read_text(encoding="utf-8")
    section = CODE.sub(lambda _: source, section)
    if shown is not None:
        section = SHOWN.sub(lambda match: match[1] + shown, section)
    return section


def main(names: Sequence[str]) -> None:
    """Fill the page, and write it after each section, with what was edited meanwhile."""
    for name, section in {
        match[1]: match[0] for match in SECTION.finditer(PAGE.read_text(encoding="utf-8"))
    }.items():
        commands = [line.strip() for line in section.splitlines() if line.startswith("    $ qx ")]
        shown = run(name, commands) if name in names else None
        page = PAGE.read_text(encoding="utf-8")
        for match in SECTION.finditer(page):
            if match[1] == name:
                PAGE.write_text(page.replace(match[0], fill(match[0], name, shown)), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
