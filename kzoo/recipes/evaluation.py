"""Scores of a bundle, measured as it will be served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kzoo.data import Examples
from kzoo.recipes.directory import write
from kzoo.runtime import Bundle, load
from kzoo.runtime.manifest import MANIFEST_FILE


def evaluate_bundle(path: Path, test: Examples, batch_size: int) -> dict[str, float]:
    """Run a bundle on the test examples, and keep its scores in its manifest.

    Args:
        path: the bundle.
        test: inputs, and the classes or texts that should come out.
        batch_size: inputs run together.

    Returns:
        `accuracy` and `macro_f1`, from 0 to 1; or for translations `bleu` and `chrf`, from 0 to 100, of
        sacreBLEU.
    """
    scores = score(load(path), test, batch_size)
    keep_scores(path, scores)
    return scores


def score(pipeline: Any, test: Examples, batch_size: int) -> dict[str, float]:
    """Return the scores of an open bundle, as `evaluate_bundle` does."""
    results = pipeline(list(test.inputs), batch_size=batch_size)
    if pipeline.task == "seq2seq":
        return _translation_scores([result["translation"] for result in results], test.targets)
    return _class_scores([result["label"] for result in results], test.targets)


def keep_scores(path: Path, scores: dict[str, float]) -> None:
    """Write scores into a bundle's manifest."""
    manifest = Bundle.open(path).manifest
    manifest.metrics = {**manifest.metrics, **scores}
    write(path / MANIFEST_FILE, manifest.model_dump_json(indent=1, exclude_none=True) + "\n")


def _class_scores(predicted: list[str], expected: list[str]) -> dict[str, float]:
    from sklearn.metrics import accuracy_score, f1_score

    return {
        "accuracy": float(accuracy_score(expected, predicted)),
        "macro_f1": float(f1_score(expected, predicted, average="macro")),
    }


def _translation_scores(predicted: list[str], expected: list[str]) -> dict[str, float]:
    import sacrebleu

    references: Any = [expected]
    return {
        "bleu": float(sacrebleu.corpus_bleu(predicted, references).score),
        "chrf": float(sacrebleu.corpus_chrf(predicted, references).score),
    }
