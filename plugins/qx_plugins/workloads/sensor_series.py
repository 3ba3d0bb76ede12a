"""Eight gestures in the series of a sensor with three axes, by convolutions and an LSTM: generated.

A gesture is a sequence of four strokes along the axes. When it begins, and how fast it is, are random, and
the sensor is noisy. All of this has whole numbers of outcomes, so the most probable gesture of a series can
be computed exactly, and the best possible accuracy is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qx import LABELS, Context, Data, Option, Unsupported, Workload, hookimpl

if TYPE_CHECKING:
    import numpy as np
    import torch

SENSOR_AXES, SAMPLES, STROKES = 3, 96, 4
#: Strokes of each gesture: 1, 2 or 3 is a push along that axis, a negative number a pull. Most gestures have
#: the same strokes as another one, in another order.
GESTURES = {
    "square": (1, 2, -1, -2),
    "square, reversed": (2, 1, -2, -1),
    "zigzag": (1, -2, 1, 2),
    "zigzag, reversed": (2, 1, -2, 1),
    "lift and turn": (3, 1, -3, -1),
    "turn and lift": (1, 3, -1, -3),
    "knock": (3, -3, 3, -3),
    "knock aside": (3, -3, 2, -2),
}
#: Samples that a stroke takes, and samples before the first of them at most.
DURATIONS, LATEST = range(12, 20), 16
#: Largest reading of a stroke, and of the noise, which is the sum of four whole numbers of equal probability.
STRENGTH, NOISE = 100, 110
SERIES = {"train": 8_000, "test": 2_000}


@hookimpl
def describe() -> Workload:
    return Workload(
        name="sensor_series",
        summary="Convolutions and an LSTM of 35,512 parameters on 2,000 series of a sensor with three axes.",
        weights="qx_weights:sensor_series.pt",
        options=(Option(name="epochs", default=12, help="Passes over the training data, for `qx train`."),),
    )


@hookimpl
def make_model(context: Context) -> torch.nn.Module:
    from qx_plugins.networks.series_network import SeriesNetwork

    if context.quantizable:
        raise Unsupported(
            "SeriesNetwork has no form with quantize and dequantize stubs: eager mode has no 8-bit SiLU "
            "(stem.2, SiLU)"
        )
    return SeriesNetwork(channels=SENSOR_AXES, num_classes=len(GESTURES))


@hookimpl
def load_data(split: str, context: Context) -> Data:
    import numpy as np

    readings, labels = generate_series()[split]
    return Data(
        inputs={"readings": readings.astype(np.float32) / 64},
        targets={LABELS: labels},
        classes=tuple(GESTURES),
        source="generated series of a sensor",
        preprocessing=f"{SAMPLES} readings of each axis, divided by 64; axes (batch, axes, time)",
        task="classification",
    )


@hookimpl
def example_inputs(batch_size: int, context: Context) -> tuple[torch.Tensor, ...]:
    import torch

    generator = torch.Generator().manual_seed(context.seed)
    return (torch.randn(batch_size, SENSOR_AXES, SAMPLES, generator=generator),)


@hookimpl
def train(model: torch.nn.Module, context: Context) -> torch.nn.Module:
    from torch.nn.functional import cross_entropy

    from qx_plugins.networks.training import train_by_adamw

    return train_by_adamw(
        model,
        load_data("train", context),
        lambda outputs, targets: cross_entropy(outputs, targets[LABELS]),
        epochs=context.options["epochs"],
        seed=context.seed,
        progress=context.progress,
        learning_rate=5e-3,
    )


def draw_gesture(strokes: tuple[int, ...], duration: int, start: int) -> np.ndarray:
    """Return the readings of a gesture without noise, int64 ``[SENSOR_AXES, SAMPLES]``."""
    import numpy as np

    readings = np.zeros((SENSOR_AXES, SAMPLES), dtype=np.int64)
    time = np.arange(1, duration)
    stroke_readings = 4 * STRENGTH * time * (duration - time) // duration**2
    for place, stroke in enumerate(strokes):
        begin = start + place * duration
        readings[abs(stroke) - 1, begin + 1 : begin + duration] += np.sign(stroke) * stroke_readings
    return readings


def generate_series() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return readings int64 ``[n, SENSOR_AXES, SAMPLES]`` and gestures ``[n]`` by split, for every seed."""
    import numpy as np

    random = np.random.RandomState(4)
    count, templates = sum(SERIES.values()), draw_templates()
    labels = random.randint(len(GESTURES), size=count)
    drawn = random.randint(templates.shape[1], size=count)
    noise = random.randint(-NOISE, NOISE + 1, (4, count, SENSOR_AXES, SAMPLES)).sum(axis=0)
    readings = templates[labels, drawn] + noise
    ends = np.cumsum([0, *SERIES.values()])
    return {
        split: (readings[start:end], labels[start:end].astype(np.int64))
        for split, start, end in zip(SERIES, ends[:-1], ends[1:], strict=True)
    }


def draw_templates() -> np.ndarray:
    """Return each gesture in all of its forms, int64 ``[gestures, forms, SENSOR_AXES, SAMPLES]``.

    A form is a duration of a stroke and a start; all are equally probable.
    """
    import numpy as np

    forms = [(duration, start) for duration in DURATIONS for start in range(LATEST + 1)]
    return np.array([[draw_gesture(strokes, *form) for form in forms] for strokes in GESTURES.values()])


def most_probable(readings: np.ndarray) -> np.ndarray:
    """Return the most probable gesture of each series ``[n]``: no model can be right more often."""
    import numpy as np

    uniform = np.full(2 * NOISE + 1, 1 / (2 * NOISE + 1))
    pairs = np.convolve(uniform, uniform)
    with np.errstate(divide="ignore"):
        logarithms = np.log(np.convolve(pairs, pairs))
    middle, templates = len(logarithms) // 2, draw_templates()
    # Readings that no noise explains have a probability of 0, like those at the ends of the table.
    logarithms = np.concatenate([[-np.inf], logarithms, [-np.inf]])
    answers = []
    for series in readings:
        places = (series - templates + middle + 1).clip(0, len(logarithms) - 1)
        totals = logarithms[places].sum(axis=(2, 3))
        answers.append(np.exp(totals - totals.max()).sum(axis=1).argmax())
    return np.array(answers)
