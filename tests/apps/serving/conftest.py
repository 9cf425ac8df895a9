"""A running service without pages over tiny bundles of several tasks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from kzoo.runtime import Manifest, hash_file, open_session
from tests import bundles
from tests.apps.conftest import wait_until
from tests.optional import require


def record(folder: Path, **inputs: np.ndarray) -> Path:
    """Add what a bundle's model gives for some inputs, as export does; and return the bundle."""
    outputs = open_session(folder / "model.onnx", "cpu", threads=1).run(inputs)
    recorded = {f"case/model/input/{name}": value for name, value in inputs.items()}
    recorded |= {f"case/model/output/{name}": value for name, value in outputs.items()}
    np.savez(folder / "golden.npz", **recorded)
    file = folder / "manifest.json"
    manifest = Manifest.model_validate_json(file.read_text(encoding="utf-8"))
    manifest.files["golden.npz"] = hash_file(folder / "golden.npz")
    file.write_text(manifest.model_dump_json(), encoding="utf-8")
    return folder


def ids(*row: int) -> dict[str, np.ndarray]:
    """Return the inputs of one text."""
    return {"input_ids": np.array([row]), "attention_mask": np.ones((1, len(row)), np.int64)}


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A bundle for each kind of endpoint, by name; all but the translator have what export recorded."""
    root = tmp_path_factory.mktemp("served")
    return {
        "similarity": record(
            bundles.write_encoder(root / "similarity", "similarity", "embedding"), **ids(2, 6, 3)
        ),
        "states": record(bundles.write_encoder(root / "states", "states", "features"), **ids(2, 7, 3)),
        "topic": record(bundles.write_text_classifier(root / "topic"), **ids(2, 6, 3)),
        "shade": record(
            bundles.write_image_classifier(root / "shade"), pixel_values=np.ones((1, 8, 8, 1), np.float32)
        ),
        "en-de": bundles.write_translator(root / "en-de"),
    }


@pytest.fixture(scope="session")
def service(shelf: dict[str, Path]) -> Iterator[Any]:
    """A running service over these; its `url`, and its application as `app`."""
    require("fastapi")
    from kzoo.apps import Limits

    with running(list(shelf.values()), limits=Limits(max_bytes=1_000_000, max_items=64, max_tokens=40)) as it:
        wait_until(lambda: all(each.ready or each.problem for each in it.app.state.service.bundles.values()))
        yield it


@pytest.fixture
def client(service: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=20) as client:
        yield client


def running(paths: list[Any], *, host: str = "127.0.0.1", **options: Any) -> Any:
    """Start a service without pages, as `kzoo serve` does; it stops when the block ends."""
    from kzoo.apps import create_app
    from kzoo.apps.server import Server
    from kzoo.apps.service import stop

    app = create_app(paths, gallery=False, **options)
    server: Any = Server(app, host, 0, grace=30, on_stop=lambda: stop(app)).start()
    server.app = app
    return server
