"""Further tiny bundles, whose results depend on masks and on every entry of a cache."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from kzoo.runtime import Bundle, hash_file
from kzoo.runtime.manifest import GOLDEN_FILE, MANIFEST_FILE, GenerationDefaults, TextPreprocessing
from kzoo.text import Tokenizer
from tests.bundles import DecoderEnds, float_tensor, int_input, make_graph, write_bundle

DIM = 8
TEXTS = ["the dog runs fast", "the cat sleeps", "a bird sings in the tree", "shares fell on monday"]
LABELS = ["animal", "business", "sport"]


def add_golden(folder: Path, role: str, feeds: dict[str, np.ndarray]) -> Path:
    """Record a graph's outputs for `feeds` in the bundle, as export does."""
    bundle = Bundle.open(folder)
    graph = bundle.manifest.graphs[role]
    session = onnxruntime.InferenceSession(bundle.path(graph.file), providers=["CPUExecutionProvider"])
    names = [tensor.name for tensor in graph.outputs]
    arrays = {f"first/{role}/input/{name}": value for name, value in feeds.items()}
    for name, value in zip(names, session.run(names, feeds), strict=True):
        arrays[f"first/{role}/output/{name}"] = value
    np.savez(folder / GOLDEN_FILE, **arrays)
    bundle.manifest.files[GOLDEN_FILE] = hash_file(folder / GOLDEN_FILE)
    (folder / MANIFEST_FILE).write_text(bundle.manifest.model_dump_json(), encoding="utf-8")
    return folder


def write_text_bundle(folder: Path, task: str = "classification", **fields: Any) -> Path:
    """Write a bundle that averages random token vectors, and says so in the way of its task."""
    tokenizer = Tokenizer.train(TEXTS, kind="wordpiece", vocab_size=120)
    random = np.random.default_rng(0)
    heads: dict[str, tuple[list[onnx.NodeProto], dict[str, list[int | str]]]] = {
        "classification": (
            [helper.make_node("MatMul", ["mean", "weights"], ["logits"])],
            {"logits": ["batch", len(LABELS)]},
        ),
        "embedding": (
            [helper.make_node("Identity", ["mean"], ["embedding"])],
            {"embedding": ["batch", DIM]},
        ),
        "features": (
            [
                helper.make_node("Identity", ["hidden"], ["last_hidden_state"]),
                helper.make_node("Identity", ["mean"], ["pooled"]),
            ],
            {"last_hidden_state": ["batch", "length", DIM], "pooled": ["batch", DIM]},
        ),
    }
    heads["multilabel"] = heads["classification"]
    labels = {"next_sentence": ["next", "random"], "regression": ["number"]}.get(task, LABELS)
    if task not in heads:
        heads[task] = (heads["classification"][0], {"logits": ["batch", len(labels)]})
    nodes, outputs = heads[task]
    weights = random.normal(size=(DIM, len(labels))).astype(np.float32)
    constants = {"weights": weights} if "logits" in outputs else {}
    graph = make_graph(
        [
            helper.make_node("Gather", ["table", "input_ids"], ["hidden"]),
            helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["mask", "axis2"], ["mask3"]),
            helper.make_node("Mul", ["hidden", "mask3"], ["masked"]),
            helper.make_node("ReduceSum", ["masked", "axis1"], ["sum"], keepdims=0),
            helper.make_node("ReduceSum", ["mask", "axis1"], ["count"]),
            helper.make_node("Div", ["sum", "count"], ["mean"]),
            *nodes,
        ],
        inputs=[int_input("input_ids", "length"), int_input("attention_mask", "length")],
        outputs=[float_tensor(name, shape) for name, shape in outputs.items()],
        constants={
            "table": random.normal(size=(tokenizer.vocab_size, DIM)).astype(np.float32),
            "axis1": np.array([1]),
            "axis2": np.array([2]),
            **constants,
        },
    )
    if "logits" in outputs and task != "regression":
        fields.setdefault("labels", labels)
    text = TextPreprocessing(max_length=12)
    write_bundle(folder, folder.name, task, {"model": graph}, tokenizer, text=text, **fields)
    encoding = tokenizer.encode(TEXTS, max_length=12)
    ids, mask = encoding.input_ids.astype(np.int64), encoding.attention_mask.astype(np.int64)
    return add_golden(folder, "model", {"input_ids": ids, "attention_mask": mask})


