"""The HTTP service over a real connection."""

from __future__ import annotations

import base64

import httpx
import pytest

import kzoo
from tests.apps.conftest import png
from tests.optional import require


@pytest.fixture
def client(service_url):
    with httpx.Client(base_url=service_url, timeout=20) as client:
        yield client


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def test_health_counts_the_good_and_names_the_damaged(client):
    assert client.get("/health").json() == {"status": "ok", "models": 4, "failed": ["damaged"]}


def test_models_are_listed_with_their_tasks(client):
    listed = client.get("/v1/models").json()
    assert listed["object"] == "list"
    assert {entry["id"]: entry["task"] for entry in listed["data"]} == {
        "en-de": "seq2seq",
        "topic": "classification",
        "mood": "classification",
        "shade": "image_classification",
    }


def test_texts_are_classified_in_order(client):
    texts = ["The team scored a goal", "The bank sold its shares on the market"]
    answer = client.post("/predict/topic", json={"inputs": texts})
    assert answer.status_code == 200
    content = answer.json()
    assert (content["model"], content["task"]) == ("topic", "classification")
    assert [result["label"] for result in content["results"]] == ["Sports", "Business"]
    assert content["seconds"] > 0


def test_top_k_ranks_labels(client):
    body = {"inputs": [["a goal", "of the team"]], "top_k": 2}
    (ranked,) = client.post("/predict/topic", json=body).json()["results"]
    assert [entry["label"] for entry in ranked] == ["Sports", "Business"]
    assert sum(entry["score"] for entry in ranked) == pytest.approx(1)


def test_texts_are_translated(client):
    (result,) = client.post("/predict/en-de", json={"inputs": ["A cat runs."]}).json()["results"]
    assert result["translation"] == "Ein Kater rennt."


def test_images_are_classified(client):
    answer = client.post("/predict/shade", json={"inputs": [encoded(png(0)), encoded(png(255))]})
    assert [result["label"] for result in answer.json()["results"]] == ["dark", "bright"]


def test_a_string_for_an_image_model_is_never_a_path(client, tmp_path):
    # A path that is base64 too: it must be decoded, not opened.
    file = tmp_path / "dark"
    file.write_bytes(png(0))
    path = str(file) + "a" * (-len(str(file)) % 4)
    file.rename(path)
    for name in (path, "file.png"):
        answer = client.post("/predict/shade", json={"inputs": [name]})
        assert answer.status_code == 422
        assert "base64" in answer.json()["error"] or "not an image" in answer.json()["error"]


def test_a_wrong_image_is_named_by_its_place(client):
    answer = client.post("/predict/shade", json={"inputs": [encoded(png(9)), encoded(b"no picture")]})
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("Image 1 is not an image file")


def test_an_unknown_model_gets_the_nearest_name(client):
    answer = client.post("/predict/topics", json={"inputs": ["a"]})
    assert answer.status_code == 404
    assert answer.json() == {"error": "No model 'topics' here. Did you mean 'topic'?"}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{not json", "JSON"),
        (b"{}", "inputs: Field required"),
        (b'{"inputs": []}', "inputs: List should have at least 1 item"),
        (b'{"inputs": [3]}', "inputs.0"),
        (b'{"inputs": ["a"], "top_k": 0}', "top_k: Input should be greater than or equal to 1"),
        (b'{"inputs": ["a"], "topk": 3}', "topk: Extra inputs are not permitted"),
        (b'{"inputs": ["\\ud800"]}', "surrogate"),
    ],
)
def test_a_wrong_body_is_answered_with_what_is_wrong(client, body, said):
    answer = client.post("/predict/topic", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert said in answer.json()["error"]


def test_what_never_reaches_a_model_is_answered_alike(client):
    deep = client.post("/predict/topic", content=b"[" * 500_000, headers={"content-type": "application/json"})
    assert (deep.status_code, list(deep.json())) == (400, ["error"])
    nowhere = client.get("/nowhere")
    assert (nowhere.status_code, list(nowhere.json())) == (404, ["error"])


def test_top_k_is_refused_where_nothing_is_ranked(client):
    answer = client.post("/predict/en-de", json={"inputs": ["A dog"], "top_k": 3})
    assert answer.status_code == 422
    assert answer.json()["error"] == "top_k has no meaning for 'en-de', whose task is seq2seq."


def test_too_many_items_are_refused(client):
    assert client.post("/predict/topic", json={"inputs": ["goal"] * 64}).status_code == 200
    answer = client.post("/predict/topic", json={"inputs": ["goal"] * 65})
    assert answer.status_code == 422
    assert answer.json()["error"] == "inputs has 65 items; this server takes 64 at a time."


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "streamed"])
def test_an_oversized_request_is_refused(client, declared):
    body = b'{"inputs": ["' + b"a" * 3_000_000 + b'"]}'
    content = body if declared else iter([body[:2_000_000], body[2_000_000:]])
    answer = client.post("/predict/topic", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert answer.json()["error"].startswith("The request is larger than 1,000,000 bytes")


def test_a_failure_of_the_server_tells_nothing_of_its_inside(bundle_paths, monkeypatch):
    testclient = require("fastapi.testclient")
    from kzoo.apps import create_app

    pipeline = kzoo.load(bundle_paths[1], device="cpu")

    def fail(*_, **__):
        raise RuntimeError("secret")

    monkeypatch.setattr(type(pipeline), "__call__", fail)
    app = create_app([pipeline], gallery=False)
    with testclient.TestClient(app, raise_server_exceptions=False) as client:
        answer = client.post("/predict/topic", json={"inputs": ["a"]})
    assert answer.status_code == 500
    assert answer.json() == {"error": "The server failed on this request; its log says why."}


def test_without_the_gallery_there_is_no_page():
    require("fastapi")
    from kzoo.apps import serve

    with serve([], port=0, gallery=False, block=False) as server:
        assert httpx.get(server.url).json() == {"error": "Not Found"}
        assert httpx.get(server.url + "health").json()["models"] == 0
