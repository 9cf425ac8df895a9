"""Measure translation against CTranslate2 with the same weights, and against Optimum.

    python benchmarks/translate.py --peers-python PYTHON
    python benchmarks/translate.py --peers-python PYTHON --only trained --keras MODEL [--bundle BUNDLE]

PYTHON is that of an environment with the peers, which `benchmarks/peers/translate_with_*.py` say how to make. Weights
are random, of Transformer-base's shape and of the shelf's translator's (4 + 4 layers, width 128, 6,000 tokens, norms
first); they end no sentence, so that all engines write as many tokens. Sources are Multi30k's English test sentences
of 2016, from `$KZOO_DATA`; four beams.

With MODEL, a `.keras` file such as a run's checkpoint, it is that model, whose sentences end where they end; kzoo's
side is then its export in float32 and in int8, or BUNDLE, which was made of it.

Each engine has a process of its own, and they take turns, in an order drawn anew for each; the ratio is the median
over turns. Times are from text to text, tokenization included. Memory is the most that a process held, from its start
on. Behind a speed stands how many results of the two engines are the same.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import gzip
import json
import os
import pathlib
import statistics
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import numpy as np
from engines import Turns, Worker, run_once, working, write_case

from kzoo.data import locate
from kzoo.runtime.graph import read_contents
from kzoo.text import Tokenizer

Row = tuple[str, str, str, str, str]


class Model:
    """A model's bundles and its weights, in a folder.

    Args:
        model: a model of the zoo's, with its tokenizer.
        folder: where all goes.
        bundle: the bundle that is measured; exported if None.
    """

    def __init__(self, model: Any, folder: pathlib.Path, bundle: pathlib.Path | None = None) -> None:
        self.model, self.folder, self.bundle = model, folder, bundle
        folder.mkdir(exist_ok=True)
        config = model.backbone.config
        np.savez(
            folder / "weights.npz",
            num_heads=config.num_heads,
            layer_norm_epsilon=config.layer_norm_epsilon,
            **{variable.path: np.asarray(variable) for variable in model.weights},
        )
        model.tokenizer.save(folder / "tokenizer.json")

    @classmethod
    def random(cls, name: str, folder: pathlib.Path, tokenizer: Any, **overrides: Any) -> Model:
        """Make a variant of the registry's, with weights that end no sentence."""
        import keras

        import kzoo

        keras.utils.set_random_seed(0)
        tokenizer.end_id = None
        return cls(kzoo.models.create_model(name, tokenizer=tokenizer, **overrides), folder)

    @property
    def dtypes(self) -> tuple[str, ...]:
        """What precisions are measured."""
        if self.bundle is None:
            return "float32", "int8"
        operations = read_contents(self.bundle / "decoder.onnx").operations
        return ("int8" if any("Integer" in name for name in operations) else "float32",)

    def kzoo(self, case: pathlib.Path, dtype: str, threads: int) -> Worker:
        """Return a process of ours."""
        bundle = self.bundle or self.folder / f"kzoo_{dtype}"
        if not bundle.exists():
            self.model.export(bundle, dtype=dtype, target="cpu")
        return Worker(sys.executable, "translate_with_kzoo", case, bundle, threads=threads)

    def ctranslate2(self, python: str, case: pathlib.Path, dtype: str, threads: int) -> Worker:
        """Return a process of CTranslate2's."""
        script, folder = "translate_with_ctranslate2", self.folder / f"ctranslate2_{dtype}"
        vocabulary = self.folder / "tokenizer.json"
        if not folder.exists():
            run_once(python, script, "convert", self.folder / "weights.npz", vocabulary, dtype, folder)
        return Worker(python, script, "serve", case, vocabulary, dtype, folder, threads=threads)

    def optimum(self, python: str, case: pathlib.Path, threads: int) -> Worker:
        """Return a process of Optimum's, over a model of this shape."""
        script, folder, numbers = (
            "translate_with_optimum",
            self.folder / "optimum",
            self.folder / "marian.json",
        )
        config = self.model.backbone.config
        fields = {"d_model": config.hidden_dim, "vocab_size": config.vocab_size}
        for side in ("encoder", "decoder"):
            fields |= {
                f"{side}_layers": config.num_layers,
                f"{side}_attention_heads": config.num_heads,
                f"{side}_ffn_dim": config.intermediate_dim,
            }
        numbers.write_text(json.dumps(fields), encoding="utf-8")
        if not folder.exists():
            run_once(python, script, "export", numbers, folder)
        vocabulary = self.folder / "tokenizer.json"
        return Worker(python, script, "serve", case, vocabulary, folder, threads=threads)


