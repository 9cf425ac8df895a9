"""Tiny bundles with real graphs, for tests: each knows a few words or shades, and no training framework."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from kzoo.runtime import Manifest, hash_file
from kzoo.runtime.manifest import GenerationDefaults, GraphSpec, TensorSpec, TextPreprocessing
from kzoo.text import Tokenizer
from kzoo.vision import ImagePreprocessing

OPSET = 20
IR_VERSION = 10

TOPICS = {
    "Business": ("shares", "bank", "profits", "market"),
    "Sports": ("match", "goal", "striker", "team"),
}
SHADES = ("dark", "bright")
ENCODED = ("dog", "cat", "runs", "sleeps", "the", "house")
DIM = 8
ALPHABET = "abcdefghijklmnopqrstuvwxyz"
SECOND = {" dog": " Kater"}  # less probable
GERMAN = {"A": "Ein", " dog": " Hund", " cat": " Kater", " runs": " rennt", " sleeps": " schläft", ".": "."}

_DTYPES = {TensorProto.FLOAT: "float32", TensorProto.INT64: "int64"}


def write_text_classifier(
    folder: Path,
    name: str = "topic",
    max_length: int = 24,
    words_of: Mapping[str, Sequence[str]] = TOPICS,
) -> Path:
    """Write a classifier that counts words: 3 is added to a label's logit for each word that it owns."""
    words = itertools.chain.from_iterable(words_of.values())
    tokenizer = Tokenizer.train([f"the {word} of" for word in words] * 3, vocab_size=500)
    weights = np.zeros((tokenizer.vocab_size, len(words_of)), np.float32)
    for column, owned in enumerate(words_of.values()):
        weights[[tokenizer.token_id(word) for word in owned], column] = 3
    nodes = [
        helper.make_node("Gather", ["weights", "input_ids"], ["votes"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Mul", ["votes", "column"], ["counted"]),
        helper.make_node("ReduceSum", ["counted", "tokens"], ["logits"], keepdims=0),
    ]
    graph = make_graph(
        nodes,
        inputs=[int_input("input_ids", "sequence"), int_input("attention_mask", "sequence")],
        outputs=[float_tensor("logits", ["batch", len(words_of)])],
        constants={"weights": weights, "last": np.array([2]), "tokens": np.array([1])},
    )
    text = TextPreprocessing(max_length=max_length)
    return write_bundle(
        folder, name, "classification", {"model": graph}, tokenizer, labels=list(words_of), text=text
    )


def write_image_classifier(folder: Path, name: str = "shade") -> Path:
    """Write a classifier of 8 x 8 grey images by their mean: logits are plus and minus 4 times it."""
    nodes = [
        helper.make_node("ReduceMean", ["pixel_values", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "signs"], ["logits"]),
    ]
    graph = make_graph(
        nodes,
        inputs=[float_tensor("pixel_values", ["batch", 8, 8, 1])],
        outputs=[float_tensor("logits", ["batch", len(SHADES)])],
        constants={"axes": np.array([1, 2]), "signs": np.array([[-4, 4]], np.float32)},
    )
    image = ImagePreprocessing(height=8, width=8, channels=1)
    return write_bundle(
        folder, name, "image_classification", {"model": graph}, labels=list(SHADES), image=image
    )


def write_encoder(folder: Path, name: str, task: str, max_length: int = 24) -> Path:
    """Write a bundle whose hidden states are a fixed vector a token, and whose embedding is their mean."""
    tokenizer = Tokenizer.train([" ".join(ENCODED)] * 9, vocab_size=200)
    vectors = np.random.default_rng(0).normal(size=(tokenizer.vocab_size, DIM)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["vectors", "input_ids"], ["last_hidden_state"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Mul", ["last_hidden_state", "column"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "tokens"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["column", "tokens"], ["count"], keepdims=0),
        helper.make_node("Div", ["sum", "count"], ["embedding"]),
    ]
    outputs = {
        "embedding": float_tensor("embedding", ["batch", DIM]),
        "features": float_tensor("last_hidden_state", ["batch", "sequence", DIM]),
    }
    graph = make_graph(
        nodes if task == "embedding" else nodes[:1],
        inputs=[int_input("input_ids", "sequence"), int_input("attention_mask", "sequence")],
        outputs=[outputs[task]],
        constants={"vectors": vectors, "last": np.array([2]), "tokens": np.array([1])},
    )
    text = TextPreprocessing(max_length=max_length)
    return write_bundle(folder, name, task, {"model": graph}, tokenizer, text=text)


def write_translator(folder: Path, name: str = "en-de", max_length: int = 24) -> Path:
    """Write a word-for-word translator of `GERMAN`'s words.

    Its encoder's keys are each word's translation, as one hot row; its decoder counts its own cache to know
    which word comes next, so that a wrong cache gives wrong words. `SECOND` has what might stand there too, with a
    tenth of the probability.
    """
    pairs = list(GERMAN.items())
    corpus = ["".join(side) for pair in pairs for side in pair for _ in range(9)]
    corpus += ["A" + "".join(words) for words in zip(*pairs, strict=True)] * 9
    corpus += ["A dog runs.", "A cat sleeps.", "Ein Hund rennt.", "Ein Kater schläft."] * 9
    tokenizer = Tokenizer.train(corpus, kind="bpe", vocab_size=600)
    size = tokenizer.vocab_size
    dictionary = 20 * np.eye(size, dtype=np.float32)
    for english, german in pairs:
        source, target = (_only_token(tokenizer, word) for word in (english, german))
        dictionary[source] = 0
        dictionary[source, target] = 20
    for english, german in SECOND.items():
        dictionary[_only_token(tokenizer, english), _only_token(tokenizer, german)] = 18
    encoder = make_graph(
        [
            helper.make_node("Gather", ["dictionary", "input_ids"], ["rows"]),
            helper.make_node("Unsqueeze", ["rows", "heads"], ["present.0.encoder.key"]),
            helper.make_node("Identity", ["present.0.encoder.key"], ["present.0.encoder.value"]),
        ],
        inputs=[int_input("input_ids", "sequence"), int_input("attention_mask", "sequence")],
        outputs=[
            float_tensor(f"present.0.encoder.{part}", ["batch", 1, "sequence", size])
            for part in ("key", "value")
        ],
        constants={"dictionary": dictionary, "heads": np.array([1])},
    )
    memory = ["batch", 1, "sequence", size]
    past, present = ["past_batch", 1, "past", 1], ["rows", 1, "total", 1]
    caches = [f"past_key_values.0.decoder.{part}" for part in ("key", "value")]
    ends = DecoderEnds("decoder_input_ids", caches, ["past_key_values.0.encoder.key"], size)
    decoder = make_graph(
        [
            *ends.head,
            helper.make_node("Cast", ["decoder_input_ids"], ["float_ids"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["float_ids", "head_and_width"], ["new"]),
            *(
                helper.make_node(
                    "Concat",
                    [f"past_key_values.0.decoder.{part}/rows", "new"],
                    [f"present.0.decoder.{part}"],
                    axis=2,
                )
                for part in ("key", "value")
            ),
            helper.make_node("Shape", ["past_key_values.0.decoder.key"], ["first"], start=2, end=3),
            helper.make_node("Shape", ["present.0.decoder.value"], ["end"], start=2, end=3),
            helper.make_node("Shape", ["past_key_values.0.encoder.key"], ["length"], start=2, end=3),
            helper.make_node("Squeeze", ["first"], ["first_position"]),
            helper.make_node("Squeeze", ["end"], ["end_position"]),
            helper.make_node("Range", ["first_position", "end_position", "one"], ["wanted"]),
            helper.make_node("Sub", ["length", "one"], ["longest"]),
            helper.make_node("Min", ["wanted", "longest"], ["positions"]),
            helper.make_node("Squeeze", ["past_key_values.0.encoder.key/rows", "heads"], ["words"]),
            helper.make_node("Gather", ["words", "positions"], ["logits"], axis=1),
            helper.make_node("OneHot", ["positions", "length", "off_on"], ["looked_at"]),
            helper.make_node("Shape", ["decoder_input_ids"], ["rows_1"], start=0, end=1),
            helper.make_node("Concat", ["rows_1", "heads", "heads"], ["rows_1_1"], axis=0),
            helper.make_node("Expand", ["looked_at", "rows_1_1"], ["cross_attention"]),
            *ends.tail,
        ],
        inputs=[
            int_input("decoder_input_ids", "step"),
            *ends.inputs,
            *(float_tensor(f"past_key_values.0.encoder.{part}", memory) for part in ("key", "value")),
            *(float_tensor(f"past_key_values.0.decoder.{part}", past) for part in ("key", "value")),
        ],
        outputs=[
            *ends.outputs,
            *(float_tensor(f"present.0.decoder.{part}", present) for part in ("key", "value")),
            float_tensor("cross_attention", ["rows", "step", "sequence"]),
        ],
        constants={
            "off_on": np.array([0, 1], np.float32),
            "head_and_width": np.array([1, 3]),
            "heads": np.array([1]),
            "one": np.array(1),
            **ends.constants,
        },
    )
    return write_bundle(
        folder,
        name,
        "seq2seq",
        {"encoder": encoder, "decoder": decoder},
        tokenizer,
        text=TextPreprocessing(max_length=max_length),
        generation=GenerationDefaults(
            start_id=tokenizer.start_id, end_id=tokenizer.end_id, max_new_tokens=max_length
        ),
    )


def write_writer(folder: Path, name: str = "alphabet", max_length: int = 16) -> Path:
    """Write a language model that goes on with the alphabet, and after z with a.

    Nine times in ten the next letter comes, else the one after; what is no letter is followed by a. Its cache is kept
    and not looked at.
    """
    tokenizer = Tokenizer.train([ALPHABET + "\n"], kind="characters", vocab_size=100, marks="none")
    letters = [_only_token(tokenizer, letter) for letter in ALPHABET]
    tokenizer.start_id, tokenizer.end_id = _only_token(tokenizer, "\n"), None
    chances = np.full((tokenizer.vocab_size, tokenizer.vocab_size), 1e-9, np.float32)
    chances[:, letters[0]] = 0.9
    for place, letter in enumerate(letters):
        chances[letter] = 1e-9
        chances[letter, letters[(place + 1) % len(letters)]] = 0.9
        chances[letter, letters[(place + 2) % len(letters)]] = 0.1
    caches = [f"past_key_values.0.{part}" for part in ("key", "value")]
    ends = DecoderEnds("input_ids", caches, vocab_size=tokenizer.vocab_size)
    graph = make_graph(
        [
            *ends.head,
            helper.make_node("Cast", ["input_ids"], ["float_ids"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["float_ids", "head_and_width"], ["new"]),
            *(
                helper.make_node(
                    "Concat", [f"past_key_values.0.{part}/rows", "new"], [f"present.0.{part}"], axis=2
                )
                for part in ("key", "value")
            ),
            helper.make_node("Gather", ["chances", "input_ids"], ["logits"]),
            *ends.tail,
        ],
        inputs=[
            int_input("input_ids", "sequence"),
            int_input("attention_mask", "past+sequence"),
            *ends.inputs,
            *(float_tensor(name, ["past_batch", 1, "past", 1]) for name in caches),
        ],
        outputs=[
            *ends.outputs,
            *(float_tensor(f"present.0.{part}", ["rows", 1, "total", 1]) for part in ("key", "value")),
        ],
        constants={"chances": np.log(chances), "head_and_width": np.array([1, 3]), **ends.constants},
    )
    return write_bundle(
        folder,
        name,
        "causal_lm",
        {"model": graph},
        tokenizer,
        text=TextPreprocessing(max_length=max_length),
        generation=GenerationDefaults(
            start_id=tokenizer.start_id, end_id=None, max_new_tokens=max_length // 2
        ),
        examples=["abc"],
    )


class DecoderEnds:
    """What the graph of any decoder begins and ends with: rows in order, next tokens ranked.

    The cache and what is remembered of each sentence are called `NAME` as they come in, and `NAME/rows` with a row
    for each of the tokens' rows. What lies between makes `logits` (rows, step, vocab).
    """

    def __init__(
        self, tokens: str, cache: Sequence[str], memory: Sequence[str] = (), vocab_size: int = 0
    ) -> None:
        self.inputs = [
            helper.make_tensor_value_info("beam_idx", TensorProto.INT64, ["rows"]),
            helper.make_tensor_value_info("logits_to_keep", TensorProto.INT64, []),
            helper.make_tensor_value_info("top_k", TensorProto.INT64, []),
        ]
        self.head = [helper.make_node("Gather", [name, "beam_idx"], [f"{name}/rows"]) for name in cache]
        for name in memory:
            self.head += [
                helper.make_node("Shape", [tokens], [f"{name}/rows_1"], start=0, end=1),
                helper.make_node("Shape", [name], [f"{name}/sentences"], start=0, end=1),
                helper.make_node("Div", [f"{name}/rows_1", f"{name}/sentences"], [f"{name}/beams"]),
                helper.make_node("Squeeze", [f"{name}/rows_1"], [f"{name}/rows_0"]),
                helper.make_node("Range", ["ends/zero", f"{name}/rows_0", "ends/one"], [f"{name}/all"]),
                helper.make_node("Div", [f"{name}/all", f"{name}/beams"], [f"{name}/owners"]),
                helper.make_node("Gather", [name, f"{name}/owners"], [f"{name}/rows"]),
            ]
        self.tail = [
            helper.make_node("LogSoftmax", ["logits"], ["ends/log_probs"], axis=-1),
            helper.make_node("Neg", ["logits_to_keep"], ["ends/kept"]),
            helper.make_node("Reshape", ["ends/kept", "ends/vector"], ["ends/first"]),
            helper.make_node(
                "Slice", ["ends/log_probs", "ends/first", "ends/last", "ends/vector"], ["log_probs"]
            ),
            helper.make_node("Reshape", ["top_k", "ends/vector"], ["ends/top_k"]),
            helper.make_node("TopK", ["log_probs", "ends/top_k"], ["top_log_probs", "top_ids"]),
        ]
        self.outputs = [
            float_tensor("log_probs", ["rows", "kept", vocab_size]),
            float_tensor("top_log_probs", ["rows", "kept", "top_k"]),
            helper.make_tensor_value_info("top_ids", TensorProto.INT64, ["rows", "kept", "top_k"]),
        ]
        self.constants = {
            "ends/vector": np.array([1]),
            "ends/last": np.array([2**31 - 1]),
            "ends/zero": np.array(0),
            "ends/one": np.array(1),
        }


def write_bundle(
    folder: Path,
    name: str,
    task: str,
    graphs: dict[str, onnx.ModelProto],
    tokenizer: Tokenizer | None = None,
    **sections: Any,
) -> Path:
    folder.mkdir(parents=True)
    specs = {}
    for role, graph in graphs.items():
        onnx.save(graph, folder / f"{role}.onnx")
        specs[role] = GraphSpec(
            file=f"{role}.onnx",
            inputs=[_spec(value) for value in graph.graph.input],
            outputs=[_spec(value) for value in graph.graph.output],
        )
    if tokenizer is not None:
        tokenizer.save(folder / "tokenizer.json")
    manifest = Manifest(
        name=name,
        task=task,
        graphs=specs,
        opset=OPSET,
        versions={"kzoo": "0.1.0"},
        files={file.name: hash_file(file) for file in sorted(folder.iterdir())},
        **sections,
    )
    (folder / "manifest.json").write_text(manifest.model_dump_json(), encoding="utf-8")
    return folder


def make_graph(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: dict[str, np.ndarray],
) -> onnx.ModelProto:
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return model


def int_input(name: str, length: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", length])


def float_tensor(name: str, shape: list[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    return TensorSpec(
        name=value.name,
        dtype=_DTYPES[tensor.elem_type],
        shape=[size.dim_param or size.dim_value for size in tensor.shape.dim],
    )


def _only_token(tokenizer: Tokenizer, word: str) -> int:
    (token,) = tokenizer.encode([word], max_length=8, special_tokens=False).input_ids[0].tolist()
    return token
