"""Does ``qx search`` repair a network with one injured layer, wherever a layer in float can?

    python -m benchmarks.injured_search -c CONFIG --data DIR [--networks 20]

The CNN of CIFAR-10 has one of its layers injured so that fp32 does not notice, another one with every seed:
one of its input channels is scaled down, which the normalization before it does, and the weights that it is
multiplied by are scaled up as much. Every layer alone in float is built and evaluated on all items, which
says what can be reached and which layer gives back most; whether the first, cheap step of ``qx layers`` has
that layer first; and then ``qx search --max-drop 0.5pt --minimize size`` is run on the same network. Its
recipe is evaluated on all items too. What has been found is kept after each network, and gone on from.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import qx
from benchmarks.common import HERE, Lines, keep
from qx.host.host import Host
from qx.runner import Request
from qx.runner.layers import LayersReport, find_costly_layers

WORKLOAD = "cifar10_cnn"
WEIGHTS = HERE.parent / "artifacts" / "weights" / "fp32_baseline.pt"
CONFIGS = (
    "fx_static_int8",
    "static_int8_per_tensor",
    "onnxruntime_static_int8_per_tensor",
    "openvino_int8",
)
#: Layers with weights, each after the normalization of the one before; the first has none before it.
LAYERS = {
    "features.3": "features.1",
    "features.7": "features.4",
    "features.10": "features.8",
    "features.14": "features.11",
    "features.17": "features.15",
    "classifier": "features.18",
}
#: The largest loss of accuracy, as a fraction and as qx takes it.
DROP, MAX_DROP = 0.005, "0.5pt"
#: Loss up to which a search has to find the network that a layer in float gives: the limit less its margin.
SURE = 0.0025
#: Accuracy that must be lost for an injury to be felt.
FELT = 0.02
#: Smallest and largest factor of an injury; in between the logarithm is even.
FACTORS = 100.0, 1000.0
#: Items on which layers are compared, as in ``qx search``.
ITEMS = 64


def injure(seed: int, path: Path) -> dict[str, Any]:
    """Write the weights of the injured network; return which layer it is, its channel, and the factor."""
    generator = np.random.default_rng(seed)
    state = torch.load(WEIGHTS, weights_only=True)
    layer = str(generator.choice(list(LAYERS)))
    before, weight = LAYERS[layer], state[f"{layer}.weight"]
    channel = int(generator.integers(0, weight.shape[1]))
    factor = float(np.exp(generator.uniform(*np.log(FACTORS))))
    for name in ("weight", "bias"):
        state[f"{before}.{name}"][channel] /= factor
    weight[:, channel] *= factor
    torch.save(state, path)
    return {"layer": layer, "channel": channel, "factor": round(factor, 1)}


def leave_one_out(report: LayersReport) -> dict[str, Any]:
    """Return what is lost with each layer in float, the layer that gives back most, and its place."""
    assert report.baseline is not None
    assert report.quantized is not None
    lost = report.baseline.value - report.quantized.value
    gains = {name: gain.difference for name, gain in report.gains.items() if gain.difference is not None}
    truth = max(gains, key=lambda name: gains[name])
    return {
        "fp32": report.baseline.value,
        "lost": lost,
        "lost_with_layer_in_float": {name: round(lost - gain, 5) for name, gain in gains.items()},
        "truth": truth,
        "place": 1 + [layer.name for layer in report.worst()].index(truth),
        "felt": lost >= FELT,
        "can_be_met": lost - gains[truth] <= SURE,
    }


def search(config: str, data: Path, weights: Path) -> dict[str, Any]:
    """Return what a search finds, and what its recipe loses on all items."""
    began = time.monotonic()
    report = qx.search(
        workloads=WORKLOAD,
        data=data,
        weights=weights,
        configs=[config],
        max_drop=MAX_DROP,
        minimize="size",
        progress=False,
    )
    found: dict[str, Any] = {
        "seconds": round(time.monotonic() - began),
        "candidates": report.candidates,
        "recipe": report.row,
    }
    if report.recipe is None:
        return found
    result = qx.run(
        workloads=WORKLOAD,
        data=data,
        weights=weights,
        configs=[config],
        settings=report.recipe.settings,
        metrics=["accuracy"],
        progress=False,
    )
    differences = [
        record["comparison_value"]
        for record in result.to_records()
        if record["config"] == config and record["comparison_value"] is not None
    ]
    return {**found, "lost_on_all_items": round(-differences[0], 5)}


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return how many networks there are, in how many the costly layer is first, and what searches found."""
    felt = [row for row in rows if row["felt"]]
    repairable = [row for row in felt if row["can_be_met"]]
    found = [row["search"] for row in rows if row["search"]["recipe"] is not None]
    return {
        "networks": len(rows),
        "felt": len(felt),
        "first": sum(row["place"] == 1 for row in felt),
        "truth_is_injured": sum(row["truth"] == row["layer"] for row in felt),
        "repairable": len(repairable),
        "repaired": sum(row["search"]["recipe"] is not None for row in repairable),
        "recipes": len(found),
        "recipes_beyond_the_limit": sum(one["lost_on_all_items"] > DROP for one in found),
    }


def main() -> None:
    """Print and keep what is found of each network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, default=20)
    parser.add_argument("--data", type=Path)
    parser.add_argument("-c", "--config", action="append", dest="configs")
    arguments = parser.parse_args()
    host = Host.discover()
    for config in arguments.configs or CONFIGS:
        name = f"injured_search_{config}"
        place = HERE / "results" / f"{name}.json"
        rows = json.loads(place.read_text(encoding="utf-8"))["networks"] if place.is_file() else []
        for seed in sorted(set(range(arguments.networks)) - {row["seed"] for row in rows}):
            with tempfile.TemporaryDirectory() as folder:
                weights = Path(folder) / "injured.pt"
                injury = injure(seed, weights)
                request = Request(workload=WORKLOAD, data=arguments.data, weights=weights)
                report = find_costly_layers(host, request, config, Lines(), items=ITEMS, top=len(LAYERS) + 1)
                row = {"seed": seed, **injury, **leave_one_out(report)}
                rows.append({**row, "search": search(config, arguments.data, weights)})
            keep(name, {"limit": DROP, "felt_from": FELT, "summary": summary(rows), "networks": rows})


if __name__ == "__main__":
    main()
