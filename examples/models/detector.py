"""torchvision's SSD as it is deployed: images in, raw heads out; boxes are decoded after it."""

from functools import cache
from itertools import pairwise

import torch
from torch import nn
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD

TASK = "detection"
SIZE, ITEMS, KEPT = 64, 200, 10


class Backbone(nn.Module):
    out_channels = (64, 64)

    def __init__(self):
        super().__init__()
        channels = [3, 16, 32, 64, 64]
        blocks = [
            nn.Sequential(nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU())
            for before, after in pairwise(channels)
        ]
        self.fine, self.coarse = nn.Sequential(*blocks[:3]), blocks[3]

    def forward(self, images):
        fine = self.fine(images)
        return {"fine": fine, "coarse": self.coarse(fine)}


@cache
def make_detector():
    anchors = DefaultBoxGenerator([[2], [2]], scales=[0.2, 0.35, 0.5])
    return SSD(
        Backbone(),
        anchors,
        (SIZE, SIZE),
        3,
        image_mean=3 * [0.0],
        image_std=3 * [1.0],
        detections_per_img=KEPT,
    )


class Heads(nn.Module):
    def __init__(self, detector):
        super().__init__()
        self.backbone, self.head = detector.backbone, detector.head

    def forward(self, images):
        return self.head(list(self.backbone(images).values()))


def make_model():
    return Heads(make_detector())


def load_data(split):
    """Return images of a disc (class 1) and a square (class 2) in noise."""
    random = torch.Generator().manual_seed(len(split))
    half = 6 + 6 * torch.rand(ITEMS, 2, 1, generator=random)
    centres = 12 + 40 * torch.rand(ITEMS, 2, 2, generator=random)
    centres[:, 1] = (centres[:, 0] + 16 + 24 * torch.rand(ITEMS, 2, generator=random) - 12) % 40 + 12
    pixels = torch.stack(torch.meshgrid(2 * [torch.arange(SIZE)], indexing="xy"))
    away = pixels - centres[..., None, None]
    inside = torch.stack([away[:, 0].norm(dim=1), away[:, 1].abs().amax(1)], 1) < half[..., None]
    images = 0.2 * torch.randn(ITEMS, 3, SIZE, SIZE, generator=random)
    for shape in range(2):
        colours = 0.5 + torch.rand(ITEMS, 3, 1, 1, generator=random)
        images = torch.where(inside[:, shape, None], colours, images)
    boxes = torch.cat([centres - half, centres + half], 2)
    return images, {"boxes": boxes, "labels": torch.tensor([1, 2]).repeat(ITEMS, 1)}


def train(model, epochs=12):
    images, targets = load_data("train")
    detector = make_detector().train()
    detector.backbone, detector.head = model.backbone, model.head
    optimizer = torch.optim.Adam(detector.parameters(), lr=3e-3)
    for _ in range(epochs):
        for chosen in torch.randperm(ITEMS).split(20):
            answers = [{name: target[item] for name, target in targets.items()} for item in chosen]
            optimizer.zero_grad()
            sum(detector(list(images[chosen]), answers).values()).backward()
            optimizer.step()
    return model


def postprocess(outputs):
    """Decode boxes and suppress those that overlap: boxes [n, k, 4], scores and labels [n, k]."""
    heads = {name: torch.from_numpy(array) for name, array in outputs.items()}
    count, detector = len(heads["cls_logits"]), make_detector()
    maps = [torch.empty(count, 1, size, size) for size in (SIZE // 8, SIZE // 16)]
    images = ImageList(torch.empty(count, 3, SIZE, SIZE), count * [(SIZE, SIZE)])
    anchors = detector.anchor_generator(images, maps)
    boxes, scores = torch.zeros(count, KEPT, 4), torch.zeros(count, KEPT)
    labels = torch.full((count, KEPT), -1)
    for item, answer in enumerate(detector.postprocess_detections(heads, anchors, images.image_sizes)):
        kept = len(answer["scores"])
        for array, name in ((boxes, "boxes"), (scores, "scores"), (labels, "labels")):
            array[item, :kept] = answer[name]
    return {"boxes": boxes.numpy(), "scores": scores.numpy(), "labels": labels.numpy()}
