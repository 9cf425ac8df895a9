"""What the service refuses, gives up and finishes: over real connections, with bundles that wait for the test."""

from __future__ import annotations

import dataclasses
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from typer.main import get_command

import kzoo
from kzoo.apps.serving.limits import Limits
from kzoo.errors import KzooError
from tests.apps.conftest import wait_until
from tests.apps.serving.conftest import running
from tests.optional import require

pytestmark = pytest.mark.usefixtures("needs_fastapi")


@pytest.fixture
def needs_fastapi() -> None:
    require("fastapi")


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Opens the bundle of `waiting`."""
    gate = threading.Event()
    yield gate
    gate.set()


@pytest.fixture
def waiting(shelf, gate) -> Any:
    """A classifier that answers once its gate is open."""
    pipeline = kzoo.load(shelf["topic"], device="cpu")
    own = type(pipeline)

    class Waiting(own):
        def __call__(self, inputs, **options):
            assert gate.wait(60)
            return super().__call__(inputs, **options)

    pipeline.__class__ = Waiting
    return pipeline


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(20) as pool:
        yield pool


def ask(server: Any, text: str = "goal", **options: Any) -> httpx.Response:
    return httpx.post(server.url + "classify", json={"inputs": [text]}, timeout=30, **options)


def queue_of(server: Any) -> Any:
    (bundle,) = server.app.state.service.bundles.values()
    return bundle.scheduler


def fill(server: Any, pool: ThreadPoolExecutor, count: int) -> list[Future[httpx.Response]]:
    """Have one request run, and so many wait."""
    first = pool.submit(ask, server, "bank")
    wait_until(lambda: queue_of(server)._waiting.items == 0 and _computes(server))
    others = [pool.submit(ask, server) for _ in range(count)]
    wait_until(lambda: queue_of(server).waiting == count)
    return [first, *others]


def _computes(server: Any) -> bool:
    return 'kzoo_items_total{model="topic"} 1.0' in httpx.get(server.url + "metrics").text


def test_when_the_queue_is_full_the_next_is_told_when_to_come_back(waiting, gate, pool):
    with running([waiting], limits=Limits(max_queue=4, max_items=4)) as server:
        accepted = fill(server, pool, 4)
        refused = ask(server)
        assert (refused.status_code, list(refused.json())) == (429, ["error"])
        assert int(refused.headers["retry-after"]) >= 1
        gate.set()
        labels = [answer.result().json()["results"][0]["label"] for answer in accepted]
        assert labels == ["Business", *["Sports"] * 4]
        assert ask(server).status_code == 200


def test_what_is_not_done_by_its_deadline_is_given_up_and_leaves_the_queue(waiting, gate, pool):
    with running([waiting], limits=Limits(deadline=0.5)) as server:
        late = [answer.result() for answer in [pool.submit(ask, server) for _ in range(4)]]
        assert {answer.status_code for answer in late} == {504}
        assert "longer than 0.5 s" in late[0].json()["error"]
        assert max(answer.elapsed.total_seconds() for answer in late) < 5
        assert queue_of(server).waiting == 0
        gate.set()
        assert ask(server).status_code == 200


def test_when_a_client_goes_its_request_leaves_the_queue(waiting, gate, pool):
    with running([waiting]) as server:
        (accepted,) = fill(server, pool, 0)
        body = b'{"inputs": ["goal"]}'
        head = b"POST /classify HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        with connection(server) as gone:
            gone.sendall(head + b"content-length: %d\r\n\r\n" % len(body) + body)
            wait_until(lambda: queue_of(server).waiting == 1)
        wait_until(lambda: queue_of(server).waiting == 0)
        gate.set()
        assert accepted.result().status_code == 200


def test_only_so_many_translations_grow_at_once(shelf):
    with running([shelf["en-de"]], limits=Limits(max_streams=1)) as server:
        service = server.app.state.service
        service.begin_stream()
        body = {"inputs": "A dog.", "stream": True}
        assert httpx.post(server.url + "translate", json=body).status_code == 429
        service.end_stream()
        for _ in range(2):
            assert "event: done" in httpx.post(server.url + "translate", json=body).text


def connection(server: Any) -> socket.socket:
    parts = urlsplit(server.url)
    return socket.create_connection((parts.hostname, parts.port), timeout=20)


def test_a_body_that_does_not_come_is_not_waited_for(shelf):
    with running([shelf["topic"]], limits=Limits(read_timeout=0.3)) as server, connection(server) as slow:
        head = b"POST /classify HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        slow.sendall(head + b'content-length: 100\r\n\r\n{"inp')
        assert slow.recv(100).startswith(b"HTTP/1.1 408")
        assert ask(server).status_code == 200


def test_too_many_items_are_refused(client):
    inputs = ["goal"] * 65
    assert client.post("/predict/topic", json={"inputs": inputs[1:]}).status_code == 200
    answer = client.post("/predict/topic", json={"inputs": inputs})
    assert answer.status_code == 422
    assert answer.json()["error"] == "inputs has 65 items; this server takes 64 at a time."


def test_too_many_tokens_are_refused_by_the_place_of_the_text(client):
    for path, body in (
        ("/classify", {"inputs": ["goal", "goal " * 50], "model": "topic"}),
        ("/v1/embeddings", {"input": [[7], [7] * 50]}),
    ):
        answer = client.post(path, json=body)
        assert answer.status_code == 422
        assert answer.json()["error"].startswith("Item 1 has more than 40 tokens")


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "streamed"])
def test_an_oversized_request_is_refused(client, declared):
    body = b'{"inputs": ["' + b"a" * 3_000_000 + b'"]}'
    content = body if declared else iter([body[:2_000_000], body[2_000_000:]])
    answer = client.post("/predict/topic", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert answer.json()["error"].startswith("The request is larger than 1,000,000 bytes")


def test_without_the_key_nothing_is_answered_but_health(shelf):
    with running([shelf["topic"]], api_key="sésame") as server:
        right = "sésame".encode().decode("latin-1")
        for headers in ({}, {"authorization": "Bearer wrong"}, {"x-api-key": ""}, {"authorization": right}):
            answer = ask(server, headers={name: value.encode("latin-1") for name, value in headers.items()})
            assert (answer.status_code, list(answer.json())) == (401, ["error"])
            assert answer.headers["www-authenticate"] == "Bearer"
        for headers in ({"authorization": f"Bearer {right}"}, {"x-api-key": right}):
            encoded = {name: value.encode("latin-1") for name, value in headers.items()}
            assert ask(server, headers=encoded).status_code == 200
        for path in ("metrics", "openapi.json", "v1/models", "", "nowhere"):
            assert httpx.get(server.url + path).status_code == 401
        assert httpx.get(server.url + "health").status_code == 200
        assert httpx.get(server.url + "ready").status_code in (200, 503)


def test_on_loopback_only_its_own_names_are_answered(shelf):
    from kzoo.apps import serve

    bundles = [shelf["topic"]]
    with serve(bundles, port=0, gallery=False, allowed_hosts=["kzoo.local"], block=False) as server:
        for host in ("localhost:80", "127.0.0.1", "[::1]:9", "LOCALHOST", "kzoo.local:8000"):
            assert httpx.get(server.url + "health", headers={"host": host}).status_code == 200
        for host in ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "[::2]"):
            answer = httpx.get(server.url + "health", headers={"host": host})
            assert (answer.status_code, list(answer.json())) == (421, ["error"])


def test_pages_elsewhere_may_not_ask_unless_they_are_named(shelf):
    page = {"origin": "https://example.org"}
    with running([shelf["topic"]]) as server:
        assert "access-control-allow-origin" not in ask(server, headers=page).headers
    with running([shelf["topic"]], cors_origins=["https://example.org"]) as server:
        answer = ask(server, headers=page)
        assert answer.headers["access-control-allow-origin"] == "https://example.org"
        other = ask(server, headers={"origin": "https://example.com"})
        assert "access-control-allow-origin" not in other.headers
    with running([shelf["topic"]], cors_origins=["https://example.org"], api_key="secret") as server:
        wanted = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
        assert httpx.options(server.url + "classify", headers=page | wanted).status_code == 200
        assert ask(server, headers=page).status_code == 401


def test_limits_that_make_no_sense_are_refused():
    with pytest.raises(KzooError, match="deadline is 0; it must be above 0"):
        Limits(deadline=0)
    with pytest.raises(KzooError, match="would never be taken"):
        Limits(max_items=5, max_queue=4)
    assert Limits(max_wait_ms=0).max_wait_ms == 0


def test_each_limit_is_a_flag_with_its_default():
    from kzoo.cli import app

    flags = {parameter.name: parameter for parameter in get_command(app).commands["serve"].params}
    for field in dataclasses.fields(Limits):
        assert flags[field.name].default == field.default, field.name
        assert flags[field.name].help
    assert flags["host"].default == "127.0.0.1"
    assert flags["cors_origin"].default is None


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no such signals")
def test_what_was_accepted_is_answered_before_it_stops(shelf, pool):
    """Sixteen clients ask without a pause while SIGTERM comes: each answer that the server made arrives."""
    command = [sys.executable, "-m", "kzoo", "serve", shelf["topic"], "--no-gallery", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        url = process.stderr.readline().removeprefix("Serving at ").strip()
        answers: list[tuple[int, str]] = []

        def ask_on(text: str) -> None:
            with httpx.Client(base_url=url, timeout=20) as client:
                try:
                    while True:
                        answer = client.post("/classify", json={"inputs": [text] * 3})
                        answers.append((answer.status_code, answer.text if answer.status_code != 200 else ""))
                        labels = {each["label"] for each in answer.json()["results"]}
                        assert labels == {"Sports" if text == "goal" else "Business"}
                except httpx.TransportError:
                    return  # stopped

        asking = [pool.submit(ask_on, "goal" if index % 2 else "bank") for index in range(16)]
        wait_until(lambda: len(answers) > 200)
        process.send_signal(signal.SIGTERM)
        log = process.stderr.read()
        process.wait(20)
        for each in asking:
            each.result(20)
    assert {status for status, _ in answers} == {200}, answers[-1]
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert len([line for line in lines if line["route"] == "/classify"]) == len(answers)
    assert "goal" not in log
    assert "Traceback" not in log


def test_answers_are_not_held_back_until_their_beginning_is_acknowledged(service):
    """Which takes a client of another machine 40 ms; asyncio sees to it on sockets of its own making alone."""
    assert service._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
