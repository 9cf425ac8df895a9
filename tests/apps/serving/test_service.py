"""Every endpoint over a real connection: what it gives, and what it refuses."""

from __future__ import annotations

import base64
import itertools
import json

import httpx
import numpy as np
import pytest

import kzoo
from tests.apps.conftest import png
from tests.apps.serving.conftest import running
from tests.bundles import DIM, write_encoder
from tests.optional import require

TEXTS = ["the dog runs", "the cat", "house"]


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def post(client: httpx.Client, path: str, **body) -> dict:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(client: httpx.Client, path: str, status: int = 422, **body) -> str:
    answer = client.post(path, json=body)
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    return answer.json()["error"]


@pytest.fixture(scope="module")
def vectors(shelf) -> np.ndarray:
    return kzoo.load(shelf["similarity"], device="cpu")(TEXTS)


# How the service is.


def test_health_counts_the_good_and_names_the_damaged(client):
    assert client.get("/health").json() == {"status": "ok", "models": 5, "failed": []}


def test_models_are_listed_with_their_tasks(client):
    listed = client.get("/v1/models").json()
    assert listed["object"] == "list"
    assert {entry["id"]: entry["task"] for entry in listed["data"]} == {
        "similarity": "embedding",
        "states": "features",
        "topic": "classification",
        "shade": "image_classification",
        "en-de": "seq2seq",
    }


def test_it_is_not_ready_while_a_bundle_cannot_be_checked(client):
    answer = client.get("/ready")
    said = answer.json()
    assert (answer.status_code, said["status"], said["pages"]) == (503, "failed", None)
    assert "golden.npz" in said["models"].pop("en-de")
    assert set(said["models"].values()) == {"ready"}


def test_it_is_ready_once_each_bundle_gave_what_export_recorded(shelf):
    require("fastapi")
    with running([shelf["similarity"], shelf["topic"]]) as server:
        for _ in range(1000):
            answer = httpx.get(server.url + "ready")
            if answer.json()["status"] != "starting":
                break
    assert answer.json()["models"] == {"similarity": "ready", "topic": "ready"}
    assert answer.status_code == 200


def test_the_figures_are_there_for_prometheus(client):
    post(client, "/classify", inputs=["the bank", "a goal"], model="topic")
    refused(client, "/classify", inputs=[], model="topic")
    client.get("/nowhere/my secret text")
    figures = client.get("/metrics")
    assert figures.headers["content-type"].startswith("text/plain")
    for name in (
        'kzoo_queue_items{model="topic"} 0.0',
        'kzoo_batch_items_count{model="topic"}',
        'kzoo_batch_tokens_sum{model="topic"}',
        'kzoo_tokens_total{model="topic"}',
        'kzoo_stage_seconds_count{model="topic",stage="compute"}',
        'kzoo_requests_total{route="/classify",status="200"}',
        'kzoo_refusals_total{reason="input"}',
    ):
        assert name in figures.text, name
    assert "secret" not in figures.text


def test_answers_say_how_long_each_stage_took_and_repeat_the_request_id(client):
    answer = client.post("/predict/topic", json={"inputs": ["goal"]}, headers={"x-request-id": "my-id.1"})
    assert answer.headers["x-request-id"] == "my-id.1"
    stages = dict(part.split(";dur=") for part in answer.headers["server-timing"].split(", "))
    assert list(stages) == ["read", "queue", "compute", "write"]
    assert all(float(milliseconds) >= 0 for milliseconds in stages.values())
    answer = client.get("/health", headers={"x-request-id": "no id\twith blanks"})
    assert len(answer.headers["x-request-id"]) == 32


def test_the_document_describes_every_endpoint_with_examples(client):
    document = client.get("/openapi.json").json()
    assert set(document["paths"]) == {
        *("/v1/models", "/v1/embeddings", "/encode", "/status/server", "/status/client", "/similarity"),
        *("/classify", "/classify/images", "/translate", "/generate", "/tokenize", "/predict/{name}"),
        *("/health", "/ready", "/metrics"),
    }
    for name, schema in document["components"]["schemas"].items():
        if name.endswith("Request"):
            assert schema["examples"], name


# Vectors.


