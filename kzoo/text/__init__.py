"""Strings to token ids and back, in plain numpy."""

from kzoo.text.tokenizer import Encoding, Text, Tokenizer, check_text

__all__ = ["Encoding", "Text", "Tokenizer", "check_text"]
