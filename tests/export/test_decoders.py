"""A bundle's beams are those of the Keras model that it came from: one search over two step functions."""

from __future__ import annotations

import pathlib

import keras
import numpy as np
import onnx
import pytest

import kzoo
from kzoo.models.graphs import serving_graphs
from kzoo.runtime.caches import as_past
from kzoo.search import CachedStep, beam_search
from kzoo.text import Tokenizer
from tests.models.tiny import VOCAB_SIZE, shaken, tiny

TEXTS = ["the dog runs in the park", "a cat sleeps", "two birds sing in the tree"]


def test_beams_of_keras_and_of_the_bundle(bpe: Tokenizer, tmp_path: pathlib.Path) -> None:
    keras.utils.set_random_seed(0)
    model = shaken(tiny("Marian", tokenizer=bpe), by=0.1)
    model.export(tmp_path / "bundle")
    translate = kzoo.load(tmp_path / "bundle", device="cpu")
    got = translate(TEXTS, num_beams=4, num_return=4, max_new_tokens=8)

    graphs = serving_graphs(model)
    encoding = bpe.encode(TEXTS, max_length=32)
    source = {"input_ids": encoding.input_ids, "attention_mask": encoding.attention_mask}
    presents = [
        name.replace("past_key_values", "present") for name in graphs["decoder"].inputs if ".encoder." in name
    ]
    memory = as_past(graphs["encoder"].run_kept(source, presents))
    cache = {
        name: np.zeros((len(TEXTS), spec.shape[1], 0, spec.shape[3]), "float32")
        for name, spec in graphs["decoder"].inputs.items()
        if "past" in spec.shape
    }
    memory["attention_mask"] = encoding.attention_mask
    step = CachedStep(graphs["decoder"], "decoder_input_ids", cache, VOCAB_SIZE, memory=memory)
    start = np.full((len(TEXTS), 1), bpe.start_id)
    expected = beam_search(step, start, num_beams=4, end_id=bpe.end_id, max_new_tokens=8)
    for results, hypotheses in zip(got, expected, strict=True):
        texts = [result["translation"] for result in results]
        assert texts == [bpe.decode(hypothesis.ids) for hypothesis in hypotheses]
        assert len(set(texts)) > 1
        np.testing.assert_allclose(
            [result["score"] for result in results], [score for _, score in hypotheses], atol=1e-4
        )


@pytest.mark.parametrize("family", ["Transformer", "T5"])
def test_for_cpus_a_decoders_tokens_lie_in_rows(family: str, bpe: Tokenizer, tmp_path: pathlib.Path) -> None:
    model = shaken(tiny(family, task="seq2seq", tokenizer=bpe), by=0.1)
    found = {}
    for target in ("any", "cpu"):
        model.export(tmp_path / target, target=target)
        nodes = onnx.load(tmp_path / target / "decoder.onnx").graph.node
        kinds = {node.op_type for node in nodes}
        assert {"Attention", "MultiHeadAttention"} <= kinds
        joined = {"SkipLayerNormalization", "SkipSimplifiedLayerNormalization"} & kinds
        assert joined if target == "any" else not joined
        translate = kzoo.load(tmp_path / target, device="cpu")
        found[target] = translate(
            TEXTS, num_beams=3, num_return=3, prefix=["", "a", "the cat"], max_new_tokens=8
        )
    for one, other in zip(found["any"], found["cpu"], strict=True):
        assert [result["translation"] for result in one] == [result["translation"] for result in other]
        scores = [[result["score"] for result in results] for results in (one, other)]
        np.testing.assert_allclose(*scores, atol=1e-5)
