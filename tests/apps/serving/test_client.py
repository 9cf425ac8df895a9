"""The client against a real service, and against one that refuses."""

from __future__ import annotations

import asyncio
import http.server
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import kzoo
from kzoo import client as module
from kzoo.client import AsyncClient, BertClient, Client, ServiceError
from kzoo.errors import KzooError
from tests.apps.serving import loops
from tests.apps.serving.conftest import running

TEXTS = ["the dog runs", "the cat", "house"]


@pytest.fixture
def asking(service) -> Iterator[Client]:
    with Client(service.url) as client:
        yield client


@pytest.fixture(scope="module")
def vectors(shelf) -> np.ndarray:
    return kzoo.load(shelf["similarity"], device="cpu")(TEXTS)


def test_it_asks_for_everything(asking, vectors):
    assert asking.models()["en-de"] == "seq2seq"
    found = asking.embed(TEXTS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, vectors, rtol=1e-5)
    assert asking.embed(TEXTS, dimensions=2).shape == (3, 2)
    (label,) = asking.classify(["the bank"], model="topic")
    assert label["label"] == "Business"
    assert len(asking.classify(["the bank"], model="topic", top_k=2)[0]) == 2
    (translated,) = asking.translate(["A dog runs."], num_beams=2)
    assert translated["translation"] == "Ein Hund rennt."
    assert asking.similarity([("dog", "dog")]) == pytest.approx([1.0])
    assert asking.tokenize(["the dog"], model="topic")[0][0] == "[CLS]"
    *_, last = asking.stream("/translate", "A cat runs.")
    assert last == "Ein Kater rennt."


def test_it_asks_for_the_same_in_asyncio(service, vectors):
    async def ask() -> None:
        async with AsyncClient(service.url) as client:
            assert (await client.models())["topic"] == "classification"
            many = await asyncio.gather(*(client.embed([text]) for text in TEXTS))
            np.testing.assert_allclose(np.concatenate(many), vectors, rtol=1e-5)
            (label,) = await client.classify(["a goal"], model="topic")
            assert label["label"] == "Sports"
            assert (await client.translate(["A dog."]))[0]["translation"] == "Ein Hund."
            assert await client.similarity([("cat", "cat")]) == pytest.approx([1.0])
            assert len(await client.tokenize(["the dog"], model="topic")) == 1
            grown = [text async for text in client.stream("/translate", "A cat.")]
            assert grown[-1] == "Ein Kater."
            with pytest.raises(ServiceError, match="No model 'x' here"):
                await client.embed(TEXTS, model="x")

    loops.run(ask())


def test_a_refusal_says_what_was_wrong_and_where_to_find_it(asking):
    with pytest.raises(ServiceError, match="Did you mean 'topic'") as refused:
        asking.classify(["a"], model="topics")
    assert refused.value.status == 404
    assert refused.value.request_id
    with pytest.raises(ServiceError, match="num_beams"):
        list(asking.stream("/translate", "A dog", num_beams=3))
    with pytest.raises(ServiceError, match="does not translate into 'fr'"):
        list(asking.stream("/translate", "A dog", target_language="fr"))


def test_mistakes_are_found_before_anything_is_sent(asking):
    for call in (asking.embed, asking.classify, asking.tokenize):
        with pytest.raises(KzooError, match="list"):
            call("one text")
    with pytest.raises(KzooError, match="timeout is inf"):
        Client(timeout=float("inf"))
    with pytest.raises(KzooError, match="begins with http"):
        Client("localhost:8000")


def test_many_threads_may_share_one(asking, vectors):
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda place: asking.embed([TEXTS[place % 3]]), range(96)))
    np.testing.assert_allclose(np.concatenate(found), np.tile(vectors, (32, 1)), rtol=1e-5)


def test_the_key_is_brought(shelf):
    with running([shelf["similarity"]], api_key="secret") as server:
        with Client(server.url, api_key="secret") as client:
            assert client.embed(["dog"]).shape == (1, 8)
        with Client(server.url) as client, pytest.raises(ServiceError, match="API key"):
            client.embed(["dog"])


class Busy:
    """A service that answers with these statuses in turn, and notes when it was asked; 0 hangs up."""

    def __init__(self, *statuses: int, retry_after: str | None = None):
        self.asked: list[float] = []
        busy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status = statuses[min(len(busy.asked), len(statuses) - 1)]
                busy.asked.append(time.monotonic())
                if status == 0:
                    self.connection.close()
                    return
                content = {"data": []} if status == 200 else {"error": f"busy {status}"}
                body = json.dumps(content).encode()
                self.send_response(status)
                if retry_after is not None:
                    self.send_header("retry-after", retry_after)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Busy:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_what_has_no_room_is_asked_again_later_and_later():
    with Busy(429, 503, 0, 200) as busy, Client(busy.url) as client:
        assert client.models() == {}
    pauses = np.diff(busy.asked)
    assert len(pauses) == 3
    assert all(pause >= least for pause, least in zip(pauses, (0.05, 0.1, 0.2), strict=True))


def test_it_waits_as_long_as_it_is_told_to():
    with Busy(429, 200, retry_after="1") as busy, Client(busy.url) as client:
        assert client.models() == {}
    assert np.diff(busy.asked)[0] >= 1


def test_it_gives_up_in_the_end_and_at_once_where_asking_again_is_no_use():
    with Busy(429) as busy, Client(busy.url, retries=1) as client:
        with pytest.raises(ServiceError, match="busy 429") as refused:
            client.models()
        assert (refused.value.status, len(busy.asked)) == (429, 2)
    with Busy(422) as busy, Client(busy.url) as client:
        with pytest.raises(ServiceError, match="busy 422"):
            client.models()
        assert len(busy.asked) == 1
    with Client(busy.url, retries=1) as client, pytest.raises(ServiceError, match="cannot be reached"):
        client.models()


def test_bert_as_service_scripts_go_on(service, vectors):
    port = int(service.url.rstrip("/").rpartition(":")[2])
    with BertClient("127.0.0.1", port, model="similarity") as client:
        np.testing.assert_allclose(client.encode(TEXTS), vectors, rtol=1e-5)
        words = [text.split() for text in TEXTS]
        np.testing.assert_allclose(client.encode(words, is_tokenized=True), vectors, rtol=1e-5)
        batches = list(client.encode_async(iter([TEXTS, TEXTS[:1], TEXTS]), max_num_batch=2))
        assert [len(batch) for batch in batches] == [3, 1]
        assert client.status["status"] == 200
        assert "similarity" in client.server_status["models"]
    with BertClient("127.0.0.1", port, model="similarity", output_fmt="list") as client:
        assert isinstance(client.encode(["dog"])[0], list)


def test_it_needs_no_framework():
    heavy = ("keras", "tensorflow", "torch", "jax", "fastapi", "onnxruntime", "httpx")
    code = f"import sys, kzoo.client; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_httpx_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(KzooError, match=r"pip install 'kzoo\[client\]'"):
        module.Client()
