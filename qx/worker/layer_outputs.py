"""Compare what layers give inside of an artifact with the same values in one in float, of the same loader."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from qx.errors import PluginError, Unsupported
from qx.foreign import to_line
from qx.processes.job_answers import LayerOutputsAnswer
from qx.processes.jobs import LayerOutputsJob
from qx.values import Array
from qx.worker.arrays import Split
from qx.worker.channel import Channel
from qx.worker.layers import BATCH_SIZE, chosen_items
from qx.worker.plugins import BoundPlugin, seed_everything
from qx.worker.ratios import Ratio
from qx.worker.serving import bind_loader, host_of_artifact, import_runtime

#: Longest reason, in characters.
MAX_TEXT = 300


def run(job: LayerOutputsJob, channel: Channel) -> None:
    """Have the loader give both values of each layer, batch by batch, and answer with their differences."""
    channel.stage("import")
    import_runtime(job)
    seed_everything(job.seed)
    loader = bind_loader(job, host_of_artifact(job))
    channel.stage("layer_outputs")
    ratios: dict[str, Ratio] = defaultdict(Ratio)
    split = Split.read(Path(job.inputs))
    chosen = chosen_items(len(next(iter(split.inputs.values()))), job.items)
    for start in range(0, len(chosen), BATCH_SIZE):
        places = chosen[start : start + BATCH_SIZE]
        inputs = {name: np.array(array[places]) for name, array in split.inputs.items()}
        try:
            pairs = loader.call(
                "layer_outputs",
                artifact=job.artifact.record(),
                reference=job.reference.record(),
                inputs=inputs,
            )
        except Unsupported as error:
            channel.answer(LayerOutputsAnswer(refusal=to_line(str(error), MAX_TEXT)))
            return
        if pairs is None:
            refusal = f"loader {loader.name} knows no values inside of this artifact"
            channel.answer(LayerOutputsAnswer(refusal=refusal))
            return
        _add(ratios, pairs, loader)
    channel.answer(LayerOutputsAnswer(arrived={layer: ratio.decibels for layer, ratio in ratios.items()}))


def checked_pairs(pairs: object, loader: BoundPlugin) -> dict[str, tuple[Array, Array]]:
    """Return both arrays of each layer that a loader gave. Raises ``PluginError`` for anything else."""
    if not isinstance(pairs, Mapping):
        raise PluginError(f"{loader.name}: layer_outputs gave a {type(pairs).__name__}, expected a mapping")
    checked = {}
    for layer, pair in pairs.items():
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise PluginError(
                f"{loader.name}: layer_outputs gave no two arrays, one of each artifact for layer {layer!r}"
            )
        ours, expected = map(np.asarray, pair)
        if ours.shape != expected.shape:
            raise PluginError(
                f"{loader.name}: layer_outputs gave {ours.shape} and {expected.shape} "
                f"for layer {layer!r}, expected two arrays of one shape"
            )
        checked[str(layer)] = ours, expected
    return checked


def _add(ratios: Mapping[str, Ratio], pairs: object, loader: BoundPlugin) -> None:
    """Add what layers gave for a batch, ours and that in float."""
    for layer, (ours, expected) in checked_pairs(pairs, loader).items():
        signal = np.asarray(expected, dtype=np.float64)
        ratios[layer].signal += float(np.square(signal).sum())
        ratios[layer].noise += float(np.square(signal - ours).sum())
