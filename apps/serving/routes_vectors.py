"""Endpoints that give vectors: OpenAI's, bert-as-service's, and similarity."""

from __future__ import annotations

import base64
import dataclasses
import platform
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from fastapi import APIRouter, Request

from kzoo import __version__
from kzoo.apps.serving.answers import Json
from kzoo.apps.serving.reading import Prepared
from kzoo.apps.serving.schemas import (
    EmbeddingsRequest,
    EmbeddingsResponse,
    EncodeRequest,
    EncodeResponse,
    ModelEntry,
    ModelList,
    SimilarityRequest,
    SimilarityResponse,
)
from kzoo.apps.serving.state import NOTE, ServedBundle, Service
from kzoo.errors import KzooError
from kzoo.text import Text

_PAIR = " ||| "
_VECTORS = ("embedding",)
_ENCODERS = ("embedding", "features")


def vector_routes(service: Service) -> APIRouter:
    """Return the endpoints that give vectors."""
    router = APIRouter()
    _add_openai(router, service)
    _add_encode(router, service)
    _add_status(router, service)

    @router.post("/similarity", response_model=SimilarityResponse)
    async def similarity(asked: SimilarityRequest, request: Request) -> Json:
        """Say how alike the two texts of each pair are."""
        bundle = service.find(asked.model, _VECTORS)
        texts = [text for pair in asked.pairs for text in pair]
        prepared = await service.read(request, bundle, bundle.reading.texts, texts)
        vectors = np.stack(await service.ask(request, bundle, prepared))
        vectors = _unit(vectors.astype(np.float64))
        cut = prepared.truncated
        return Json(
            {
                "model": bundle.name,
                "scores": (vectors[::2] * vectors[1::2]).sum(axis=1),
                "truncated": [first or second for first, second in zip(cut[::2], cut[1::2], strict=True)],
            }
        )

    return router


def _add_openai(router: APIRouter, service: Service) -> None:
    @router.get("/v1/models")
    def models() -> ModelList:
        """List the models."""
        entries = [ModelEntry(id=name, task=bundle.pipeline.task) for name, bundle in service.bundles.items()]
        return ModelList(data=entries)

    @router.post("/v1/embeddings", response_model=EmbeddingsResponse)
    async def embeddings(asked: EmbeddingsRequest, request: Request) -> Json:
        """Embed texts or token ids, as OpenAI's API does."""
        bundle = service.find(asked.model, _VECTORS)
        prepared = await _read_openai(service, request, bundle, asked.input)
        vectors = _shortened(np.stack(await service.ask(request, bundle, prepared)), asked.dimensions)
        coded: list[Any] = list(vectors)
        if asked.encoding_format == "base64":
            coded = [base64.b64encode(vector.astype("<f4").tobytes()).decode() for vector in vectors]
        tokens = sum(prepared.sizes)
        data = [
            {"object": "embedding", "index": index, "embedding": vector, "truncated": cut}
            for index, (vector, cut) in enumerate(zip(coded, prepared.truncated, strict=True))
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return Json({"object": "list", "data": data, "model": bundle.name, "usage": usage})


def _add_encode(router: APIRouter, service: Service) -> None:
    @router.post("/encode", response_model=EncodeResponse)
    async def encode(asked: EncodeRequest, request: Request) -> Json:
        """Encode texts, as bert-as-service does."""
        bundle = service.find(asked.model, _ENCODERS)
        features = bundle.pipeline.task == "features"
        if asked.pooling is not None and not features:
            raise KzooError(
                f"'{bundle.name}' pools in its graph, in the way that its export said. Leave pooling out, or ask a "
                "bundle whose task is features."
            )
        prepared = await _read_encode(service, request, bundle, asked)
        found = await service.ask(request, bundle, prepared)
        if features:
            found = [_pooled(each["last_hidden_state"], asked.pooling or "mean") for each in found]
        answer = {"id": asked.id, "status": 200, "result": found, "results": found}
        return Json({**answer, "truncated": prepared.truncated})


def _add_status(router: APIRouter, service: Service) -> None:
    """Add what bert-as-service's clients ask of the server."""
    started = time.time()

    @router.get("/status/server")
    def server_status() -> dict[str, Any]:
        """Say what bert-as-service's clients ask of the server."""
        encoders = [bundle for bundle in service.bundles.values() if bundle.pipeline.task in _ENCODERS]
        texts = [bundle for bundle in encoders if not bundle.reading.takes_images]
        return {
            "status": 200,
            "server_version": __version__,
            "python_version": platform.python_version(),
            "server_start_time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
            "models": [bundle.name for bundle in encoders],
            "max_seq_len": {bundle.name: bundle.reading.max_length for bundle in texts},
            "max_batch_size": service.limits.batch_items,
            "device": {bundle.name: bundle.pipeline.device for bundle in encoders},
            "limits": dataclasses.asdict(service.limits),
            "statistic": {"num_waiting": sum(bundle.scheduler.waiting for bundle in encoders)},
        }

    @router.get("/status/client")
    def client_status(request: Request) -> dict[str, Any]:
        """Say what the server knows of the client."""
        host = request.client.host if request.client else None
        return {"status": 200, "identity": request.scope[NOTE].id, "client_ip": host}


async def _read_openai(service: Service, request: Request, bundle: ServedBundle, given: Any) -> Prepared:
    reading = bundle.reading
    if isinstance(given, str):
        return await service.read(request, bundle, reading.texts, [given])
    if given and isinstance(given[0], int):
        return await service.read(request, bundle, reading.token_ids, [given])
    way = reading.token_ids if given and isinstance(given[0], list) else reading.texts
    return await service.read(request, bundle, way, given)


async def _read_encode(
    service: Service, request: Request, bundle: ServedBundle, asked: EncodeRequest
) -> Prepared:
    tokenized = isinstance(asked.texts[0], list)
    if tokenized != asked.is_tokenized:
        raise KzooError("With is_tokenized texts are lists of tokens, and without it strings.")
    if tokenized:
        return await service.read(request, bundle, bundle.reading.words, asked.texts)
    texts = [_parted(text, place) for place, text in enumerate(asked.texts) if isinstance(text, str)]
    return await service.read(request, bundle, bundle.reading.texts, texts)


def _parted(text: str, place: int) -> Text:
    parts = text.split(_PAIR)
    if len(parts) > 2:
        raise KzooError(f"Text {place} has {len(parts)} parts between '{_PAIR}'; a model reads two at most.")
    return text if len(parts) == 1 else (parts[0], parts[1])


def _shortened(vectors: np.ndarray, dimensions: int | None) -> np.ndarray:
    """Return the first numbers of each vector, scaled to length 1."""
    if dimensions is None:
        return vectors
    if dimensions > vectors.shape[1]:
        raise KzooError(f"dimensions is {dimensions}; this model's vectors have {vectors.shape[1]}.")
    return _unit(vectors[:, :dimensions])


def _unit(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(lengths, np.finfo(vectors.dtype).tiny)


def _pooled(states: np.ndarray, pooling: str) -> np.ndarray:
    """Return one vector of a text's hidden states (tokens, dim), or these as they are."""
    ways: dict[str, Sequence[np.ndarray]] = {
        "mean": [states.mean(axis=0)],
        "max": [states.max(axis=0)],
        "mean-max": [states.mean(axis=0), states.max(axis=0)],
        "cls": [states[0]],
    }
    return np.concatenate(ways[pooling]) if pooling in ways else np.ascontiguousarray(states)
