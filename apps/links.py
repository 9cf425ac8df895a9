"""Links that open a page with an input in it. All that a link says stands in it: nothing is kept on the server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from gradio.components import Component

from kzoo.errors import KzooError, did_you_mean

MAX_TEXT = 2_000  # characters of one field: longer addresses are cut by programs on their way


@dataclass(frozen=True)
class Entrance:
    """How a link fills a page.

    Attributes:
        outputs: the widgets that it fills.
        fill: takes the link's fields, and returns an update for each widget; may raise KzooError.
    """

    outputs: Sequence[Component]
    fill: Callable[[Mapping[str, str]], Sequence[Any]]


def query_of(page: str, fields: Mapping[str, str | None]) -> str:
    """Return the part of an address that opens a page with these fields, those that are not empty.

    Raises:
        KzooError: if a field is longer than a link carries.

    Example:
        >>> query_of("translate", {"model": "en-de", "text": "A dog & a cat."})
        '?tab=translate&model=en-de&text=A+dog+%26+a+cat.'
    """
    given = {name: value for name, value in fields.items() if value}
    for name, value in given.items():
        _check_length(name, value)
    # Gradio has a `page` of its own.
    return "?" + urlencode({"tab": page, **given})


def read(fields: Mapping[str, str]) -> dict[str, str]:
    """Return a link's fields.

    Raises:
        KzooError: if one is longer than a link carries.
    """
    for name, value in fields.items():
        _check_length(name, value)
    return dict(fields)


def chosen(fields: Mapping[str, str], names: Iterable[str]) -> str:
    """Return the model that a link names, or the first of those there are.

    Raises:
        KzooError: if it is none of them.
    """
    known = list(names)
    name = fields.get("model") or known[0]
    if name not in known:
        raise KzooError(
            f"This link asks for a model '{name[:100]}', which is not on this page.{did_you_mean(name, known)}"
        )
    return name


def value_of(fields: Mapping[str, str], name: str) -> dict[str, Any]:
    """Return what an update of a widget says of a field: nothing where the link has none."""
    return {"value": fields[name]} if name in fields else {}


def _check_length(name: str, value: str) -> None:
    if len(value) > MAX_TEXT:
        raise KzooError(
            f"A link carries up to {MAX_TEXT:,} characters; '{name[:100]}' has {len(value):,}. Send them as a file."
        )
