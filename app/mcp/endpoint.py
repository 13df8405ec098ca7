"""`POST /mcp`: the address of our tools for other agents (streamable HTTP, stateless)."""

import asyncio
from importlib import import_module
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.container import Container
from app.errors import Forbidden
from app.http.deps import CurrentPrincipal
from app.mcp.desk import Desk
from app.web.signing import signing_key

if TYPE_CHECKING:
    from app.mcp.server import Host

PATH: Final = "/mcp"
_HERE: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def mcp_router(container: Container) -> APIRouter:
    """Takes API keys, as every address does that does not ask for end users. Its messages are the protocol's, not
    operations of the OpenAPI document."""
    router, hosts = APIRouter(), _Hosts(container)

    @router.post(PATH, include_in_schema=False)
    async def serve(request: Request, _principal: CurrentPrincipal) -> Response:
        _refuse_pages(request.headers.get("origin"))
        return _Answer(await hosts.get())

    return router


class _Hosts:
    """The one host, made with the first request."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._host: Host | None = None

    async def get(self) -> "Host":
        if self._host is None:
            server = await asyncio.to_thread(import_module, "app.mcp.server")
            kit, settings = self._container.kit, self._container.settings
            desk = Desk(kit.executor, self._container.db, kit.audit, kit.flags, kit.metrics, signing_key(settings))
            self._host = server.Host(desk, settings.max_body_bytes)
        return self._host


class _Answer(Response):
    """Hands the request over to the protocol's own server."""

    def __init__(self, host: "Host") -> None:
        super().__init__()
        self._host = host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._host.handle(scope, receive, send)


def _refuse_pages(origin: str | None) -> None:
    """A page in somebody's browser may not speak to a server that it can reach by a trick with names.

    The specification asks for it ("Security Warning" of Streamable HTTP). Raises Forbidden.
    """
    if origin is not None and _host_of(origin) not in _HERE:
        raise Forbidden("This address is for agents, not for pages in a browser: send no Origin.")


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).hostname
    except ValueError:
        return None
