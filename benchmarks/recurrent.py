"""What does dynamic int8 do to a recurrent network: accuracy, answers, size?

An LSTM and a GRU of two layers are trained here, in seconds, on scikit-learn's digits as series of eight
rows, and are run in float32 and by the configs of dynamic quantization that are installed.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from qx_plugins.workloads.digits_cnn import split_indices
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

import qx
from benchmarks.common import keep
from qx.host.host import Host

CONFIGS = (
    *("dynamic_int8", "dynamic_int8_recurrent"),
    *("onnxruntime_dynamic_int8", "onnxruntime_dynamic_int8_recurrent"),
)
METRICS = ("accuracy", "agreement", "file_size", "quantized_share")
UNITS, LAYERS, EPOCHS, LEARNING_RATE = 64, 2, 12, 0.01


class Rows(nn.Module):
    """A recurrent network that reads the rows of an image, and names the digit after the last one."""

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU]) -> None:
        super().__init__()
        self.body = kind(8, UNITS, num_layers=LAYERS, batch_first=True)
        self.head = nn.Linear(UNITS, 10)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the logits of the digits, ``[images, digits]``."""
        logits: torch.Tensor = self.head(self.body(rows)[0][:, -1])
        return logits


def train(kind: type[nn.LSTM] | type[nn.GRU], rows: torch.Tensor, labels: torch.Tensor) -> nn.Module:
    """Return a trained network, the same each time."""
    torch.manual_seed(0)
    model = Rows(kind)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    for _ in range(EPOCHS):
        for part in torch.randperm(len(rows)).split(64):
            optimizer.zero_grad()
            functional.cross_entropy(model(rows[part]), labels[part]).backward()
            optimizer.step()
    return model.eval()


def main() -> None:
    """Print and keep the figures of both networks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=("LSTM", "GRU"), action="append", help="one of them alone")
    networks = parser.parse_args().network or ["LSTM", "GRU"]
    torch.set_num_threads(1)
    digits = load_digits()
    data: dict[str, Any] = {
        split: (torch.from_numpy(digits.images[chosen] / 16).float(), torch.from_numpy(digits.target[chosen]))
        for split, chosen in split_indices(digits.target).items()
    }
    ready = {entry.name for entry in Host.discover().ready("config")}
    rows = {}
    for name in networks:
        model = train(getattr(nn, name), *data["train"])
        result = qx.run(
            model=model,
            data=data,
            configs=[config for config in CONFIGS if config in ready],
            metrics=METRICS,
            progress=False,
        )
        rows[name] = _rows(result)
    keep("recurrent", {"items": len(data["test"][1]), "networks": rows})


def _rows(result: qx.Result) -> dict[str, dict[str, Any]]:
    """Return each config's outcome and figures: value, and comparison with the baseline with an interval."""
    cells = {name: cell for name, cell in result.results.cells.items() if not cell.control}
    rows: dict[str, dict[str, Any]] = {
        cell.config: {"outcome": cell.outcome, "cause": cell.cause} for cell in cells.values()
    }
    for record in result.to_records():
        if record["cell"] in cells and record["value"] is not None:
            rows[record["config"]][record["metric"]] = {
                key: record[key] for key in ("value", "comparison_value", "comparison_low", "comparison_high")
            }
    return rows


if __name__ == "__main__":
    main()