def test_texts_are_embedded_as_openai_does(client, vectors):
    answer = post(client, "/v1/embeddings", input=TEXTS, model="similarity", user="me")
    assert (answer["object"], answer["model"]) == ("list", "similarity")
    assert [entry["index"] for entry in answer["data"]] == [0, 1, 2]
    np.testing.assert_allclose([entry["embedding"] for entry in answer["data"]], vectors, rtol=1e-5)
    assert answer["usage"] == {"prompt_tokens": 12, "total_tokens": 12}
    one = post(client, "/v1/embeddings", input=TEXTS[0])
    np.testing.assert_allclose(one["data"][0]["embedding"], vectors[0], rtol=1e-5)


def test_vectors_come_as_base64_and_shortened(client, vectors):
    answer = post(client, "/v1/embeddings", input=TEXTS, encoding_format="base64", dimensions=3)
    got = np.array([np.frombuffer(base64.b64decode(entry["embedding"]), "<f4") for entry in answer["data"]])
    expected = vectors[:, :3] / np.linalg.norm(vectors[:, :3], axis=1, keepdims=True)
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    assert "have 8" in refused(client, "/v1/embeddings", input="a", dimensions=9)


def test_token_ids_are_embedded_with_and_without_their_special_ones(client, vectors):
    tokenized = post(client, "/tokenize", inputs=TEXTS, model="similarity")
    whole = tokenized["ids"]
    assert tokenized["tokens"][0] == ["[CLS]", "the", "dog", "runs", "[SEP]"]
    bare = [row[1:-1] for row in whole]
    for rows in (whole, bare):
        answer = post(client, "/v1/embeddings", input=rows)
        np.testing.assert_allclose([entry["embedding"] for entry in answer["data"]], vectors, rtol=1e-5)
    answer = post(client, "/v1/embeddings", input=bare[1])
    np.testing.assert_allclose(answer["data"][0]["embedding"], vectors[1], rtol=1e-5)
    assert "token id 9999" in refused(client, "/v1/embeddings", input=[9999])
    assert "token id -1" in refused(client, "/v1/embeddings", input=[[5], [-1]])
    assert "Item 1 has no token ids" in refused(client, "/v1/embeddings", input=[[5], []])


def test_texts_are_encoded_as_bert_as_service_does(client, vectors):
    answer = post(client, "/encode", id=123, texts=TEXTS, is_tokenized=False, model="similarity")
    assert (answer["id"], answer["status"]) == (123, 200)
    assert answer["result"] == answer["results"]
    np.testing.assert_allclose(answer["result"], vectors, rtol=1e-5)
    words = [["the", "dog", "runs"], ["the", "cat"], ["house"]]
    tokenized = post(client, "/encode", texts=words, is_tokenized=True, model="similarity")
    np.testing.assert_allclose(tokenized["result"], vectors, rtol=1e-5)
    unknown = post(client, "/encode", texts=[["zebra"]], is_tokenized=True, model="similarity")
    assert np.isfinite(unknown["result"]).all()
    assert "lists of tokens" in refused(client, "/encode", texts=TEXTS, is_tokenized=True, model="states")


def test_pairs_are_encoded_together(client, shelf):
    answer = post(client, "/encode", texts=["the dog ||| the cat"], model="similarity")
    expected = kzoo.load(shelf["similarity"], device="cpu")([("the dog", "the cat")])
    np.testing.assert_allclose(answer["result"], expected, rtol=1e-5)
    assert "3 parts" in refused(client, "/encode", texts=["a ||| b ||| c"], model="similarity")


@pytest.mark.parametrize("pooling", ["mean", "max", "mean-max", "cls", "none", None])
def test_hidden_states_are_pooled_as_the_request_says(client, shelf, pooling):
    states = kzoo.load(shelf["states"], device="cpu")(TEXTS[0])["last_hidden_state"]
    expected = {
        "mean": states.mean(axis=0),
        "max": states.max(axis=0),
        "mean-max": np.concatenate([states.mean(axis=0), states.max(axis=0)]),
        "cls": states[0],
        "none": states,
        None: states.mean(axis=0),
    }[pooling]
    body = {} if pooling is None else {"pooling": pooling}
    answer = post(client, "/encode", texts=[TEXTS[0]], model="states", **body)
    np.testing.assert_allclose(answer["result"][0], expected, rtol=1e-5)


