"""Time decoding with a cache in ONNX Runtime: `python benchmarks/generation.py`.

Random weights, so that every row writes as many tokens as it may. Each line compares the step function that serves
with a plain one over the same graph, which ranks the whole vocabulary in numpy, reorders the cache there, and repeats
for each beam what its sentence was encoded to. The two run in turn in one process; ratios are medians of pairs.

`--stream` writes token by token instead, one text at a time, beside transformers' `generate` with its cache: the same
weights and prompt on torch, greedily, which has to find the same tokens.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import numpy as np

import kzoo
from kzoo.runtime import Bundle
from kzoo.runtime.caches import as_past, empty_cache, vocab_size
from kzoo.runtime.searching import Search
from kzoo.runtime.session import Session, open_session
from kzoo.search import CachedStep, Step, beam_search, greedy
from kzoo.text import Tokenizer

_PROMPT = "a dog runs"


class PlainStep:
    """A step function that leaves to the graph what only the graph can do."""

    def __init__(
        self, session: Session, tokens_name: str, cache: dict[str, np.ndarray], rest: dict[str, np.ndarray]
    ):
        self.session, self.tokens_name, self.cache, self.rest = session, tokens_name, cache, rest
        self.grows = tokens_name == "input_ids"

    def __call__(
        self, tokens: np.ndarray, rows: np.ndarray, top_k: int | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Append `tokens` to what `rows` have."""
        if not np.array_equal(rows, np.arange(len(next(iter(self.cache.values()))))):
            self.cache = {name: value[rows] for name, value in self.cache.items()}
            self.rest = {name: value[rows] for name, value in self.rest.items()}
        numbers = {"beam_idx": np.arange(len(rows)), "logits_to_keep": np.array(1), "top_k": np.array(1)}
        outputs = self.session.run({**self.rest, **self.cache, **numbers, self.tokens_name: tokens})
        self.cache = as_past(outputs)
        if self.grows:
            mask = self.rest["attention_mask"]
            self.rest["attention_mask"] = np.pad(mask, ((0, 0), (0, 1)), constant_values=1)
        log_probs = outputs["log_probs"][:, -1]
        top = np.argpartition(-log_probs, (top_k or 1) - 1, axis=1)[:, :top_k]
        values = np.take_along_axis(log_probs, top, axis=1)
        order = np.argsort(-values, axis=1)
        return np.take_along_axis(top, order, axis=1), np.take_along_axis(values, order, axis=1)


def translator(folder: Path, threads: int, batch: int, source: int) -> Callable[[bool], Step]:
    """Return what makes a step function, plain or not, over random sentences."""
    bundle = Bundle.open(folder)
    graph = bundle.manifest.graphs["decoder"]
    sessions = {
        role: open_session(folder / f"{role}.onnx", "cpu", threads) for role in bundle.manifest.graphs
    }
    mask = np.ones((batch, source), np.int64)
    ids = np.random.default_rng(0).integers(4, vocab_size(graph), mask.shape)
    memory = as_past(sessions["encoder"].run({"input_ids": ids, "attention_mask": mask}))
    memory["attention_mask"] = mask

    def make(plain: bool) -> Step:
        cache = empty_cache(graph, batch)
        if plain:
            return PlainStep(sessions["decoder"], "decoder_input_ids", cache, dict(memory))
        return CachedStep(sessions["decoder"], "decoder_input_ids", cache, vocab_size(graph), memory=memory)

    return make


def continuer(folder: Path, threads: int, batch: int) -> Callable[[bool], Step]:
    """Return what makes a step function, plain or not, of a language model."""
    graph = Bundle.open(folder).manifest.graphs["model"]
    session = open_session(folder / "model.onnx", "cpu", threads)

    def make(plain: bool) -> Step:
        cache, mask = empty_cache(graph, batch), np.ones((batch, 1), np.int64)
        if plain:
            return PlainStep(session, "input_ids", cache, {"attention_mask": mask})
        return CachedStep(session, "input_ids", cache, vocab_size(graph), mask=mask)

    return make


