"""Loading a checkpoint takes little more memory than the checkpoint."""

from __future__ import annotations

import pytest

import kzoo
from tests.memory import only_on_linux, run_watched

_CODE = """
import os, sys
import kzoo
from tests.memory import watched

warm, folder = sys.argv[1:]
kzoo.models.from_pretrained(warm, task="features")
with watched() as growth:
    model = kzoo.models.from_pretrained(folder, task="features")
print("GROWTH", growth.peak / os.path.getsize(os.path.join(folder, "model.safetensors")))
"""


@pytest.mark.slow
@pytest.mark.backend
@only_on_linux
def test_peak_of_anonymous_memory(tmp_path):
    knobs = {
        "num_layers": 5,
        "num_heads": 12,
        "hidden_dim": 768,
        "intermediate_dim": 3072,
        "vocab_size": 18_000,
    }
    kzoo.models.bert_tiny(task="features").save_pretrained(tmp_path / "warm")
    kzoo.models.bert_base(task="features", **knobs).save_pretrained(tmp_path / "large")
    assert (tmp_path / "large" / "model.safetensors").stat().st_size > 190e6
    printed = run_watched(_CODE, tmp_path / "warm", tmp_path / "large")
    assert float(printed.split("GROWTH")[1]) < 1.3
