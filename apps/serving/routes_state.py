"""Endpoints that say how the service is."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from kzoo.apps.serving.answers import Json
from kzoo.apps.serving.schemas import Health, Readiness
from kzoo.apps.serving.state import Service


def state_routes(service: Service) -> APIRouter:
    """Return the endpoints that say whether the service lives, may be sent requests, and how it does."""
    router = APIRouter()

    @router.get("/health")
    async def health() -> Health:
        """Say that the service runs, and which bundles it could not open."""
        return Health(models=len(service.bundles), failed=sorted(service.failures))

    @router.get("/ready", response_model=Readiness, responses={503: {"model": Readiness}})
    async def ready() -> Json:
        """Say whether every bundle gives what its export recorded, and is warm; 503 if not, or while stopping."""
        state = readiness(service)
        return Json(state.model_dump(), 200 if state.status == "ready" else 503)

    @router.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Give all figures, for Prometheus."""
        return Response(service.metrics.text(), media_type=service.metrics.content_type)

    return router


def readiness(service: Service) -> Readiness:
    """Return how far each bundle is."""
    bundles = service.bundles.values()
    models = {
        bundle.name: bundle.problem or ("ready" if bundle.ready else "being checked") for bundle in bundles
    }
    models |= dict.fromkeys(service.failures, "not opened")
    if service.stopping:
        return Readiness(status="stopping", models=models, pages=service.pages)
    if service.failures or any(bundle.problem for bundle in bundles):
        return Readiness(status="failed", models=models, pages=service.pages)
    ready = all(bundle.ready for bundle in bundles)
    return Readiness(status="ready" if ready else "starting", models=models, pages=service.pages)