def compare(name: str, make: Callable[[bool], Step], batch: int, beams: int, steps: int, rounds: int) -> None:
    """Print how long a step takes, how many tokens a second that is, and the ratio to the plain one."""
    start = np.full((batch, 1), 1)
    limits: dict[str, Any] = {"end_id": None, "max_new_tokens": steps}

    def seconds(plain: bool) -> float:
        step = make(plain)
        started = time.perf_counter()
        if beams == 1:
            greedy(step, start, **limits)
        else:
            beam_search(step, start, num_beams=beams, **limits)
        return time.perf_counter() - started

    seconds(True), seconds(False)
    pairs = [(seconds(True), seconds(False)) for _ in range(rounds)]
    plain, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(one / other for other, one in pairs)
    print(
        f"{name}, batch {batch}, {beams} beam{'s' if beams > 1 else ''}: {1e3 * ours / steps:.2f} ms a step, "
        f"{batch * steps / ours:,.0f} tokens/s; plain {1e3 * plain / steps:.2f} ms; ratio {ratio:.2f}"
    )


def stream(name: str, folder: Path, threads: int, tokens: int, rounds: int) -> None:
    """Print how fast a text grows in ONNX Runtime and in transformers, and the ratio.

    Raises:
        SystemExit: the two write different tokens.
    """
    import torch
    import transformers

    torch.set_num_threads(threads)
    transformers.logging.set_verbosity_error()
    write = kzoo.load(folder / "bundle", "cpu", threads)
    peer = transformers.AutoModelForCausalLM.from_pretrained(folder / "checkpoint").eval()
    prompt = write.reader.tokenizer.encode([_PROMPT], max_length=64).input_ids[0].tolist()
    # What closes a text is no part of a prompt, which goes on.
    prompt = prompt[:-1] if prompt[-1] == write.reader.tokenizer.end_id else prompt
    ids = torch.tensor([prompt])
    limits = {"max_new_tokens": tokens, "min_new_tokens": tokens, "do_sample": False, "use_cache": True}
    # Of ids, not of texts: the tokenizer has no words for most of so many.
    written = {"kzoo": list(write._tokens(prompt, Search(), tokens))}

    def seconds(ours: bool) -> float:
        started = time.perf_counter()
        if ours:
            list(write.stream(_PROMPT, max_new_tokens=tokens))
        else:
            with torch.inference_mode():
                found = peer.generate(ids, attention_mask=torch.ones_like(ids), pad_token_id=0, **limits)
            written["transformers"] = found[0, len(prompt) :].tolist()
        return time.perf_counter() - started

    pairs = [(seconds(True), seconds(False)) for _ in range(rounds + 1)][1:]
    if written["kzoo"] != written["transformers"]:
        raise SystemExit(f"{name}: the two write different tokens: {written}")
    ours, others = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(other / one for one, other in pairs)
    print(
        f"{name}, {tokens} tokens, batch 1: {tokens / ours:,.0f} tokens/s; transformers "
        f"{transformers.__version__} {tokens / others:,.0f} tokens/s; ratio {ratio:.2f}"
    )


def main() -> None:
    """Export the models, and print a line for each way of decoding."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--models", default="transformer_tiny,transformer_base,llama_micro")
    parser.add_argument("--stream", action="store_true", help="token by token, beside transformers")
    parser.add_argument("--tokens", type=int, default=128, help="how many, with --stream")
    arguments = parser.parse_args()
    tokenizer = Tokenizer.train(["a dog runs in the park"] * 9, kind="bpe", vocab_size=300)
    with tempfile.TemporaryDirectory() as directory:
        for name in arguments.models.split(","):
            model = kzoo.models.create_model(name, tokenizer=tokenizer)
            folder = Path(directory, name)
            if arguments.stream:
                tokenizer.end_id = None
                model.export(folder / "bundle")
                model.save_pretrained(folder / "checkpoint")
                stream(name, folder, arguments.threads, arguments.tokens, arguments.rounds)
                continue
            model.export(folder)
            for batch, beams in ((1, 1), (1, 4), (32, 1), (32, 4)):
                make = (
                    translator(folder, arguments.threads, batch, source=20)
                    if model.task == "seq2seq"
                    else continuer(folder, arguments.threads, batch)
                )
                compare(name, make, batch, beams, steps=24, rounds=arguments.rounds)


if __name__ == "__main__":
    main()
