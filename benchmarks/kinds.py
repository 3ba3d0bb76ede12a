"""What does each config do with each kind of network: how near is it, or which layer is in the way?

Small networks with random weights (``kind_networks.py``), by all configs that are installed, on normal
random inputs. Labels are the fp32 model's own answers, so that configs that train have a goal. An entry is
the signal-to-quantization-noise ratio of the outputs of 256 items in dB, or the reason that the config gives.
As in a run each config has a process of its own. It is forked from one that has imported all runtimes, which
saves their imports, and calls the hooks that a run calls.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import select
import signal
import tempfile
import textwrap
import time
import warnings
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

import qx
from benchmarks.common import HERE, keep
from benchmarks.kind_networks import KINDS, make
from qx import Artifact, Batch, Context
from qx.contract.records import LABELS, Config
from qx.host.host import Host
from qx.processes.failures import outcome_of
from qx.worker.build import BATCH_SIZE
from qx.worker.modules import FloatModel, convert_model
from qx.worker.plugins import BoundPlugin, seed_everything
from qx.worker.recipes import bind_recipe

PAGE = HERE.parent / "docs" / "kinds.md"
ITEMS, SECONDS = {"train": 256, "test": 256}, 600
#: Configs of each table, by the beginning of their names.
TABLES = {
    "torch": ("bf16", "dynamic", "fx", "static", "qat"),
    "ONNX Runtime": ("onnxruntime",),
    "OpenVINO and ncnn": ("openvino", "ncnn"),
    "Inductor, torchao and ExecuTorch": ("inductor", "torchao", "executorch"),
}
#: Widest line of the page, in characters.
WIDTH = 120
#: The paragraphs before the tables.
HEAD = (
    "What each config does with small networks of one kind each, with random weights: how many decibels the "
    "outputs of 256 random items are above the noise, against the fp32 model in eager mode "
    "([`sqnr`](metrics.md#sqnr)), or in brackets the number of the reason below the table. `-`: there is no "
    "layer that the config is for. In float 100 dB and more are rounding; in 8 bits 20 to 50 are usual. "
    "Random networks are harder to quantize than trained ones. A row below 0 dB would be [marked and never "
    "picked](metrics.md).",
    "This page is written by `python -m benchmarks.kinds`, from "
    "[`kinds.json`](../benchmarks/results/kinds.json). The networks are in "
    "[`kind_networks.py`](../benchmarks/kind_networks.py); they have the forms with stubs that eager mode "
    "needs. `-c NAME` adds a config, `--kind NAME` a kind.",
)
#: What is imported once for all configs.
IMPORTS = ("torch", "onnxruntime", "onnxscript", "openvino", "nncf", "ncnn", "executorch.exir", "torchao")


def items_of(kind: str) -> dict[str, tuple[dict[str, Any], Any]]:
    """Return inputs by name and labels of both splits: the network's own answers."""
    model = make(kind)
    torch.manual_seed(1)
    splits = {}
    for split, count in ITEMS.items():
        inputs = KINDS[kind].draw(count)
        with torch.no_grad():
            labels = model(*inputs.values()).argmax(1)
        splits[split] = ({name: tensor.numpy() for name, tensor in inputs.items()}, labels.numpy())
    return splits


def examples_of(inputs: Mapping[str, Any]) -> tuple[torch.Tensor, ...]:
    """Return example inputs of one item."""
    return tuple(torch.from_numpy(array[:1].copy()) for array in inputs.values())


