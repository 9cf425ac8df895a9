"""Compare a translator in Keras with its bundles: `python benchmarks/translation_agreement.py MODEL SOURCE TARGET`.

MODEL is a `.keras` file, or a run's directory, whose last checkpoints are averaged as its recipe says; SOURCE and
TARGET are files whose lines belong together, such as Multi30k's of 2016. The same search runs over Keras' step
function and over the one of the bundle in float32. It says how many hypotheses agree and how far apart their scores
are; of each other, where the two searches part, how close what they chose between was, and how far apart the two
reckon one and the same beam: where that is more, it was a tie. Then it scores the bundle in int8 beside the one in
float32.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import tempfile
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import numpy as np

import kzoo
from kzoo.data import read_pairs
from kzoo.models.graphs import Graph, serving_graphs
from kzoo.recipes.evaluation.examining import compare_bundles
from kzoo.recipes.evaluation.moses import language_of
from kzoo.runtime.seq2seq import EncoderDecoder
from kzoo.runtime.session import Session
from kzoo.search import Step

Beams = dict[tuple[int, ...], float]


class InKeras:
    """A graph that is run by Keras where a session would run it."""

    def __init__(self, graph: Graph, session: Session) -> None:
        self.run_kept, self.to_numpy, self.outputs = graph.run_kept, graph.to_numpy, session.outputs


class Traced:
    """A step function that keeps what the search did with it, for one sentence."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.beams: list[Beams] = []
        self.candidates: list[Beams] = []

    def __call__(
        self, tokens: np.ndarray, rows: np.ndarray, top_k: int | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Append `tokens` to what `rows` have."""
        ids, log_probs = self.step(tokens, rows, top_k)
        if self.beams:
            before = list(self.beams[-1])
            written = [(*before[row], int(token)) for row, token in zip(rows, tokens[:, -1], strict=True)]
            self.beams.append({beam: self.candidates[-1][beam] for beam in written})
        else:
            self.beams.append({(): 0.0})
        self.candidates.append(
            {
                (*beam, int(token)): total + float(log_prob)
                for (beam, total), *row in zip(self.beams[-1].items(), ids, log_probs, strict=True)
                for token, log_prob in zip(*row, strict=True)
            }
        )
        return ids, log_probs


class TracedWriter:
    """A writer whose step functions are traced."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)

    def step(self, source: Any) -> Traced:
        """Return a step function that keeps what is done with it."""
        self.trace = Traced(self._writer.step(source))
        return self.trace


def parting(one: Traced, other: Traced) -> tuple[int, float, float] | None:
    """Return where two searches part, how close the choice was, and how far apart the two reckon the same beam."""
    for place, (first, second) in enumerate(zip(one.beams, other.beams, strict=False)):
        if first.keys() == second.keys():
            continue
        known, same = one.candidates[place - 1], other.candidates[place - 1]
        kept, dropped = set(first) - set(second), set(second) - set(first)
        gaps = [abs(known[a] - known[b]) for a in kept for b in dropped if b in known]
        noise = max(abs(known[beam] - same[beam]) for beam in known.keys() & same.keys())
        return place, min(gaps, default=float("nan")), noise
    return None


def open_model(path: pathlib.Path) -> Any:
    """Open a saved model, or the average of a run's last checkpoints."""
    if path.is_file():
        return kzoo.models.load(path)
    recipe = json.loads((path / "run.json").read_text(encoding="utf-8"))["recipe"]
    files = sorted((path / "checkpoints").glob("*.keras"))[-recipe["training"]["average"] :]
    print(f"{len(files)} checkpoints, the last {files[-1].name}")
    model = kzoo.models.load(files[-1])
    all_weights = [kzoo.models.load(file).get_weights() for file in files]
    model.set_weights(
        [np.mean(values, axis=0).astype(values[0].dtype) for values in zip(*all_weights, strict=True)]
    )
    return model


def compare_steps(model: Any, bundle: pathlib.Path, texts: list[str], num_beams: int) -> None:
    """Print how far the two step functions lead the same search to the same."""
    onnx, keras = kzoo.load(bundle, device="cpu"), kzoo.load(bundle, device="cpu")
    graphs = serving_graphs(model)
    sides = [InKeras(graphs[role], keras._sessions[role]) for role in ("encoder", "decoder")]
    keras._writer = EncoderDecoder(*sides, keras.manifest.graphs["decoder"])
    found = {"onnx": onnx(texts, num_beams=num_beams), "keras": keras(texts, num_beams=num_beams)}
    rows = list(zip(found["onnx"], found["keras"], strict=True))
    same = [a["translation"] == b["translation"] for a, b in rows]
    scores = [abs(a["score"] - b["score"]) for (a, b), equal in zip(rows, same, strict=True) if equal]
    print(f"{sum(same):,} of {len(texts):,} hypotheses agree with {num_beams} beams in float32")
    print(f"their scores differ by at most {max(scores, default=float('nan')):.1e}")
    for pipeline in (onnx, keras):
        pipeline._writer = TracedWriter(pipeline._writer)
    for place in np.flatnonzero(~np.array(same)):
        alone = [pipeline([texts[place]], num_beams=num_beams)[0] for pipeline in (onnx, keras)]
        print(f"line {place + 1}: {rows[place][0]} in ONNX Runtime, {rows[place][1]} in Keras")
        found_at = parting(onnx._writer.trace, keras._writer.trace)
        if alone[0]["translation"] == alone[1]["translation"]:
            print("  alone in its batch it comes out the same: a tie that the padding decides")
        elif found_at is None:
            print(
                f"  the beams were the same; their scores differ by {abs(alone[0]['score'] - alone[1]['score']):.1e}"
            )
        else:
            step, gap, noise = found_at
            print(
                f"  they part at token {step}: what is kept and what dropped are {gap:.1e} apart, the two ways of "
                f"computing {noise:.1e}"
            )


def main() -> None:
    """Print what agrees."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("target", type=pathlib.Path)
    parser.add_argument("--num-beams", type=int, default=5)
    parser.add_argument("--lines", type=int, help="how many of the lines to take; all unless given")
    options = parser.parse_args()
    examples = read_pairs(options.source, options.target)
    examples = examples.take(range(len(examples))[: options.lines])
    model = open_model(options.model)
    with tempfile.TemporaryDirectory() as folder:
        float32, int8 = pathlib.Path(folder, "float32"), pathlib.Path(folder, "int8")
        kzoo.export.to_bundle(model, float32)
        compare_steps(model, float32, list(examples.inputs), options.num_beams)
        kzoo.export.to_bundle(model, int8, dtype="int8")
        pipelines = [kzoo.load(path, device="cpu") for path in (float32, int8)]
        language = language_of(options.target)
        pairs = compare_bundles(*pipelines, examples, language=language, num_beams=options.num_beams)
    for name, pair in pairs.items():
        print(f"{name}: float32 {pair.first}, int8 {pair.second}, p {pair.p_value:.3f}")


if __name__ == "__main__":
    main()
