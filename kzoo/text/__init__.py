"""Strings to token ids and back, in plain numpy."""

from kzoo.text.loading import has_tokenizer
from kzoo.text.strings import Text, check_text
from kzoo.text.tokenizer import Encoding, Tokenizer

__all__ = ["Encoding", "Text", "Tokenizer", "check_text", "has_tokenizer"]