def read_lines(name: str) -> list[str]:
    """Return the lines of one of Multi30k's files."""
    with gzip.open(locate(f"multi30k/{name}.gz"), "rt", encoding="utf-8") as file:
        return file.read().splitlines()


class Bench:
    """The table's rows.

    Args:
        options: the command's.
        folder: for files.
    """

    def __init__(self, options: argparse.Namespace, folder: pathlib.Path) -> None:
        self.options, self.folder = options, folder
        self.versions: dict[str, str] = {}
        self.sentences = read_lines("test_2016_flickr.en")

    def tokenizer(self, size: int) -> Tokenizer:
        """Train a vocabulary of both languages."""
        texts = [line for side in ("en", "de") for line in read_lines(f"train.{side}")]
        return Tokenizer.train(texts, kind="bpe", vocab_size=size)

    def case(self, **fields: Any) -> pathlib.Path:
        """Write a case with four beams."""
        more = {"beams": 4, "steps": self.options.steps, "one_by_one": False}
        return write_case(self.folder, **(more | fields), threads=self.options.threads)

    def turns(self, workers: dict[str, Worker]) -> Turns:
        """Let engines take turns."""
        for worker in workers.values():
            self.versions |= worker.versions
        with working(workers):
            return Turns(workers, self.options.turns)

    def base(self) -> Iterator[Row]:
        """Rows of Transformer-base."""
        model = Model.random("transformer_base", self.folder / "base", self.tokenizer(8_000))
        case = self.case(texts=self.sentences[:32], batch_size=32)
        tokens = 32 * self.options.steps
        for dtype, bar in (("float32", 1.0), ("int8", 0.8)):
            turns = self.turns(self.pair(model, case, dtype))
            yield speed_row(f"Transformer-base, batch 32, {dtype}", turns, tokens, "tokens", bar)
            yield memory_row(f"Transformer-base, batch 32, {dtype}", turns)

    def shelf(self) -> Iterator[Row]:
        """Rows of the small model."""
        tokenizer = self.tokenizer(6_000)
        size = {"vocab_size": tokenizer.vocab_size}
        model = Model.random("transformer_tiny", self.folder / "tiny", tokenizer, norm_first=True, **size)
        yield from self.small(model, "small", self.options.steps)
        case = self.case(texts=self.sentences[:64], batch_size=32)
        python, threads = self.options.peers_python, self.options.threads
        turns = self.turns(
            {
                "kzoo": model.kzoo(case, "float32", threads),
                "peer": model.optimum(python, case, threads),
            }
        )
        yield speed_row("small, batch 32, Optimum's generate", turns, 64, "sentences", 3.0, same=False)

    def trained(self) -> Iterator[Row]:
        """Rows of a model that was trained."""
        import kzoo

        model = kzoo.models.load(self.options.keras)
        yield from self.small(Model(model, self.folder / "trained", self.options.bundle), "trained", None)

    def small(self, model: Model, name: str, steps: int | None) -> Iterator[Row]:
        """Rows of a small model in batches and alone."""
        for dtype in model.dtypes:
            texts = self.sentences[: self.options.sentences]
            case = self.case(texts=texts, batch_size=64, steps=steps)
            turns = self.turns(self.pair(model, case, dtype))
            yield speed_row(f"{name}, test 2016, batch 64, {dtype}", turns, len(texts), "sentences", 1.0)
            yield memory_row(f"{name}, test 2016, batch 64, {dtype}", turns)
            case = self.case(texts=self.sentences[:20], batch_size=1, one_by_one=True, steps=steps)
            turns = self.turns(self.pair(model, case, dtype))
            yield latency_row(f"{name}, a sentence alone, {dtype}", turns)

    def pair(self, model: Model, case: pathlib.Path, dtype: str) -> dict[str, Worker]:
        """Start both engines."""
        python, threads = self.options.peers_python, self.options.threads
        return {
            "kzoo": model.kzoo(case, dtype, threads),
            "peer": model.ctranslate2(python, case, dtype, threads),
        }


