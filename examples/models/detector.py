"""torchvision's SSDLite as it is deployed: images in, raw heads out; boxes are decoded after it."""

from functools import cache

import torch
from torch import nn
from torchvision.models.detection import ssdlite320_mobilenet_v3_large
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

SIZE, ITEMS, KEPT = 128, 200, 10


@cache
def make_detector():
    torch.manual_seed(0)
    detector = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=3)
    detector.transform.fixed_size = (SIZE, SIZE)
    return detector.eval()


class Heads(nn.Module):
    def __init__(self, detector):
        super().__init__()
        self.backbone, self.head = detector.backbone, detector.head

    def forward(self, images):
        return self.head(list(self.backbone(images).values()))


def make_model():
    return Heads(make_detector())


def load_data(split):
    """Return images with a square (class 1) on the left and a disc (class 2) on the right."""
    random = torch.Generator().manual_seed(len(split))
    half = 14 + 12 * torch.rand(ITEMS, 2, 1, generator=random)
    centres = 28 + 8 * torch.rand(ITEMS, 2, 2, generator=random) * torch.tensor([1, 9])
    centres[:, 1, 0] += 64
    pixels = torch.stack(torch.meshgrid(2 * [torch.arange(SIZE)], indexing="xy"))
    away = pixels[None, None] - centres[..., None, None]
    square = away[:, 0].abs().amax(1) < half[:, 0, :, None]
    disc = away[:, 1].norm(dim=1) < half[:, 1, :, None]
    images = 0.2 * torch.randn(ITEMS, 3, SIZE, SIZE, generator=random)
    images += (square | disc)[:, None] * (2 * torch.rand(ITEMS, 3, 1, 1, generator=random) - 1)
    boxes = torch.cat([centres - half, centres + half], 2)
    return images, {"boxes": boxes, "labels": torch.tensor([1, 2]).repeat(ITEMS, 1)}


def train(model, epochs=20):
    images, targets = load_data("train")
    detector = make_detector().train()
    detector.backbone, detector.head = model.backbone, model.head
    optimizer = torch.optim.Adam(detector.parameters(), lr=2e-3)
    for _ in range(epochs):
        for chosen in torch.randperm(ITEMS).split(20):
            answers = [{name: target[item] for name, target in targets.items()} for item in chosen]
            optimizer.zero_grad()
            sum(detector(list(images[chosen] / 2 + 0.5), answers).values()).backward()
            optimizer.step()
    return model


def postprocess(outputs):
    """Decode boxes and suppress those that overlap: boxes [n, k, 4], scores and labels [n, k]."""
    heads = {name: torch.from_numpy(array) for name, array in outputs.items()}
    count, detector = len(heads["cls_logits"]), make_detector()
    maps = [torch.empty(count, 1, size, size) for size in (8, 4, 2, 1, 1, 1)]
    images = ImageList(torch.empty(count, 3, SIZE, SIZE), count * [(SIZE, SIZE)])
    anchors = detector.anchor_generator(images, maps)
    boxes, scores = torch.zeros(count, KEPT, 4), torch.zeros(count, KEPT)
    labels = torch.full((count, KEPT), -1)
    for item, answer in enumerate(detector.postprocess_detections(heads, anchors, images.image_sizes)):
        kept = min(KEPT, len(answer["scores"]))
        for array, name in ((boxes, "boxes"), (scores, "scores"), (labels, "labels")):
            array[item, :kept] = answer[name][:kept]
    return {"boxes": boxes.numpy(), "scores": scores.numpy(), "labels": labels.numpy()}


def score(outputs, targets):
    """Return the share of each image's objects that the best box of their class covers, IoU 0.5."""
    found = torch.zeros(targets["labels"].shape)
    for item, place in torch.nonzero(found == 0).tolist():
        same = outputs["labels"][item] == targets["labels"][item, place]
        best = torch.from_numpy(outputs["boxes"][item][same][:1])  # boxes come by their scores
        box = torch.from_numpy(targets["boxes"][item, place][None])
        found[item, place] = float((box_iou(best, box) > 0.5).any())
    return found.mean(1)
