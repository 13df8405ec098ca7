"""Puts the room into an application."""

from collections.abc import Mapping, Sequence

from fastapi import FastAPI

from app.http.auth import Gate
from app.http.health import health_router
from app.http.idempotency import Repeats
from app.http.middleware import Edge
from app.http.openapi import describe_problems
from app.http.problems import install_handlers
from app.http.services import Services
from app.http.shortcut import Shortcut

PROTECTED = ("/v1/", "/chat", "/embed_and_store", "/mcp")


def install(
    app: FastAPI,
    container: Services,
    *,
    body_limits: Mapping[str, int] | None = None,
    protected: tuple[str, ...] = PROTECTED,
    shortcuts: Sequence[Shortcut] = (),
) -> None:
    """Mounts the edge, the problem answers, health and metrics; call it once, before the first request.

    `body_limits`: bytes for single paths, e.g. `{"/v1/leads/batch": settings.max_batch_body_bytes}`, one part of which
    may be any (`/v1/bots/{bot}/documents`); every other
    path takes `settings.max_body_bytes`. Paths under `protected` need an API key, whatever their endpoint asks for.
    `shortcuts` answer some of them before any routing.
    """
    gate = Gate(container.keys, container.users, container.rates, container.open_as)
    app.state.container = container
    app.state.gate = gate
    app.state.repeats = Repeats(container.db, container.clock)
    app.add_middleware(
        Edge,
        gate=gate,
        metrics=container.metrics,
        readiness=container.readiness,
        protected=protected,
        body_limit=container.settings.max_body_bytes,
        body_limits=body_limits or {},
        shortcuts=shortcuts,
    )
    install_handlers(app)
    app.include_router(health_router(container.readiness, container.metrics.registry))
    describe_problems(app)
