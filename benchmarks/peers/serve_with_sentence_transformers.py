"""A plain service of embeddings with FastAPI and sentence-transformers: a peer of `benchmarks/serving_peers.py`.

Runs in the peers' own environment, for instance

    pip install torch==2.13.0
    pip install sentence-transformers==5.7.0 transformers==4.57.6 optimum-onnx==0.1.0 onnxruntime fastapi uvicorn
    python benchmarks/peers/serve_with_sentence_transformers.py export CHECKPOINT FOLDER
    python benchmarks/peers/serve_with_sentence_transformers.py serve FOLDER PORT

where CHECKPOINT is a folder of sentence-transformers. FOLDER then holds the same with its ONNX graph. The service
answers `POST /v1/embeddings` as OpenAI's API does, each request by itself in one of FastAPI's threads, and
`GET /health` with the versions.
"""

from __future__ import annotations

import base64
import os
import sys
from importlib.metadata import version

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

os.environ["HF_HUB_OFFLINE"] = "1"

from sentence_transformers import SentenceTransformer

PACKAGES = ("sentence-transformers", "transformers", "optimum-onnx", "torch", "onnxruntime", "fastapi")
ON_CPU = {"provider": "CPUExecutionProvider"}


class Asked(BaseModel):
    """Texts to embed."""

    input: str | list[str]
    model: str | None = None
    encoding_format: str = "float"


def make_app(folder: str) -> FastAPI:
    """Return the service."""
    model = SentenceTransformer(folder, backend="onnx", device="cpu", model_kwargs=ON_CPU)
    app = FastAPI()

    @app.post("/v1/embeddings")
    def embeddings(asked: Asked) -> dict:
        texts = [asked.input] if isinstance(asked.input, str) else asked.input
        vectors = model.encode(texts, show_progress_bar=False)
        coded = vectors.tolist()
        if asked.encoding_format == "base64":
            coded = [base64.b64encode(vector.tobytes()).decode() for vector in vectors]
        data = [
            {"object": "embedding", "index": index, "embedding": each} for index, each in enumerate(coded)
        ]
        return {"object": "list", "data": data, "model": asked.model}

    @app.get("/health")
    def health() -> dict:
        return {name: version(name) for name in PACKAGES}

    return app


def main() -> None:
    """Export, or serve."""
    what, source, target = sys.argv[1:]
    if what == "export":
        model = SentenceTransformer(
            source, backend="onnx", device="cpu", model_kwargs={**ON_CPU, "export": True}
        )
        model.save_pretrained(target)
    else:
        uvicorn.run(make_app(source), host="127.0.0.1", port=int(target), log_level="warning")


if __name__ == "__main__":
    main()
