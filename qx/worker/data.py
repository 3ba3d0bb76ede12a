"""Write a workload's data as plain array files, so that no launch needs the libraries that decode them."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from attrs import evolve

from qx.contract.records import LABELS
from qx.contract.tasks import Labels
from qx.errors import DataError, UsageError
from qx.processes.job_answers import DataAnswer, ItemInput
from qx.processes.jobs import DataJob
from qx.storage.cache import SPLITS, new_entry, read_entry
from qx.storage.digests import Damaged, FileDigest
from qx.values import Array
from qx.worker.arrays import Split, draw_items, drawn_over_classes, fair_order
from qx.worker.channel import Channel
from qx.worker.plugins import loading_workload_of, seed_everything


def run(job: DataJob, channel: Channel) -> None:
    """Write the splits into folders named by their fingerprints, unless they are there already."""
    counts = (*job.calibration_counts, *job.further_counts)
    workload = loading_workload_of(
        job,
        progress=channel.progress,
        calibration_data=Path(job.calibration_data) if job.calibration_data else None,
        eval_n=job.eval_n,
        calibration_n=None if job.training else max(counts, default=0),
    )
    splits = {}
    for split in ("test", "train"):
        channel.stage(f"load_data {split}")
        seed_everything(job.seed)
        splits[split] = _checked(Split.of(workload.call("load_data", split=split)), split)
    test = _drawn(splits["test"], job.eval_n)
    if job.in_fair_order:
        test = test.reordered(fair_order(test.labels, len(test)))
    train = _named_alike(splits["train"], test)
    if job.calibration_data and train.classes and test.classes and train.classes != test.classes:
        shown = [", ".join(split.classes[:5]) for split in (train, test)]
        raise DataError(
            f"the data that calibrate have the classes {shown[0]}, and those that are evaluated {shown[1]}"
        )
    if not job.targets:
        test = evolve(test, targets={})
    if (named := max(job.named_counts, default=0)) > len(train):
        raise UsageError(
            f"{named} calibration items are asked for, but {workload.name} has {len(train)} training "
            f"items: give --calibration-n, or the option calibration_n of a config, {len(train)} or fewer"
        )
    channel.stage("select")
    home = Path(job.cache) / SPLITS
    #: Damaged splits in the cache, each with the reason.
    damaged: dict[str, str] = {}
    evaluation = _write_or_reuse(test, home, damaged)
    calibrations = _write_draw(train, test, job.calibration_counts, job.seed, home, damaged)
    further = {
        seed: _write_draw(train, test, job.further_counts, seed, home, damaged) for seed in job.further_seeds
    }
    training = None
    if job.training:
        channel.stage("lay down train")
        training = _write_or_reuse(train, home, damaged).name
    at_lengths = {}
    if job.lengths:
        # It imports torch.
        from qx.worker.lengths import check_lengths, find_lengths, of_length

        channel.stage("example_inputs")
        lengths = check_lengths(find_lengths(workload), job.lengths)
        for length in job.lengths:
            seed_everything(job.seed)
            at_length = of_length(workload, test, lengths, length)
            at_lengths[length] = _write_or_reuse(at_length, home, damaged).name
    channel.answer(
        DataAnswer(
            lengths=at_lengths,
            source=test.source,
            preprocessing=test.preprocessing,
            items=len(test),
            total_items=max(len(test), test.total or 0),
            item_bytes=sum(array.nbytes for array in test.rows(0, 1).values()),
            classes=test.classes,
            labels=_describe_labels(test.labels),
            task=test.task,
            has_targets=bool(test.targets),
            inputs=_describe_inputs(test),
            training_items=len(train),
            shared_items=_count_shared(home, calibrations, test) if job.calibration_data else 0,
            evaluation=evaluation.name,
            calibrations=calibrations,
            training=training,
            further=further,
            damaged=damaged,
            folder=str(home),
        )
    )


def _write_draw(
    train: Split, test: Split, counts: Sequence[int], seed: int, home: Path, damaged: dict[str, str]
) -> dict[int, str]:
    """Draw calibration items, and return the name of the folder of a split for each number of them."""
    if not counts:
        return {}
    # The first items do not depend on how many are drawn, so smaller splits are heads of the largest.
    largest = min(max(counts), len(train))
    drawn = train.take(drawn_over_classes(train.labels, len(train), largest, seed))
    _check_alike(drawn, test)
    return {count: _write_or_reuse(drawn.take(slice(count)), home, damaged).name for count in counts}


def _drawn(test: Split, count: int | None) -> Split:
    """Return the items that are evaluated: ``count`` of the test split, or all of it for 0 and None."""
    if not count or count >= len(test):
        return test
    return evolve(test.take(draw_items(test.labels, len(test), count)), total=test.total or len(test))


def _named_alike(train: Split, test: Split) -> Split:
    """Return the training split with the name of the evaluation split's only input, where both have one."""
    if len(train.inputs) != 1 or len(test.inputs) != 1:
        return train
    return evolve(train, inputs=dict(zip(test.inputs, train.inputs.values(), strict=True)))


