"""Requests that nobody in their right mind would send: refused or answered, and never a failure of the server."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

PATHS = ("/v1/embeddings", "/encode", "/similarity", "/classify", "/translate", "/generate", "/tokenize")
NAMES = ("similarity", "states", "topic", "shade", "en-de", "", "../topic", "nothing")
STRINGS = (
    "",
    " ",
    "goal",
    "a ||| b",
    " ||| ",
    "[MASK]",
    "\x00",
    "</s>",
    "🦊" * 20,
    "dog " * 30,
    "e\u0301",
    "aGVsbG8=",
)


def anything(draw: random.Random, depth: int = 0) -> Any:
    """Return some JSON."""
    kind = draw.randrange(9 if depth < 3 else 7)
    if kind < 4:
        return draw.choice(STRINGS)
    if kind == 4:
        return draw.choice([0, 1, 2, 7, -1, 2**31, 2**63, 10**30])
    if kind == 5:
        return draw.choice([0.5, -1.0, 1e308, True, False])
    if kind == 6:
        return None
    if kind == 7:
        return [anything(draw, depth + 1) for _ in range(draw.randrange(4))]
    return {draw.choice(STRINGS): anything(draw, depth + 1) for _ in range(draw.randrange(3))}


def like_a_request(draw: random.Random, schema: dict[str, Any]) -> dict[str, Any]:
    """Return a body with fields of the endpoint, most of them as they should be."""
    likely = {
        "model": lambda: draw.choice(NAMES),
        "input": lambda: (
            draw.choices(STRINGS, k=2) if draw.random() < 0.5 else [[5, 6], [draw.randrange(400)]]
        ),
        "inputs": lambda: draw.choices(STRINGS, k=2),
        "texts": lambda: draw.choices(STRINGS, k=2) if draw.random() < 0.5 else [["dog"], [], ["?"]],
        "pairs": lambda: [draw.choices(STRINGS, k=2)],
        "stream": lambda: draw.random() < 0.2,
    }
    body = {}
    for name in schema["properties"]:
        chance = draw.random()
        if name in likely and chance < 0.8:
            body[name] = likely[name]()
        elif chance < 0.3:
            body[name] = draw.choice([1, 2, 3, 0.5, "max", "base64", True])
        elif chance < 0.4:
            body[name] = anything(draw)
    return body


@pytest.mark.parametrize("path", PATHS)
def test_nonsense_never_makes_the_server_fail(client, path):
    document = client.get("/openapi.json").json()
    content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    schema = document["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
    draw = random.Random(path)
    statuses = set()
    for turn in range(80):
        body = anything(draw) if turn % 4 == 0 else like_a_request(draw, schema)
        answer = client.post(path, content=json.dumps(body), headers={"content-type": "application/json"})
        assert answer.status_code < 500, (body, answer.text)
        statuses.add(answer.status_code)
    assert 422 in statuses
    assert 200 in statuses or path == "/generate"  # for which there is no bundle here


def test_a_form_of_nonsense_is_refused(client):
    files = [("files", ("a.png", b"no picture")), ("files", ("", b""))]
    for form in ({"files": files}, {"data": {"files": "text"}}, {"files": [("other", ("a", b"b"))]}):
        answer = client.post("/classify/images", **form)
        assert answer.status_code == 422, answer.text
    answer = client.post("/classify/images", content=b"--x", headers={"content-type": "multipart/form-data"})
    assert answer.status_code in (400, 422)