TAGS = ["O", "B-animal", "I-animal", "B-time"]
# What stands in for a model that has learnt: each word's tag, the likeliest words before a word, words that look
# replaced, and where answers start and end.
TAGGED = {"dog": 1, "runs": 2, "cat": 1, "bird": 1, "sings": 2, "monday": 3}
PRECEDES = {"dog": ["a", "the"], "sleeps": ["bird", "dog", "cat"]}
REPLACED = ("fell", "shares")
ANSWERS = {"start": {"dog": 9, "cat": 5}, "end": {"fast": 9, "dog": 5, "sleeps": 5}}


def write_token_bundle(folder: Path, task: str, **fields: Any) -> Path:
    """Write a bundle whose outputs for each token follow from that token, or for a mask from the next one."""
    tokenizer = Tokenizer.train(TEXTS * 3, kind="wordpiece", vocab_size=300)
    size = tokenizer.vocab_size

    def table(votes: dict[str, dict[int, float]], width: int) -> np.ndarray:
        values = np.zeros((size, width), np.float32)
        for word, scores in votes.items():
            for column, score in scores.items():
                values[tokenizer.token_id(word), column] = score
        return values

    def each_token(output: str, values: np.ndarray) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
        return [helper.make_node("Gather", [f"{output}_table", "input_ids"], [output])], {
            f"{output}_table": values
        }

    inputs = [int_input("input_ids", "length"), int_input("attention_mask", "length")]
    per_token: list[int | str] = ["batch", "length"]
    if task == "tokens":
        tags = table({word: {tag: 5.0} for word, tag in TAGGED.items()}, len(TAGS))
        tags[:, 0] += 1
        nodes, constants = each_token("logits", tags)
        outputs: dict[str, list[int | str]] = {"logits": [*per_token, len(TAGS)]}
        fields.setdefault("labels", TAGS)
    elif task == "replaced_token":
        nodes, constants = each_token("logits", table({word: {0: 6.0} for word in REPLACED}, 1)[:, 0] - 3)
        outputs = {"logits": per_token}
    elif task == "qa":
        nodes, constants, outputs = [], {}, {}
        for end, votes in ANSWERS.items():
            more = each_token(
                f"{end}_logits", table({word: {0: vote} for word, vote in votes.items()}, 1)[:, 0]
            )
            nodes, constants = nodes + more[0], constants | more[1]
            outputs[f"{end}_logits"] = per_token
    else:
        inputs.append(int_input("mask_positions", "masks"))
        votes = {
            word: {tokenizer.token_id(other): rank + 3.0 for rank, other in enumerate(others)}
            for word, others in PRECEDES.items()
        }
        nodes = [
            helper.make_node("Add", ["mask_positions", "one"], ["after"]),
            # The last token of a row is followed by its first.
            helper.make_node("Shape", ["input_ids"], ["length"], start=1, end=2),
            helper.make_node("Mod", ["after", "length"], ["next"]),
            helper.make_node("Unsqueeze", ["next", "last"], ["places"]),
            helper.make_node("GatherND", ["input_ids", "places"], ["next_ids"], batch_dims=1),
            helper.make_node("Gather", ["before", "next_ids"], ["logits"]),
        ]
        constants = {"one": np.array([1]), "last": np.array([2]), "before": table(votes, size)}
        outputs = {"logits": ["batch", "masks", size]}
    graph = make_graph(
        nodes,
        inputs=inputs,
        outputs=[float_tensor(name, shape) for name, shape in outputs.items()],
        constants=constants,
    )
    text = TextPreprocessing(max_length=fields.pop("max_length", 16))
    return write_bundle(folder, folder.name, task, {"model": graph}, tokenizer, text=text, **fields)


