"""Export randomly initialised models of transformers with Optimum: what `benchmarks/export.py` compares with.

Runs in the peers' own environment, for instance

    pip install torch==2.13.0 transformers==4.57.6 optimum-onnx==0.1.0 accelerate onnxruntime
    python benchmarks/peers/export_with_optimum.py bert FOLDER

writes `FOLDER/bert_raw.onnx`, as Optimum exports it, and `FOLDER/bert_o2.onnx`, the same after ONNX Runtime's
optimizer, and prints one line of JSON: seconds, versions.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import shutil
import tempfile
import time
from importlib.metadata import version
from typing import Any

import onnx
import torch
from onnxruntime.transformers import optimizer
from optimum.exporters.onnx import main_export
from transformers import BertConfig, BertModel, ViTConfig, ViTModel

PACKAGES = ("torch", "transformers", "optimum", "optimum-onnx", "onnx", "onnxruntime")


def bert() -> Any:
    """Return BERT-base without a pooler, so that `last_hidden_state` is all it has to give."""
    return BertModel(BertConfig(), add_pooling_layer=False)


def vit() -> Any:
    """Return ViT-B/16 without a pooler."""
    return ViTModel(ViTConfig(), add_pooling_layer=False)


MODELS = {"bert": bert, "vit": vit}


def export(kind: str, folder: pathlib.Path) -> dict[str, Any]:
    """Write a model's two graphs.

    Args:
        kind: a key of MODELS.
        folder: where `KIND_raw.onnx` and `KIND_o2.onnx` go.

    Returns:
        The seconds of Optimum's export, of which its comparison with torch is a part, and of the optimizer.
    """
    torch.manual_seed(0)
    raw, optimized = folder / f"{kind}_raw.onnx", folder / f"{kind}_o2.onnx"
    with tempfile.TemporaryDirectory() as name:
        work = pathlib.Path(name)
        MODELS[kind]().eval().save_pretrained(work / "model")
        started = time.perf_counter()
        main_export(
            str(work / "model"), output=work / "onnx", task="feature-extraction", library_name="transformers"
        )
        exported = time.perf_counter() - started
        shutil.move(work / "onnx" / "model.onnx", raw)
    started = time.perf_counter()
    fused = optimizer.optimize_model(str(raw), model_type=kind, num_heads=12, hidden_size=768, opt_level=0)
    fused.save_model_to_file(str(optimized))
    return {
        "export_seconds": exported,
        "optimizer_seconds": time.perf_counter() - started,
        "nodes": {
            path.stem: len(onnx.load(path, load_external_data=False).graph.node) for path in (raw, optimized)
        },
        "versions": {name: version(name) for name in PACKAGES},
    }


def main() -> None:
    """Export one model, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("folder", type=pathlib.Path)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    print(json.dumps(export(options.model, options.folder)))


if __name__ == "__main__":
    main()
