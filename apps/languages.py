"""Which languages a translator goes from and to, as its bundle's name or its tokenizer says."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kzoo.runtime.translation import Translation

_NAMES = {
    "ar": "Arabic", "bg": "Bulgarian", "ca": "Catalan", "cs": "Czech", "da": "Danish", "de": "German",
    "el": "Greek", "en": "English", "es": "Spanish", "et": "Estonian", "fa": "Persian", "fi": "Finnish",
    "fr": "French", "he": "Hebrew", "hi": "Hindi", "hu": "Hungarian", "id": "Indonesian", "it": "Italian",
    "ja": "Japanese", "ko": "Korean", "lt": "Lithuanian", "lv": "Latvian", "nl": "Dutch", "no": "Norwegian",
    "pl": "Polish", "pt": "Portuguese", "ro": "Romanian", "ru": "Russian", "sk": "Slovak", "sl": "Slovenian",
    "sv": "Swedish", "tr": "Turkish", "uk": "Ukrainian", "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip


@dataclass(frozen=True)
class Direction:
    """One thing that a translator can do.

    Attributes:
        pipeline: the translator.
        source: code of the language that goes in, or nothing if unknown.
        target: the same of what comes out.
        target_language: what a call must say to get that, for a translator into several.
    """

    pipeline: Translation
    source: str
    target: str
    target_language: str | None = None

    @property
    def source_name(self) -> str:
        """What to call the text that goes in."""
        return _NAMES.get(self.source, "Text")

    @property
    def target_name(self) -> str:
        """What to call the text that comes out."""
        return _NAMES.get(self.target.split("_")[0], self.target) or "Translation"


def directions(pipelines: Sequence[Translation]) -> dict[str, Direction]:
    """List what these translators can do, by words to pick from that are all different.

    A bundle's name says it where two codes follow each other in it, as in `translate-en-de`.
    """
    found = [direction for pipeline in pipelines for direction in _directions_of(pipeline)]
    labels = [f"{each.source_name} → {each.target_name}" for each in found]
    return {
        label if each.target and labels.count(label) == 1 else f"{label} ({each.pipeline.name})": each
        for label, each in zip(labels, found, strict=True)
    }


def _directions_of(pipeline: Translation) -> list[Direction]:
    parts = pipeline.name.replace("_", "-").split("-")
    if pipeline.languages:
        source = next((part for part in parts if part in _NAMES), "")
        return [Direction(pipeline, source, language, language) for language in pipeline.languages]
    for source, target in itertools.pairwise(parts):
        if source in _NAMES and target in _NAMES:
            return [Direction(pipeline, source, target)]
    return [Direction(pipeline, "", "")]
