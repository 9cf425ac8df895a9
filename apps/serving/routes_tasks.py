"""Endpoints for labels, translations, continuations and tokens, and for whatever else a bundle does."""

from __future__ import annotations

import base64
import binascii
import functools
from collections.abc import Sequence
from typing import Annotated, Any, cast

from fastapi import APIRouter, File, Form, Request, UploadFile
from starlette.responses import Response

from kzoo.apps.serving.answers import Events, Json
from kzoo.apps.serving.bundles import ServedBundle
from kzoo.apps.serving.reading import Prepared
from kzoo.apps.serving.schemas import (
    ClassifyRequest,
    GenerateRequest,
    PredictRequest,
    Results,
    TokenizeRequest,
    TokenizeResponse,
    TranslateRequest,
)
from kzoo.apps.serving.state import NOTE, Service
from kzoo.errors import KzooError
from kzoo.runtime.generation import TextGeneration
from kzoo.runtime.translation import Translation

_RANKED = ("classification", "image_classification", "multilabel", "next_sentence")
_LABELS = (*_RANKED, "regression", "tokens", "replaced_token")
_TRANSLATORS = ("seq2seq",)
_WRITERS = ("causal_lm",)
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {}}, "description": "The results, or with `stream` events."}
}


def task_routes(service: Service) -> APIRouter:
    """Return the endpoints for labels and tokens, for texts that are written, and for anything."""
    router = APIRouter()
    _add_labels(router, service)
    _add_writing(router, service)

    @router.post("/tokenize", response_model=TokenizeResponse)
    async def tokenize(asked: TokenizeRequest, request: Request) -> Json:
        """Show the tokens of texts."""
        bundle = service.find(asked.model, None)
        reading = bundle.reading
        texts = [asked.inputs] if isinstance(asked.inputs, str) else asked.inputs
        prepared = await service.read(request, bundle, reading.texts, texts)
        service.note(request.scope[NOTE], bundle, prepared)
        encoding = reading.tokenizer.encode(texts, max_length=reading.max_length)
        ids = [row[:size].tolist() for row, size in zip(encoding.input_ids, prepared.sizes, strict=True)]
        answer = {
            "model": bundle.name,
            "tokens": [[reading.names[index] for index in row] for row in ids],
            "ids": ids,
            "max_length": reading.max_length,
        }
        return Json({**answer, "truncated": prepared.truncated})

    @router.post("/predict/{name}", response_model=Results)
    async def predict(name: str, asked: PredictRequest, request: Request) -> Json:
        """Have any bundle do what it does."""
        bundle = service.find(name)
        options: dict[str, Any] = {}
        if asked.top_k is not None:
            if bundle.pipeline.task not in _RANKED:
                raise KzooError(f"top_k has no meaning for '{name}', whose task is {bundle.pipeline.task}.")
            options["top_k"] = asked.top_k
        prepared = await _read(service, request, bundle, asked.inputs)
        return _results(bundle, prepared, await service.ask(request, bundle, prepared, options))

    return router


def _add_labels(router: APIRouter, service: Service) -> None:
    async def classify_with(
        request: Request, bundle: ServedBundle, prepared: Prepared, options: dict[str, Any]
    ) -> Json:
        task = bundle.pipeline.task
        fitting = {"top_k": task in _RANKED, "threshold": task in ("multilabel", "replaced_token")}
        for name, value in options.items():
            if value is not None and not fitting[name]:
                raise KzooError(f"{name} has no meaning for '{bundle.name}', whose task is {task}.")
        return _results(bundle, prepared, await service.ask(request, bundle, prepared, options))

    @router.post("/classify", response_model=Results)
    async def classify(asked: ClassifyRequest, request: Request) -> Json:
        """Say which labels texts or images have."""
        bundle = service.find(asked.model, _LABELS)
        prepared = await _read(service, request, bundle, asked.inputs)
        options = {"top_k": asked.top_k, "threshold": asked.threshold}
        return await classify_with(request, bundle, prepared, options)

    @router.post("/classify/images", response_model=Results)
    async def classify_images(
        request: Request,
        files: Annotated[list[UploadFile], File()],
        model: Annotated[str | None, Form()] = None,
        top_k: Annotated[int | None, Form(ge=1)] = None,
    ) -> Json:
        """Say which labels images have that come as files of a form."""
        bundle = service.find(model, ("image_classification", "multilabel"))
        contents = [await file.read() for file in files]
        prepared = await service.read(request, bundle, bundle.reading.images, contents)
        return await classify_with(request, bundle, prepared, {"top_k": top_k})


