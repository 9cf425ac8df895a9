"""What a service is asked, and how its answers are read: the same for all clients."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from kzoo.errors import KzooError

Text = str | tuple[str, str]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Call(Generic[Result]):
    """A request, and how its answer is read."""

    path: str
    body: dict[str, Any] | None
    read: Callable[[dict[str, Any]], Result]

    @property
    def method(self) -> str:
        """The method of HTTP."""
        return "GET" if self.body is None else "POST"


def models() -> Call[dict[str, str]]:
    """Ask for the tasks of all models, by name."""
    return Call("/v1/models", None, lambda answer: {each["id"]: each["task"] for each in answer["data"]})


def embed(texts: Sequence[str], model: str | None, dimensions: int | None) -> Call[np.ndarray]:
    """Ask for vectors, float32 (texts, dim)."""
    if isinstance(texts, str):
        raise KzooError("embed takes a list of texts; put the one text in a list.")
    body = {"input": list(texts), "model": model, "dimensions": dimensions, "encoding_format": "base64"}

    def read(answer: dict[str, Any]) -> np.ndarray:
        vectors = [base64.b64decode(entry["embedding"]) for entry in answer["data"]]
        return np.frombuffer(b"".join(vectors), "<f4").reshape(len(vectors), -1)

    return Call("/v1/embeddings", given(body), read)


def results(path: str, inputs: Sequence[Text], model: str | None, options: dict[str, Any]) -> Call[list[Any]]:
    """Ask for results of texts or pairs at an endpoint that gives one for each."""
    body = {"inputs": _listed(inputs), "model": model, **options}
    return Call(path, given(body), lambda answer: answer["results"])


def similarity(pairs: Sequence[tuple[str, str]], model: str | None) -> Call[list[float]]:
    """Ask how alike the texts of each pair are."""
    body = {"pairs": _listed(pairs), "model": model}
    return Call("/similarity", given(body), lambda answer: answer["scores"])


def tokenize(inputs: Sequence[Text], model: str | None) -> Call[list[list[str]]]:
    """Ask for the tokens of texts."""
    body = {"inputs": _listed(inputs), "model": model}
    return Call("/tokenize", given(body), lambda answer: answer["tokens"])


def _listed(inputs: Sequence[Any]) -> list[Any]:
    if isinstance(inputs, str):
        raise KzooError("Give a list of texts; put the one text in a list.")
    return list(inputs)


def given(body: dict[str, Any]) -> dict[str, Any]:
    """Return a body without what is left to the service."""
    return {name: value for name, value in body.items() if value is not None}


def stream_body(text: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return the body of a request for a text as it grows."""
    return given({"inputs": text, "stream": True, **options})
