"""Makes the applications from an open container: nothing else."""

from importlib.metadata import version
from typing import Final

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from fastapi_offline import FastAPIOffline
from starlette.responses import RedirectResponse

from app.container import Container
from app.http.approvals import approvals_router
from app.http.decisions import decisions_router
from app.http.documents import DOCUMENTS_PATH, STORE_PATH, Desk, documents_router
from app.http.effects import effects_router
from app.http.health import health_router
from app.http.indexes import indexes_router
from app.http.install import install
from app.http.people import people_router
from app.http.status import status_router
from app.http.users import users_router
from app.mcp.endpoint import mcp_router
from app.web.install import install_console
from app.web.links import links_router

# What a form with a file of the largest size has beside the file.
FORM_BYTES = 64 << 10

TELEMETRY: Final[TelemetryConfig] = {"tracing": False, "metrics": False, "logs": False}
"""Nothing of the framework's: a request's span is the edge's, which costs a third (docs/decisions/0037-traces.md)."""


def create_app(container: Container) -> FastAPI:
    """The API, the packs' routes, the console. The container outlives the application."""
    # The docs page brings its own scripts: it opens without a network.
    app = FastAPIOffline(
        title="Trellis",
        version=version("trellis"),
        summary="An LLM agent service: decisions with their reasons.",
        openapi_url="/openapi.json",
        docs_url="/docs",
        redoc_url=None,
        telemetry=TELEMETRY,
    )
    # Routers are tried in this order, each with a price: those of the agents come first.
    for runtime in container.runtimes.values():
        app.include_router(runtime.router)
    app.include_router(status_router(container))
    app.include_router(decisions_router(container))
    app.include_router(approvals_router(container))
    app.include_router(effects_router(container))
    app.include_router(documents_router(_desk(container)))
    app.include_router(indexes_router(container))
    app.include_router(users_router(container))
    app.include_router(people_router(container))
    app.include_router(mcp_router(container))
    if container.settings.console:
        app.include_router(links_router(container))

        @app.get("/", include_in_schema=False)
        async def home() -> RedirectResponse:
            return RedirectResponse("/console/")

    settings = container.settings
    batches = [path for runtime in container.runtimes.values() for path in runtime.batch_paths]
    files = [path for runtime in container.runtimes.values() for path in runtime.upload_paths]
    uploads = dict.fromkeys((DOCUMENTS_PATH, STORE_PATH, *files), settings.max_upload_bytes + FORM_BYTES)
    install(
        app,
        container,
        body_limits={**dict.fromkeys(batches, settings.max_batch_body_bytes), **uploads},
        shortcuts=[shortcut for runtime in container.runtimes.values() for shortcut in runtime.shortcuts],
    )
    install_console(app, container)
    return app


def create_probes(container: Container) -> FastAPI:
    """Probes and figures, for a process without the API."""
    app = FastAPI(openapi_url=None, telemetry=TELEMETRY)
    app.include_router(health_router(container.readiness, container.metrics.registry))
    return app


def _desk(container: Container) -> Desk:
    kit = container.kit
    return Desk(
        db=container.db,
        intake=container.documents,
        generations=kit.generations,
        retriever=kit.ports.retriever,
    )
