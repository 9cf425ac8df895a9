"""Classify with Optimum's graphs on ONNX Runtime: a worker of `benchmarks/classification.py`.

Runs in the peers' own environment, for instance

    pip install torch==2.13.0 transformers==4.57.6 optimum-onnx==0.1.0 onnxruntime
    python benchmarks/peers/classify_with_optimum.py export CHECKPOINT FOLDER
    python benchmarks/peers/classify_with_optimum.py serve CASE FOLDER/float32

where CHECKPOINT is a folder in the common format and CASE a file of `turns.Case`. FOLDER then holds `float32`, as
Optimum exports it, `float32_optimized`, after its optimizer at level O2, and `int8`, quantized dynamically for VNNI.
"""

from __future__ import annotations

import pathlib
import sys
from importlib.metadata import version

import onnxruntime
import torch
from optimum.onnxruntime import ORTModelForSequenceClassification, ORTOptimizer, ORTQuantizer
from optimum.onnxruntime.configuration import AutoOptimizationConfig, AutoQuantizationConfig
from transformers import AutoTokenizer
from turns import Case, serve

PACKAGES = ("optimum-onnx", "transformers", "torch", "onnxruntime")


def export(checkpoint: str, folder: str) -> None:
    """Write the three graphs, each with the tokenizer."""
    plain, optimized, integers = (
        pathlib.Path(folder, name) for name in ("float32", "float32_optimized", "int8")
    )
    model = ORTModelForSequenceClassification.from_pretrained(checkpoint, export=True)
    model.save_pretrained(plain)
    ORTOptimizer.from_pretrained(model).optimize(AutoOptimizationConfig.O2(), optimized)
    ORTQuantizer.from_pretrained(model).quantize(
        AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=False), integers
    )
    for target in (plain, optimized, integers):
        AutoTokenizer.from_pretrained(checkpoint).save_pretrained(target)


def take_turns(case: Case, folder: str) -> None:
    """Classify when told to."""
    torch.set_num_threads(case.threads)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = case.threads
    (graph,) = pathlib.Path(folder).glob("*.onnx")
    model = ORTModelForSequenceClassification.from_pretrained(
        folder, file_name=graph.name, session_options=options
    )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    length = model.config.max_position_embeddings

    def classify(texts: list[str]) -> list[str]:
        labels = []
        for first in range(0, len(texts), case.batch_size):
            batch = texts[first : first + case.batch_size]
            inputs = tokenizer(batch, padding=True, truncation=True, max_length=length, return_tensors="pt")
            best = model(**inputs).logits.argmax(-1).tolist()
            labels += [model.config.id2label[index] for index in best]
        return labels

    serve(case, classify, {name: version(name) for name in PACKAGES})


def main() -> None:
    """Export, or take turns."""
    what, file, folder = sys.argv[1:]
    if what == "export":
        export(file, folder)
    else:
        take_turns(Case.read(file), folder)


if __name__ == "__main__":
    main()
