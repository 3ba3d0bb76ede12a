"""How long does `qx list` take, with plugin descriptions cached, not cached yet, or not cacheable?"""

from __future__ import annotations

import os
import subprocess
import sysconfig
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.common import argument_parser, keep

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
    """Write a distribution with ten plugins, as pip installs one."""
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
    """Return the seconds that a `qx list` takes."""
    environment = os.environ | {"QX_CACHE": str(cache)}
    if site is not None:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH"))))
    start = time.perf_counter()
    program = Path(sysconfig.get_path("scripts"), "qx")
    subprocess.run([program, "list"], env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def main() -> None:
    """Print and keep the medians."""
    runs = argument_parser(__doc__, 15).parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        install(root / "site", "others")
        unusable = root / "file" / "cache"
        unusable.parent.write_text("")
        seconds_by_case: dict[str, list[float]] = {}
        # In turns, so that other load on the machine affects all cases equally.
        for run in range(runs + 1):
            cache = root / f"cold-{run}"
            for case, arguments in {
                "cold, qx's own": (cache,),
                "warm, qx's own": (cache,),
                "nowhere to keep, qx's own": (unusable,),
                "cold, and ten others": (cache, root / "site"),
                "warm, and ten others": (cache, root / "site"),
            }.items():
                value = seconds(*arguments)
                # In the first turn files are read from the disk, and bytecode is written.
                if run:
                    seconds_by_case.setdefault(case, []).append(value)
    medians = {case: round(median(values), 3) for case, values in seconds_by_case.items()}
    keep("listing", {"runs": runs, "seconds": medians})


if __name__ == "__main__":
    main()