class Trial:
    """A config and the network of a kind, in this process."""

    def __init__(self, host: Host, config: str, kind: str, folder: Path) -> None:
        record = next(entry.record for entry in host.entries if entry.name == config)
        assert isinstance(record, Config)
        options = {option.name: option.default for option in record.options}
        engine = torch.backends.quantized.engine
        context = Context(folder=folder, engine=engine, options=options)
        self.plugin, self.record = BoundPlugin(host, config, context, bind_recipe), record
        self.kind, self.items, self.stage = kind, items_of(kind), "make_model"

    def enter(self, stage: str) -> None:
        """Note which hook is called."""
        self.stage = stage

    def outputs(self) -> np.ndarray:
        """Return the outputs of the test items. Raises what the hooks raise."""
        inputs, _ = self.items["test"]
        model = make(self.kind, quantizable=self.record.quantizable)
        self.enter("check_model")
        if self.plugin.implements("check_model"):
            self.plugin.call("check_model", model=model, example_inputs=examples_of(inputs))
        float_model = FloatModel(lambda: make(self.kind))
        result = convert_model(
            self.plugin,
            model,
            examples_of(inputs),
            float_model,
            between=lambda prepared: self.calibrated(prepared, float_model),
            stage=self.enter,
        )
        self.enter("load")
        arrays = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        if not isinstance(result, Artifact):
            self.enter("call")
            with torch.inference_mode():
                return np.asarray(result.module.eval()(*map(torch.from_numpy, arrays.values())))
        subject = self.plugin.host.call(
            result.loader, "load", artifact=result, context=Context(folder=self.plugin.context.folder)
        )
        self.enter("call")
        return np.array(next(iter(subject.outputs(subject.call(subject.prepare(arrays))).values())))

    def calibrated(self, model: Any, float_model: FloatModel) -> Any:
        """Return the model that has seen the items of the split ``train``, if the config asks for them."""
        if not ((self.record.calibration or self.record.training) and self.plugin.implements("calibrate")):
            return model
        self.enter("calibrate")
        inputs, labels = self.items["train"]
        order = np.arange(len(labels))
        if self.record.training:
            order = np.random.default_rng(0).permutation(order)
        batches = [
            Batch(
                inputs={name: array[chosen] for name, array in inputs.items()},
                targets={LABELS: labels[chosen]},
            )
            for chosen in np.split(order, len(order) // BATCH_SIZE)
        ]
        seed_everything(0)
        beside = float_model.argument_of(self.plugin, "calibrate")
        return self.plugin.with_context(folder=None).call(
            "calibrate", model=model, batches=batches, float_model=beside
        )


def decibels(outputs: np.ndarray, expected: np.ndarray) -> float:
    """Return the ratio of the squares of what is expected and of what differs, at most 150 dB."""
    signal, noise = qx.signal_and_noise(outputs, expected)
    return float(min(150.0, 10 * np.log10(signal.sum() / max(noise.sum(), 1e-300))))


def tried(host: Host, config: str, kind: str) -> dict[str, Any]:
    """Return the ratio that a config reaches in this process, or its outcome, stage and reason."""
    with tempfile.TemporaryDirectory(prefix="qx-", ignore_cleanup_errors=True) as folder:
        trial = Trial(host, config, kind, Path(folder))
        try:
            outputs = trial.outputs()
        except BaseException as error:
            outcome, cause = outcome_of(error)
            return {"outcome": outcome, "stage": trial.stage, "cause": cause}
    inputs, _ = trial.items["test"]
    with torch.no_grad():
        expected = make(kind)(*map(torch.from_numpy, inputs.values())).numpy()
    return {"outcome": "ok", "sqnr_db": round(decibels(outputs, expected), 1)}


def in_a_fork(host: Host, config: str, kind: str) -> dict[str, Any]:
    """Return what ``tried`` gives, in a process of its own; one that dies or hangs is the outcome."""
    reading, writing = os.pipe()
    if not (child := os.fork()):
        os.setsid()
        os.close(reading)
        with os.fdopen(writing, "w") as stream:
            json.dump(tried(host, config, kind), stream)
            stream.flush()
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        ready, _, _ = select.select([stream], [], [], SECONDS)
        text = stream.read() if ready else ""
    if not ready:
        os.killpg(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if text:
        result: dict[str, Any] = json.loads(text)
        return result
    if not ready:
        return {"outcome": "timeout", "cause": f"no answer within {SECONDS} s"}
    return {"outcome": "crashed", "cause": f"the process ended with {os.waitstatus_to_exitcode(status)}"}


def main() -> None:
    """Print and keep what each config does with each kind, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--kind", action="append", choices=list(KINDS), help="this kind (repeatable); adds to what is kept"
    )
    parser.add_argument("-c", "--config", action="append", help="this config (repeatable); as --kind")
    parser.add_argument("--page", action="store_true", help="only write the page, from what is kept")
    arguments = parser.parse_args()
    path = HERE / "results" / "kinds.json"
    kept: dict[str, Any] = json.loads(path.read_text())["kinds"] if path.exists() else {}
    if not arguments.page:
        if not (arguments.kind or arguments.config):
            kept = {}
        warnings.simplefilter("ignore")
        torch.set_num_threads(1)
        for name in IMPORTS:
            import_module(name)
        entries = [entry for entry in Host.discover().entries if entry.state == "ready" and entry.reference]
        host = Host.of([entry.reference for entry in entries if entry.reference])
        names = [entry.name for entry in entries if isinstance(entry.record, Config)]
        for kind in arguments.kind or KINDS:
            own = kept.setdefault(kind, {})
            for config in arguments.config or names:
                began = time.monotonic()
                own[config] = in_a_fork(host, config, kind)
                print(f"{kind}, {config}: {own[config]} in {time.monotonic() - began:.0f} s", flush=True)
            ordered = {
                kind: {name: kept[kind][name] for name in names if name in kept[kind]}
                for kind in KINDS
                if kind in kept
            }
            keep("kinds", {"kinds": ordered})
    PAGE.write_text(page(kept), encoding="utf-8")


def page(kinds: dict[str, Any]) -> str:
    """Return the page with the tables of all kinds."""
    head = [textwrap.fill(part, WIDTH, break_long_words=False, break_on_hyphens=False) for part in HEAD]
    tables = (section(heading, starts, kinds) for heading, starts in TABLES.items())
    return "\n\n".join(["# Kinds of networks", *head, *filter(None, tables)]) + "\n"


def section(heading: str, starts: tuple[str, ...], kinds: dict[str, Any]) -> str:
    """Return the table of the configs whose names start so, and the reasons below it."""
    configs = list(dict.fromkeys(name for own in kinds.values() for name in own if name.startswith(starts)))
    if not configs:
        return ""
    reasons: dict[str, int] = {}

    def entry(kind: str, config: str) -> str:
        result = kinds[kind].get(config)
        if result is None:
            return "not tried"
        if result["outcome"] == "ok":
            return f"{result['sqnr_db']:.0f}"
        cause = result["cause"].replace(KINDS[kind].__name__, "the network")
        if cause.startswith("the network has no"):
            return "-"
        text = f"{result['outcome']}: {shortened(cause)}"
        return f"[{reasons.setdefault(text, len(reasons) + 1)}]"

    rows = [[kind, *(entry(kind, config) for config in configs)] for kind in KINDS if kind in kinds]
    lines = [
        f"## {heading}\n",
        f"| | {' | '.join(f'`{config}`' for config in configs)} |",
        "|" + " --- |" * (len(configs) + 1),
        *(f"| {' | '.join(cells)} |" for cells in rows),
        "",
        *(f"{number}. {text}" for text, number in reasons.items()),
    ]
    return "\n".join(lines).rstrip()


def shortened(cause: str) -> str:
    """Return a reason without what follows its first sentences, and without the place in this file."""
    cause = re.sub(r", kind_networks.py:\d+|, \w+\.py:\d+", "", cause)
    cause = re.split(r"(?<=[a-z])\. | see https", cause)[0]
    return cause.replace("|", "\\|").replace("_", "\\_").replace("*", "\\*")


if __name__ == "__main__":
    main()
