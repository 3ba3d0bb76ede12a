"""What the workloads of torchvision's networks share: a plugin object, one for each network.

Weights are the user's (``--weights``, a state dict as torchvision publishes them), else seeded random.
Images come from ``--data``, a tree of class folders, else they are generated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from attrs import frozen

from qx import Context, Data, DataError, Option, Workload, hookimpl

if TYPE_CHECKING:
    import torch
    from torch import nn

SHAPE = (3, 224, 224)
#: Of ImageNet, as torchvision's weights were trained; the middle of each image is 224 of 256 pixels.
MEAN, STD, CROP = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 0.875
#: Generated images: enough to calibrate on.
GENERATED = {"train": 4096, "test": 128}


@frozen
class TorchvisionWorkload:
    """A workload whose model is one of torchvision's, on images of 224x224 pixels."""

    name: str
    summary: str
    #: Makes the model; called with whether it is to be quantizable, and with ``num_classes=``.
    make: Callable[..., nn.Module]

    @hookimpl
    def describe(self) -> Workload:
        """Say what it is."""
        return Workload(
            name=self.name,
            summary=self.summary,
            random_weights=True,
            options=(
                Option(name="num_classes", default=1000, minimum=2, help="Classes of the weights."),
                Option(
                    name="images",
                    default=1000,
                    minimum=0,
                    help="Test images of --data, drawn evenly over the classes; 0 for all.",
                ),
            ),
        )

    @hookimpl
    def make_model(self, context: Context) -> nn.Module:
        """The network, its parameters random."""
        return self.make(context.quantizable, num_classes=context.options["num_classes"])

    @hookimpl
    def load_data(self, split: str, context: Context) -> Data:
        """Images of the user's, or generated ones, which have no right answers."""
        if context.data is not None:
            from qx_plugins.datasets.fitted_images import load_fitted

            data = load_fitted(
                split,
                root=context.data,
                shape=SHAPE,
                mean=MEAN,
                std=STD,
                crop=CROP,
                count=context.options["images"] if split == "test" else 0,
                cache=context.cache,
                progress=context.progress,
            )
            if len(data.classes) != (classes := context.options["num_classes"]):
                raise DataError(
                    f"{context.data} has {len(data.classes)} class folders, and {self.name} is made for "
                    f"{classes} classes: --set {self.name}.num_classes={len(data.classes)} makes it for these"
                )
            return data
        from qx_plugins.datasets.generated_images import GeneratedImages

        images = GeneratedImages(GENERATED[split], SHAPE, seed=list(GENERATED).index(split))
        # Without labels: nothing is right. With the names of classes it is known that outputs are scores.
        classes = tuple(map(str, range(context.options["num_classes"])))
        return Data(inputs={"image": images}, classes=classes, source="generated images")

    @hookimpl
    def example_inputs(self, batch_size: int, context: Context) -> tuple[torch.Tensor, ...]:
        """Random images."""
        import torch

        generator = torch.Generator().manual_seed(context.seed)
        return (torch.randn(batch_size, *SHAPE, generator=generator),)
