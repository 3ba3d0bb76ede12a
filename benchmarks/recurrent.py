"""What does dynamic int8 do to a recurrent network: accuracy, answers, size, latency?

An LSTM and a GRU of two layers are trained here on the sentences of ``languages_encoder``, which have 32
steps, and are run in float32 and by the configs of dynamic quantization that are installed.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from qx_plugins.networks.training import train_token_classifier
from qx_plugins.workloads import languages_encoder
from torch import nn

import qx
from benchmarks.common import Lines, argument_parser, keep
from qx.host.host import Host

CONFIGS = (
    *("fp32_baseline", "dynamic_int8", "dynamic_int8_recurrent"),
    *("onnxruntime_fp32", "onnxruntime_dynamic_int8", "onnxruntime_dynamic_int8_recurrent"),
)
METRICS = ("accuracy", "agreement", "file_size", "quantized_share", "latency")
FEATURES, UNITS, LAYERS = 64, 128, 2
EPOCHS, LEARNING_RATE = 4, 5e-3


class Reader(nn.Module):
    """A recurrent network that reads syllables, and names the language after the last one."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.table = nn.Embedding(languages_encoder.SYLLABLES, FEATURES)
        self.body = kind(FEATURES, UNITS, num_layers=LAYERS, batch_first=True)
        self.head = nn.Linear(UNITS, languages_encoder.LANGUAGES)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the logits of the languages, ``[sentences, languages]``."""
        logits: torch.Tensor = self.head(self.body(self.table(tokens))[0][:, -1])
        return logits


def train(kind: type[nn.RNNBase], data: dict[str, tuple[Any, Any]]) -> nn.Module:
    """Return a trained network."""
    torch.manual_seed(0)
    tokens, labels = data["train"]
    model = train_token_classifier(
        Reader(kind),
        tokens,
        labels,
        epochs=EPOCHS,
        seed=0,
        learning_rate=LEARNING_RATE,
        progress=Lines().step,
    )
    return model.float()


def main() -> None:
    """Print and keep the figures of both networks."""
    parser = argument_parser(__doc__, runs=1)
    parser.add_argument("--budget", type=float, help="seconds of measuring for each network")
    arguments = parser.parse_args()
    data = languages_encoder.generate_sentences()
    ready = {entry.name for entry in Host.discover().ready("config")}
    networks = {}
    for kind in (nn.LSTM, nn.GRU):
        start = time.perf_counter()
        model = train(kind, data)
        Lines().say(f"trained the {kind.__name__} in {time.perf_counter() - start:.0f} s")
        result = qx.run(
            model=model,
            data=data,
            configs=[name for name in CONFIGS if name in ready],
            metrics=METRICS,
            batch_sizes=1,
            budget=arguments.budget,
            trained=True,
            progress=False,
        )
        networks[kind.__name__] = {
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "rows": _rows(result),
        }
    keep("recurrent", {"items": len(data["test"][1]), "networks": networks})


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