def test_a_graph_that_pools_itself_is_not_asked_to_pool_otherwise(client):
    assert "pools in its graph" in refused(client, "/encode", texts=["a"], model="similarity", pooling="max")


def test_bert_as_service_clients_learn_of_the_server(client):
    server = client.get("/status/server").json()
    assert server["models"] == ["similarity", "states"]
    assert server["max_seq_len"]["similarity"] == 24
    assert client.get("/status/client").json()["client_ip"] == "127.0.0.1"


def test_pairs_are_compared(client, vectors):
    answer = post(client, "/similarity", pairs=[TEXTS[:2], [TEXTS[2], TEXTS[2]]])
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert answer["scores"] == pytest.approx([unit[0] @ unit[1], 1.0], abs=1e-5)
    assert answer["truncated"] == [False, False]


# Labels.


def test_texts_are_classified_in_order(client):
    texts = ["The team scored a goal", "The bank sold its shares on the market"]
    answer = post(client, "/classify", inputs=texts, model="topic")
    assert (answer["model"], answer["task"]) == ("topic", "classification")
    assert [result["label"] for result in answer["results"]] == ["Sports", "Business"]
    (ranked,) = post(client, "/classify", inputs=texts[0], model="topic", top_k=2)["results"]
    assert [entry["label"] for entry in ranked] == ["Sports", "Business"]
    assert "threshold has no meaning" in refused(
        client, "/classify", inputs="a", model="topic", threshold=0.5
    )


def test_images_are_classified_from_base64_and_from_a_form(client):
    images = [encoded(png(0)), encoded(png(255))]
    labels = ["dark", "bright"]
    answer = post(client, "/classify", inputs=images, model="shade")
    assert [result["label"] for result in answer["results"]] == labels
    files = [("files", ("a.png", png(0))), ("files", ("b.png", png(255)))]
    answer = client.post("/classify/images", files=files)
    assert [result["label"] for result in answer.json()["results"]] == labels
    ranked = client.post("/classify/images", files=files[:1], data={"model": "shade", "top_k": "2"}).json()
    assert [entry["label"] for entry in ranked["results"][0]] == labels


def test_a_string_for_an_image_model_is_never_a_path(client, tmp_path):
    # A path that is base64 too: it must be decoded, not opened.
    file = tmp_path / "dark"
    file.write_bytes(png(0))
    path = str(file) + "a" * (-len(str(file)) % 4)
    file.rename(path)
    for name in (path, "file.png"):
        said = refused(client, "/classify", inputs=[name], model="shade")
        assert "base64" in said or "not an image" in said


def test_a_wrong_image_is_named_by_its_place(client):
    images = [encoded(png(9)), encoded(b"no picture")]
    assert refused(client, "/classify", inputs=images, model="shade").startswith(
        "Image 1 is not an image file"
    )


def test_any_bundle_does_what_it_does(client):
    answer = post(client, "/predict/en-de", inputs=["A cat runs."])
    assert (answer["task"], answer["results"][0]["translation"]) == ("seq2seq", "Ein Kater rennt.")
    assert post(client, "/predict/topic", inputs=["goal"], top_k=1)["results"][0][0]["label"] == "Sports"
    assert refused(client, "/predict/en-de", inputs=["A dog"], top_k=3) == (
        "top_k has no meaning for 'en-de', whose task is seq2seq."
    )


# Translations.


def test_texts_are_translated_in_order(client):
    answer = post(client, "/translate", inputs=["A cat runs.", "", "A dog sleeps."])
    assert [result["translation"] for result in answer["results"]] == [
        *("Ein Kater rennt.", "", "Ein Hund schläft.")
    ]
    (found,) = post(client, "/translate", inputs="A dog.", num_beams=2, num_return=2)["results"]
    assert [each["translation"] for each in found] == ["Ein Hund.", "Ein Kater."]
    assert "does not translate into 'fr'" in refused(client, "/translate", inputs="A", target_language="fr")


def events(answer: httpx.Response) -> list[tuple[str, dict]]:
    parts = [
        dict(line.split(": ", 1) for line in event.split("\n")) for event in answer.text.split("\n\n")[:-1]
    ]
    return [(part["event"], json.loads(part["data"])) for part in parts]


