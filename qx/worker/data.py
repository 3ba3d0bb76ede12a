"""Lay down a workload's data as plain array files, so that no launch needs what decoded them."""

from __future__ import annotations

import shutil
from pathlib import Path

from attrs import evolve

from qx.errors import DataError, UsageError
from qx.files import new_folder
from qx.jobs import DataJob
from qx.worker.arrays import Split, drawn_over_classes
from qx.worker.channel import Channel
from qx.worker.plugins import host_for, loading_context, seed_everything


def run(job: DataJob, channel: Channel) -> None:
    """Write the splits under their fingerprints, if they are not there."""
    host = host_for(job, (job.workload,))
    name = job.workload.name
    context = loading_context(job, host, progress=channel.progress)
    splits = {}
    for split in ("test", "train"):
        channel.stage(f"load_data {split}")
        seed_everything(job.seed)
        splits[split] = _checked(Split.of(host.call(name, "load_data", split=split, context=context)), split)
    train, test = splits["train"], splits["test"]
    if not job.labels:
        test = evolve(test, labels=None)
    if (most := max(job.calibration_counts, default=0)) > len(train):
        raise UsageError(
            f"{most} calibration images are asked for, but {name} has {len(train)} training items: "
            f"give --calibration-n {len(train)} or fewer"
        )
    channel.stage("select")
    home = Path(job.cache) / "splits"
    evaluation = _laid_down(test, home)
    calibrations = {}
    if most:
        # The first of them are the same however many are drawn: smaller splits are heads of the largest.
        drawn = train.take(drawn_over_classes(train.labels, len(train), most, job.seed))
        for count in job.calibration_counts:
            calibrations[count] = _laid_down(drawn.take(slice(count)), home).name
    training = None
    if job.training:
        channel.stage("lay down train")
        training = _laid_down(train, home).name
    channel.answer(
        source=test.source,
        items=len(test),
        item_bytes=sum(first.nbytes for first in test.rows(0, 1).values()),
        classes=list(test.classes),
        labels=test.labels is not None,
        evaluation=evaluation.name,
        calibrations=calibrations,
        training=training,
        folder=str(home),
    )


def _checked(split: Split, name: str) -> Split:
    lengths = {key: len(array) for key, array in split.inputs.items()}
    if not lengths or min(lengths.values()) == 0:
        raise DataError(f"the {name} split is empty")
    if split.labels is not None:
        lengths["labels"] = len(split.labels)
    if len(set(lengths.values())) != 1:
        raise DataError(f"the {name} split has arrays of different lengths: {lengths}")
    return split


def _laid_down(split: Split, home: Path) -> Path:
    place = home / split.fingerprint()
    if not place.is_dir():
        _check_room(split, home)
        with new_folder(place) as folder:
            split.write(folder)
    return place


def _check_room(split: Split, home: Path) -> None:
    due = split.nbytes()
    home.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(home).free
    if due > free:
        raise UsageError(
            f"laying down {len(split):,} items takes {due / 1e9:.1f} GB, "
            f"and {home} has {free / 1e9:.1f} GB free: "
            f"name a folder with more in QX_CACHE, or choose configs that do not fine-tune"
        )
