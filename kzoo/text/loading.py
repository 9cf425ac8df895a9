"""Tokenizers from files: which are there, and which of them count."""

from __future__ import annotations

import json
import operator
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import normalizers

from kzoo.errors import KzooError
from kzoo.text.checkpoint import Checkpoint
from kzoo.text.families import FAMILIES, likely_family, named_family
from kzoo.text.marian import Sides

_IDS = ("pad_id", "start_id", "end_id")
# What starts a decoder, in models whose config.json need not say it.
_DECODER_STARTS = {"bart": ("eos",), "marian": ("pad",), "t5": ("pad",)}


@dataclass(frozen=True)
class Loaded:
    """A tokenizer as its files describe it; an id is None where they do not say."""

    backend: tokenizers.Tokenizer
    sides: Sides | None = None
    pad_id: int | None = None
    start_id: int | None = None
    end_id: int | None = None


def load(path: Path) -> Loaded:
    """Read a tokenizer file or a checkpoint's folder; see `Tokenizer.from_file`."""
    if path.is_dir():
        return _load(Checkpoint(path, {file.name: file for file in path.iterdir() if file.is_file()}))
    if not path.is_file():
        raise KzooError(f"There is no tokenizer file {path}.")
    name = {".json": "tokenizer.json", ".txt": "vocab.txt", ".model": "spiece.model"}.get(path.suffix)
    if name is None:
        raise KzooError(
            f"{path} is no tokenizer.json, vocab.txt or .model file. Give one of these, or a folder."
        )
    return _load(Checkpoint(path, {name: path}))


def has_tokenizer(folder: str | os.PathLike[str]) -> bool:
    """Say whether a folder has the files of a tokenizer that `Tokenizer.from_file` reads."""
    wanted = [("tokenizer.json",), *(family.files for family in FAMILIES.values())]
    return any(all(Path(folder, name).is_file() for name in names) for names in wanted)


def from_json(content: str) -> Loaded:
    """Read the contents of a tokenizer.json.

    What the format has no place for stands in the entry `kzoo` of its model, which other readers pass over.
    """
    try:
        backend = tokenizers.Tokenizer.from_str(content)
        extra = json.loads(content)["model"].get("kzoo", {}) if '"kzoo"' in content else {}
        ids = {name: operator.index(extra[name]) for name in _IDS if name in extra}
        sides = Sides.from_json(extra["marian"], backend.get_vocab()) if "marian" in extra else None
    except Exception as error:  # the library raises bare Exception
        raise KzooError(
            f"This is no tokenizer.json, or one that is cut short ({error}). Fetch the file again."
        ) from None
    return Loaded(backend, sides, **ids)


def to_json(loaded: Loaded) -> str:
    """Return the contents of a tokenizer.json: what `from_json` reads."""
    extra: dict[str, Any] = {name: value for name in _IDS if (value := getattr(loaded, name)) is not None}
    if loaded.sides is not None:
        extra["marian"] = loaded.sides.to_json()
    content = loaded.backend.to_str(pretty=True)
    if not extra:
        return content
    parsed = json.loads(content)
    parsed["model"]["kzoo"] = extra
    return json.dumps(parsed, indent=2, ensure_ascii=False)


def _load(checkpoint: Checkpoint) -> Loaded:
    name = named_family(checkpoint)
    # Other programs' tokenizer.json has no place for Marian's second model.
    apart = name == "marian" and "source.spm" in checkpoint.files
    if "tokenizer.json" in checkpoint.files and not apart:
        try:
            loaded = from_json(checkpoint.text("tokenizer.json"))
        except KzooError as error:
            raise KzooError(f"{checkpoint.files['tokenizer.json']}: {error}") from None
        tokens = checkpoint.tokens({})
        _follow_settings(loaded.backend, checkpoint)
    else:
        name = name or likely_family(checkpoint)
        family = FAMILIES[name]
        for file in family.files:
            if file not in checkpoint.files:
                raise KzooError(
                    f"{checkpoint.path} has no tokenizer.json and no {file}; put one of them there."
                )
        tokens = checkpoint.tokens(family.tokens)
        try:
            backend = family.build(checkpoint, tokens)
        except KzooError:
            raise
        except Exception as error:  # the library raises bare Exception
            raise KzooError(
                f"{checkpoint.path}: the tokenizer's files do not fit together ({error})."
            ) from None
        loaded = Loaded(backend, _marian_sides(checkpoint, backend) if name == "marian" else None)
    checkpoint.complete(loaded.backend, tokens)
    return _with_roles(loaded, checkpoint, tokens)


def _marian_sides(checkpoint: Checkpoint, backend: tokenizers.Tokenizer) -> Sides:
    files = checkpoint.content("source.spm"), checkpoint.content("target.spm")
    try:
        return Sides.read(*files, vocabulary=backend.get_vocab())
    except KzooError as error:
        raise KzooError(f"{checkpoint.path}: {error}") from None


def _follow_settings(backend: tokenizers.Tokenizer, checkpoint: Checkpoint) -> None:
    """Change what tokenizer_config.json says otherwise than tokenizer.json; the former is what its users edit."""
    old = backend.normalizer
    if isinstance(old, normalizers.BertNormalizer):
        backend.normalizer = normalizers.BertNormalizer(
            clean_text=old.clean_text,
            handle_chinese_chars=checkpoint.flag("tokenize_chinese_chars", old.handle_chinese_chars),
            strip_accents=checkpoint.settings.get("strip_accents", old.strip_accents),
            lowercase=checkpoint.flag("do_lower_case", old.lowercase),
        )


def _with_roles(loaded: Loaded, checkpoint: Checkpoint, tokens: Mapping[str, str]) -> Loaded:
    """Fill in the ids that tokenizer.json itself does not state."""

    def first(stated: int | None, *roles: str) -> int | None:
        ids = (loaded.backend.token_to_id(tokens[role]) for role in roles if role in tokens)
        return stated if stated is not None else next((index for index in ids if index is not None), None)

    start_id = loaded.start_id if loaded.start_id is not None else checkpoint.decoder_start()
    start_roles = _DECODER_STARTS.get(str(checkpoint.config.get("model_type")), ("cls", "bos"))
    return replace(
        loaded,
        pad_id=first(loaded.pad_id, "pad"),
        start_id=first(start_id, *start_roles),
        end_id=first(loaded.end_id, "eos", "sep"),
    )
