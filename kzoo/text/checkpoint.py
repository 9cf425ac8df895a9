"""A checkpoint's files, and what they say about its tokenizer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken

from kzoo.errors import KzooError
from kzoo.text.sentencepiece import SentencePieceModel, parse

_ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")


class Checkpoint:
    """A checkpoint's files, and what they say about its tokenizer."""

    def __init__(self, path: Path, files: Mapping[str, Path]):
        self.path = path
        self.files = files
        self.config = self.json("config.json")
        self.settings = self.json("tokenizer_config.json")
        listed = self.settings.get("added_tokens_decoder")
        if listed is None:
            self.settings = self.settings | self.json("special_tokens_map.json")
            listed = self._added_by_hand()
        try:
            self.added = {int(index): _token(entry) for index, entry in listed.items()}
        except (AttributeError, ValueError):
            raise self.error("tokenizer_config.json", "lists added tokens that are none") from None

    def _added_by_hand(self) -> dict[int, dict[str, Any]]:
        """Return what added_tokens.json lists, the older way."""
        special = {
            entry["content"] if isinstance(entry, dict) else entry for entry in self._special_entries()
        }
        return {
            index: {"content": content, "special": content in special, "normalized": content not in special}
            for content, index in self.json("added_tokens.json").items()
        }

    def _special_entries(self) -> Iterator[Any]:
        for name, entry in self.settings.items():
            if name.endswith("_token") and isinstance(entry, (str, dict)):
                yield entry
            elif name in ("additional_special_tokens", "extra_special_tokens") and isinstance(entry, list):
                yield from entry

    def error(self, name: str, reason: str) -> KzooError:
        """Say what is wrong with a file."""
        return KzooError(f"{self.files.get(name, self.path / name)} {reason}.")

    def text(self, name: str) -> str:
        """Return a file's contents."""
        try:
            return self.files[name].read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise KzooError(f"{self.files[name]} cannot be read as a tokenizer: {error}.") from None

    def json(self, name: str) -> dict[str, Any]:
        """Return the object that a file holds; an empty one if there is no such file."""
        if name not in self.files:
            return {}
        try:
            content = json.loads(self.text(name))
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise self.error(name, "is no JSON object, or is cut short. Fetch the file again")
        return content

    def vocabulary(self) -> dict[str, int]:
        """Return the entries of vocab.json."""
        vocabulary = self.json("vocab.json")
        if not all(type(index) is int and index >= 0 for index in vocabulary.values()):
            raise self.error("vocab.json", "gives a token an id that is no number")
        return vocabulary

    def sentencepiece(self, name: str) -> SentencePieceModel:
        """Return what a .model file says."""
        try:
            return parse(self.content(name))
        except KzooError as error:
            raise KzooError(f"{self.files[name]}: {error}") from None

    def content(self, name: str) -> bytes:
        """Return a file's bytes."""
        try:
            return self.files[name].read_bytes()
        except OSError as error:
            raise KzooError(f"{self.files[name]} cannot be read as a tokenizer: {error}.") from None

    def flag(self, name: str, default: bool) -> bool:
        """Return a switch of tokenizer_config.json."""
        value = self.settings.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.error("tokenizer_config.json", f"has {name}={value!r}; it takes true or false")
        return value

    def token(self, role: str, default: str | None = None) -> AddedToken | None:
        """Return the token that plays a role, such as `"pad"`."""
        entry = self.settings.get(f"{role}_token", default)
        if entry is None:
            return None
        token = _token(entry)
        return next((added for added in self.added.values() if added.content == token.content), token)

    def tokens(self, defaults: Mapping[str, str]) -> dict[str, str]:
        """Return the token of each role that the files name, or else the defaults."""
        tokens = {role: self.token(role, defaults.get(role)) for role in _ROLES}
        return {role: token.content for role, token in tokens.items() if token is not None}

    def merges(self) -> list[tuple[str, str]]:
        """Return the pairs of merges.txt, one a line."""
        lines = [line.removesuffix("\r") for line in self.text("merges.txt").removesuffix("\n").split("\n")]
        pairs = [line.split(" ") for line in lines if line and not line.startswith("#version")]
        if not all(len(pair) == 2 for pair in pairs):
            raise self.error("merges.txt", "has a line that is no pair of tokens")
        return [(left, right) for left, right in pairs]

    def entry(self, backend: tokenizers.Tokenizer, token: str) -> tuple[str, int]:
        """Return a special token and its id."""
        index = backend.token_to_id(token)
        if index is None:
            raise KzooError(f"{self.path} needs the token {token}, which its vocabulary lacks.")
        return token, index

    def complete(self, backend: tokenizers.Tokenizer, tokens: Mapping[str, str]) -> None:
        """Add the tokens that the files list beside the vocabulary, and mark the special ones."""
        known = {token.content for token in backend.get_added_tokens_decoder().values()}
        for index, token in sorted(self.added.items()):
            if token.content not in known:
                backend.add_tokens([token])
            if backend.token_to_id(token.content) != index:
                raise KzooError(
                    f"{self.path} says that the token {token.content} has the id {index}, but the vocabulary "
                    f"makes it {backend.token_to_id(token.content)}: files of different checkpoints are mixed."
                )
        roles = [self.token(role, content) for role, content in tokens.items()]
        special = [token for token in roles if token is not None]
        for name in ("additional_special_tokens", "extra_special_tokens"):
            entries = self.settings.get(name)
            special += map(_token, entries if isinstance(entries, list) else [])
        named = {_token(entry).content for entry in self._special_entries()}
        known = {token.content for token in backend.get_added_tokens_decoder().values()}
        # A default that the vocabulary lacks is no token of this checkpoint.
        backend.add_special_tokens(
            [
                token
                for token in special
                if token.content not in known
                and (token.content in named or backend.token_to_id(token.content) is not None)
            ]
        )

    def decoder_start(self) -> int | None:
        """Return the id that a decoder starts with, where the checkpoint is of an encoder and a decoder."""
        for name in ("config.json", "generation_config.json"):
            index = self.json(name).get("decoder_start_token_id")
            if index is not None:
                if type(index) is not int or index < 0:
                    raise self.error(name, f"has decoder_start_token_id={index!r}; it takes a token's id")
                return index
        return None


def _token(entry: Any) -> AddedToken:
    """Return a token as the JSON files write it: a string, or an object with the string and flags."""
    if isinstance(entry, str):
        return AddedToken(entry, special=True, normalized=False)
    if not isinstance(entry, dict) or not isinstance(entry.get("content"), str):
        raise ValueError(entry)
    flags = {
        name: bool(entry[name]) for name in ("single_word", "lstrip", "rstrip", "normalized") if name in entry
    }
    return AddedToken(entry["content"], special=bool(entry.get("special", True)), **flags)
