"""Training texts said in other words: translated by one bundle, and back by another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from kzoo.data import locate
from kzoo.errors import KzooError
from kzoo.text.strings import Text, parts_of


def back_translator(
    bundles: Sequence[str], beside: Path, texts: Iterable[Text], progress: Callable[[str], None] | None = None
) -> Callable[[list[str]], list[str]]:
    """Return what `kzoo.data.augment_texts` takes as `translate`; all texts go there and back once, at once.

    Args:
        bundles: the folder of one that translates, and of one that translates back, found as data is.
        beside: the recipe's folder.
        texts: all texts, or pairs of texts, that may be asked for.
        progress: called with a line of text before the work starts.

    Raises:
        KzooError: a bundle is missing or damaged, or does not translate.
    """
    # Here, since most recipes translate nothing.
    from kzoo.runtime import load

    pipelines = []
    for name in bundles:
        pipeline: Any = load(locate(name, beside))
        if pipeline.task != "seq2seq":
            raise KzooError(
                f"text.augment.back_translation: '{name}' is for the task '{pipeline.task}'; it takes two bundles "
                "that translate, there and back."
            )
        pipelines.append(pipeline)
    given = list(dict.fromkeys(part for text in texts for part in parts_of(text)))
    if progress is not None:
        progress(f"Translating {len(given):,} texts there and back.")
    said = given
    for pipeline in pipelines:
        # The most probable word at a time: other words are wanted, not the best ones.
        said = [result["translation"] for result in pipeline(said, num_beams=1)]
    known = dict(zip(given, said, strict=True))
    return lambda wanted: [known[text] for text in wanted]
