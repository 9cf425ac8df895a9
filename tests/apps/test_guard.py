"""What the gallery's server refuses, asked without a browser."""

from __future__ import annotations

import re
import socket
import threading
from pathlib import Path

import httpx
import pytest

from tests.apps.conftest import png
from tests.optional import require


@pytest.fixture
def client(service_url):
    with httpx.Client(base_url=service_url, timeout=20) as client:
        yield client


def calls(client) -> list[dict]:
    """Return the functions behind the buttons, as the page's own configuration lists them."""
    return client.get("/config").json()["dependencies"]


def ask_with_file(client, path: str, route: str = "/gradio_api/queue/join") -> httpx.Response:
    """Call each page's function as a page does, with a file in place of its input."""
    file = {"path": path, "meta": {"_type": "gradio.FileData"}, "orig_name": "a.png"}
    answers = [
        client.post(
            route,
            json={
                "data": ["shade", file],
                "fn_index": call["id"],
                "session_hash": "test",
                "event_data": None,
            },
        )
        for call in calls(client)
    ]
    assert len({answer.status_code for answer in answers}) == 1
    return answers[0]


@pytest.mark.parametrize("route", ["/gradio_api/queue/join", "/gradio_api/run/predict"])
def test_a_call_may_not_name_a_file_of_the_machine(client, tmp_path, route):
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(0))
    assert ask_with_file(client, str(secret), route).status_code == 404


def test_a_call_may_name_an_upload(client):
    (path,) = client.post("/gradio_api/upload", files={"files": ("a.png", png(9))}).json()
    assert ask_with_file(client, path).status_code == 200
    assert ask_with_file(client, path + "/../../../../etc/hostname").status_code == 404


def test_the_server_fetches_no_address_that_a_call_names(client):
    asked = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as other:

        def listen() -> None:
            try:
                other.accept()[0].close()
            except OSError:
                return
            asked.set()

        threading.Thread(target=listen, daemon=True).start()
        address = f"http://127.0.0.1:{other.getsockname()[1]}/a.png"
        assert ask_with_file(client, address).status_code == 404
        assert client.get(f"/gradio_api/file={address}").status_code == 404
        assert client.get(f"/gradio_api/proxy={address}").status_code == 404
        assert not asked.wait(0.5)


def test_only_what_the_pages_use_is_served(client, bundle_paths):
    assert client.get("/").status_code == 200
    assert client.get(f"/gradio_api/file={bundle_paths[0]}/manifest.json").status_code == 404
    for path in ("/docs", "/redoc", "/monitoring", "/gradio_api/info", "/gradio_api/vibe-code", "/login"):
        assert client.get(path).status_code == 404
    assert client.post("/gradio_api/call/ask", json={"data": []}).status_code == 404


@pytest.mark.parametrize("body", [b"{", b"[" * 500_000])
def test_a_call_that_is_not_json_is_refused(client, body):
    assert client.post("/gradio_api/queue/join", content=body).status_code == 404


def test_a_call_larger_than_any_text_is_refused():
    require("gradio")
    from kzoo.apps import launch

    with launch([], port=0, open_browser=False, block=False) as server:
        for size, refused in ((900_000, False), (1_100_000, True), (40_000_000, True)):
            call = {"data": ["a" * size], "fn_index": 0, "session_hash": "test"}
            answer = httpx.post(server.url + "gradio_api/queue/join", json=call, timeout=20)
            assert (answer.status_code == 413) is refused


def test_the_page_names_no_other_host(client):
    answer = client.get("/")
    addresses = re.findall(r"""(?:src|href|content)=["']?(https?:)?//""", answer.text)
    assert "<title>" in answer.text or "gradio-app" in answer.text
    assert addresses == []
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
    theme = client.get(client.get("/config").json().get("theme_url", "/theme.css")).text
    assert "http" not in re.sub(r"http://www\.w3\.org/", "", theme)


def test_uploads_go_when_the_server_stops():
    require("gradio")
    from kzoo.apps import launch

    with launch([], port=0, open_browser=False, block=False) as server:
        sent = httpx.post(server.url + "gradio_api/upload", files={"files": ("a.png", png(9))})
        upload = Path(sent.json()[0])
        assert upload.read_bytes() == png(9)
        assert upload.parents[1].stat().st_mode & 0o077 == 0
    assert not upload.parents[1].exists()
