"""Time a fine-tuning step of kzoo against transformers': `python benchmarks/fine_tuning.py --model minilm`.

A step is a forward and a backward pass, dropout as each is made with, gradients clipped to a norm of 1, and AdamW: of
a two-class model of MiniLM's shape (6 layers, 384 wide, 12 heads, 1,536 inside) on 32 texts of up to 64 tokens, or of
ViT-S/16 with ten classes on 8 images of 224 pixels. kzoo runs it on the backend of KERAS_BACKEND by `train_on_batch`,
compiled as `fit` does by default; transformers runs on torch, with the fused AdamW that its `Trainer` takes. Both
sides run in one process, in turn, on random weights of the same shapes; the ratio kzoo / transformers is the median
over pairs.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import torch
from training_speed import compare
from transformers import BertConfig, BertForSequenceClassification, ViTConfig, ViTForImageClassification

import kzoo

RATE = 5e-5
Arrays = dict[str, np.ndarray]
# Inputs by name, classes, kzoo's model and transformers'.
Case = tuple[Arrays, np.ndarray, Any, Any]


def minilm() -> Case:
    """Return rows of 32 to 64 tokens, and the models for two classes of them."""
    size, length = 32, 64
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 30_522, (size, length)).astype("int32")
    mask = (np.arange(length) < rng.integers(length // 2, length + 1, (size, 1))).astype("int32")
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    config = BertConfig(hidden_size=384, num_hidden_layers=6, intermediate_size=1536, num_labels=2)
    model = kzoo.models.minilm_l6_h384(num_classes=2)
    return inputs, rng.integers(0, 2, size).astype("int32"), model, BertForSequenceClassification(config)


def vit() -> Case:
    """Return images of 224 pixels, and the models for ten classes of them."""
    size = 8
    rng = np.random.default_rng(0)
    pixels = rng.normal(size=(size, 224, 224, 3)).astype("float32")
    config = ViTConfig(
        hidden_size=384, num_hidden_layers=12, num_attention_heads=6, intermediate_size=1536, num_labels=10
    )
    model = kzoo.models.vit_small_patch16_224(num_classes=10)
    classes = rng.integers(0, 10, size).astype("int32")
    return {"pixel_values": pixels}, classes, model, ViTForImageClassification(config)


CASES: dict[str, Callable[[], Case]] = {"minilm": minilm, "vit": vit}


def step_of_kzoo(model: Any, inputs: Arrays, labels: np.ndarray) -> Callable[[], object]:
    """Return what trains on the batch once."""
    return lambda: float(np.asarray(model.train_on_batch(inputs, labels)[0]))


def step_of_transformers(model: Any, inputs: Arrays, labels: np.ndarray) -> Callable[[], object]:
    """Return what trains on the batch once."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01, fused=True)
    tensors = {name: torch.from_numpy(_as_torch_has_it(values)) for name, values in inputs.items()}
    targets = torch.from_numpy(labels.astype("int64"))

    def step() -> float:
        loss = model(**tensors, labels=targets).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


def _as_torch_has_it(values: np.ndarray) -> np.ndarray:
    if values.ndim == 4:
        return np.ascontiguousarray(values.transpose(0, 3, 1, 2))
    return values.astype("int64")


def main() -> None:
    """Print a row of medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=CASES, default="minilm")
    parser.add_argument("--pairs", type=int, default=21, help="how often the two are timed in turn")
    options = parser.parse_args()
    inputs, labels, mine, peer = CASES[options.model]()
    assert mine.count_params() == sum(parameter.numel() for parameter in peer.parameters())
    times = compare(
        step_of_kzoo(mine, inputs, labels), step_of_transformers(peer, inputs, labels), options.pairs
    )
    here, there = (1e3 * statistics.median(side) for side in zip(*times, strict=True))
    ratio = statistics.median(first / second for first, second in times)
    print("| model | backend | kzoo ms | transformers ms | ratio |\n|---|---|---:|---:|---:|")
    print(f"| {options.model} | {keras.backend.backend()} | {here:.0f} | {there:.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
