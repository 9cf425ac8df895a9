"""Requests drawn from the service's own description of itself: answered as described, and never a failure.

`test_nonsense.py` sends what no description has; here are the kinds and bounds of the document, kept and broken.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from tests import bundles
from tests.apps.conftest import wait_until
from tests.apps.serving.conftest import running
from tests.optional import require

EXAMPLES = 25
# What a drawn request would have to name to get past the search for a model.
MODELS = {"/classify": "topic", "/encode": "states", "/tokenize": "topic", "/classify/images": "shade"}
ASKED = ("/health", "/ready", "/metrics", "/v1/models", "/status/server", "/status/client")
SENT = (
    *("/v1/embeddings", "/encode", "/similarity", "/classify", "/classify/images"),
    *("/translate", "/generate", "/tokenize", "/predict/{name}"),
)
# A request without parameters cannot be wrong.
REQUESTS = [
    *(("GET", path, True) for path in ASKED),
    *(("POST", path, right) for path in SENT for right in (True, False)),
]


@pytest.fixture(scope="module")
def described(shelf, tmp_path_factory) -> Iterator[Any]:
    """The document of a running service that has a bundle for each endpoint."""
    require("fastapi")
    schemathesis = require("schemathesis")
    from kzoo.apps import Limits

    writer = bundles.write_writer(tmp_path_factory.mktemp("described") / "writer")
    limits = Limits(max_bytes=100_000, max_items=16, max_tokens=100)
    with running([*shelf.values(), writer], limits=limits) as server:
        served = server.app.state.service.bundles.values()
        wait_until(lambda: all(each.ready or each.problem for each in served))
        yield schemathesis.openapi.from_url(f"{server.url}openapi.json")


@pytest.mark.filterwarnings("ignore::kzoo.runtime.TruncationWarning")  # prompts that leave too little room
@pytest.mark.parametrize(("method", "path", "right"), REQUESTS)
def test_whatever_the_document_allows_or_forbids_is_answered_as_it_says(described, method, path, right):
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st
    from schemathesis import GenerationMode, checks
    from schemathesis.specs.openapi import checks as described_checks

    wanted = [
        described_checks.status_code_conformance,
        described_checks.content_type_conformance,
        described_checks.response_schema_conformance,
    ]
    # A bundle here has nothing to be checked by, which `/ready` says with 503.
    if path != "/ready":
        wanted.append(checks.not_a_server_error)
    mode = GenerationMode.POSITIVE if right else GenerationMode.NEGATIVE

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=described[path][method].as_strategy(mode), named=st.booleans())
    def ask(case: Any, named: bool) -> None:
        if named:
            name_a_model(case, path)
        case.validate_response(case.call(timeout=60), checks=wanted)

    ask()


def test_every_endpoint_of_the_document_is_asked(described):
    paths = described.raw_schema["paths"]
    found = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert found == {(method, path) for method, path, _ in REQUESTS}


def name_a_model(case: Any, path: str) -> None:
    """Have a request name a bundle that can do what it asks, where its body is one that has a place for it."""
    if path == "/predict/{name}":
        case.path_parameters["name"] = "topic"
    elif isinstance(case.body, dict):
        case.body = copy.copy(case.body)
        if path in MODELS:
            case.body["model"] = MODELS[path]
        else:
            case.body.pop("model", None)
