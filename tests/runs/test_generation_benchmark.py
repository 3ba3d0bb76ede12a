"""``benchmarks/generation.py``: greedy decoding by qx's calls, and by each runtime without qx."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent

import pytest

pytest.importorskip("transformers", reason="the extra hf installs transformers")

TOP = Path(__file__).parents[2]
PROMPTS, TOKENS = 3, 8
#: Configs in float, for which each token must be the same, by what they need. The fast tier has two.
CONFIGS = {
    "fp32_baseline": ("torch",),
    "onnxruntime_fp32": ("onnxruntime", "onnxscript"),
    **({"openvino_fp32": ("openvino",)} if os.environ.get("QX_SLOW") else {}),
}
#: Builds a small decoder by each config, and continues a few prompts. A loader changes the process it is in.
COMPARE = """
    import json, pathlib, sys
    from benchmarks import generation

    kind, folder, prompts, tokens = sys.argv[1], pathlib.Path(sys.argv[2]), *map(int, sys.argv[3:5])
    generation.save_model(kind, folder / "model")
    texts = generation.read_prompts(prompts)
    built = [generation.build(folder / "model", name, folder / name) for name in sys.argv[5:]]
    generated = generation.continue_all(generation.continue_by_generate(folder / "model"), texts, tokens)
    rows = [generation.compare(entry, generated, texts, tokens) for entry in built]
    # Other tokens than transformers gives are seen.
    wrong = generation.compare(built[0], generated + 1, texts, tokens)
    print(json.dumps({"rows": rows, "wrong": wrong}), flush=True)
"""


@pytest.mark.parametrize("kind", ["gpt2", "qwen2", "llama"] if os.environ.get("QX_SLOW") else ["gpt2"])
def test_the_calls_of_qx_give_the_tokens_of_the_runtime_alone(kind: str, tmp_path: Path) -> None:
    """Token by token, after each prompt, in eager mode as transformers generates."""
    names = [name for name, needs in CONFIGS.items() if all(map(find_spec, needs))]
    words = [kind, str(tmp_path), str(PROMPTS), str(TOKENS), *names]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", dedent(COMPARE), *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=TOP,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout.splitlines()[-1])
    for name, row in zip(names, report["rows"], strict=True):
        assert (row["config"], row["prompts"], row["tokens"]) == (name, PROMPTS, TOKENS)
        same = (row["same"], row["same_carried"], row["same_as_generate"], row["first_difference"])
        assert same == (PROMPTS, PROMPTS, PROMPTS, None)
        assert max(row["largest_error"].values()) < 1e-3
    assert report["wrong"]["same"] == 0
    assert report["wrong"]["first_difference"] == 0