def write_language_model(folder: Path, max_length: int = 32) -> tuple[Path, np.ndarray, np.ndarray]:
    """Write a model whose logits are those of all real tokens so far, by the cache, and of the last one.

    The cache keeps tokens as one-hot rows, so that losing, swapping or not masking one changes the outcome.
    Returns the folder and the weights for the history and the last token, each (vocab, vocab).
    """
    tokenizer = Tokenizer.train(TEXTS, kind="bpe", vocab_size=300)
    size = tokenizer.vocab_size
    history, last = np.random.default_rng(2).normal(size=(2, size, size)).astype(np.float32)
    past, present = ["past_batch", 1, "past", size], ["batch", 1, "total", size]
    caches = ["past_key_values.0.key", "past_key_values.0.value"]
    ends = DecoderEnds("input_ids", caches, vocab_size=size)
    graph = make_graph(
        [
            *ends.head,
            helper.make_node("Gather", ["identity", "input_ids"], ["tokens"]),
            helper.make_node("Unsqueeze", ["tokens", "axis1"], ["tokens4"]),
            helper.make_node("Concat", [f"{caches[0]}/rows", "tokens4"], ["present.0.key"], axis=2),
            helper.make_node("Concat", [f"{caches[1]}/rows", "tokens4"], ["present.0.value"], axis=2),
            helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["mask", "axes13"], ["mask4"]),
            helper.make_node("Mul", ["present.0.key", "mask4"], ["real"]),
            helper.make_node("ReduceSum", ["real", "axis2"], ["seen"], keepdims=0),
            helper.make_node("MatMul", ["seen", "history"], ["far"]),
            helper.make_node("MatMul", ["tokens", "last"], ["near"]),
            helper.make_node("Add", ["far", "near"], ["logits"]),
            *ends.tail,
        ],
        inputs=[
            int_input("input_ids", "step"),
            int_input("attention_mask", "total"),
            *ends.inputs,
            float_tensor("past_key_values.0.key", past),
            float_tensor("past_key_values.0.value", past),
        ],
        outputs=[
            *ends.outputs,
            float_tensor("present.0.key", present),
            float_tensor("present.0.value", present),
        ],
        constants={
            "identity": np.eye(size, dtype=np.float32),
            "history": history,
            "last": last,
            "axis1": np.array([1]),
            "axis2": np.array([2]),
            "axes13": np.array([1, 3]),
            **ends.constants,
        },
    )
    write_bundle(
        folder,
        folder.name,
        "causal_lm",
        {"model": graph},
        tokenizer,
        text=TextPreprocessing(max_length=max_length),
        generation=GenerationDefaults(start_id=tokenizer.start_id, end_id=tokenizer.end_id, max_new_tokens=8),
    )
    return folder, history, last


