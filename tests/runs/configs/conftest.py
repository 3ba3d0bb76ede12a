"""Fixtures and parameters of the files of single runtimes, whose configs are in their ``CONFIGS``."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from runtimes import READY, Net, convert, ready

from qx import Artifact
from qx.results.recording import Recording

#: Arguments of tests that stand for a config of the file's runtime, and which configs each stands for.
ARGUMENTS: dict[str, Callable[[str], bool]] = {
    "any_config": lambda name: True,
    "fp32_config": lambda name: name.endswith("fp32"),
    "reduced_config": lambda name: not name.endswith("fp32"),
    "static_config": lambda name: "int8" in name and "dynamic" not in name,
    "unquantized_config": lambda name: "int8" not in name,
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test with such an argument each of its configs, or skip it where none of them can run."""
    for argument in ARGUMENTS.keys() & metafunc.fixturenames:
        metafunc.parametrize(argument, ready(*filter(ARGUMENTS[argument], metafunc.module.CONFIGS)))


@pytest.fixture(scope="module")
def run(
    request: pytest.FixtureRequest,
    qx: Callable[..., Any],
    loaded_modules: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:
    """Run the configs of the file's runtime on the digits, if they are installed."""
    chosen = [word for name in request.module.CONFIGS if name in READY for word in ("-c", name)]
    metrics = ("accuracy", "agreement", "quantized_share", "latency", "loaded_modules")
    return qx(
        *("run", "--workload", "digits_cnn", "-p", loaded_modules, *chosen),
        *(word for name in metrics for word in ("-m", name)),
        *("--quick", "--budget", 0.01, "--batch-size", 1, "--batch-size", 3, "--out", "out"),
        cwd=tmp_path_factory.mktemp("runtime"),
    )


@pytest.fixture(scope="session")
def compiling(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the environment of processes that compile by Inductor, in a third less time.

    All of a session share what the compiler does with each instruction set, as builds of a run do. What is
    between the kernels is not optimized, which changes no answer.
    """
    base = tmp_path_factory.getbasetemp()
    answers = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "compiler_answers"
    answers.mkdir(exist_ok=True)
    return os.environ | {
        "COMPILER_ANSWERS": str(answers),
        "AOT_INDUCTOR_COMPILE_WRAPPER_OPT_LEVEL": "O0",
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture(scope="module")
def outputs(run: Any) -> dict[str, np.ndarray]:
    """Return the outputs of each config for all images."""
    recording = Recording.read(run.folder / run.results["run"]["samples"])
    return {cell.rpartition("/")[2]: arrays["output"] for cell, arrays in recording.outputs.items()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Artifact, Net]]:
    """Return a function that builds an artifact of a small network once for each config."""
    artifacts: dict[str, tuple[Artifact, Net]] = {}

    def build(name: str) -> tuple[Artifact, Net]:
        if name not in artifacts:
            torch.manual_seed(0)
            net = Net().eval()
            artifacts[name] = (convert(name, net, tmp_path_factory.mktemp(name)), net)
        return artifacts[name]

    return build
