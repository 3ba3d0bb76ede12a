"""What does one scale for each layer cost depthwise convolutions, and which layers in float give it back?

A network of the blocks of MobileNetV3 is trained on CIFAR-10 (``depthwise_network.py``), once: its weights
are kept in ``--work``. Then, in parts that can be run one by one (``--part``) and add to what is kept:

- ``configs``: what a config with one scale for each layer loses, with weights of 8 and of 4 bits, and what
  others lose; the parts below are about those widths with which it loses more than half a point;
- ``search``: what ``qx search --max-drop 0.5pt --minimize size`` returns, and how it does on all items;
- ``leave_one_out``: every layer alone in float, and the best of them together: the truth of what layers in
  float can do;
- ``cheap``: the same of the first, cheap step of ``qx layers``, which decides what a search tries;
- ``nncf``: ``quantize_with_accuracy_control`` of NNCF on the same network, calibration and evaluation items.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from attrs import frozen
from torch import nn

import qx
from benchmarks.common import HERE, Lines, keep
from benchmarks.depthwise_network import SIDE, make_model, read_images
from qx import LABELS, Artifact
from qx.contract.float_layers import chosen_names
from qx.contract.options import label
from qx.contract.records import FLOAT_LAYERS
from qx.host.host import Host
from qx.runner import Request
from qx.runner.layers import LayersReport, find_costly_layers
from qx.storage.cache import SPLITS, open_cache
from qx.worker.arrays import Split

NAME, NETWORK, RESULTS = "depthwise", HERE / "depthwise_network.py", HERE / "results"
EPOCHS, BATCH, RATE, SMALL, PADDING = 12, 256, 0.2, 24, 4
#: A config with one scale for each layer.
COARSE = "onnxruntime_static_int8_per_tensor"
#: Those beside which it stands.
OTHERS = (
    "static_int8_per_tensor",
    "static_int8_per_channel",
    "fx_static_int8",
    "onnxruntime_static_int8_per_channel",
    "openvino_int8",
)
METRICS = ("accuracy", "file_size", "quantized_share")
#: The largest loss of accuracy, as a fraction and as qx takes it.
DROP, MAX_DROP = 0.005, "0.5pt"
#: Items on which layers are compared, as in ``qx search``.
ITEMS = 64
#: Most layers that are left in float together.
MOST = 16


# Training -----------------------------------------------------------------------------------------


def trained_weights(data: Path, work: Path, epochs: int) -> Path:
    """Return the file of the trained weights, which is written where there is none."""
    path = work / f"{NAME}-{epochs}.pt"
    if not path.is_file():
        work.mkdir(parents=True, exist_ok=True)
        torch.save(train(data, epochs, work / f"{NAME}-{epochs}.unfinished.pt").state_dict(), path)
    return path


def train(folder: Path, epochs: int, unfinished: Path) -> nn.Module:
    """Return the network trained on the images in a folder, by SGD on a one-cycle schedule.

    The first half of the epochs sees crops of ``SMALL`` pixels, which cost half as much. After each epoch the
    state is kept in the file ``unfinished``, with which the next call goes on.
    """
    torch.manual_seed(0)
    data = read_images("train", folder, open_cache())
    images, labels = torch.from_numpy(data.inputs["image"]), torch.from_numpy(data.targets[LABELS])
    model = make_model().to(memory_format=torch.channels_last).train()
    steps = len(images) // BATCH
    optimizer = torch.optim.SGD(model.parameters(), RATE, momentum=0.9, nesterov=True, weight_decay=2e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=epochs * steps, pct_start=0.2)
    parts: dict[str, Any]
    parts, first = {"model": model, "optimizer": optimizer, "schedule": schedule}, 0
    if unfinished.is_file():
        state = torch.load(unfinished, weights_only=True)
        first = state.pop("epochs")
        for name, part in parts.items():
            part.load_state_dict(state[name])
    for epoch in range(first, epochs):
        start, right = time.process_time(), 0
        generator = torch.Generator().manual_seed(epoch)
        size = SMALL if epoch < epochs // 2 else SIDE
        for chosen in torch.randperm(len(images), generator=generator).split(BATCH)[:steps]:
            batch = crop(images[chosen], size, generator).contiguous(memory_format=torch.channels_last)
            logits = model(batch)
            optimizer.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(logits, labels[chosen], label_smoothing=0.05).backward()
            optimizer.step()
            schedule.step()
            right += int((logits.argmax(1) == labels[chosen]).sum())
        torch.save(
            {"epochs": epoch + 1, **{name: part.state_dict() for name, part in parts.items()}}, unfinished
        )
        seconds, share = time.process_time() - start, right / (steps * BATCH)
        print(f"epoch {epoch + 1}: {seconds:.0f} s of CPU, training {share:.3f}", file=sys.stderr, flush=True)
    unfinished.unlink()
    return model.to(memory_format=torch.contiguous_format).eval()


def crop(images: torch.Tensor, size: int, generator: torch.Generator) -> torch.Tensor:
    """Return a crop of each image at a random place, half of them mirrored; padded for the full size."""
    if size == SIDE:
        images = nn.functional.pad(images, [PADDING] * 4)
    room = images.shape[-1] - size + 1
    top, left = torch.randint(room, (2, len(images), 1, 1), generator=generator)
    rows, columns = top + torch.arange(size).view(1, -1, 1), left + torch.arange(size).view(1, 1, -1)
    mirrored = torch.rand((len(images), 1, 1), generator=generator) < 0.5
    columns = torch.where(mirrored, columns.flip(2), columns)
    place = torch.arange(len(images)).view(-1, 1, 1)
    return images.permute(0, 2, 3, 1)[place, rows, columns].permute(0, 3, 1, 2)


# Parts --------------------------------------------------------------------------------------------


@frozen
class Network:
    """The trained network and its data."""

    data: Path
    weights: Path
    #: Number of items that are evaluated; None: all.
    eval_n: int | None


def evaluate(
    network: Network, configs: Sequence[str], settings: Sequence[str] = ()
) -> tuple[qx.Result, dict[str, dict[str, Any]]]:
    """Run configs on all items without timing. Return the result, and the figures of each row by its name.

    Figures are the accuracy, its difference from fp32 in points with its interval, the share of the weights
    in 8 bits or fewer, and the size as a share of the baseline's.
    """
    result = qx.run(
        model=str(NETWORK),
        data=network.data,
        weights=network.weights,
        eval_n=network.eval_n,
        configs=configs,
        settings=settings,
        metrics=METRICS,
        progress=False,
    )
    rows: dict[str, dict[str, Any]] = {}
    for record in result.to_records():
        cell = result.results.cells[record["cell"]]
        if cell.control or record["value"] is None:
            continue
        row, metric = rows.setdefault(cell.row, {}), record["metric"]
        if metric == "accuracy":
            points = [record[f"comparison_{end}"] for end in ("value", "low", "high")]
            row["accuracy"] = record["value"]
            row["points"] = [None if point is None else round(100 * point, 2) for point in points]
        elif metric == "quantized_share":
            row["share_in_8_bits"] = round(record["value"], 4)
        else:
            row["size"] = round(record["comparison_value"] or 1.0, 4)
    for cell in result.results.cells.values():
        if cell.outcome != "ok":
            rows[cell.row] = {"outcome": cell.outcome, "cause": cell.cause}
    return result, rows


def configs_part(network: Network) -> dict[str, Any]:
    """Return what every config loses, the coarse one with weights of 8 and of 4 bits."""
    return evaluate(network, (COARSE, *OTHERS), [f"{COARSE}.weight_bits=8,4"])[1]


def costly_widths() -> list[int]:
    """Return the bits of weights with which the coarse config loses more than half a point."""
    if "configs" not in (parts := found_before()):
        raise SystemExit("the part 'configs' comes first: it says where layers in float are needed")
    points = {bits: parts["configs"][f"{COARSE}[weight_bits={bits}]"]["points"][0] for bits in (8, 4)}
    return [bits for bits, lost in points.items() if lost < -100 * DROP]


def search_part(network: Network) -> dict[str, Any]:
    """Return what a search gives for each width that loses too much, and how its recipe does on all items."""
    found = {}
    for bits in costly_widths():
        start = time.monotonic()
        report = qx.search(
            model=str(NETWORK),
            data=network.data,
            weights=network.weights,
            eval_n=network.eval_n,
            configs=[COARSE],
            settings=[f"{COARSE}.weight_bits={bits}"],
            max_drop=MAX_DROP,
            minimize="size",
            progress=False,
        )
        seconds = time.monotonic() - start
        names = None if report.recipe is None else str(report.recipe.options.get("float_layers", ""))
        row: dict[str, Any] = {
            "seconds": round(seconds),
            "candidates": report.candidates,
            "choosing_items": report.choosing_items,
            "held_out_items": report.held_out_items,
            "verified": report.is_verified,
            "float_layers": names,
            "finalists": [_finalist(one) for one in report.finalists],
            "nearest": None if report.nearest is None else _finalist(report.nearest),
        }
        if report.recipe is not None:
            _, rows = evaluate(network, [COARSE], report.recipe.settings)
            row["on_all_items"] = next(figures for name, figures in rows.items() if name.startswith(COARSE))
        found[str(bits)] = row
    return found


def _finalist(finalist: Any) -> dict[str, Any]:
    return {
        "row": finalist.row,
        "size": finalist.objective,
        "held": [{"value": held.value, "ci": held.ci, "verdict": held.verdict} for held in finalist.held],
    }


def leave_one_out_part(network: Network) -> dict[str, Any]:
    """Return what each layer alone in float gives back, and how many of the best together it takes."""
    found = {}
    for bits in costly_widths():
        start = time.monotonic()
        report = look(bits, network, top=1000)
        seconds = time.monotonic() - start
        order = [layer.name for layer in report.worst()]
        gains = {name: gain.difference for name, gain in report.gains.items() if gain.difference is not None}
        ranking = sorted(gains, key=lambda name: -gains[name])
        found[str(bits)] = {
            "seconds": round(seconds),
            "points_given_back": {name: round(100 * gains[name], 2) for name in ranking},
            "place_of_the_costliest_in_the_cheap_step": 1 + order.index(ranking[0]),
            "together": together(bits, ranking, network),
        }
    return found


def cheap_part(network: Network) -> dict[str, Any]:
    """Return how many of the layers that the cheap step has first it takes together."""
    found = {}
    for bits in costly_widths():
        start = time.monotonic()
        ranking = [layer.name for layer in look(bits, network, top=0).worst()]
        seconds = round(time.monotonic() - start)
        found[str(bits)] = {
            "seconds": seconds,
            "order": ranking,
            "together": together(bits, ranking, network),
        }
    return found


def look(bits: int, network: Network, top: int) -> LayersReport:
    """Return what ``qx layers`` finds with as many layers tried in float, one by one."""
    request = Request(
        models=(str(NETWORK),),
        weights=network.weights,
        data=network.data,
        eval_n=network.eval_n,
        settings=(f"{COARSE}.weight_bits={bits}",),
        trained=True,
    )
    return find_costly_layers(Host.discover(), request, COARSE, Lines(), items=ITEMS, top=top)


def together(bits: int, ranking: Sequence[str], network: Network) -> list[dict[str, Any]]:
    """Return the figures with the first 1, 2, 4, 8, 16 layers of a ranking in float."""
    counts = [2**power for power in range(MOST.bit_length()) if 2**power <= len(ranking)]
    names = [chosen_names(ranking[:count]) for count in counts]
    settings = [f"{COARSE}.weight_bits={bits}", f"{COARSE}.float_layers={','.join(names)}"]
    rows = evaluate(network, [COARSE], settings)[1]
    ends = [label({FLOAT_LAYERS.name: text})[1:] for text in names]
    return [
        {"layers": count, **next(figures for row, figures in rows.items() if row.endswith(end))}
        for count, end in zip(counts, ends, strict=True)
    ]


# NNCF ---------------------------------------------------------------------------------------------


def nncf_part(network: Network) -> dict[str, Any]:
    """Return what accuracy control gives: as by default, and with a scale for each layer in 8 and 4 bits."""
    result, rows = evaluate(network, ["openvino_int8", "openvino_fp32"])
    record = next(iter(result.results.run.workloads.values()))
    assert record.evaluation_sha256 is not None
    folder, calibrations = open_cache() / SPLITS, record.calibrations
    calibration, evaluated = (
        Split.read(folder / name) for name in (next(iter(calibrations.values())), record.evaluation_sha256)
    )
    found: dict[str, Any] = {"qx": rows}
    for words, bits, per_channel in (
        ("by channel, 8 bits", 8, True),
        ("by layer, 8 bits", 8, False),
        ("by layer, 4 bits", 4, False),
    ):
        own = {} if bits == 8 else {"num_bits": bits}
        found[words] = control_accuracy(
            network.weights, calibration, evaluated, {**own, "per_channel": per_channel}
        )
    return found


def control_accuracy(
    weights: Path, calibration: Split, evaluated: Split, parameters: dict[str, Any]
) -> dict[str, Any]:
    """Quantize with accuracy control, and return seconds, accuracy and what stays in float.

    ``parameters`` are those of the quantization of weights.
    """
    from qx_plugins.runtimes.openvino.converting import silence_telemetry

    silence_telemetry()
    import nncf
    import openvino
    from nncf.quantization.advanced_parameters import (
        AdvancedQuantizationParameters,
        OverflowFix,
        QuantizationParameters,
    )

    model = make_model()
    model.load_state_dict(torch.load(weights, weights_only=True))
    images, labels = np.array(evaluated.inputs["image"]), np.array(evaluated.targets[LABELS])
    samples = np.array(calibration.inputs["image"])
    example = torch.from_numpy(samples[:2])
    program = torch.export.export(model.eval(), (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    converted = openvino.convert_model(program)
    converted.reshape({0: openvino.PartialShape([-1, *example.shape[1:]])})

    def validate(compiled: Any, items: Iterable[tuple[np.ndarray, int]]) -> tuple[float, list[float]]:
        right = [float(compiled(image)[0].argmax() == label) for image, label in items]
        return float(np.mean(right)), right

    pairs = [(images[place : place + 1], int(label)) for place, label in enumerate(labels)]
    start = time.monotonic()
    quantized = nncf.quantize_with_accuracy_control(
        converted,
        calibration_dataset=nncf.Dataset([samples[place : place + 1] for place in range(len(samples))]),
        validation_dataset=nncf.Dataset(pairs),
        validation_fn=validate,
        max_drop=DROP,
        subset_size=len(samples),
        advanced_quantization_parameters=AdvancedQuantizationParameters(
            overflow_fix=OverflowFix.DISABLE,
            weights_quantization_params=QuantizationParameters(**parameters),
        ),
    )
    seconds = time.monotonic() - start
    properties = {"INFERENCE_PRECISION_HINT": "f32"}
    core = openvino.Core()
    plain, narrow = (core.compile_model(one, "CPU", properties) for one in (converted, quantized))
    before, after = (validate(compiled, pairs)[0] for compiled in (plain, narrow))
    return {
        "seconds": round(seconds),
        "fp32": before,
        "accuracy": after,
        "points": round(100 * (after - before), 2),
        **weights_of(quantized),
    }


def weights_of(model: Any) -> dict[str, Any]:
    """Return the share of the weights of a model in 8 bits or fewer, and how many of them are not."""
    import openvino
    from qx_plugins.runtimes.openvino.weights import read

    with TemporaryDirectory() as folder:
        openvino.save_model(model, Path(folder) / "model.xml", compress_to_fp16=False)
        files = ["model.xml", "model.bin"]
        stored = read(Artifact(folder=Path(folder), files=files, loader="openvino")).layers
    narrow = sum(weight.elements for weight in stored.values() if weight.bits <= 8)
    return {
        "share_in_8_bits": round(narrow / sum(weight.elements for weight in stored.values()), 4),
        "in_float": sum(weight.bits > 8 for weight in stored.values()),
        "weights": len(stored),
    }


PARTS = {
    "configs": configs_part,
    "search": search_part,
    "leave_one_out": leave_one_out_part,
    "cheap": cheap_part,
    "nncf": nncf_part,
}


def found_before() -> dict[str, Any]:
    """Return the parts that are kept."""
    place = RESULTS / f"{NAME}.json"
    return json.loads(place.read_text(encoding="utf-8"))["parts"] if place.is_file() else {}


def main() -> None:
    """Train the network where that has not been done, and print and keep the figures of each part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="CIFAR-10, as cifar10_cnn takes it")
    parser.add_argument("--work", type=Path, required=True, help="folder in which the weights are kept")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument(
        "--part", action="append", choices=["train", *PARTS], help="this one alone (repeatable)"
    )
    parser.add_argument("--eval-n", type=int, help="items that are evaluated, to try it out; by default all")
    arguments = parser.parse_args()
    weights = trained_weights(arguments.data, arguments.work, arguments.epochs)
    network = Network(arguments.data, weights, arguments.eval_n)
    for part in arguments.part or PARTS:
        if part != "train":
            figures = PARTS[part](network)
            keep(
                NAME,
                {
                    "epochs": arguments.epochs,
                    "eval_n": arguments.eval_n,
                    "parts": {**found_before(), part: figures},
                },
            )


if __name__ == "__main__":
    main()
