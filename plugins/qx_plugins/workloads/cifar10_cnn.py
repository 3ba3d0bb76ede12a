"""CIFAR-10 (Krizhevsky, 2009) with a small convolutional network: 32x32 colour photographs of ten kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import LABELS, Context, Data, Option, Workload, hookimpl

if TYPE_CHECKING:
    import torch


@hookimpl
def describe() -> Workload:
    return Workload(
        name="cifar10_cnn",
        summary="A convolutional network of 288,746 parameters on the 10,000 test images of CIFAR-10.",
        weights="qx_weights:fp32_baseline.pt",
        default=True,
        reads_any_data=True,
        fallback="digits_cnn",
        options=(Option(name="epochs", default=45, help="Passes over the training images, for `qx train`."),),
    )


@hookimpl
def make_model(context: Context) -> torch.nn.Module:
    from qx_plugins.networks.cifar_cnn import CifarCNN

    return CifarCNN(quantizable=context.quantizable)


@hookimpl
def load_data(split: str, context: Context) -> Data:
    from qx_plugins.datasets.cifar10 import load_cifar10
    from qx_plugins.datasets.data_files import is_file, load_calibration, load_file

    calibrates = split == "train" and context.calibration_data is not None
    place = context.calibration_data if calibrates else context.data
    if place is not None and is_file(place):
        return load_calibration(context) if calibrates else load_file(split, context)
    return load_cifar10(
        split,
        data=place,
        cache=context.cache,
        offline=context.offline,
        progress=context.progress,
    )


@hookimpl
def example_inputs(batch_size: int, context: Context) -> tuple[torch.Tensor, ...]:
    import torch

    generator = torch.Generator().manual_seed(context.seed)
    return (torch.randn(batch_size, 3, 32, 32, generator=generator),)


@hookimpl
def train(model: torch.nn.Module, context: Context) -> torch.nn.Module:
    from qx_plugins.networks.training import train_classifier

    data = load_data("train", context)
    return train_classifier(
        model,
        data.inputs["image"],
        data.targets[LABELS],
        epochs=context.options["epochs"],
        seed=context.seed,
        progress=context.progress,
    )
