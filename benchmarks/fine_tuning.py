"""Time a training step of kzoo against its peers' on torch: `python benchmarks/fine_tuning.py --model minilm`.

A step is a forward and a backward pass, dropout as each is made with, gradients clipped to a norm of 1, and AdamW: of
a two-class model of MiniLM's shape (6 layers, 384 wide, 12 heads, 1,536 inside) on 32 texts of up to 64 tokens; of
ViT-S/16 with ten classes on 8 images of 224 pixels; or of CCT-7/3x1 with ten classes on 32 images of 32 pixels. kzoo
runs it on the backend of KERAS_BACKEND by `train_on_batch`, compiled as `fit` does by default. The peer is
transformers, with the fused AdamW that its `Trainer` takes; it has no CCT, whose peer is vit-pytorch
(`pip install --no-deps vit-pytorch einops`), with the same AdamW. Both sides run in one process, in turn, on random
weights of the same shapes; the ratio kzoo / peer is the median over pairs.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import keras
import numpy as np
import torch
from training_speed import compare
from transformers import BertConfig, BertForSequenceClassification, ViTConfig, ViTForImageClassification

import kzoo

RATE = 5e-5
Arrays = dict[str, np.ndarray]
# Inputs by name, classes, kzoo's model and the peer's, which returns its loss as transformers' models do.
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


def cct() -> Case:
    """Return images of 32 pixels, and the models for ten classes of them."""
    size = 32
    rng = np.random.default_rng(0)
    pixels = rng.normal(size=(size, 32, 32, 3)).astype("float32")
    peer = _peers_cct().cct_7(
        img_size=32, n_conv_layers=1, kernel_size=3, positional_embedding="learnable", num_classes=10
    )
    model = kzoo.models.cct_7_3x1_32(num_classes=10)
    return {"pixel_values": pixels}, rng.integers(0, 10, size).astype("int32"), model, WithLoss(peer)


def _peers_cct() -> ModuleType:
    """Return the one module of vit-pytorch that is needed: the package as a whole asks for torchvision."""
    package = importlib.util.find_spec("vit_pytorch")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("CCT's peer is missing: pip install --no-deps vit-pytorch einops")
    file = Path(package.submodule_search_locations[0]) / "cct.py"
    spec = importlib.util.spec_from_file_location("cct", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class WithLoss(torch.nn.Module):
    """A classifier of images that returns its loss."""

    def __init__(self, classifier: torch.nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor) -> SimpleNamespace:
        """Return the cross-entropy, as `loss`."""
        logits = self.classifier(pixel_values)
        return SimpleNamespace(loss=torch.nn.functional.cross_entropy(logits, labels))


CASES: dict[str, Callable[[], Case]] = {"minilm": minilm, "vit": vit, "cct": cct}


def step_of_kzoo(model: Any, inputs: Arrays, labels: np.ndarray) -> Callable[[], object]:
    """Return what trains on the batch once."""
    return lambda: float(np.asarray(model.train_on_batch(inputs, labels)[0]))


def step_of_peer(model: Any, inputs: Arrays, labels: np.ndarray) -> Callable[[], object]:
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
    times = compare(step_of_kzoo(mine, inputs, labels), step_of_peer(peer, inputs, labels), options.pairs)
    here, there = (1e3 * statistics.median(side) for side in zip(*times, strict=True))
    ratio = statistics.median(first / second for first, second in times)
    print("| model | backend | kzoo ms | peer ms | ratio |\n|---|---|---:|---:|---:|")
    print(f"| {options.model} | {keras.backend.backend()} | {here:.0f} | {there:.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
