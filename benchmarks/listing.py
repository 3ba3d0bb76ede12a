"""How long does `qx list` take as a whole process: what plugins say kept, not kept yet, or not at all?"""

from __future__ import annotations

import os
import subprocess
import sysconfig
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.common import keep, options

PLUGIN = """
from qx import Config, hookimpl
@hookimpl
def describe():
    return Config(name="{name}", summary="One of ten.")
@hookimpl
def convert(model):
    return model
"""


def install(site: Path, name: str) -> None:
    """Lay down a distribution with ten plugins, as pip leaves one."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    plugins = [f"{name}_{number}" for number in range(10)]
    lines = ["[qx]", *(f"{plugin} = {name}.{plugin}" for plugin in plugins)]
    info.joinpath("entry_points.txt").write_text("\n".join(lines) + "\n")
    site.joinpath(name).mkdir()
    for plugin in plugins:
        site.joinpath(name, f"{plugin}.py").write_text(PLUGIN.format(name=plugin))


def seconds(cache: Path, site: Path | None = None) -> float:
    """What one `qx list` takes."""
    environment = os.environ | {"QX_CACHE": str(cache)}
    if site is not None:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH"))))
    began = time.perf_counter()
    program = Path(sysconfig.get_path("scripts"), "qx")
    subprocess.run([program, "list"], env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def main() -> None:
    """Print and keep the medians."""
    runs = options(__doc__, 15).parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        install(place / "site", "others")
        nowhere = place / "file" / "cache"
        nowhere.parent.write_text("")
        taken: dict[str, list[float]] = {}
        # In turns, so that what else the machine does meets all alike.
        for run in range(runs + 1):
            cold = place / f"cold-{run}"
            for case, arguments in {
                "cold, qx's own": (cold,),
                "warm, qx's own": (cold,),
                "nowhere to keep, qx's own": (nowhere,),
                "cold, and ten others": (cold, place / "site"),
                "warm, and ten others": (cold, place / "site"),
            }.items():
                value = seconds(*arguments)
                # In the first turn files are read from the disk, and bytecode is written.
                if run:
                    taken.setdefault(case, []).append(value)
    medians = {case: round(median(values), 3) for case, values in taken.items()}
    keep("listing", {"runs": runs, "seconds": medians})


if __name__ == "__main__":
    main()
