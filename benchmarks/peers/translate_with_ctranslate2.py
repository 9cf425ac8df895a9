"""Translate with CTranslate2, with kzoo's weights: a worker of `benchmarks/translate.py`.

Runs in the peers' own environment, for instance

    pip install ctranslate2==4.8.5 tokenizers numpy
    python benchmarks/peers/translate_with_ctranslate2.py convert WEIGHTS TOKENIZER float32 FOLDER
    python benchmarks/peers/translate_with_ctranslate2.py serve CASE TOKENIZER float32 FOLDER

where WEIGHTS is an npz file of Keras variables by their paths, with `num_heads` and `layer_norm_epsilon`, TOKENIZER a
tokenizer.json, and CASE a file of `turns.Case`. The conversion has a process of its own, so that its memory does not
count.
"""

from __future__ import annotations

import pathlib
import re
import sys
from importlib.metadata import version
from typing import Any

# It imports both where it finds them, for its converters, and would hold their memory too.
sys.modules["torch"] = sys.modules["transformers"] = None  # type: ignore[assignment]

import ctranslate2  # noqa: E402
import numpy as np  # noqa: E402
import tokenizers  # noqa: E402
from ctranslate2.specs import TransformerSpec  # noqa: E402
from turns import Case, serve  # noqa: E402

START, END = "<s>", "</s>"


class Weights:
    """Keras variables by their paths within the backbone."""

    def __init__(self, path: str) -> None:
        with np.load(path, allow_pickle=False) as arrays:
            self.arrays = {name.split("backbone/")[-1]: arrays[name] for name in arrays.files}

    def depth(self, side: str) -> int:
        """Return how many blocks a side has."""
        found = (re.match(rf"{side}_block_(\d+)/", name) for name in self.arrays)
        return 1 + max(int(match[1]) for match in found if match)

    def linear(self, spec: Any, *places: str) -> None:
        """Fill in a product, of several matrices side by side."""
        spec.weight = np.concatenate([self.arrays[f"{place}/kernel"].T for place in places])
        spec.bias = np.concatenate([self.arrays[f"{place}/bias"] for place in places])

    def norm(self, spec: Any, place: str) -> None:
        """Fill in a normalization."""
        spec.gamma, spec.beta = self.arrays[f"{place}/gamma"], self.arrays[f"{place}/beta"]

    def attention(self, spec: Any, place: str) -> None:
        """Fill in an attention: to itself where the specification has two products, else to a memory."""
        query, *memory = (f"{place}/{part}" for part in ("query", "key", "value"))
        if len(spec.linear) == 2:
            self.linear(spec.linear[0], query, *memory)
        else:
            self.linear(spec.linear[0], query)
            self.linear(spec.linear[1], *memory)
        self.linear(spec.linear[-1], f"{place}/output")
        self.norm(spec.layer_norm, f"{place}_norm")

    def side(self, spec: Any, side: str) -> None:
        """Fill in an encoder or a decoder."""
        for index, layer in enumerate(spec.layer):
            place = f"{side}_block_{index}"
            self.attention(layer.self_attention, f"{place}/attention")
            if side == "decoder":
                self.attention(layer.attention, f"{place}/cross_attention")
            self.linear(layer.ffn.linear_0, f"{place}/feed_forward/expand")
            self.linear(layer.ffn.linear_1, f"{place}/feed_forward/contract")
            self.norm(layer.ffn.layer_norm, f"{place}/feed_forward_norm")
        table = self.arrays["token_embedding/embeddings"]
        embeddings = spec.embeddings[0] if side == "encoder" else spec.embeddings
        embeddings.weight = table
        spec.position_encodings.encodings = sinusoids(1024, table.shape[1])
        if f"{side}_norm/gamma" in self.arrays:
            self.norm(spec.layer_norm, f"{side}_norm")


def sinusoids(length: int, width: int) -> np.ndarray:
    """Return Vaswani et al.'s positions, sines before cosines."""
    rates = 10_000.0 ** (-np.arange(width // 2) / (width // 2))
    angles = np.arange(length)[:, None] * rates
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def convert(weights: Weights, vocabulary: str, dtype: str, folder: str) -> None:
    """Write CTranslate2's own files."""
    spec = TransformerSpec.from_config(
        (weights.depth("encoder"), weights.depth("decoder")),
        int(weights.arrays["num_heads"]),
        pre_norm="encoder_norm/gamma" in weights.arrays,
    )
    weights.side(spec.encoder, "encoder")
    weights.side(spec.decoder, "decoder")
    spec.decoder.projection.weight = table = weights.arrays["token_embedding/embeddings"]
    tokenizer = tokenizers.Tokenizer.from_file(vocabulary)
    tokens = [tokenizer.id_to_token(index) or f"<unused {index}>" for index in range(len(table))]
    spec.register_source_vocabulary(tokens)
    spec.register_target_vocabulary(tokens)
    spec.config.layer_norm_epsilon = float(weights.arrays["layer_norm_epsilon"])
    spec.config.decoder_start_token, spec.config.eos_token = START, END
    spec.validate()
    spec.optimize(quantization=None if dtype == "float32" else dtype)
    pathlib.Path(folder).mkdir()
    spec.save(folder)


def take_turns(case: Case, vocabulary: str, dtype: str, folder: str) -> None:
    """Translate when told to."""
    tokenizer = tokenizers.Tokenizer.from_file(vocabulary)
    translator = ctranslate2.Translator(
        folder, "cpu", compute_type=dtype, inter_threads=1, intra_threads=case.threads
    )
    options = {} if case.steps is None else {"min_decoding_length": case.steps}

    def translate(texts: list[str]) -> list[str]:
        results = translator.translate_batch(
            [encoding.tokens for encoding in tokenizer.encode_batch(texts)],
            beam_size=case.beams,
            max_batch_size=case.batch_size,
            max_decoding_length=case.steps or 128,
            **options,
        )
        ids = [[tokenizer.token_to_id(token) or 0 for token in result.hypotheses[0]] for result in results]
        return tokenizer.decode_batch(ids)

    serve(case, translate, {"ctranslate2": version("ctranslate2")})


def main() -> None:
    """Convert, or take turns."""
    what, file, *rest = sys.argv[1:]
    if what == "convert":
        convert(Weights(file), *rest)
    else:
        take_turns(Case.read(file), *rest)


if __name__ == "__main__":
    main()
