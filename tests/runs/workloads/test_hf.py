"""A model of transformers in a run: from a folder and a table to quality, with what cannot be built said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import hf_folders
import pytest

pytest.importorskip("transformers", reason="the extra hf installs transformers")

#: Every process that has the model imports transformers, which takes seconds.
pytestmark = pytest.mark.slow
QUICK = ("--quick", "--budget", 0.01, "--batch-size", 1, "--calibration-n", 8, "--offline", "--out", "out")


def test_a_classifier_of_texts_is_measured_on_a_table(qx: Callable[..., Any], tmp_path: Path) -> None:
    """Its weights are the folder's, so its answers are right or wrong; configs that need stubs say so."""
    hf_folders.bert(tmp_path / "bert")
    hf_folders.reviews(tmp_path / "reviews.csv", 60)
    configs = ("-c", "dynamic_int8", "-c", "onnxruntime_static_int8_per_channel", "-c", "executorch_int8")
    done = qx(
        *("run", "hf:bert", "--data", "reviews.csv", *configs, "-c", "static_int8_per_channel", *QUICK),
        *("-m", "accuracy", "-m", "agreement", "-m", "file_size"),
        cwd=tmp_path,
    )
    assert done.code == 1, done.err
    assert done.measurement("fp32_baseline", "accuracy")["n"] == 30
    for config in ("dynamic_int8", "onnxruntime_static_int8_per_channel", "executorch_int8"):
        assert done.cell(config)["outcome"] == "ok", done.cell(config)
        assert done.measurement(config, "agreement")["value"] > 0.5
    assert "QuantStub" in done.cell("static_int8_per_channel")["cause"]
    (workload,) = done.results["run"]["workloads"].values()
    assert workload["trained"] is True
    assert "Not known to be trained" not in done.out


def test_a_new_head_and_no_data_give_sizes_and_fidelity(qx: Callable[..., Any], tmp_path: Path) -> None:
    """Nothing is said of right and wrong answers, also where the table has labels."""
    from transformers import BertModel

    folder = hf_folders.bert(tmp_path / "bert")
    BertModel.from_pretrained(folder).save_pretrained(folder)
    settings = (folder / "config.json").read_text()
    (folder / "config.json").write_text(settings.replace('"BertModel"', '"BertForSequenceClassification"'))
    hf_folders.reviews(tmp_path / "reviews.csv", 60)
    for data in (("--data", "reviews.csv"), ()):
        done = qx(
            "run",
            "hf:bert",
            *data,
            "-c",
            "dynamic_int8",
            "-m",
            "accuracy",
            "-m",
            "sqnr",
            *QUICK,
            cwd=tmp_path,
        )
        assert done.code == 0, done.err
        assert done.measurement("fp32_baseline", "accuracy")["value"] is None
        assert done.measurement("dynamic_int8", "sqnr")["value"] > 10
        assert "random: classifier.bias, classifier.weight" in done.err
        assert "Not known to be trained" in done.out


@pytest.mark.parametrize(
    ("architecture", "row"),
    [
        ("BertForTokenClassification", '{"tokens": ["the", "film"], "tags": [0, 1]}\n'),
        ("BertForMaskedLM", '{"text": "the film"}\n'),
        ("BertModel", '{"text": "the film", "label": "a"}\n'),
    ],
)
def test_other_tasks_run(qx: Callable[..., Any], tmp_path: Path, architecture: str, row: str) -> None:
    """Each with its targets, and its outputs of another shape."""
    hf_folders.bert(tmp_path / "bert", architecture)
    (tmp_path / "rows.jsonl").write_text(row * 30)
    done = qx(
        *("run", "hf:bert", "--data", "rows.jsonl", "-c", "dynamic_int8", "-c", "onnxruntime_dynamic_int8"),
        *("-m", "sqnr", "-m", "file_size", *QUICK),
        cwd=tmp_path,
    )
    assert done.code == 0, done.err
    assert done.measurement("onnxruntime_dynamic_int8", "sqnr")["value"] > 10


def test_a_folder_that_makes_no_model_ends_the_run_in_one_line(
    qx: Callable[..., Any], tmp_path: Path
) -> None:
    """With exit code 2, and nothing written."""
    (tmp_path / "bert").mkdir()
    done = qx("run", "hf:bert", "-c", "dynamic_int8", *QUICK, cwd=tmp_path)
    assert done.code == 2
    (error,) = [line for line in done.err.splitlines() if not line.startswith("[")]
    assert "no config.json in this folder (it is empty)" in error
    assert not (tmp_path / "out").exists()