def write_copier(folder: Path, max_length: int = 40) -> Path:
    """Write an encoder and a decoder that give the source back, as long as the cache holds what was written.

    The next token is the source's at the cache's length; its logit is 10, and -10 or less if an entry of the
    cache is another row's.
    """
    tokenizer = Tokenizer.train(TEXTS, kind="bpe", vocab_size=300)
    size = tokenizer.vocab_size
    memory, cache = ["batch", 1, "sequence", size], ["past_batch", 1, "past", size]
    total = ["rows", 1, "total", size]
    identity = np.eye(size, dtype=np.float32)
    encoder = make_graph(
        [
            helper.make_node("Gather", ["identity", "input_ids"], ["tokens"]),
            helper.make_node("Unsqueeze", ["tokens", "axis1"], ["present.0.encoder.key"]),
            helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["mask", "axes13"], ["mask4"]),
            helper.make_node("Mul", ["present.0.encoder.key", "mask4"], ["present.0.encoder.value"]),
        ],
        inputs=[int_input("input_ids", "sequence"), int_input("attention_mask", "sequence")],
        outputs=[
            float_tensor("present.0.encoder.key", memory),
            float_tensor("present.0.encoder.value", memory),
        ],
        constants={"identity": identity, "axis1": np.array([1]), "axes13": np.array([1, 3])},
    )
    past, present = "past_key_values.0", "present.0.decoder"
    caches = [f"{past}.decoder.{part}" for part in ("key", "value")]
    ends = DecoderEnds("decoder_input_ids", caches, [f"{past}.encoder.value"], size)
    decoder = make_graph(
        [
            *ends.head,
            helper.make_node("Gather", ["identity", "decoder_input_ids"], ["tokens"]),
            helper.make_node("Unsqueeze", ["tokens", "axis1"], ["tokens4"]),
            helper.make_node("Concat", [f"{caches[0]}/rows", "tokens4"], [f"{present}.key"], axis=2),
            helper.make_node("Concat", [f"{caches[1]}/rows", "tokens4"], [f"{present}.value"], axis=2),
            helper.make_node("Shape", [f"{present}.key"], ["total"], start=2, end=3),
            helper.make_node("Sub", ["total", "axis1"], ["all_written"]),
            # Beams that are not the best one may go on behind the source's end.
            helper.make_node("Shape", [f"{past}.encoder.value"], ["length"], start=2, end=3),
            helper.make_node("Min", ["all_written", "length"], ["written"]),
            helper.make_node("Add", ["written", "axis1"], ["after"]),
            helper.make_node("Sub", ["length", "axis1"], ["longest"]),
            helper.make_node("Min", ["written", "longest"], ["place"]),
            helper.make_node("Add", ["place", "axis1"], ["behind"]),
            # What the cache holds after the start token, against the source's first tokens.
            helper.make_node("Slice", [f"{present}.key", "axis1", "after", "axis2"], ["held"]),
            helper.make_node("Slice", [f"{past}.encoder.value/rows", "axis0", "written", "axis2"], ["due"]),
            helper.make_node("Mul", ["held", "due"], ["matches"]),
            helper.make_node("ReduceSum", ["matches", "axes123"], ["right"]),
            helper.make_node("Cast", ["all_written"], ["wanted"], to=TensorProto.FLOAT),
            helper.make_node("Sub", ["right", "wanted"], ["lost"]),
            helper.make_node("Add", ["lost", "half"], ["factor"]),
            helper.make_node("Slice", [f"{past}.encoder.value/rows", "place", "behind", "axis2"], ["next"]),
            helper.make_node("Mul", ["next", "factor"], ["small"]),
            helper.make_node("Mul", ["small", "twenty"], ["large"]),
            helper.make_node("Squeeze", ["large", "axis1"], ["logits"]),
            *ends.tail,
        ],
        inputs=[
            int_input("decoder_input_ids", "step"),
            *ends.inputs,
            int_input("attention_mask", "sequence"),
            *(float_tensor(f"{past}.encoder.{part}", memory) for part in ("key", "value")),
            *(float_tensor(f"{past}.decoder.{part}", cache) for part in ("key", "value")),
        ],
        outputs=[
            *ends.outputs,
            *(float_tensor(f"{present}.{part}", total) for part in ("key", "value")),
        ],
        constants={
            "identity": identity,
            "axis0": np.array([0]),
            "axis1": np.array([1]),
            "axis2": np.array([2]),
            "axes123": np.array([1, 2, 3]),
            "half": np.array(0.5, np.float32),
            "twenty": np.array(20, np.float32),
            **ends.constants,
        },
    )
    return write_bundle(
        folder,
        folder.name,
        "seq2seq",
        {"encoder": encoder, "decoder": decoder},
        tokenizer,
        text=TextPreprocessing(max_length=max_length),
        generation=GenerationDefaults(start_id=tokenizer.start_id, end_id=tokenizer.end_id),
    )


def edit(folder, **changes):
    """Change fields of a bundle's manifest."""
    file = folder / "manifest.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(content | changes), encoding="utf-8")
