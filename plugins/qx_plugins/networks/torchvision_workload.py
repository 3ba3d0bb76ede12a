"""The class of the workloads of torchvision's networks, whose instances are plugins.

Weights are the user's (``--weights``, a state dict as torchvision publishes them), or else seeded random.
Images come from ``--data``, a tree of class folders, or else they are generated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from attrs import frozen

from qx import Context, Data, DataError, Option, Workload, hookimpl

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import nn

#: Channels, height and width of the images.
SHAPE = (3, 224, 224)
#: Mean and standard deviation of ImageNet, with which torchvision's weights were trained. The crop is 224 of
#: 256 pixels.
MEAN, STD, CROP = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 0.875
#: Number of generated images in each split: enough for calibration.
GENERATED = {"train": 4096, "test": 128}


@frozen
class TorchvisionWorkload:
    """A workload whose model is one of torchvision's, on images of 224x224 pixels."""

    name: str
    summary: str
    #: Makes the model; called as ``make(quantizable, num_classes=...)``.
    make: Callable[..., nn.Module]

    @hookimpl
    def describe(self) -> Workload:
        """Return the record of this workload."""
        return Workload(
            name=self.name,
            summary=self.summary,
            random_weights=True,
            reads_any_data=True,
            options=(Option(name="num_classes", default=1000, minimum=2, help="Classes of the weights."),),
        )

    @hookimpl
    def make_model(self, context: Context) -> nn.Module:
        """Return the network with random parameters."""
        return self.make(context.quantizable, num_classes=context.options["num_classes"])

    @hookimpl
    def load_data(self, split: str, context: Context) -> Data:
        """Return the user's images, or generated ones without labels."""
        if split == "train" and context.calibration_data is not None:
            return self._load(split, context.calibration_data, context)
        if context.data is not None:
            return self._load(split, context.data, context)
        from qx_plugins.datasets.fitted_images import describe_fitting
        from qx_plugins.datasets.generated_images import GeneratedImages

        images = GeneratedImages(GENERATED[split], SHAPE, seed=list(GENERATED).index(split))
        # Generated images have no labels. Names of classes say that outputs are scores.
        classes = tuple(map(str, range(context.options["num_classes"])))
        return Data(
            inputs={"image": images},
            classes=classes,
            source="generated images",
            preprocessing=f"generated noise here; {describe_fitting(SHAPE, MEAN, STD, CROP)}",
        )

    def _load(self, split: str, place: Path, context: Context) -> Data:
        """Return a split of the user's data, images or arrays. Raises ``DataError`` and ``UsageError``."""
        from qx_plugins.datasets.data_files import is_folder, load_calibration, load_file
        from qx_plugins.datasets.fitted_images import image_count, load_fitted

        calibrates = place is context.calibration_data
        if not is_folder(place, "--calibration-data" if calibrates else "--data"):
            return load_calibration(context) if calibrates else load_file(split, context)
        data = load_fitted(
            split,
            root=place,
            shape=SHAPE,
            mean=MEAN,
            std=STD,
            crop=CROP,
            count=image_count(split, context),
            cache=context.cache,
            progress=context.progress,
            sets_aside=context.calibration_data is None,
        )
        if len(data.classes) != (classes := context.options["num_classes"]):
            raise DataError(
                f"{place} has {len(data.classes)} class folders, but {self.name} has {classes} classes: "
                f"--set {self.name}.num_classes={len(data.classes)} makes it fit"
            )
        return data

    @hookimpl
    def example_inputs(self, batch_size: int, context: Context) -> tuple[torch.Tensor, ...]:
        """Return random images, float32 ``[batch_size, 3, 224, 224]``."""
        import torch

        generator = torch.Generator().manual_seed(context.seed)
        return (torch.randn(batch_size, *SHAPE, generator=generator),)
