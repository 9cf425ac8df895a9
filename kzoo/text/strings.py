"""What counts as a text."""

from __future__ import annotations

from typing import Any

from kzoo.errors import KzooError

Text = str | tuple[str, str]


def check_text(text: Any, index: int) -> Text:
    """Return `text` if it is a string or a pair of strings; the error calls it by its index.

    Raises:
        KzooError: if it is something else, or holds what is no character.
    """
    parts = text if isinstance(text, tuple) and len(text) == 2 else (text,)
    for part in parts:
        if not isinstance(part, str):
            raise KzooError(
                f"Text {index} is of type {type(part).__name__}; expected a string or a pair of strings."
            )
        if not part.isascii():
            try:
                part.encode("utf-8")
            except UnicodeEncodeError:
                raise KzooError(
                    f"Text {index} holds half of a surrogate pair, which is no character; "
                    "decode its bytes with errors='replace'."
                ) from None
    return text


def parts_of(text: Text) -> tuple[str, ...]:
    """Return the one or two strings of a text."""
    return (text,) if isinstance(text, str) else text