def speed_row(what: str, turns: Turns, count: int, unit: str, bar: float, same: bool = True) -> Row:
    """Compare how much is written in a second, by the `same` weights or by others."""
    ours, theirs = turns.total("kzoo"), turns.total("peer")
    ratio = statistics.median(theirs_ / ours_ for ours_, theirs_ in zip(ours, theirs, strict=True))
    figures = [f"{count / statistics.median(seconds):,.1f} {unit}/s" for seconds in (ours, theirs)]
    return (
        f"{what} ({turns.agreeing('kzoo', 'peer'):.0%} the same)",
        *figures,
        f"{ratio:.2f}",
        f"at least {bar}",
    )


def latency_row(what: str, turns: Turns) -> Row:
    """Compare the median time of a sentence."""
    ours, theirs = turns.median("kzoo"), turns.median("peer")
    ratio = statistics.median(ours_ / theirs_ for ours_, theirs_ in zip(ours, theirs, strict=True))
    figures = [f"{1e3 * statistics.median(seconds):.1f} ms" for seconds in (ours, theirs)]
    return what, *figures, f"{ratio:.2f}", "at most 1.5"


def memory_row(what: str, turns: Turns) -> Row:
    """Compare the most memory held."""
    ours, theirs = turns.megabytes("kzoo"), turns.megabytes("peer")
    return f"memory, {what}", f"{ours:.0f} MB", f"{theirs:.0f} MB", f"{ours / theirs:.2f}", "at most 1"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers-python", required=True, help="the python of the peers' environment")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads of each engine")
    parser.add_argument("--turns", type=int, default=7, help="how often each engine is timed")
    parser.add_argument("--steps", type=int, default=24, help="tokens of a translation")
    parser.add_argument("--sentences", type=int, default=1000, help="how many of test 2016")
    parser.add_argument("--only", choices=("base", "shelf", "trained"), help="leave out the other models")
    parser.add_argument("--keras", type=pathlib.Path, help="a trained model's .keras file")
    parser.add_argument("--bundle", type=pathlib.Path, help="its bundle; exported unless given")
    parser.add_argument("--folder", type=pathlib.Path, help="keep bundles here from one run to the next")
    options = parser.parse_args()
    if options.keras is None and (options.bundle or options.only == "trained"):
        parser.error("CTranslate2's weights come from --keras: give it too.")
    print("| what | kzoo | peer | ratio | bar |\n|---|---:|---:|---:|---|", flush=True)
    with contextlib.ExitStack() as stack:
        folder = options.folder or pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bench = Bench(options, folder)
        for part in (bench.base, bench.shelf, bench.trained):
            if options.only in (None, part.__name__) and (part != bench.trained or options.keras):
                for row in part():
                    print(f"| {' | '.join(row)} |", flush=True)
    versions = ", ".join(f"{name} {version}" for name, version in bench.versions.items())
    print(f"\n{datetime.date.today()}, {options.threads} threads, {options.turns} turns; {versions}.")


if __name__ == "__main__":
    main()
