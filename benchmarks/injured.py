"""Does ``qx layers`` find the layer that hurts? Networks with one injured layer, every layer tried in float.

Each network is trained on handwritten digits, and one of its layers is injured in such a way that fp32 does
not notice: one of its input channels is scaled down, and the weights that it is multiplied by are scaled up
as much. They then set the range of all weights of that layer, in one scale for all channels as in one for
each output channel. The truth is the layer whose return to float gives back most, by exhaustive
leave-one-out: the config is built anew with each layer in float, and evaluated on 797 items. What is asked is
whether the first, cheap step of ``qx layers``, which decides what is tried, has that layer first. Networks of
which a config loses less than ``FELT`` are counted apart: it is immune to their injury.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.common import HERE, Lines, keep
from benchmarks.injured_network import load_data, make_model
from qx.host.host import Host
from qx.processes.workers import Failure
from qx.runner import Request
from qx.runner.layers import LayersReport, find_costly_layers

NETWORK, RESULTS = HERE / "injured_network.py", HERE / "results"
CONFIGS = (
    "fx_static_int8",
    "static_int8_per_tensor",
    "onnxruntime_static_int8_per_tensor",
    "openvino_int8",
)
#: Accuracy that must be lost for an injury to be felt.
FELT = 0.02
EPOCHS = 12
#: Smallest and largest factor of an injury; in between the logarithm is even.
FACTORS = 100.0, 1000.0


def train(seed: int) -> nn.Sequential:
    """Return a trained network."""
    torch.manual_seed(seed)
    model, (images, labels) = make_model(), load_data("train")
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(labels)).split(50):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[chosen]), labels[chosen]).backward()
            optimizer.step()
    return model.eval()


def injure(model: nn.Sequential, seed: int) -> dict[str, Any]:
    """Injure a layer, any but the first, in place; return which, its channel, and the factor."""
    generator = np.random.default_rng(seed)
    layers = [name for name, layer in model.named_children() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    place = int(generator.integers(1, len(layers)))
    # The tensors are those of the model.
    weights, before, layer = model.state_dict(), layers[place - 1], layers[place]
    factor = float(np.exp(generator.uniform(*np.log(FACTORS))))
    channel = int(generator.integers(0, weights[f"{layer}.weight"].shape[1]))
    weights[f"{before}.weight"][channel] /= factor
    weights[f"{before}.bias"][channel] /= factor
    weights[f"{layer}.weight"][:, channel] *= factor
    return {"layer": layer, "channel": channel, "factor": factor}


def look(host: Host, config: str, weights: Path, seed: int) -> LayersReport:
    """Return what ``qx layers`` finds where every layer is tried in float."""
    request = Request(models=(str(NETWORK),), weights=weights, seed=seed, trained=True)
    return find_costly_layers(host, request, config, Lines(), items=64, top=100)


def row_of(report: LayersReport, seed: int, injury: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of a network: what is lost, the layer that gives back most, and its place."""
    assert report.baseline is not None
    assert report.quantized is not None
    gains = {name: gain.difference for name, gain in report.gains.items() if gain.difference is not None}
    truth = max(gains, key=lambda name: gains[name])
    order = [layer.name for layer in report.worst()]
    return {
        "seed": seed,
        **injury,
        "fp32": report.baseline.value,
        "quantized": report.quantized.value,
        "gains": gains,
        "truth": truth,
        "place": 1 + order.index(truth),
        "felt": report.baseline.value - report.quantized.value >= FELT,
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return in how many networks that a config feels the costly layer was first, or among three."""
    felt = [row for row in rows if row["felt"]]
    return {
        "networks": len(rows),
        "felt": len(felt),
        "first": sum(row["place"] == 1 for row in felt),
        "among_three": sum(row["place"] <= 3 for row in felt),
        "truth_is_injured": sum(row["truth"] == row["layer"] for row in felt),
    }


def found_before(name: str) -> list[dict[str, Any]]:
    """Return what a former run has found, of networks that this one leaves out."""
    place = RESULTS / f"{name}.json"
    return json.loads(place.read_text(encoding="utf-8"))["networks"] if place.is_file() else []


def look_at_all(host: Host, config: str, networks: int, folder: Path) -> None:
    """Look at networks that no former run has looked at, and keep what is found after each of them."""
    name = f"injured_{config}"
    rows = found_before(name)
    for seed in sorted(set(range(networks)) - {row["seed"] for row in rows}):
        model, weights = train(seed), folder / f"{seed}.pt"
        injury = injure(model, seed)
        torch.save(model.state_dict(), weights)
        rows.append(row_of(look(host, config, weights, seed), seed, injury))
        keep(name, {"felt_from": FELT, "summary": summary(rows), "networks": rows})


def main() -> None:
    """Look at all networks with each config; a config that cannot be built is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, default=20)
    parser.add_argument("-c", "--config", action="append", dest="configs")
    arguments = parser.parse_args()
    host = Host.discover()
    for config in arguments.configs or CONFIGS:
        with tempfile.TemporaryDirectory() as folder:
            try:
                look_at_all(host, config, arguments.networks, Path(folder))
            except Failure as failure:
                print(f"{config}: {failure}")


if __name__ == "__main__":
    main()
