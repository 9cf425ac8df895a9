"""Translate with Optimum's cached `generate` on ONNX Runtime: a worker of `benchmarks/translate.py`.

Runs in the peers' own environment, for instance

    pip install torch==2.13.0 transformers==4.57.6 optimum-onnx==0.1.0 onnxruntime tokenizers
    python benchmarks/peers/translate_with_optimum.py export NUMBERS FOLDER
    python benchmarks/peers/translate_with_optimum.py serve CASE TOKENIZER FOLDER

where NUMBERS is a JSON file of the fields of a Marian configuration, for random weights, TOKENIZER a tokenizer.json,
and CASE a file of `turns.Case`.
"""

from __future__ import annotations

import json
import pathlib
import sys
import tempfile
from importlib.metadata import version

import onnxruntime
import tokenizers
import torch
from optimum.exporters.onnx import main_export
from optimum.onnxruntime import ORTModelForSeq2SeqLM
from transformers import MarianConfig, MarianMTModel
from turns import Case, serve

PAD, START, END = 0, 1, 2
PACKAGES = ("optimum-onnx", "transformers", "torch", "onnxruntime")


def export(numbers: str, folder: str) -> None:
    """Write the graphs of a model with random weights."""
    torch.manual_seed(0)
    fields = json.loads(pathlib.Path(numbers).read_text(encoding="utf-8"))
    config = MarianConfig(
        **fields, pad_token_id=PAD, decoder_start_token_id=START, eos_token_id=END, forced_eos_token_id=None
    )
    with tempfile.TemporaryDirectory() as model:
        MarianMTModel(config).eval().save_pretrained(model)
        main_export(model, output=folder, task="text2text-generation-with-past", do_validation=False)


def take_turns(case: Case, vocabulary: str, folder: str) -> None:
    """Translate when told to."""
    torch.set_num_threads(case.threads)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = case.threads
    model = ORTModelForSeq2SeqLM.from_pretrained(folder, session_options=options)
    tokenizer = tokenizers.Tokenizer.from_file(vocabulary)
    tokenizer.enable_padding(pad_id=PAD)

    def translate(texts: list[str]) -> list[str]:
        results = []
        for first in range(0, len(texts), case.batch_size):
            encodings = tokenizer.encode_batch(texts[first : first + case.batch_size])
            ids = model.generate(
                input_ids=torch.tensor([encoding.ids for encoding in encodings]),
                attention_mask=torch.tensor([encoding.attention_mask for encoding in encodings]),
                num_beams=case.beams,
                max_new_tokens=case.steps or 128,
                min_new_tokens=case.steps,
            )
            results += tokenizer.decode_batch(ids.tolist())
        return results

    serve(case, translate, {name: version(name) for name in PACKAGES})


def main() -> None:
    """Export, or take turns."""
    what, file, *rest = sys.argv[1:]
    if what == "export":
        export(file, *rest)
    else:
        take_turns(Case.read(file), *rest)


if __name__ == "__main__":
    main()