def _add_writing(router: APIRouter, service: Service) -> None:
    @router.post("/translate", response_model=Results, responses=_STREAM)
    async def translate(asked: TranslateRequest, request: Request) -> Response:
        """Translate texts."""
        bundle = service.find(asked.model, _TRANSLATORS)
        prepared = await _read(service, request, bundle, asked.inputs)
        options = asked.model_dump(exclude={"inputs", "model", "stream"})
        if asked.stream:
            return _stream(service, request, bundle, prepared, options)
        results = await service.ask(request, bundle, prepared, options, weight=asked.num_beams)
        return _results(bundle, prepared, results)

    @router.post("/generate", response_model=Results, responses=_STREAM)
    async def generate(asked: GenerateRequest, request: Request) -> Response:
        """Go on with texts."""
        bundle = service.find(asked.model, _WRITERS)
        prepared = _cut_prompts(
            bundle, await _read(service, request, bundle, asked.inputs), asked.max_new_tokens
        )
        options = asked.model_dump(exclude={"inputs", "model", "stream"})
        if asked.seed is not None and len(prepared.values) > 1:
            raise KzooError(
                "With a seed send one input at a time: how several are drawn depends on their batch."
            )
        if asked.stream:
            return _stream(service, request, bundle, prepared, options)
        drawn = asked.temperature > 0
        results = await service.ask(request, bundle, prepared, options, weight=asked.num_beams, alone=drawn)
        return _results(bundle, prepared, results)


def _stream(
    service: Service, request: Request, bundle: ServedBundle, prepared: Prepared, options: dict[str, Any]
) -> Events:
    for name in ("num_beams", "num_return"):
        if (options.pop(name) or 1) > 1:
            raise KzooError(f"{name} is for whole answers: what grows word by word has one way to grow.")
    note = request.scope[NOTE]
    service.note(note, bundle, prepared)
    pipeline = cast(Translation | TextGeneration, bundle.pipeline)
    given = {name: value for name, value in options.items() if value is not None}
    writers = [functools.partial(pipeline.stream, text, **given) for text in prepared.values]
    return Events(service, writers, note.arrived + service.limits.deadline)


def _cut_prompts(bundle: ServedBundle, prepared: Prepared, max_new_tokens: int | None) -> Prepared:
    """Return the same, with what the model forgets of prompts so that there is room for what follows."""
    pipeline = cast(TextGeneration, bundle.pipeline)
    generation = pipeline.manifest.generation
    limit = max_new_tokens or (generation.max_new_tokens if generation else 1)
    room = pipeline.prompt_length(limit)
    truncated = [cut or size > room for cut, size in zip(prepared.truncated, prepared.sizes, strict=True)]
    return Prepared(prepared.values, prepared.sizes, truncated)


async def _read(
    service: Service, request: Request, bundle: ServedBundle, given: str | Sequence[Any]
) -> Prepared:
    inputs = [given] if isinstance(given, str) else given
    # A string must never reach a pipeline for images as it is: there it would be a path on this machine.
    if bundle.reading.takes_images:
        return await service.read(request, bundle, bundle.reading.images, _decoded(inputs))
    return await service.read(request, bundle, bundle.reading.texts, inputs)


def _decoded(inputs: Sequence[Any]) -> list[bytes]:
    images = []
    for index, item in enumerate(inputs):
        try:
            if not isinstance(item, str):
                raise ValueError("a pair")
            images.append(base64.b64decode(item, validate=True))
        except (ValueError, binascii.Error):
            raise KzooError(
                f"Input {index} is not base64; send the bytes of an image file as base64."
            ) from None
    return images


def _results(bundle: ServedBundle, prepared: Prepared, results: list[Any]) -> Json:
    answer = {"model": bundle.name, "task": bundle.pipeline.task, "results": results}
    return Json({**answer, "truncated": prepared.truncated})
