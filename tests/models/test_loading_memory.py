"""Loading a checkpoint takes little more memory than the checkpoint."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import kzoo

# Watched from a thread: the anonymous memory, without what is mapped from files.
_CODE = """
import os, pathlib, sys, threading, time
import kzoo

def anonymous():
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) * 1024

warm, folder = sys.argv[1:]
kzoo.models.from_pretrained(warm, task="features")
before, peak, done = anonymous(), 0, threading.Event()

def watch():
    global peak
    while not done.is_set():
        peak = max(peak, anonymous())
        time.sleep(0.002)

watcher = threading.Thread(target=watch)
watcher.start()
model = kzoo.models.from_pretrained(folder, task="features")
done.set()
watcher.join()
print("GROWTH", (max(peak, anonymous()) - before) / os.path.getsize(os.path.join(folder, "model.safetensors")))
"""


@pytest.mark.slow
@pytest.mark.backend
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="only Linux tells anonymous memory")
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
    done = subprocess.run(
        [sys.executable, "-c", _CODE, tmp_path / "warm", tmp_path / "large"],
        capture_output=True,
        text=True,
        env=os.environ | {"MALLOC_ARENA_MAX": "2"},
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split("GROWTH")[1]) < 1.3
