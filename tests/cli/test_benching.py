"""`kzoo bench serve`, as a user runs it, on services at real ports."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from kzoo.bench import PUBLISHED, EmbeddingService
from tests import bundles
from tests.apps.serving.conftest import running
from tests.cli.commands import assert_mistake, kzoo_command
from tests.optional import require


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A service of one model for embeddings, which reads 100 tokens, and one for labels; it takes 16 texts."""
    require("fastapi")
    from kzoo.apps import Limits

    root = tmp_path_factory.mktemp("measured")
    encoder = bundles.write_encoder(root / "similarity", "similarity", "embedding", max_length=100)
    topic = bundles.write_text_classifier(root / "topic")
    with running([encoder, topic], limits=Limits(max_items=16)) as server:
        yield server


def test_sentences_have_the_length_that_is_asked_for(service):
    measured = EmbeddingService(service.url)
    assert (measured.model, measured.max_length, measured.limits["max_items"]) == ("similarity", 100, 16)
    for length, batch in ((20, 1), (40, 16), (100, 3)):
        assert (
            measured.try_out(length, batch) > 0
        )  # which fails where the service reads another number of tokens
        rows = [json.loads(ask.body)["input"] for ask in measured.asks(length, batch)]
        assert {
            (len(row), ask.sentences) for row, ask in zip(rows, measured.asks(length, batch), strict=True)
        } == {(batch, batch)}
        assert rows[0] != rows[1]
    measured.close()


def test_each_row_stands_beside_what_was_published_or_says_why_it_is_empty(service):
    result = kzoo_command("bench", "serve", "--url", service.url, "--seconds", 0.2, "--json")
    assert result.exit_code == 0, result.stderr
    said = json.loads(result.stdout)
    assert (said["model"], said["device"], said["seconds"]) == ("similarity", "cpu", 0.2)
    assert {"hardware", "date", "kzoo", "service", "python"} <= set(said)
    rows = {(row["table"], row["value"]): row for row in said["rows"]}
    assert {place: row["published"] for place, row in rows.items()} == {
        (table, value): published for table, known in PUBLISHED.items() for value, published in known.items()
    }
    assert "clients 32: " in result.stderr
    for length in (20, 40, 80):
        row = rows["length", length]
        assert (row["length"], row["clients"], row["problem"]) == (length, 1, None)
        assert row["batch"] <= 16
        assert row["rate"] > 0
        assert 0 < row["p50"] <= row["p95"] <= row["p99"]
    assert rows["length", 320]["problem"] == "the model reads 100 tokens at most"
    assert rows["batch", 1]["rate"] > 0
    assert rows["batch", 64]["problem"] == (
        "the service takes 16 sentences a request: kzoo serve --max-items 64"
    )
    assert rows["clients", 32]["clients"] == 32
    assert rows["clients", 32]["requests"] >= 32
    assert "--bundle" in rows["max-batch", 32]["problem"]


def test_it_draws_tables(service):
    result = kzoo_command("bench", "serve", "--url", service.url, "--seconds", 0.1, "--only", "length")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("similarity on cpu, ")
    assert lines[2].split()[:3] == ["max_seq_len", "sentences/s", "M40"]
    assert lines[4].split()[0::2][:2] == ["20", "903"]
    assert "max_seq_len 160: the model reads 100 tokens at most" in lines
    assert "clients" not in result.stdout


@pytest.mark.slow
def test_it_starts_a_service_by_itself_for_each_size_of_a_batch(tmp_path, monkeypatch):
    require("fastapi")
    monkeypatch.setenv("KZOO_API_KEY", "secret")
    encoder = bundles.write_encoder(tmp_path / "similarity", "similarity", "embedding", max_length=100)
    options = ("--only", "max-batch", "--seconds", 0.5, "--json")
    result = kzoo_command("bench", "serve", "--bundle", encoder, *options)
    assert result.exit_code == 0, result.stderr
    said = json.loads(result.stdout)
    assert [row["value"] for row in said["rows"]] == [32, 64, 128, 256, 512]
    assert said["limits"]["batch_items"] == 32
    for row in said["rows"]:
        # A machine with much else to do may be too slow for the larger ones, and then says so.
        assert row["rate"] or "too long" in row["problem"]


def test_mistakes_say_how_to_mend_them(service, tmp_path):
    def bench(*options: object) -> Any:
        return kzoo_command("bench", "serve", *options)

    assert_mistake(
        bench("--url", "http://127.0.0.1:9"), "No service answers at http://127.0.0.1:9", "--bundle"
    )
    assert_mistake(bench("--url", "localhost:8000"), "http://127.0.0.1:8000")
    assert_mistake(bench("--url", service.url, "--model", "similarty"), "Did you mean 'similarity'?")
    assert_mistake(bench("--url", service.url, "--model", "topic"), "task classification")
    assert_mistake(bench("--url", service.url, "--only", "max-batch"), "give --bundle")
    assert_mistake(bench("--url", service.url, "--seconds", "0"), "seconds is 0")
    assert_mistake(bench("--url", service.url, "--bundle", tmp_path), "not both")
    assert_mistake(bench("--bundle", tmp_path / "nothing"), "nothing")


def test_without_a_model_for_embeddings_or_the_key_it_says_so(tmp_path):
    require("fastapi")
    topic = bundles.write_text_classifier(tmp_path / "topic")
    with running([topic], api_key="secret") as server:
        assert_mistake(kzoo_command("bench", "serve", "--url", server.url), "KZOO_API_KEY")
        options = ("--url", server.url, "--api-key", "secret")
        assert_mistake(
            kzoo_command("bench", "serve", *options), "No model for embeddings", "--task embedding"
        )