def _count_shared(home: Path, calibrations: Mapping[int, str], test: Split) -> int:
    """Return how many items of the largest calibration split are evaluation items too, value by value."""
    if not calibrations:
        return 0
    calibration = Split.read(home / calibrations[max(calibrations)])
    evaluated = set(_item_digests(test))
    return sum(digest in evaluated for digest in _item_digests(calibration))


def _item_digests(split: Split) -> Iterator[bytes]:
    """Yield a digest of the inputs of each item."""
    for batch in split.batches(BATCH):
        for item in zip(*batch.inputs.values(), strict=True):
            digest = hashlib.sha256()
            for array in item:
                digest.update(np.ascontiguousarray(array).data)
            yield digest.digest()


#: Number of items that are read at once to compare them.
BATCH = 256
#: Number of items whose values say in which range inputs lie.
RANGE_ITEMS = 32


def _describe_inputs(split: Split) -> tuple[ItemInput, ...]:
    """Describe the inputs of one item, with the range of the values of the first items."""
    described = []
    for name, array in split.rows(0, min(RANGE_ITEMS, len(split))).items():
        values = array.astype(float) if array.dtype.kind in "biuf" and array.size else None
        is_finite = values is not None and bool(np.isfinite(values).all())
        described.append(
            ItemInput(
                name=name,
                dtype=array.dtype.name,
                shape=array.shape[1:],
                lowest=float(values.min()) if values is not None and is_finite else None,
                highest=float(values.max()) if values is not None and is_finite else None,
            )
        )
    return tuple(described)


def _check_alike(train: Split, test: Split) -> None:
    """Raise ``DataError`` where items of the two splits have other inputs."""
    kinds = [[(item.name, str(item)) for item in _describe_inputs(split)] for split in (train, test)]
    if kinds[0] != kinds[1]:
        shown = [", ".join(f"{name} {kind}" for name, kind in inputs) for inputs in kinds]
        raise DataError(f"the inputs of the train split are {shown[0]}, and of the test split {shown[1]}")


def _describe_labels(labels: Array | None) -> Labels | None:
    """Describe the shape, type and range of the labels; None without labels."""
    if labels is None:
        return None
    is_whole = labels.dtype.kind in "iub"
    return Labels(
        shape=labels.shape[1:],
        dtype=labels.dtype.name,
        lowest=int(labels.min()) if is_whole else None,
        highest=int(labels.max()) if is_whole else None,
    )


def _check_targets(split: Split, name: str) -> None:
    """Raise ``DataError`` for targets that no metric can use."""
    for target, array in split.targets.items():
        if array.dtype.kind not in "iubf" or not array.ndim:
            words = "the labels" if target == LABELS else f"the targets {target!r}"
            raise DataError(
                f"{words} of the {name} split are {array.dtype} of shape {list(array.shape)}; expected an "
                f"array of numbers [items, ...], the class of each item or whatever the model is to give"
            )
    labels = split.labels
    if labels is not None and split.classes and labels.ndim == 1 and labels.dtype.kind in "iub":
        invalid = labels[(labels < 0) | (labels >= len(split.classes))]
        if len(invalid):
            raise DataError(
                f"the {name} split has the label {int(invalid[0])}, and its {len(split.classes)} classes are "
                f"numbered from 0 to {len(split.classes) - 1}"
            )


def _checked(split: Split, name: str) -> Split:
    """Return a split whose arrays fit each other. Raises ``DataError`` if they do not."""
    for key in (*split.inputs, *split.targets):
        if not isinstance(key, str):
            raise DataError(f"the {name} split has an array with the name {key!r}, and names are text")
    lengths = {key: len(array) for key, array in split.inputs.items()}
    if not lengths or min(lengths.values()) == 0:
        raise DataError(f"the {name} split is empty")
    _check_targets(split, name)
    for key, array in split.targets.items():
        # An input may have the same name.
        lengths[f"{key} (target)" if key in lengths else key] = len(array)
    if len(set(lengths.values())) != 1:
        raise DataError(f"the {name} split has arrays of different lengths: {lengths}")
    return split


def _write_or_reuse(split: Split, home: Path, damaged: dict[str, str]) -> Path:
    """Return the folder of a split, as found undamaged in the cache or written now."""
    place = home / split.fingerprint()

    def check(folder: Path, digests: Mapping[str, FileDigest]) -> Path:
        if missing := split.files - digests.keys():
            raise Damaged(f"it lacks {min(missing)}")
        return folder

    try:
        if (cached := read_entry(place, check)) is not None:
            return cached
    except Damaged as error:
        damaged[place.name] = str(error)
    _check_room(split, home)
    with new_entry(place, replace=place.name in damaged) as folder:
        split.write(folder)
    return place


def _check_room(split: Split, home: Path) -> None:
    """Raise ``UsageError`` if the disk has too little room for a split."""
    size = split.nbytes()
    home.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(home).free
    if size > free:
        raise UsageError(
            f"storing {len(split):,} items takes {size / 1e6:,.1f} MB, "
            f"and {home} has {free / 1e6:,.1f} MB free: "
            f"name a folder with more in QX_CACHE, or choose configs that do not fine-tune"
        )