def test_a_translation_grows_in_events(client):
    answer = client.post("/translate", json={"inputs": ["A dog runs.", "A cat."], "stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    *grown, (last, done) = events(answer)
    assert {name for name, _ in grown} == {"text"}
    first = [data["text"] for _, data in grown if data["index"] == 0]
    assert first[0] == "Ein"
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(first))
    assert (last, done) == ("done", {"texts": ["Ein Hund rennt.", "Ein Kater."]})


def test_what_cannot_grow_is_refused_or_ends_the_stream_with_why(client):
    assert "num_beams" in refused(client, "/translate", inputs="A dog", stream=True, num_beams=3)
    answer = client.post("/translate", json={"inputs": "A dog", "stream": True, "target_language": "fr"})
    ((name, data),) = events(answer)
    assert name == "error"
    assert "does not translate into 'fr'" in data["error"]


# What is too long is never cut in silence.


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/encode", {"texts": ["dog", "dog " * 30], "model": "similarity"}),
        ("/encode", {"texts": [["dog"], ["dog"] * 30], "is_tokenized": True, "model": "similarity"}),
        ("/classify", {"inputs": ["goal", "goal " * 30], "model": "topic"}),
        ("/translate", {"inputs": ["A dog", "A" + " dog" * 30]}),
        ("/tokenize", {"inputs": ["goal", "goal " * 30], "model": "topic"}),
        ("/similarity", {"pairs": [["dog", "cat"], ["dog", "dog " * 30]]}),
    ],
)
def test_a_text_that_was_cut_is_named(client, path, body):
    assert post(client, path, **body)["truncated"] == [False, True]


def test_embeddings_name_what_was_cut_too(client):
    answer = post(client, "/v1/embeddings", input=["dog", "dog " * 30])
    assert [entry["truncated"] for entry in answer["data"]] == [False, True]
    assert answer["usage"]["prompt_tokens"] == 3 + 24


# What is refused.


def test_models_are_named_by_the_nearest_or_all_that_fit(client):
    said = refused(client, "/classify", 404, inputs="a", model="topics")
    assert said == "No model 'topics' here. Did you mean 'topic'?"
    assert refused(client, "/classify", 404, inputs="a") == (
        "Give a model; 2 here can do this: topic, shade."
    )
    assert "is for the task classification, and not for this" in refused(
        client, "/translate", inputs="a", model="topic"
    )


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
    assert client.get("/classify").status_code == 405
    for stops in ("/shutdown", "/stop", "/reload", "/terminate"):
        assert client.post(stops).status_code == 404


def test_a_failure_of_the_server_tells_nothing_of_its_inside(shelf, monkeypatch, caplog):
    require("fastapi")
    pipeline = kzoo.load(shelf["topic"], device="cpu")

    def fail(*_, **__):
        raise RuntimeError("secret")

    monkeypatch.setattr(type(pipeline), "__call__", fail)
    with running([pipeline]) as server:
        answer = httpx.post(server.url + "classify", json={"inputs": "private words"})
    assert answer.status_code == 500
    assert answer.json() == {"error": "The server failed on this request; its log says why."}
    assert answer.headers["x-request-id"] in caplog.text
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text
    assert "private" not in caplog.text


def test_without_the_gallery_there_is_no_page(client):
    assert client.get("/").json() == {"error": "Not Found"}


def test_one_of_many_requests_at_once_gets_its_own_answer(tmp_path):
    """Forty threads, each with texts of its own, through one queue."""
    require("fastapi")
    from concurrent.futures import ThreadPoolExecutor

    pipeline = kzoo.load(write_encoder(tmp_path / "b", "b", "embedding", max_length=64), device="cpu")
    texts = [[" ".join(["dog"] * (n % 9) + ["cat"] * (n % 5) + ["house"])] * (n % 3 + 1) for n in range(120)]
    with running([pipeline]) as server, httpx.Client(base_url=server.url, timeout=20) as client:

        def ask(some: list[str]) -> np.ndarray:
            data = post(client, "/v1/embeddings", input=some)["data"]
            return np.array([entry["embedding"] for entry in data])

        with ThreadPoolExecutor(40) as pool:
            answers = list(pool.map(ask, texts))
    for some, got in zip(texts, answers, strict=True):
        assert got.shape == (len(some), DIM)
        np.testing.assert_allclose(got, pipeline(some), rtol=1e-4, atol=1e-6)
